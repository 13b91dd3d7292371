from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from made_up_runs import BREAKOUT, WriteRun
from rich.console import Console

from dqn.compose import compose_config, register_resolvers, resolve
from dqn.config import Config
from dqn.errors import UserError
from dqn.options import parse_options
from dqn.report.sweep import SweepReportOptions, report_sweep
from dqn.report.sweep_plots import ValueScale
from dqn.report.sweep_runs import Job, group_by_setting, ranked, read_jobs, swept_keys
from dqn.run_folder import RunFolder
from dqn.validation import validate

SWEEP = Path("runs/sweep")


class MadeUpSweep:
    """Writes a sweep, run by run."""

    def __init__(self, write_run: WriteRun) -> None:
        self._write_run = write_run
        self._jobs: list[dict[str, Any]] = []

    def add(self, *overrides: str, seed: int = 0, error: str | None = None, begun: bool = True, **run: Any) -> Path:
        """One job more, with its run's folder as `write_run` makes it if it has begun."""
        number = len(self._jobs)
        folder = f"{number}-seed{seed}"
        words = [*overrides, f"seed={seed}"]
        self._jobs.append({"number": number, "overrides": words, "folder": folder, "error": error})
        (SWEEP / folder).parent.mkdir(parents=True, exist_ok=True)
        (SWEEP / "sweep.json").write_text(json.dumps({"jobs": self._jobs}))
        if begun:
            self._write_run(str(SWEEP / folder), seed=seed, **run)
        return SWEEP / folder


@pytest.fixture
def sweep(write_run: WriteRun) -> MadeUpSweep:
    """An empty sweep below an empty current folder."""
    return MadeUpSweep(write_run)


def printed(width: int = 100) -> list[str]:
    """What the report prints: its lines without their margins."""
    console = Console(file=io.StringIO(), width=width)
    report_sweep(SWEEP, console)
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    return [" ".join(line.split()) for line in lines if line.strip()]


def message() -> str:
    with pytest.raises(UserError) as caught:
        printed()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def rows() -> list[dict[str, str]]:
    return list(csv.DictReader((SWEEP / "sweep.csv").open()))


def best() -> dict[str, Any]:
    """The settings of best.yaml."""
    content = yaml.safe_load((SWEEP / "best.yaml").read_text())
    assert isinstance(content, dict)
    return content


def names() -> set[str]:
    return {path.name for path in SWEEP.iterdir() if not path.name[0].isdigit()}


# --- sweep.csv ---


def test_the_table_has_a_row_for_each_run(sweep: MadeUpSweep) -> None:
    stop = {"stop": {"mean_return": 9.0}}
    evaluations = [(100, 5.0), (200, 9.5), (300, 9.0)]
    sweep.add("a.rate=1e-3", seed=4, evaluations=evaluations, final=8.5, standard_error=0.25, evaluation=stop)
    sweep.add("a.rate=0.01", "+b=x,y", env=BREAKOUT, evaluations=[(100, 1.0)], status="pruned", evaluation=stop)
    sweep.add("a.rate=0.1", evaluations=[(50, 2.0)], summary=False, evaluation=stop)
    sweep.add("a.rate=1", begun=False)
    sweep.add("a.rate=2", begun=False, error='memory.capacity_steps=1: too small, "more"')
    report_sweep(SWEEP, Console(file=io.StringIO()))
    assert (SWEEP / "sweep.csv").read_text().splitlines() == [
        "number,folder,status,a.rate,b,seed,final_mean_return,final_standard_error,best_evaluation_mean_return,"
        "steps,frames,seconds,steps_to_threshold,error",
        "0,0-seed4,completed,1e-3,,4,8.5,0.25,9.5,300,300,7.0,200,",
        '1,1-seed0,pruned,0.01,"x,y",0,,,1.0,100,400,3.0,,',
        "2,2-seed0,running,0.1,,0,,,,50,50,,,",
        "3,3-seed0,waiting,1,,0,,,,,,,,",
        '4,4-seed0,failed,2,,0,,,,,,,,"memory.capacity_steps=1: too small, ""more"""',
    ]


def test_steps_to_threshold_are_left_out_where_there_is_no_threshold(sweep: MadeUpSweep) -> None:
    sweep.add("a=1", evaluations=[(100, 5.0)], final=1.0, evaluation={"stop": {"mean_return": None}})
    printed()
    assert "steps_to_threshold" not in rows()[0]


