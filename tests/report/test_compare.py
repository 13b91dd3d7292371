from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up_runs import BREAKOUT, WriteRun
from rich.console import Console

import dqn.compose
from dqn.errors import UserError
from dqn.options import parse_options
from dqn.report.compare import CompareOptions, compare
from dqn.report.plots import COLOURS, Panel, band, bin_width, binned, make_panels
from dqn.report.runs import Curve, find_runs
from dqn.report.settings import group_runs


def printed(*words: str, width: int = 100) -> str:
    """What the comparison prints, lines without their margins."""
    console = Console(file=io.StringIO(), width=width)
    compare(parse_options(CompareOptions, words, ""), console)
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    return "\n".join(" ".join(line.split()) for line in lines)


def message(*words: str) -> str:
    with pytest.raises(UserError) as caught:
        printed(*words)
    return str(caught.value)


def curve(*points: tuple[int, float]) -> Curve:
    steps, returns = zip(*points, strict=True) if points else ((), ())
    return Curve(np.array(steps, dtype=np.int64), np.array(returns, dtype=np.float64))


def panels(metric: Any = None) -> list[Panel]:
    return make_panels(group_runs(find_runs(["runs/*"])), metric)


# --- tables ---


def test_settings_and_scores_of_groups_side_by_side(write_run: WriteRun) -> None:
    for seed, score in enumerate([10.0, 20.0, 30.0, 40.0]):
        write_run(f"runs/a{seed}", seed=seed, evaluations=[(5000, score)], final=score, target={"rate": 1.0})
    write_run("runs/b", evaluations=[(5000, 7.0)], final=7.25, target={"rate": 0.1})
    text = printed("runs=runs/*")
    assert "setting rate=1.0 rate=0.1" in text
    assert "target.rate 1.0 0.1" in text
    assert "env.id" not in text
    assert "4 settings are the same (all=true shows them)." in text
    assert "Final evaluation of the best network, over seeds" in text
    # the percentiles of the means of four draws with replacement
    assert "rate=1.0 4 25.0 15.0 to 35.0 25.0 5k 3 to 6" in text
    assert "rate=0.1 1 7.250 - 7.250 5k 3" in text
    assert "env.id CartPole-v1 CartPole-v1" in printed("runs=runs/*", "all=true")


def test_runs_without_a_score_are_told_of(write_run: WriteRun) -> None:
    write_run("runs/a", seed=0, evaluations=[(500, 1.0)], final=2.0)
    write_run("runs/b", seed=1, evaluations=[(400, 1.0)], summary=False)
    write_run("runs/c", seed=2, evaluations=[(300, 1.0)], status="diverged")
    text = printed("runs=runs/*")
    assert "cartpole 1 of 3 2.000 - 2.000 500 3" in text
    assert "cartpole, seed 1: running, 400 steps so far; no final evaluation" in text
    assert "cartpole, seed 2: diverged, 300 steps so far; no final evaluation" in text
    assert "seed 0" not in text
    assert "All settings are the same" in text


def test_runs_that_have_only_begun_have_neither_scores_nor_a_picture(write_run: WriteRun, tmp_path: Path) -> None:
    write_run("runs/a", summary=False)
    text = printed("runs=runs/a")
    assert "cartpole 0 of 1 - - - - -" in text
    assert "there is no picture to draw" in text
    assert not list(tmp_path.glob("*.png"))


def test_many_groups_are_rows(write_run: WriteRun) -> None:
    for rate in range(6):
        write_run(f"runs/{rate}", target={"rate": rate}, evaluations=[(100, 1.0)])
    lines = printed("runs=runs/*").splitlines()
    assert "target.rate" in lines[1]
    assert lines[3:9] == [f"rate={rate} {rate}" for rate in range(6)]


def test_what_is_too_wide_goes_on_in_another_table(write_run: WriteRun) -> None:
    for number, name in enumerate(("first_experiment", "second_experiment", "third_experiment")):
        write_run(f"runs/{number}", name=name, evaluations=[(100, 1.0)], trainer={"a" * 30: number, "b": number})
    wide, narrow = printed("runs=runs/*"), printed("runs=runs/*", width=80)
    assert "setting first_experiment second_experiment third_experiment" in wide
    assert "setting first_experiment second_experiment\n" in narrow
    assert "setting third_experiment\n" in narrow


