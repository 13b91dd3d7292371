"""Sweeps from the shell: broken off and gone on with, and the mistakes that people make with them."""

from __future__ import annotations

import json

import pytest
from shell import SHORT, interrupted

SMALL = [*SHORT, "network.hidden_sizes=[8]", "trainer.batch_size=8"]
MISTAKES = {
    "unknown setting of the launcher": (
        "-m seed=0,1 hydra.launcher.max_member=3",
        "hydra.launcher.max_member=3: no such key; did you mean hydra.launcher.max_members?",
    ),
    "no room in a stack": (
        "-m seed=0,1 hydra.launcher.max_members=0",
        "hydra.launcher.max_members=0: must be greater than or equal to 1",
    ),
    "unknown executor": (
        "-m seed=0,1 hydra/launcher/executor=procesess",
        "hydra/launcher/executor=procesess: no such option; did you mean processes?",
    ),
    "no workers": (
        "-m seed=0,1 hydra/launcher/executor=processes hydra.launcher.executor.num_workers=0",
        "hydra.launcher.executor.num_workers=0: must be greater than or equal to 1, or null",
    ),
    "nothing to go on with": ("-m sweep.resume=nowhere seed=0,1", "sweep.resume=nowhere: there is no sweep in this"),
    "a single run goes on": (
        "-m resume=there",
        "resume=there: goes on with one run, without -m; sweep.resume=",
    ),
    "a sweep goes on without -m": ("sweep.resume=nowhere", "sweep.resume=nowhere: goes on with a sweep: give -m"),
    "population-based training without -m": (
        "hydra/sweeper=pbt",
        "hydra/sweeper=pbt: searches where -m is given",
    ),
    "a search without -m": ("hydra/sweeper=optuna sweep=cartpole", "hydra/sweeper=optuna: searches where -m is given"),
    "several values without -m": ("seed=0,1", "seed=0,1: several values are for a sweep, which needs -m; a list is"),
    "one value of the wrong type": (
        "-m trainer.batch_size=16,abc",
        "trainer.batch_size=abc: must be a whole number",
    ),
    "one option that is not there": ("-m network=mlp,mpl", "network=mpl: no such option; did you mean mlp?"),
    "one key that is not given": ("-m env=cartpole,atari", "env.game=???: must be given, e.g. env.game=seaquest"),
    "one folder for all": (
        "-m seed=0,1 hydra.sweep.dir=here/sweep hydra.sweep.subdir=all",
        "hydra.sweep.subdir=all: is the folder of jobs 0 and 1; with ${hydra.job.num} in it each has its own",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_a_sweep_is_one_clear_line_and_leaves_nothing(mistake, shell, tmp_path):
    words, message = MISTAKES[mistake]
    done = shell("train", *SMALL, *words.split())
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert done.stderr.startswith(f"error: {message}")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_folders_in_which_no_sweep_can_begin_or_go_on(shell, tmp_path):
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "notes.txt").write_text("mine")
    for place, message in (
        ("hydra.sweep.dir", "hydra.sweep.dir=taken: exists and is not empty; sweep.resume=taken goes on with a sweep"),
        ("sweep.resume", "sweep.resume=taken: is no sweep's folder: it has no sweep.json"),
    ):
        done = shell("train", *SMALL, "-m", "seed=0,1", f"{place}=taken")
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert done.stderr.startswith(f"error: {message}")
        assert [path.name for path in tmp_path.rglob("*")] == ["taken", "notes.txt"]


def test_a_sweep_is_broken_off_and_goes_on(shell, tmp_path, tmp_path_factory):
    words = [*SMALL, "-m", "seed=0,1", "trainer.batch_size=8,6", "hydra.launcher.max_members=2"]
    words += ["trainer.total_steps=2000", "evaluation.every_steps=1000", "checkpoint.every_steps=null"]
    second = tmp_path / "sweep" / "2-seed0" / "metrics.jsonl"
    done = interrupted([*words, "hydra.sweep.dir=sweep"], tmp_path, tmp_path_factory.mktemp("printed"), second)
    assert done.returncode == 130, done.stderr
    *_, advice, last = done.stderr.splitlines()
    assert (done.stdout, last) == ("", "interrupted")
    assert advice == "to go on with the sweep, the same command with sweep.resume=sweep"
    assert statuses(tmp_path) == {
        "0-seed0": "completed", "1-seed1": "completed", "2-seed0": "interrupted", "3-seed1": "interrupted",
    }  # fmt: skip
    finished = (tmp_path / "sweep" / "0-seed0" / "metrics.jsonl").stat().st_mtime_ns

    resumed = shell("train", *words, "sweep.resume=sweep")
    assert resumed.returncode == 0, resumed.stderr
    assert "2 of 4 jobs are over already" in resumed.stderr
    assert "4 runs of 2 settings: 4 done" in resumed.stdout
    assert set(statuses(tmp_path).values()) == {"completed"}
    assert sorted(path.name for path in (tmp_path / "sweep").glob("*-seed*")) == sorted(statuses(tmp_path))
    assert (tmp_path / "sweep" / "0-seed0" / "metrics.jsonl").stat().st_mtime_ns == finished

    best = ["--config-path", "sweep", "--config-name", "best", "trainer.total_steps=200"]
    rerun = shell("train", "-m", *best, "seed=5", "hydra.sweep.dir=again")
    assert rerun.returncode == 0, rerun.stderr
    assert json.loads((tmp_path / "again" / "sweep.json").read_text())["jobs"][0]["folder"] == "0-seed5"


def statuses(place):
    paths = sorted((place / "sweep").glob("*/summary.json"))
    return {path.parent.name: json.loads(path.read_text())["status"] for path in paths}