# --- the best setting ---


def test_the_best_setting_has_the_best_mean_over_its_seeds(sweep: MadeUpSweep) -> None:
    for rate, scores in {"1": [100.0, 0.0], "2": [60.0, 50.0], "3": [10.0, 20.0]}.items():
        for seed, score in enumerate(scores):
            sweep.add(f"a.rate={rate}", seed=seed, evaluations=[(100, score)], final=score, a={"rate": int(rate)})
    lines = printed()
    assert best()["a"] == {"rate": 2}
    assert lines[0] == "6 runs of 3 settings: 6 done"
    assert lines[1:3] == ["The best 3 of 3 settings with a score:", "seeds mean 95 % interval steps seconds rate"]
    assert lines[4:7] == [
        "1 2 55.0 50.0 to 60.0 100 3 to 4 2",
        "2 2 50.0 0.000 to 100.0 100 3 to 4 1",
        "3 2 15.0 10.0 to 20.0 100 3 to 4 3",
    ]


def test_of_equal_scores_the_one_with_fewer_steps_is_best(sweep: MadeUpSweep) -> None:
    for rate, step in ((1, 300), (2, 100), (3, 200)):
        sweep.add(f"a={rate}", evaluations=[(step, 500.0)], final=500.0, status="converged", a=rate)
    printed()
    assert best()["a"] == 2


@pytest.mark.parametrize(
    "end", [{"status": "pruned"}, {"status": "diverged"}, {"error": "out of memory"}, {"final": float("nan")}]
)
def test_a_setting_that_lost_a_seed_is_behind_all_that_are_complete(sweep: MadeUpSweep, end: dict[str, Any]) -> None:
    sweep.add("a=1", seed=0, evaluations=[(100, 9.0)], final=90.0, a=1)
    sweep.add("a=1", seed=1, evaluations=[(100, 9.0)], a=1, **{"final": 95.0, **end})
    sweep.add("a=2", seed=0, evaluations=[(100, 9.0)], final=10.0, a=2)
    sweep.add("a=2", seed=1, evaluations=[(100, 9.0)], final=12.0, a=2)
    lines = printed()
    assert best()["a"] == 2
    assert "2 1 of 2 90.0 - 100 3 1" in lines
    assert "Settings that lack the score of a seed come last." in lines


def test_an_incomplete_setting_is_best_if_there_is_no_other_and_says_so(sweep: MadeUpSweep) -> None:
    sweep.add("a=1", seed=0, evaluations=[(100, 9.0)], final=90.0, a=1)
    sweep.add("a=1", seed=1, begun=False)
    printed()
    assert "over 1 of 2 seeds; no setting has a score for every seed" in (SWEEP / "best.yaml").read_text()


def test_the_same_seed_twice_counts_once(sweep: MadeUpSweep) -> None:
    for seed, score in ((0, 1.0), (1, 4.0), (1, 4.0)):
        sweep.add("a=1", seed=seed, evaluations=[(100, 9.0)], final=score)
    (setting,) = group_by_setting(read_jobs(SWEEP))
    assert (setting.score, setting.num_seeds, setting.interval) == (2.5, 2, (1.0, 4.0))
    assert [job.number for job in setting.done] == [0, 1]


def test_without_a_finished_run_there_is_no_best(sweep: MadeUpSweep) -> None:
    sweep.add("a=1", evaluations=[(100, 9.0)], status="interrupted", final=3.0)
    sweep.add("a=2", begun=False)
    lines = printed()
    assert lines[0] == "2 runs of 2 settings: 1 interrupted, 1 waiting"
    assert "No run has ended as planned yet: there is no best setting." in lines
    assert names() == {"sweep.json", "sweep.csv"}


def test_returns_of_different_environments_are_not_compared(sweep: MadeUpSweep) -> None:
    sweep.add("env=a", evaluations=[(100, 9.0)], final=3.0)
    sweep.add("env=b", evaluations=[(100, 9.0)], final=4.0, env=BREAKOUT)
    assert any("different environments" in line for line in printed())
    assert "best.yaml" not in names()


# --- best.yaml ---