# --- presets ---


@pytest.fixture
def presets(monkeypatch: pytest.MonkeyPatch) -> None:
    presets = {
        "experiment=one": {"name": "one", "env": {"id": "X", "map": "S.\n.G\n"}, "a": 1},
        "experiment=two": {"name": "two", "env": {"id": "X"}, "a": 1.5},
    }
    monkeypatch.setattr(dqn.compose, "compose_config", lambda overrides: presets["".join(overrides)])


@pytest.mark.usefixtures("presets")
def test_presets_are_compared_without_any_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines = [line for line in printed("experiments=[one, two]").splitlines() if line]
    assert lines == [
        "setting one two",
        "─" * len(lines[1]),
        "name one two",
        "a 1 1.5",
        "env.map S. -",
        ".G",
        "1 settings are the same (all=true shows them).",
    ]
    assert "env.id X X" in printed("experiments=[one, two]", "all=true")
    assert "env.id X" in printed("experiments=one", "all=true")
    assert not list(tmp_path.iterdir())


def test_presets_of_this_project() -> None:
    text = printed("experiments=[cartpole, breakout]")
    assert "env.kind gymnasium atari" in text
    assert "env.game - breakout" in text


# --- options that will not do ---


def test_bad_options() -> None:
    example = 'e.g. runs="[runs/cartpole/*, runs/cartpole_blog/*]" or experiments="[cartpole, breakout]"'
    assert message() == f"runs is missing: {example}"
    assert message("runs=a", "experiments=b") == f"give either runs or experiments: {example}"
    assert message("runs=a", "metric=best") == "metric=best: choose one of evaluation, training"
    assert message("runs=a", "output=a.gif") == "output=a.gif: must be like figures/cartpole.png"
    assert message("experiments=[cartpole, brekout]").startswith("experiment=brekout: ")


def test_a_metric_that_a_group_lacks(write_run: WriteRun, tmp_path: Path) -> None:
    write_run("runs/a", evaluations=[(100, 1.0)], episodes=[(100, 1.0)], name="one")
    write_run("runs/b", episodes=[(100, 1.0)], name="two")
    problem = "metric=evaluation: two has no evaluations yet; use metric=training"
    assert message("runs=runs/*", "metric=evaluation") == problem
    assert not list(tmp_path.glob("*.png"))


def test_an_output_that_cannot_be_written(write_run: WriteRun, tmp_path: Path) -> None:
    write_run("runs/a", evaluations=[(100, 1.0)])
    (tmp_path / "taken").write_text("")
    (tmp_path / "folder.png").mkdir()
    assert message("runs=runs/a", "output=taken/a.png").startswith("output=taken/a.png: cannot be written: ")
    assert message("runs=runs/a", "output=folder.png").startswith("output=folder.png: cannot be written: ")
    assert {path.name for path in tmp_path.iterdir()} == {"runs", "taken", "folder.png"}


# --- curves ---


def test_band_is_the_mean_of_straight_lines_between_the_points() -> None:
    line = band([curve((0, 0), (10, 10)), curve((0, 4), (5, 4), (10, 8))], [True, True], [0, 5, 10])
    np.testing.assert_array_equal(line.steps, [0, 5, 10])
    np.testing.assert_array_equal(line.mean, [2, 4.5, 9])
    np.testing.assert_array_equal(line.lower, [0, 4, 8])
    np.testing.assert_array_equal(line.upper, [4, 5, 10])


def test_a_run_that_ended_keeps_its_last_value_and_one_that_still_runs_does_not() -> None:
    curves = [curve((10, 2), (20, 2), (30, 2)), curve((10, 4), (20, 6))]
    np.testing.assert_array_equal(band(curves, [True, True], [10, 20, 30]).mean, [3, 4, 4])
    np.testing.assert_array_equal(band(curves, [True, False], [10, 20, 30]).mean, [3, 4, 2])
    np.testing.assert_array_equal(band([curves[1]], [False], [5, 10, 30]).steps, [10])


