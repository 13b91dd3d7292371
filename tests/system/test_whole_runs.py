"""What a user does from the shell, from a first run to its export."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
from omegaconf import OmegaConf
from shell import SHORT, interrupted, start_script

from dqn.export.pt2 import WRITES_BYTES


def test_a_run_and_what_it_leaves(shell, tmp_path):
    short = [word for word in SHORT if not word.startswith(("logger", "export", "evaluation.video"))]
    done = shell("train", *short, "hydra.run.dir=run", "env.max_steps=20")
    assert done.returncode == 0, done.stderr
    run = tmp_path / "run"
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["status"], summary["steps"], summary["updates"]) == ("completed", 300, 101)
    assert summary["final_evaluation"]["episodes"] == 3
    formats = ["safetensors", "onnx", "h5", *(["pt2"] if WRITES_BYTES else [])]
    assert set(summary["export"]["files"]) == {f"policy.{name}" for name in formats}
    for path in [*summary["video"], "config.yaml", "provenance.json", "metrics.jsonl", "export/policy.json"]:
        assert (run / path).stat().st_size > 0
    kinds = [json.loads(line)["kind"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert {"episode", "learning", "evaluation", "end"} == set(kinds)
    assert "wandb sync" in done.stderr
    assert done.stderr.count("wandb sync") == 1
    assert "python scripts/evaluate.py run=run" in done.stdout
    provenance = (run / "provenance.json").read_text()
    assert "torch" in json.loads(provenance)["packages"]
    assert os.environ.get("HOME", "/nonexistent") not in provenance

    played = shell("evaluate", "run=run", "episodes=5", "policy=run/export/policy.h5")
    assert played.returncode == 0, played.stderr
    by_keras = json.loads((run / "evaluation.json").read_text())
    assert (
        shell("evaluate", "run=run", "episodes=5", f"policy={summary['final_evaluation']['network']}").returncode == 0
    )
    by_torch = json.loads((run / "evaluation.json").read_text())
    assert by_keras["returns"] == by_torch["returns"]
    assert len(by_torch["returns"]) == 5

    exported = shell("export", "run=run", "formats=[onnx]")
    assert exported.returncode == 0, exported.stderr
    assert sorted(path.name for path in (run / "export").iterdir()) == ["policy.json", "policy.onnx"]


def test_the_saved_config_runs_again_to_the_same_bytes(shell, tmp_path):
    assert shell("train", *SHORT, "hydra.run.dir=one", "seed=7").returncode == 0
    again = shell("train", "--config-path", "one", "--config-name", "config", "hydra.run.dir=two")
    assert again.returncode == 0, again.stderr
    for file in ("export/policy.safetensors", "config.yaml"):
        one, two = ((tmp_path / run / file).read_bytes() for run in ("one", "two"))
        assert one.replace(b"/one", b"/two") == two
    assert OmegaConf.load(tmp_path / "two" / "config.yaml").seed == 7
    group = shell("train", "--config-path", "one", "--config-name", "config", "hydra.run.dir=three", "logger=none")
    assert group.returncode == 2
    assert "logger=none: the config that a run or a sweep has left has no groups to choose from" in group.stderr
    assert not (tmp_path / "three").exists()


def test_interrupted_and_resumed(shell, tmp_path, tmp_path_factory):
    words = [word for word in SHORT if not word.startswith(("trainer.total_steps", "checkpoint"))]
    words += [
        "trainer.total_steps=100000",
        "evaluation.stop.mean_return=null",  # else it depends on when the signal comes whether few episodes will do
        "hydra.run.dir=run",
    ]
    metrics = tmp_path / "run" / "metrics.jsonl"
    done = interrupted(words, tmp_path, tmp_path_factory.mktemp("printed"), metrics)
    assert done.returncode == 130, done.stderr
    assert "Traceback" not in done.stderr
    assert "resume=run" in done.stdout
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["status"] == "interrupted"
    assert summary["export"]["files"].keys() == {"policy.safetensors"}
    steps = summary["steps"]
    assert 0 < steps < 100000

    resumed = shell("train", "resume=run", f"trainer.total_steps={steps + 500}")
    assert resumed.returncode == 0, resumed.stderr
    assert f"resuming run at step {steps:,}" in resumed.stderr
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["status"], summary["steps"]) == ("completed", steps + 500)
    records = [json.loads(line) for line in metrics.read_text().splitlines()]
    assert [r["step"] for r in records] == sorted(r["step"] for r in records)
    assert sum(r["kind"] == "end" for r in records) == 1, "the interruption's own end is gone"


@pytest.mark.parametrize("env_id", ["Acrobot-v1", "FrozenLake-v1"])
def test_other_environments_by_overrides_alone(env_id, shell, tmp_path):
    done = shell("train", *SHORT, "env=gymnasium", f"env.id={env_id}", "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["updates"] == 101


def test_atari_by_overrides_alone(shell, tmp_path):
    words = [*SHORT, "env=atari", "env.game=seaquest", "env.max_frames_per_episode=400", "trainer.batch_size=4"]
    done = shell("train", *words, "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr


def test_keras_plays_the_breakout_of_keras_rl(shell, tmp_path):
    words = [
        "experiment=breakout_keras_rl",
        "trainer.total_steps=200",
        "trainer.batch_size=4",
        "memory.warmup_steps=100",
        "memory.capacity_steps=1000",
        "env.max_frames_per_episode=400",
        "evaluation.video=false",
        "export.formats=[h5]",
        "logger=none",
    ]
    done = shell("train", *words, "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    export = json.loads((tmp_path / "run" / "export" / "policy.json").read_text())
    assert export["files"]["policy.h5"]["largest_q_value_difference"] <= 1e-4


def test_a_sweep_numbers_its_jobs(shell, tmp_path):
    done = shell("train", "-m", *SHORT, "seed=0,1", "hydra.sweep.dir=sweep")
    assert done.returncode == 0, done.stderr
    folders = sorted(path.parent.name for path in (tmp_path / "sweep").glob("*/summary.json"))
    assert folders == ["0-seed0", "1-seed1"]
    policies = [(tmp_path / "sweep" / name / "export" / "policy.safetensors").read_bytes() for name in folders]
    assert policies[0] != policies[1]


def test_tensorboard_and_wandb_together(shell, tmp_path):
    done = shell("train", *SHORT[:-1], "logger=[wandb,tensorboard]", "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "run" / "wandb").glob("offline-run-*/run-*.wandb"))
    assert list((tmp_path / "run" / "tensorboard").glob("events*"))


def test_the_grid_worlds_path_is_drawn(shell, tmp_path):
    words = [word for word in SHORT if not word.startswith(("evaluation.episodes", "evaluation.final"))]
    assert shell("train", "experiment=gridworld_dqn", *words, "hydra.run.dir=run").returncode == 0
    played = shell("evaluate", "run=run", "episodes=2", "policy=last")
    assert played.returncode == 0, played.stderr
    assert "...H...G" in played.stdout
    assert (tmp_path / "run" / "path.png").stat().st_size > 0


def test_help_shows_how_to_use_it(tmp_path):
    """In processes of their own, in which nothing has been imported before."""
    printed = {}
    for script in ("train", "evaluate", "export", "compare"):
        process = start_script(script, ["--help"], tmp_path)
        printed[script], stderr = process.communicate(timeout=60)
        assert (process.returncode, stderr) == (0, "")
    for word in ("episodes", "gamma", "epsilon", "epsilon_decay", "epsilon_min", "learning_rate"):
        assert f"  {word} " in printed["train"]
    for script in ("evaluate", "export", "compare"):
        assert f"python scripts/{script}.py" in printed[script]


def test_numbers_in_metrics_are_numbers(shell, tmp_path):
    assert shell("train", *SHORT, "hydra.run.dir=run").returncode == 0

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines():
        record = json.loads(line, parse_constant=refuse)
        assert record["frames"] == record["step"]
        assert np.isfinite(record["seconds"])