@pytest.fixture
def real_sweep(sweep: MadeUpSweep) -> dict[str, Any]:
    """A sweep over an Atari preset; the config of its best setting."""
    configs = []
    for rate, score in (("1e-4", 3.0), ("3e-4", 7.0)):
        words = [f"optimizer.learning_rate={rate}", "algorithm/loss=mse", "logger=none"]
        folder = sweep.add(*words, seed=5, evaluations=[(100, score)], final=score)
        configs.append(compose_config(["experiment=pong", *words, "seed=5"]))
        RunFolder(folder).write_config(configs[-1])
    report_sweep(SWEEP, Console(file=io.StringIO()))
    return configs[1]


def test_best_yaml_is_the_config_of_the_best_setting(real_sweep: dict[str, Any]) -> None:
    register_resolvers()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(SWEEP.absolute()), version_base="1.3"):
        values = resolve(compose("best"), [])
        fresh = resolve(compose("best", overrides=["seed=9", "optimizer.learning_rate=1"]), [])
    assert values == real_sweep
    assert validate(Config, values) == validate(Config, real_sweep)
    assert (fresh["seed"], fresh["optimizer"]["learning_rate"]) == (9, 1)
    header = (SWEEP / "best.yaml").read_text().split("defaults:")[0]
    assert "# The best of 2 settings of a sweep. Overrides: optimizer.learning_rate=3e-4 algorithm/loss=mse" in header
    assert "# Mean return of the final evaluations: 7, over 1 seed.\n" in header
    assert "optimistic" in header
    assert f"--config-path {SWEEP.absolute()} --config-name best seed=6,7,8,9,10\n" in header


def test_best_is_a_preset_too(real_sweep: dict[str, Any]) -> None:
    words = [f"hydra.searchpath=[file://{SWEEP.absolute()}]", "experiment=best", "seed=5", "logger=none"]
    assert validate(Config, compose_config(words)) == validate(Config, real_sweep)
    assert compose_config([*words, "trainer.batch_size=7"])["trainer"]["batch_size"] == 7


# --- the terminal ---


def test_only_the_best_twenty_are_printed(sweep: MadeUpSweep) -> None:
    for number in range(25):
        sweep.add(f"a={number}", evaluations=[(100, 1.0)], final=float(number))
    lines = printed()
    assert "The best 20 of 25 settings with a score:" in lines
    assert "1 1 24.0 - 100 3 24" in lines
    assert "20 1 5.000 - 100 3 5" in lines
    assert not any(line.startswith("21 ") for line in lines)


def test_runs_are_counted_and_failures_told(sweep: MadeUpSweep) -> None:
    sweep.add("a=1", evaluations=[(100, 1.0)], final=1.0)
    sweep.add("a=2", evaluations=[(100, 1.0)], status="pruned")
    sweep.add("a=3", evaluations=[(100, 1.0)], status="diverged")
    sweep.add("a=4", begun=False)
    for number in range(5, 16):
        sweep.add(f"a={number}", begun=False, error="no space left")
    lines = printed()
    assert lines[0] == "15 runs of 15 settings: 1 done, 1 pruned, 11 failed, 1 diverged, 1 waiting"
    assert lines[1:3] == ["2-seed0 diverged: no reason is known", "4-seed0 failed: no space left"]
    assert lines[11] == "and 2 more, see sweep.csv"


def test_columns_are_what_differs_in_few_digits(sweep: MadeUpSweep) -> None:
    sweep.add("c=0", "a.rate=0.00123456789", "b.rate=1000", evaluations=[(100, 1.0)], final=1.0)
    sweep.add("c=0", "a.rate=2", "b.long_name=x", evaluations=[(100, 1.0)], final=0.0)
    lines = printed()
    assert lines[2:4] == ["95 % a. b. long_", "seeds mean interval steps seconds rate rate name"]
    assert lines[5:7] == ["1 1 1.000 - 100 3 0.001235 1000 -", "2 1 0.000 - 100 3 2 - x"]


def test_what_does_not_fit_goes_on_below(sweep: MadeUpSweep) -> None:
    for number in range(2):
        words = [f"{letter * 20}={number}" for letter in "abc"]
        sweep.add(*words, evaluations=[(100, 1.0)], final=float(number))
    lines = printed(width=80)
    assert lines[3] == f"seeds mean interval steps seconds {'a' * 20}"
    assert lines[7] == f"{'b' * 20} {'c' * 20}"
    assert lines[9] == "1 1 1"


# --- pictures ---


