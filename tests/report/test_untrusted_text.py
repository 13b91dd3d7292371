"""Reports on runs and sweeps whose texts would break out of them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from made_up_runs import CARTPOLE
from omegaconf import OmegaConf

from dqn.report.compare import CompareOptions, compare
from dqn.report.sweep import report_sweep

NASTY = {
    "markup": ("[red]a[/red]", "[red]a[/red]"),
    "closing": ("[/nope]", "[/nope]"),
    "link": ("[link=x]a[/link]", "[link=x]a[/link]"),
    "emoji": (":smile:", ":smile:"),
    "escape": ("\x1b[2Jgone", r"\x1b[2Jgone"),
    "bell": ("\x1b]0;t\x07", r"\x1b]0;t\x07"),
    "null": ("a\x00b", r"a\x00b"),
    "half": ("a\ud800", r"a\ud800"),
    "formula": ("$x_1$", "$x_1$"),
    "no formula": ("$\\frac{", "$\\frac{"),
    "underscore": ("_a", "_a"),
    "right to left": ("\u202ea", r"\u202ea"),
}


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")


@pytest.mark.parametrize("nasty", NASTY)
def test_runs_with_nasty_settings_are_compared(nasty, write_run, capsys, recwarn):
    text, shown = NASTY[nasty]
    for seed, value in enumerate((text, "plain")):
        env = {**CARTPOLE, "id": f"{value}-v1"}
        for environment in (CARTPOLE, env):
            folder = f"{seed}-{environment['id'] == 'CartPole-v1'}"
            curve = [(100, 1.0), (200, 2.0)]
            write_run(folder, seed=seed, evaluations=curve, final=2.0, env=environment, name="a", tag=value)
    compare(CompareOptions(runs=("*-*",), all=True, output="picture.png"))
    printed = capsys.readouterr()
    assert printed.out.count(f"{shown} ") >= 2  # among the settings, and in the label of its group
    assert f"{shown}-v1" in printed.out
    assert not any(character in printed.out for character in "\x1b\x07\x00\u202e\ud800")
    assert Path("picture.png").read_bytes().startswith(b"\x89PNG")
    assert [str(warning.message) for warning in recwarn] == []


@pytest.mark.parametrize("nasty", NASTY)
def test_a_sweep_with_nasty_values_is_reported(nasty, write_run, capsys, recwarn):
    text, shown = NASTY[nasty]
    sweep = Path("sweep")
    jobs = []
    for number, value in enumerate((text, "plain", "other")):
        folder = f"{number}-{'x' if value == 'plain' else 'y'}"
        error = f"{value} went wrong" if value == "other" else None
        overrides = [f"tag={value}", f"other.{'ab'[number % 2]}={number}", "seed=0"]
        jobs.append({"number": number, "overrides": overrides, "folder": folder, "error": error})
        write_run(f"sweep/{folder}", final=3.0 - number, evaluations=[(100, 1.0)], tag=value)
    failed = {"number": 3, "overrides": ["tag=x", "seed=0"], "folder": text, "error": f"{text}\nsecond line"}
    (sweep / "sweep.json").write_text(json.dumps({"jobs": [*jobs, failed]}))
    assert report_sweep(sweep) == 2
    printed = capsys.readouterr().out
    assert f"{shown} " in printed
    assert f"{shown} failed: {shown}\\nsecond line" in printed
    assert not any(character in printed for character in "\x1b\x07\x00\u202e\ud800")
    with (sweep / "sweep.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["tag"] == shown
    assert (rows[3]["folder"], rows[3]["error"]) == (shown, f"{shown}\\nsecond line")
    assert len((sweep / "sweep.csv").read_text(encoding="utf-8").splitlines()) == 5
    for picture in ("parameters.png", "parallel_coordinates.png"):
        assert (sweep / picture).read_bytes().startswith(b"\x89PNG")
    assert [str(warning.message) for warning in recwarn] == []


def test_a_value_stays_within_the_comment_that_tells_it(write_run, capsys):
    write_run("sweep/0-seed0", final=1.0, evaluations=[(100, 1.0)])
    overrides = ["tag=x\nhydra: {callbacks: {x: {_target_: evil}}}\n#", "seed=0"]
    job = {"number": 0, "overrides": overrides, "folder": "0-seed0", "error": None}
    Path("sweep/sweep.json").write_text(json.dumps({"jobs": [job]}))
    report_sweep(Path("sweep"))
    text = Path("sweep/best.yaml").read_text()
    header, _, _ = text.partition("defaults:")
    assert r"tag=x\nhydra: {callbacks: {x: {_target_: evil}}}\n#" in header
    assert all(line.startswith("#") for line in header.splitlines())
    assert list(OmegaConf.load("sweep/best.yaml").hydra.callbacks) == ["new_folders"]
    preset = Path("sweep/experiment/best.yaml").read_text()
    assert "evil" in preset
    assert "hydra" not in OmegaConf.load("sweep/experiment/best.yaml")
