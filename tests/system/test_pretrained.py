"""The policies that come with the project play as well as README says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dqn.errors import UserError
from dqn.pretrained import pretrained_names, take_out


def played(tmp_path: Path, name: str) -> dict[str, object]:
    result: dict[str, object] = json.loads((tmp_path / "runs" / "pretrained" / name / "evaluation.json").read_text())
    return result


@pytest.mark.parametrize(
    ("name", "episodes", "at_least"),
    [("cartpole", 20, 475), ("gridworld", 20, 0), pytest.param("breakout", 10, 60, marks=pytest.mark.long)],
)
def test_a_kept_policy_plays(name, episodes, at_least, shell, tmp_path):
    done = shell("evaluate", f"pretrained={name}", f"episodes={episodes}")
    assert done.returncode == 0, done.stderr
    assert len(played(tmp_path, name)["returns"]) == episodes
    assert played(tmp_path, name)["mean_return"] >= at_least
    if name == "gridworld":
        assert played(tmp_path, name)["optimal_fraction"] == 1


def test_each_comes_as_a_run(monkeypatch, tmp_path):
    assert pretrained_names() == ["breakout", "cartpole", "gridworld"]
    monkeypatch.chdir(tmp_path)
    for name in pretrained_names():
        folder = take_out(name).path
        (folder / "evaluation.json").write_text("{}")
        assert take_out(name).path == folder
        assert {path.name for path in folder.iterdir()} == {"config.yaml", "evaluation.json", "export"}
        assert {path.name for path in (folder / "export").iterdir()} == {"policy.json", "policy.onnx"}
        assert "/tmp" not in (folder / "config.yaml").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pretrained=breakot"], "pretrained=breakot: no such policy; did you mean breakout?"),
        ([], "say what plays: run=<folder>, or pretrained=breakout|cartpole|gridworld"),
        (
            ["run=runs/x", "pretrained=breakout"],
            "say what plays: run=<folder>, or pretrained=breakout|cartpole|gridworld",
        ),
    ],
)
def test_what_else_is_asked_for_is_refused(words, message, shell):
    done = shell("evaluate", *words)
    assert done.returncode != 0
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "link", ["runs/pretrained", "runs/pretrained/cartpole", "runs/pretrained/cartpole/config.yaml"]
)
def test_it_does_not_write_through_links(link, monkeypatch, tmp_path):
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (here / link).parent.mkdir(parents=True)
    (here / link).symlink_to(elsewhere)
    monkeypatch.chdir(here)
    with pytest.raises(UserError, match="link to a place outside"):
        take_out("cartpole")
    assert not list(elsewhere.iterdir())
