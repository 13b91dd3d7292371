from __future__ import annotations

import io

import pytest
from rich.console import Console

from dqn.observers.result_table import print_result_table

SUMMARY = {
    "name": "breakout",
    "status": "completed",
    "reason": "",
    "seed": 3,
    "steps": 160_000,
    "episodes": 812,
    "frames": 640_000,
    "updates": 39_000,
    "seconds": 3735.2,
    "final_evaluation": {
        "network": "best",
        "step": 150_000,
        "episodes": 100,
        "epsilon": 0.05,
        "mean_return": 387.31,
        "standard_error": 4.21,
        "median_return": 401.0,
        "iqm_return": 399.2,
        "min_return": 12.0,
        "max_return": 864.0,
    },
    "best_evaluation": {"step": 150_000, "mean_return": 401.2},
    "export": {"files": {}, "skipped": {"h5": "needs the package keras; pip install -e '.[keras]'"}},
    "video": None,
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs" / "breakout" / "seed3"
    for part in ("config.yaml", "summary.json", "export/policy.onnx", "checkpoints/last/state.json"):
        (folder / part).parent.mkdir(parents=True, exist_ok=True)
        (folder / part).touch()
    return folder


def printed(summary, folder, width=100):
    out = io.StringIO()
    print_result_table(summary, folder, Console(file=out, width=width))
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_the_whole_table(folder):
    assert printed(SUMMARY, folder) == [
        "",
        "status             completed",
        "run                breakout, seed 3",
        "training           640,000 frames, 160,000 steps, 812 episodes, 39,000 updates in 1:02:15",
        "final evaluation   mean 387.3 ± 4.2 (standard error), median 401.0, IQM 399.2, 12.0 to 864.0",
        "                   best network, of step 150,000; 100 episodes with epsilon 0.05",
        "best evaluation    401.2 at step 150,000",
        "folder             runs/breakout/seed3",
        "                   config.yaml  summary.json  checkpoints/  export/policy.onnx",
        "not exported       h5: needs the package keras; pip install -e '.[keras]'",
        "",
        "next",
        "  python scripts/evaluate.py run=runs/breakout/seed3 video=true",
        "  python scripts/compare.py runs='[runs/breakout/*]'",
    ]


def test_an_interrupted_run_without_results_is_told_how_to_go_on(folder):
    summary = SUMMARY | {"status": "interrupted", "reason": "Ctrl-C", "final_evaluation": None}
    summary |= {"best_evaluation": None, "export": None, "frames": 160_000}
    lines = printed(summary, folder)
    assert "status             interrupted: Ctrl-C" in lines
    assert "final evaluation   none" in lines
    assert "training           160,000 steps, 812 episodes, 39,000 updates in 1:02:15" in lines
    assert lines[lines.index("next") + 1] == "  python scripts/train.py resume=runs/breakout/seed3"


def test_one_episode_has_no_standard_error_and_a_grid_world_its_optimum(folder):
    result = SUMMARY["final_evaluation"] | {"standard_error": None, "optimal_fraction": 0.75}
    lines = printed(SUMMARY | {"final_evaluation": result}, folder)
    assert "final evaluation   mean 387.3, median 401.0, IQM 399.2, 12.0 to 864.0" in lines
    assert "                   optimal in 75% of the episodes" in lines


def test_commands_can_be_copied_from_a_narrow_terminal_and_odd_folders(folder):
    odd = folder.rename(folder.with_name("lr=1,seed=3 (old)"))
    lines = printed(SUMMARY, odd, width=40)
    assert lines[-2:] == [
        "  python scripts/evaluate.py run='\"runs/breakout/lr=1,seed=3 (old)\"' video=true",
        "  python scripts/compare.py runs='[runs/breakout/*]'",
    ]


def test_nothing_in_it_is_markup_or_commands_the_terminal(folder, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    nasty = folder.parent / "[/a] \x1b[2J"
    nasty.parent.mkdir()
    folder.rename(nasty)
    print_result_table({**SUMMARY, "name": "[red]b\x1b[2J", "reason": "[/c] \x1b[2J"}, nasty)
    printed = capsys.readouterr().out
    assert r"[red]b\x1b[2J, seed 3" in printed
    assert r"completed: [/c] \x1b[2J" in printed
    assert r"runs/breakout/[/a] \x1b[2J" in printed
    assert "\x1b" not in printed