def size(path: Path) -> tuple[int, ...]:
    from matplotlib.image import imread

    return np.asarray(imread(path)).shape


def test_a_sweep_over_seeds_has_curves_and_no_parameters(sweep: MadeUpSweep) -> None:
    for seed in range(3):
        sweep.add("a=1", seed=seed, evaluations=[(100, 1.0), (200, float(seed))], final=float(seed))
    lines = printed()
    assert lines[0] == "3 runs of 1 setting: 3 done"
    assert "1 3 1.000 0.000 to 2.000 200 3 to 5" in lines
    assert names() == {"sweep.json", "sweep.csv", "best.yaml", "experiment", "curves.png"}
    assert lines[-1] == "Written in runs/sweep: sweep.csv, best.yaml, experiment/best.yaml, curves.png"
    assert size(SWEEP / "curves.png")[1] == 1600


def test_one_parameter_is_drawn_alone_and_several_together_too(sweep: MadeUpSweep) -> None:
    sweep.add("a=1", evaluations=[(100, 1.0)], final=1.0)
    sweep.add("a=10", evaluations=[(100, 1.0)], final=2.0)
    printed()
    assert "parameters.png" in names()
    assert "parallel_coordinates.png" not in names()
    sweep.add("a=10", "b=null", evaluations=[(100, 1.0)], final=0.5)
    printed()
    assert "parallel_coordinates.png" in names()
    assert size(SWEEP / "parameters.png")[1] > size(SWEEP / "parameters.png")[0]


def test_numbers_that_span_a_power_of_ten_are_drawn_over_their_logarithm() -> None:
    scale = ValueScale(["1e-4", "0.01", "-", "0.001"])
    assert scale.is_log
    assert scale.fraction(scale.position("0.001")) == pytest.approx(0.5)
    assert np.isnan(scale.position("-"))
    assert [text for _, text in scale.ticks()] == ["0.0001", "0.001", "0.01"]
    many = ValueScale([str(number) for number in range(1000, 16001, 500)])
    assert [text for _, text in many.ticks()] == ["1000", "2000", "5000", "10k"]
    assert [text for _, text in ValueScale([str(i) for i in range(10, 21)]).ticks()] == [
        "10",
        "12.5",
        "15",
        "17.5",
        "20",
    ]
    assert not ValueScale(["1", "9"]).is_log
    assert not ValueScale(["0", "1000"]).is_log
    assert not ValueScale(["1", "1000"], may_be_log=False).is_log


def test_words_stand_side_by_side_after_numbers() -> None:
    scale = ValueScale(["null", "10.0", "2", "null"])
    assert (scale.is_numeric, scale.is_log) == (False, False)
    assert scale.ticks() == [(0.0, "2"), (1.0, "10"), (2.0, "null")]
    assert scale.position("null") == 2
    assert ValueScale(["[64,64]", "[120,84]", "[120]"]).categories == ["[64,64]", "[120]", "[120,84]"]
    assert ValueScale(["true", "false"]).categories == ["false", "true"]
    assert ValueScale(["inf", "1"]).is_numeric is False


# --- an Optuna study ---


def make_study(folder: Path, values: Sequence[Sequence[float] | None], directions: Sequence[str]) -> None:
    """A study over a (which matters) and b; None is a pruned trial."""
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(storage=f"sqlite:///{folder.absolute()}/optuna.db", directions=list(directions))
    for value in values:
        trial = study.ask()
        trial.suggest_float("a", 0, 1)
        trial.suggest_float("b", 0, 1)
        if value is None:
            trial.report(1.0, step=100)
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        else:
            study.tell(trial, list(value))


def test_a_study_is_drawn_with_importance_and_history(sweep: MadeUpSweep) -> None:
    sweep.add("a=1", evaluations=[(100, 1.0)], final=1.0)
    make_study(SWEEP, [[1.0], [2.0], None, [3.0], [0.0], [4.0]], ["maximize"])
    lines = printed()
    assert lines[-1].endswith("history.png, importance.png")
    assert {"history.png", "importance.png"} <= names()


def test_several_objectives_have_a_history_only(sweep: MadeUpSweep) -> None:
    sweep.add("a=1", evaluations=[(100, 1.0)], final=1.0)
    make_study(SWEEP, [[1.0, 5.0], [2.0, 3.0], [4.0, 4.0]], ["maximize", "minimize"])
    lines = printed()
    assert "history.png" in names()
    assert "importance.png" not in names()
    assert any(line.startswith("The study has several objectives") for line in lines)


