from __future__ import annotations

import json
from pathlib import Path

import pytest
from made_up_runs import BREAKOUT, WriteRun

from dqn.errors import UserError
from dqn.report.runs import find_runs


def message(*patterns: str) -> str:
    with pytest.raises(UserError) as caught:
        _ = [run.curves for run in find_runs(patterns)]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_run_is_read_back(write_run: WriteRun) -> None:
    evaluations, episodes = [(100, 20.0), (200, 40.5)], [(50, 1.0), (50, 3.0), (180, 7.0)]
    write_run("runs/a", seed=3, evaluations=evaluations, episodes=episodes, final=41.0)
    (run,) = find_runs(["runs/a"])
    assert (run.name, run.seed, run.status, run.steps) == ("cartpole", 3, "completed", 200)
    assert run.final_evaluation == {"network": "best", "step": 200, "mean_return": 41.0}
    assert run.environment[0] == "CartPole-v1"
    for kind, points in (("evaluation", evaluations), ("episode", episodes)):
        assert list(zip(run.curves[kind].steps, run.curves[kind].returns, strict=True)) == points


def test_a_run_without_summary_is_still_running(write_run: WriteRun) -> None:
    write_run("a", evaluations=[(100, 1.0), (300, 1.0)], summary=False)
    (run,) = find_runs(["a"])
    assert (run.status, run.steps, run.final_evaluation) == ("running", 300, None)


@pytest.mark.parametrize(
    ("env", "title", "frames_per_step"),
    [
        (BREAKOUT, "Breakout", 4),
        ({"kind": "atari", "game": "space_invaders", "action_repeat": 3}, "Space invaders", 3),
        ({"kind": "gridworld", "map": "S..\n..G\n"}, "Grid world, 2 x 3", 1),
    ],
)
def test_environments_have_titles(
    write_run: WriteRun, env: dict[str, object], title: str, frames_per_step: int
) -> None:
    write_run("a", env=env)
    (run,) = find_runs(["a"])
    assert (run.environment[0], run.frames_per_step) == (title, frames_per_step)


def test_globs_skip_what_is_no_run_and_name_each_run_once(write_run: WriteRun, tmp_path: Path) -> None:
    paths = [write_run(f"runs/x/seed{seed}", seed=seed) for seed in range(3)]
    (tmp_path / "runs/x/notes.txt").write_text("")
    (tmp_path / "runs/x/empty").mkdir()
    (tmp_path / "runs/x/seed0/wandb").mkdir()
    (tmp_path / "runs/x/seed0/wandb/config.yaml").write_text("")
    assert [run.seed for run in find_runs(["runs/x/*"])] == [0, 1, 2]
    assert [run.seed for run in find_runs(["runs/**"])] == [0, 1, 2]
    assert [run.seed for run in find_runs([f"{tmp_path}/runs/?/seed[12]"])] == [1, 2]
    assert [run.seed for run in find_runs(["runs/x/seed2", "runs/x/*", str(paths[0])])] == [2, 0, 1]


def test_folders_that_will_not_do(write_run: WriteRun, tmp_path: Path) -> None:
    write_run("runs/a")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    assert message("nowhere") == "runs=nowhere: no such folder"
    assert message("file") == "runs=file: is a file, not a run folder"
    assert message("empty") == "runs=empty: is no run folder (config.yaml and metrics.jsonl make one)"
    assert message("runs") == "runs=runs: is no run folder; it holds 1: runs=runs/*"
    assert message("z*") == "runs=z*: matches nothing"
    assert message("e*") == "runs=e*: matches 1 paths, none of them a run folder"
    assert message("runs/a", "nowhere") == "runs=nowhere: no such folder"


def test_a_line_that_is_still_being_written_is_left_out(write_run: WriteRun) -> None:
    path = write_run("a", evaluations=[(100, 1.0), (200, 2.0)], summary=False) / "metrics.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    (run,) = find_runs(["a"])
    assert list(run.curves["evaluation"].steps) == [100]
    path.write_bytes(whole[:-1])  # all but the line's end
    (run,) = find_runs(["a"])
    assert list(run.curves["evaluation"].steps) == [100, 200]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"kind": "evalua', "line 2 is no JSON record; the file is damaged"),
        ("\x00\x00", "line 2 is no JSON record; the file is damaged"),
        ("3", "line 2 is no JSON record; the file is damaged"),
        ('{"kind": "episode", "step": 3}', "line 2: an episode needs numbers for step and episode_return"),
        (
            '{"kind": "evaluation", "step": "x", "mean_return": 3}',
            "line 2: an evaluation needs numbers for step and mean_return",
        ),
    ],
)
def test_damaged_metrics_are_named_with_their_line(write_run: WriteRun, line: str, problem: str) -> None:
    path = write_run("a", evaluations=[(100, 1.0)]) / "metrics.jsonl"
    path.write_text(f"{path.read_text()}{line}\n" + '{"kind": "learning", "step": 300}\n')
    assert message("a") == f"runs=a/metrics.jsonl: {problem}"


def test_returns_that_were_not_finite_are_left_out(write_run: WriteRun) -> None:
    path = write_run("a", evaluations=[(100, 1.0)]) / "metrics.jsonl"
    path.write_text(path.read_text() + '{"kind": "evaluation", "step": 200, "mean_return": null}\n')
    (run,) = find_runs(["a"])
    assert list(run.curves["evaluation"].steps) == [100]


def test_damaged_configs_and_summaries_are_named(write_run: WriteRun) -> None:
    path = write_run("a")
    (path / "summary.json").write_text(json.dumps({"status": "completed"})[:-3])
    assert message("a").startswith("runs=a/summary.json: cannot be read: ")
    (path / "config.yaml").write_text("env: [")
    assert message("a").startswith("runs=a/config.yaml: cannot be read: ")