def test_bins_hold_the_episodes_that_end_in_them() -> None:
    points = curve((1, 1.0), (100, 3.0), (101, 5.0), (350, 7.0), (400, 9.0))
    means = binned(points, 100)
    assert list(zip(means.steps, means.returns, strict=True)) == [(50, 2.0), (150, 5.0), (350, 8.0)]
    assert len(binned(curve(), 100)) == 0


@pytest.mark.parametrize(
    ("last_step", "width"),
    [(0, 1), (60, 1), (61, 2), (121, 5), (30_000, 500), (30_001, 1000), (10**7, 200_000)],
)
def test_bins_are_at_most_sixty_and_round(last_step: int, width: int) -> None:
    assert bin_width(last_step) == width


# --- the picture ---


def test_each_environment_has_its_panel_and_frames_count_its_action_repeat(write_run: WriteRun) -> None:
    write_run("runs/a", evaluations=[(100, 1.0), (200, 5.0)], name="one", rate=1)
    write_run("runs/b", evaluations=[(100, 2.0)], name="two", rate=2)
    write_run("runs/c", evaluations=[(100, 3.0)], name="three", env=BREAKOUT)
    cartpole, breakout = panels()
    assert [group.label for group in cartpole.groups] == ["one", "two"]
    assert (cartpole.title, cartpole.frames_per_step, cartpole.bin_steps) == ("CartPole-v1", 1, None)
    assert (breakout.title, breakout.frames_per_step, breakout.bin_steps) == ("Breakout", 4, None)
    one = cartpole.bands[0]
    assert one is not None
    np.testing.assert_array_equal([one.steps, one.mean], [[100, 200], [1, 5]])


def test_training_returns_stand_in_where_evaluations_are_missing(write_run: WriteRun) -> None:
    write_run("runs/a", evaluations=[(6000, 1.0)], episodes=[(40, 2.0), (60, 4.0)], name="one")
    assert panels()[0].bin_steps is None
    assert panels("training")[0].bin_steps == 100
    write_run("runs/b", episodes=[(30, 6.0)], name="two")
    (panel,) = panels()
    assert panel.bin_steps == 100
    assert [line.mean.tolist() for line in panel.bands if line] == [[3.0], [6.0]]


def test_groups_and_seeds_without_returns_leave_no_line(write_run: WriteRun) -> None:
    write_run("runs/a", seed=0, evaluations=[(100, 1.0)], name="one")
    write_run("runs/b", seed=1, name="one", summary=False)
    write_run("runs/c", episodes=[(100, 1.0)], name="two", env=BREAKOUT)
    write_run("runs/d", name="three", env={"kind": "gymnasium", "id": "Nothing-v0"})
    cartpole, breakout = panels()
    assert [line and line.mean.tolist() for line in cartpole.bands] == [[1.0]]
    assert breakout.bin_steps == 2


def test_the_picture_is_drawn_with_many_groups_and_seeds(write_run: WriteRun, tmp_path: Path) -> None:
    from matplotlib.image import imread

    for seed in range(3):
        for rate in range(9):  # more than there are colours
            points = [(step, float(seed + rate + step)) for step in (10, 20, 30)]
            write_run(f"runs/{rate}-{seed}", seed=seed, evaluations=points, rate=rate)
    write_run("runs/z", evaluations=[(100, 3.0)], name="breakout", env=BREAKOUT)
    text = printed("runs=runs/*", "output=figures/all.png")
    assert text.splitlines()[-1] == "Picture: figures/all.png"
    picture = np.round(255 * imread(tmp_path / "figures/all.png")[..., :3]).astype(int) @ [1 << 16, 1 << 8, 1]
    assert picture.shape[1] == 1600
    assert {int(colour[1:], 16) for colour in COLOURS} <= set(picture.ravel().tolist())
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["all.png"]