def test_a_search_for_something_else_than_the_mean_return_is_told_from_the_ranking(sweep: MadeUpSweep) -> None:
    import optuna

    from dqn.sweep.study import MEMORY

    sweep.add("a=1", evaluations=[(100, 1.0)], final=1.0)
    make_study(SWEEP, [[1.0], [2.0]], ["maximize"])
    storage = f"sqlite:///{SWEEP.absolute()}/optuna.db"
    study = optuna.load_study(study_name=optuna.get_all_study_names(storage)[0], storage=storage)
    told = "The search went by the iqm of mean_return; the ranking and best.yaml go by the mean of mean_return."
    for aggregate in ("mean", "iqm"):
        assert told not in printed()
        study.set_user_attr(MEMORY, {"hydra": {"sweeper": {"aggregate": aggregate, "objectives": ["mean_return"]}}})
    assert told in printed()


def test_a_study_that_has_hardly_begun_is_no_obstacle(sweep: MadeUpSweep) -> None:
    sweep.add("a=1", evaluations=[(100, 1.0)], final=1.0)
    make_study(SWEEP, [None], ["maximize"])
    assert any(line.startswith("The study has no completed trial yet") for line in printed())
    assert "history.png" not in names()
    (SWEEP / "optuna.db").unlink()
    make_study(SWEEP, [[1.0], [1.0]], ["maximize"])
    assert any(line.startswith("The importance of parameters needs") for line in printed())


# --- damage ---


def test_what_is_no_sweep_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert message() == "sweep=runs/sweep: no such folder"
    SWEEP.mkdir(parents=True)
    assert message() == "sweep=runs/sweep: is no sweep folder: it has no sweep.json"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "cannot be read: Expecting property name"),
        ("[]", "cannot be read: it holds no record of jobs"),
        ("{}", "cannot be read: jobs is missing"),
        ('{"jobs": []}', "lists no run yet"),
        (
            '{"jobs": [{"number": "x", "overrides": [], "folder": "a", "error": null}]}',
            "cannot be read: jobs[0].number=x",
        ),
    ],
)
def test_a_damaged_record_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, problem: str) -> None:
    monkeypatch.chdir(tmp_path)
    SWEEP.mkdir(parents=True)
    (SWEEP / "sweep.json").write_text(text)
    assert message().startswith(f"sweep=runs/sweep/sweep.json: {problem}")


def test_a_run_that_has_only_its_folder_is_running(sweep: MadeUpSweep) -> None:
    sweep.add("a=1", begun=False)
    (SWEEP / "0-seed0").mkdir()
    sweep.add("a=2", summary=False)
    assert printed()[0] == "2 runs of 2 settings: 2 running"
    assert [row["status"] for row in rows()] == ["running", "running"]


@pytest.mark.parametrize("name", ["config.yaml", "summary.json"])
def test_a_damaged_run_is_one_line(sweep: MadeUpSweep, name: str) -> None:
    folder = sweep.add("a=1", final=1.0)
    (folder / name).write_text("{a: [")
    assert message().startswith(f"runs={folder / name}: cannot be read")


def test_a_line_that_is_being_written_is_left_out(sweep: MadeUpSweep) -> None:
    folder = sweep.add("a=1", evaluations=[(100, 5.0)], summary=False)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "evalu')
    printed()
    assert rows()[0]["steps"] == "100"


# --- parts ---


def test_settings_are_what_differs_beside_the_seed() -> None:
    jobs = [
        Job(i, overrides, str(i), Path(str(i)), None, None)
        for i, overrides in enumerate(
            [{"a": "1", "seed": "0"}, {"a": "1", "seed": "1"}, {"seed": "0", "a": "2"}, {"a": "1"}]
        )
    ]
    settings = group_by_setting(jobs)
    assert [[job.number for job in setting.jobs] for setting in settings] == [[0, 1, 3], [2]]
    assert swept_keys(settings) == ["a"]
    assert ranked(settings) == []


def test_options_of_the_script() -> None:
    assert parse_options(SweepReportOptions, ["sweep=a"], "").sweep == "a"
    with pytest.raises(UserError, match="sweep is missing"):
        parse_options(SweepReportOptions, [], "")
