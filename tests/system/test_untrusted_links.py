"""Somebody else's folder has links in it, to places where nothing of ours is to be written."""

from __future__ import annotations

import pytest
from shell import SHORT


@pytest.mark.parametrize("name", ["metrics.jsonl", "videos", "export/policy.safetensors", "wandb"])
def test_a_run_with_a_link_that_leads_out(name, shell, tmp_path):
    assert shell("train", *SHORT, "hydra.run.dir=run").returncode == 0
    outside, link = tmp_path / "outside", tmp_path / "run" / name
    outside.write_text("mine")
    link.unlink(missing_ok=True)
    link.symlink_to(outside)
    for script, words in (
        ("train", ["resume=run", "trainer.total_steps=400"]),
        ("evaluate", ["run=run"]),
        ("export", ["run=run"]),
    ):
        done = shell(script, *words)
        problem = f"{name} in it is a link to a place outside; put a copy there instead"
        assert (done.returncode, done.stderr) == (2, f"error: {words[0]}: {problem}\n")
    assert outside.read_text() == "mine"


WITH_WANDB = [*SHORT[:-1], "logger=wandb", "logger.wandb.mode=offline", "hydra.run.dir=run"]


@pytest.mark.parametrize("name", ["run_id.txt", "latest-run", "run-1-x/logs/other.log", "run-1-x/files"])
def test_a_link_among_the_files_of_wandb(name, shell, tmp_path):
    """A run's id would be read from a file outside, or written into a new one there."""
    assert shell("train", *WITH_WANDB).returncode == 0
    outside, link = tmp_path / "outside", tmp_path / "run" / "wandb" / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(outside)
    problem = f"wandb/{name} in it is a link to a place outside; put a copy there instead"
    for is_there in (False, True):
        if is_there:
            outside.write_text("secret")
        done = shell("train", "resume=run", "trainer.total_steps=400")
        assert (done.returncode, done.stderr) == (2, f"error: resume=run: {problem}\n")
        assert outside.exists() == is_there


def test_the_link_of_wandb_itself_does_no_harm(shell, tmp_path):
    assert shell("train", *WITH_WANDB).returncode == 0
    outside = [path for path in (tmp_path / "run").rglob("*") if tmp_path not in path.resolve().parents]
    assert [path.name for path in outside] == ["debug-core.log"]
    assert shell("train", "resume=run", "trainer.total_steps=400").returncode == 0


def test_a_sweep_with_a_link_that_leads_out(shell, tmp_path):
    words = [*SHORT, "-m", "seed=0"]
    assert shell("train", *words, "hydra.sweep.dir=sweep").returncode == 0
    outside = tmp_path / "outside"
    (tmp_path / "sweep" / "0-seed0").rename(outside)
    (tmp_path / "sweep" / "0-seed0").symlink_to(outside)
    problem = "0-seed0 in it is a link to a place outside; put a copy there instead"
    resumed = shell("train", *words, "seed=0,1", "sweep.resume=sweep")
    assert (resumed.returncode, resumed.stderr) == (2, f"error: sweep.resume=sweep: {problem}\n")
    report = shell("sweep_report", "sweep=sweep")
    assert (report.returncode, report.stderr) == (2, f"error: sweep=sweep: {problem}\n")


def test_links_within_a_run_do_no_harm(shell, tmp_path):
    assert shell("train", *SHORT, "hydra.run.dir=run").returncode == 0
    (tmp_path / "run" / "last").symlink_to("checkpoints/step-000000000300")
    (tmp_path / "mine").symlink_to("run")
    assert shell("train", "resume=mine", "trainer.total_steps=400").returncode == 0
