"""A whole search with a launcher that makes the scores up."""

from __future__ import annotations

import json
import os
import uuid
from pathlib import Path

import optuna
import pytest
from fake_launcher import smooth_score
from optuna.trial import TrialState

from dqn.errors import UserError
from dqn.report.sweep_runs import read_jobs
from dqn.sweep import outcome
from dqn.sweep.sampler import make_sampler

RATE = "optimizer.learning_rate=tag(log,interval(1e-5,1e-1))"
SMALL = [RATE, "hydra.sweeper.trials=6", "hydra.sweeper.trials_per_batch=2", "hydra.sweeper.seeds_per_trial=2"]


def trials_in(folder, name="cartpole", **kwargs):
    return optuna.load_study(study_name=name, storage=f"sqlite:///{Path(folder) / 'optuna.db'}").get_trials(**kwargs)


def test_batches_are_asked_and_told(make_search, capsys):
    search, launcher = make_search(*SMALL, "hydra.sweeper.first_seed=7")
    search.run()
    assert [(first, len(jobs)) for first, jobs in launcher.launches] == [(0, 4), (4, 4), (8, 4)]
    trials = trials_in(launcher.folder)
    assert [trial.number for trial in trials] == list(range(6))
    for trial in trials:
        assert trial.state == TrialState.COMPLETE
        rate = trial.params["optimizer.learning_rate"]
        for seed in (0, 1):
            job = launcher.jobs[2 * trial.number + seed]
            assert float(job["optimizer.learning_rate"]) == rate
            assert job["seed"] == str(7 + seed)
        scores = [smooth_score({"optimizer.learning_rate": str(rate), "seed": seed}, 30_000) for seed in "78"]
        assert trial.values == [pytest.approx(sum(scores) / 2)]
    lines = capsys.readouterr().err.splitlines()
    best = max(trials, key=lambda trial: trial.value)
    assert (
        lines[-1] == f"trials 6/6 done (0 pruned, 0 failed), best {best.value:,.1f} by trial {best.number}, 0:00 left"
    )
    assert [line.split()[1] for line in lines] == ["2/6", "4/6", "6/6"]


def test_a_batch_is_as_large_as_the_launchers_stack(make_search):
    search, launcher = make_search(
        RATE, "hydra.launcher.max_members=10", "hydra.sweeper.trials=7", "hydra.sweeper.seeds_per_trial=3"
    )
    search.run()
    assert [len(jobs) for _, jobs in launcher.launches] == [9, 9, 3]


def test_fixed_words_reach_every_job(make_search):
    search, launcher = make_search(*SMALL, "trainer.batch_size=64", "++env.kwargs.x=1")
    search.run()
    assert all(job["trainer.batch_size"] == "64" for job in launcher.jobs.values())


SAMPLERS = ["tpe", "random", "grid", "cmaes", "qmc"]


@pytest.mark.search
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_proposes_as_if_never_interrupted(sampler, make_search, tmp_path):
    """A sweep stopped after two batches and resumed proposes the settings of one that ran through, none twice."""
    words = [
        f"hydra/sweeper/sampler={sampler}",
        "optimizer.learning_rate=choice(1e-4,1e-3,1e-2)" if sampler == "grid" else RATE,
        "target.period_steps=range(100,500,100)",
        "target=hard",
        *SMALL[1:],
    ]
    search, whole = make_search(*words, "hydra.sweep.dir=whole")
    search.run()
    search, first = make_search(*words, "hydra.sweep.dir=halves", stop_at_batch=3)
    with pytest.raises(KeyboardInterrupt):
        search.run()
    search, second = make_search(*words, "sweep.resume=halves")
    search.run()

    def settings(jobs):
        return {job: (s["optimizer.learning_rate"], s["target.period_steps"]) for job, s in jobs.items()}

    assert len(whole.jobs) == 12
    assert settings(first.jobs | second.jobs) == settings(whole.jobs)
    assert sorted(second.jobs) == list(range(8, 12))
    if sampler != "cmaes":  # whose rounding of whole numbers may repeat a setting
        assert len(set(settings(whole.jobs).values())) == 6


@pytest.mark.parametrize("goes_on", [True, False])
def test_a_killed_sweep_goes_on_with_none_lost_and_none_doubled(goes_on, make_search, capsys):
    """With a launcher that goes on with runs that were begun, and with one that can only begin them."""
    search, first = make_search(*SMALL, stop_at_batch=2, prunes=goes_on)
    with pytest.raises(KeyboardInterrupt):
        search.run()
    assert f"2/6 trials done; the same with sweep.resume={first.folder} goes on" in capsys.readouterr().err
    left = [trial for trial in trials_in(first.folder) if trial.state == TrialState.RUNNING]
    assert [trial.number for trial in left] == [2, 3]
    begun = first.folder / "4-seed0" / "begun"
    begun.touch()

    search, second = make_search(*SMALL, f"sweep.resume={first.folder}", prunes=goes_on)
    search.run()
    assert begun.exists() == goes_on
    assert second.folder == first.folder
    assert [first_job for first_job, _ in second.launches] == [4, 8]
    trials = trials_in(first.folder)
    assert [trial.number for trial in trials] == list(range(6))
    assert all(trial.state == TrialState.COMPLETE for trial in trials)
    for before in left:  # the same settings under the same numbers
        assert trials[before.number].params == before.params
        assert (
            float(second.jobs[2 * before.number]["optimizer.learning_rate"]) == before.params["optimizer.learning_rate"]
        )
    folders = [path for path in first.folder.iterdir() if path.is_dir()]
    assert sorted(int(path.name.partition("-")[0]) for path in folders) == list(range(12))
    assert all((path / "summary.json").is_file() for path in folders)
    if not goes_on:  # as launchers of our own write down themselves what they run
        assert outcome.folder == first.folder
        known = {job.number: job.name for job in read_jobs(first.folder)}
        assert known == {number: f"{number}-seed{number % 2}" for number in range(12)}


@pytest.mark.parametrize("sampler", ["tpe", "grid"])
def test_a_trial_killed_while_it_was_proposed_gets_what_it_lacks(sampler, make_search):
    rate = "optimizer.learning_rate=choice(1e-5,1e-4,1e-3,2e-3,1e-2,1e-1)" if sampler == "grid" else RATE
    words = [rate, *SMALL[1:], f"hydra/sweeper/sampler={sampler}"]
    search, first = make_search(*words, stop_at_batch=1)
    with pytest.raises(KeyboardInterrupt):
        search.run()
    storage = f"sqlite:///{first.folder / 'optuna.db'}"
    sampling = make_sampler(search._settings.sampler, search._space, 2)
    optuna.load_study(study_name="cartpole", storage=storage, sampler=sampling).ask()
    search, second = make_search(*words, f"sweep.resume={first.folder}")
    search.run()
    rates = {trial.params["optimizer.learning_rate"] for trial in trials_in(first.folder)}
    assert len(rates) == 6
    assert len(trials_in(first.folder, states=(TrialState.COMPLETE,))) == 6
    assert sorted(second.jobs) == list(range(12))


def test_a_complete_sweep_goes_on_with_more_trials(make_search):
    search, first = make_search(*SMALL)
    search.run()
    search, again = make_search(*SMALL, f"sweep.resume={first.folder}")
    search.run()
    assert again.launches == []
    search, more = make_search(*SMALL, "hydra.sweeper.trials=8", f"sweep.resume={first.folder}")
    search.run()
    assert sorted(more.jobs) == [12, 13, 14, 15]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("optimizer.learning_rate=interval(1e-5,1)", "sweep.space.optimizer.learning_rate.high=1.0: was 0.1 when"),
        ("algorithm.discount=interval(0.9,1)", "sweep.space.algorithm.discount.type=float: was nothing when"),
        ("trainer.total_steps=80000", "trainer.total_steps=80000: was 100000 when"),
        ("hydra.sweeper.seeds_per_trial=3", "hydra.sweeper.seeds_per_trial=3: was 2 when"),
        ("hydra/sweeper/sampler=random", "hydra.sweeper.sampler.kind=random: was tpe when"),
    ],
)
def test_another_sweep_cannot_go_on_with_a_study(word, message, make_search):
    search, first = make_search(*SMALL, stop_at_batch=2)
    with pytest.raises(KeyboardInterrupt):
        search.run()
    search, _ = make_search(*SMALL, word, f"sweep.resume={first.folder}")
    with pytest.raises(UserError) as error:
        search.run()
    assert str(error.value).startswith(message)


def test_a_failed_job_costs_its_trial_alone(make_search, capsys):
    search, launcher = make_search(*SMALL, status=lambda settings, job: "failed" if job == 5 else "completed")
    search.run()
    states = [trial.state for trial in trials_in(launcher.folder)]
    assert states == [TrialState.COMPLETE] * 2 + [TrialState.FAIL] + [TrialState.COMPLETE] * 3
    assert "trials 6/6 done (0 pruned, 1 failed)" in capsys.readouterr().err


def test_a_diverged_run_has_no_score(make_search):
    search, launcher = make_search(*SMALL, status=lambda settings, job: "diverged" if job == 0 else "converged")
    search.run()
    assert [trial.state for trial in trials_in(launcher.folder)][:2] == [TrialState.FAIL, TrialState.COMPLETE]


def test_an_interrupted_run_leaves_its_trial_to_be_resumed(make_search):
    search, launcher = make_search(*SMALL, status=lambda settings, job: "interrupted" if job == 3 else "completed")
    with pytest.raises(KeyboardInterrupt):
        search.run()
    states = [trial.state.name for trial in trials_in(launcher.folder)]
    assert states == ["COMPLETE", "RUNNING"]
    search, second = make_search(*SMALL, f"sweep.resume={launcher.folder}")
    search.run()
    assert second.launches[0][0] == 2
    assert sorted(second.jobs) == list(range(2, 12))


@pytest.mark.parametrize("pruner", ["median", "successive_halving", "hyperband"])
def test_pruned_trials_are_told_as_pruned(pruner, make_search, capsys):
    more = ["hydra.sweeper.trials=12", "hydra.sweeper.trials_per_batch=4", "trainer.total_steps=30000"]
    search, launcher = make_search(*SMALL, *more, f"hydra/sweeper/pruner={pruner}")
    search.run()
    trials = trials_in(launcher.folder)
    pruned = [trial for trial in trials if trial.state == TrialState.PRUNED]
    assert pruned
    assert sorted(launcher.pruned) == [job for t in pruned for job in (2 * t.number, 2 * t.number + 1)]
    for trial in pruned:
        assert trial.last_step == launcher.pruned[2 * trial.number][0]
    assert len(pruned) + len([t for t in trials if t.state == TrialState.COMPLETE]) == 12
    assert f"({len(pruned)} pruned, 0 failed)" in capsys.readouterr().err


def test_without_a_pruner_nobody_judges(make_search):
    search, launcher = make_search(*SMALL)
    search.run()
    assert launcher.judge is None


def test_several_objectives(make_search, capsys):
    """steps_to_threshold: the first evaluation that reached 250, for a run that never did its total steps."""
    search, launcher = make_search(
        *SMALL,
        "hydra.sweeper.trials=12",
        "hydra.sweeper.objectives=[mean_return,steps_to_threshold]",
        "evaluation.stop.mean_return=250",
        "trainer.total_steps=30000",
    )
    search.run()
    for trial in trials_in(launcher.folder):
        settings = [launcher.jobs[2 * trial.number + seed] for seed in (0, 1)]
        expected = [
            next((step for step in range(2000, 30_001, 2000) if smooth_score(s, step) >= 250), 30_000) for s in settings
        ]
        assert trial.values == pytest.approx([sum(smooth_score(s, 30_000) for s in settings) / 2, sum(expected) / 2])
    assert len({trial.values[1] for trial in trials_in(launcher.folder)}) > 2
    assert "that no other beats in both objectives" in capsys.readouterr().err


def test_the_iqm_is_the_score_where_it_is_asked_for(make_search):
    search, launcher = make_search(
        RATE, "hydra.sweeper.aggregate=iqm", "hydra.sweeper.trials=1", "hydra.sweeper.seeds_per_trial=4",
        score=lambda settings, step: {"0": 1.0, "1": 5.0, "2": 7.0, "3": 1000.0}[settings["seed"]],
    )  # fmt: skip
    search.run()
    assert trials_in(launcher.folder)[0].value == 6.0


def test_a_grid_ends_where_it_is_complete(make_search):
    search, launcher = make_search(
        "hydra/sweeper/sampler=grid", "target=hard,polyak", "algorithm.discount=0.9,0.99,0.999",
        "hydra.sweeper.trials_per_batch=4", "hydra.sweeper.seeds_per_trial=1",
    )  # fmt: skip
    search.run()
    settings = {(job["target"], job["algorithm.discount"]) for job in launcher.jobs.values()}
    assert len(settings) == len(launcher.jobs) == 6


def test_tpe_finds_the_hill(make_search):
    search, launcher = make_search(RATE, "hydra.sweeper.trials=40", "hydra.sweeper.seeds_per_trial=1",
                                   "hydra.sweeper.trials_per_batch=5")  # fmt: skip
    search.run()
    best = max(trials_in(launcher.folder), key=lambda trial: trial.value)
    assert 5e-4 < best.params["optimizer.learning_rate"] < 2e-3


def test_draws_depend_on_the_seed_and_the_place_in_the_study(make_search):
    search, _ = make_search(*SMALL, "hydra/sweeper/sampler=random")
    config, space = search._settings.sampler, search._space

    def draw(trials_before):
        return space.suggest(optuna.create_study(sampler=make_sampler(config, space, trials_before)).ask())

    assert draw(0) == draw(0)
    assert draw(0) != draw(4)


MISTAKES = {
    "unknown field": (["+hydra.sweeper.trails=3"], "hydra.sweeper.trails=3: no such key; did you mean trials?"),
    "wrong type": (["hydra.sweeper.trials=many"], "hydra.sweeper.trials=many: must be a whole number"),
    "unknown objective": (["hydra.sweeper.objectives=[return]"], "hydra.sweeper.objectives[0]=return: "),
    "an objective twice": (
        ["hydra.sweeper.objectives=[mean_return,mean_return]"],
        "hydra.sweeper.objectives=[mean_return, mean_return]: has one of them twice",
    ),
    "no threshold": (
        ["hydra.sweeper.objectives=[steps_to_threshold]", "evaluation.stop.mean_return=null"],
        "evaluation.stop.mean_return=null: is the threshold",
    ),
    "cmaes with two objectives": (
        ["hydra.sweeper.objectives=[mean_return,steps_to_threshold]", "hydra/sweeper/sampler=cmaes"],
        "hydra/sweeper/sampler=cmaes: has one objective",
    ),
    "pruner with two objectives": (
        ["hydra.sweeper.objectives=[mean_return,steps_to_threshold]", "hydra/sweeper/pruner=median"],
        "hydra/sweeper/pruner=median: prunes by mean_return",
    ),
    "pruner without evaluations": (
        ["hydra/sweeper/pruner=median", "evaluation.every_steps=null"],
        "evaluation.every_steps=null: the pruner median decides at evaluations",
    ),
    "hyperband without a length": (
        ["hydra/sweeper/pruner=hyperband", "trainer.total_steps=null", "trainer.total_episodes=9"],
        "trainer.total_steps=null: hyperband needs",
    ),
    "endless grid": (
        ["hydra/sweeper/sampler=grid"],
        "sweep.space.optimizer.learning_rate.step=null: a grid needs steps",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_refused_before_anything_is_written(mistake, make_search, tmp_path):
    words, message = MISTAKES[mistake]
    with pytest.raises(UserError) as error:
        make_search(RATE, *words)
    assert str(error.value).startswith(message)
    assert list(tmp_path.iterdir()) == []


def test_a_launcher_that_cannot_end_runs_takes_no_pruner(make_search):
    with pytest.raises(UserError, match=r"hydra/sweeper/pruner=median: .*hydra/launcher=population"):
        make_search(RATE, "hydra/sweeper/pruner=median", prunes=False)


def test_a_folder_with_something_in_it_is_left_alone(make_search, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("")
    search, _ = make_search(*SMALL, "hydra.sweep.dir=mine")
    with pytest.raises(UserError, match=r"hydra.sweep.dir=mine: exists and is not empty"):
        search.run()


def test_there_must_be_a_sweep_to_resume(make_search, tmp_path):
    search, _ = make_search(*SMALL, "sweep.resume=runs/none")
    with pytest.raises(UserError, match=r"sweep.resume=runs/none: there is no Optuna sweep"):
        search.run()
    assert list(tmp_path.iterdir()) == []


def test_a_study_can_live_in_another_storage(make_search, tmp_path):
    storage = [f"hydra.sweeper.storage='sqlite:///{tmp_path}/shared.db'", "hydra.sweeper.study_name=mine"]
    search, _ = make_search(*SMALL, *storage, "hydra.sweep.dir=a", stop_at_batch=2)
    with pytest.raises(KeyboardInterrupt):
        search.run()
    search, _ = make_search(*SMALL, *storage, "hydra.sweep.dir=b")
    with pytest.raises(UserError, match=r"hydra.sweeper.study_name=mine: the storage has this study"):
        search.run()
    assert not Path("b").exists()
    search, _ = make_search(*SMALL, *storage, "sweep.resume=a")
    search.run()
    study = optuna.load_study(study_name="mine", storage=f"sqlite:///{tmp_path}/shared.db")
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 6
    assert not Path("a/optuna.db").exists()


def test_a_storage_that_cannot_be_opened_is_one_line_without_the_password(make_search):
    search, _ = make_search(*SMALL, "hydra.sweeper.storage='postgresql://me:secret@localhost:1/none'")
    with pytest.raises(UserError, match=r"hydra.sweeper.storage=postgresql.*: cannot be opened: ") as error:
        search.run()
    assert "secret" not in str(error.value)
    assert "\n" not in str(error.value)
    search, _ = make_search(*SMALL, "hydra.sweeper.storage=nonsense")
    with pytest.raises(UserError, match=r"hydra.sweeper.storage=nonsense: cannot be opened: "):
        search.run()


@pytest.mark.skipif("DQN_TEST_POSTGRES_URL" not in os.environ, reason="needs a server, DQN_TEST_POSTGRES_URL its URL")
def test_a_study_can_live_in_postgresql(make_search):
    name = f"test {uuid.uuid4()}"
    storage = [f"hydra.sweeper.storage='{os.environ['DQN_TEST_POSTGRES_URL']}'", f"hydra.sweeper.study_name='{name}'"]
    words = [*SMALL, *storage, "hydra/sweeper/pruner=median"]
    search, _ = make_search(*words, "hydra.sweep.dir=a", stop_at_batch=2)
    with pytest.raises(KeyboardInterrupt):
        search.run()
    search, _ = make_search(*words, "sweep.resume=a")
    search.run()
    url = os.environ["DQN_TEST_POSTGRES_URL"]
    try:
        assert len(optuna.load_study(study_name=name, storage=url).trials) == 6
    finally:
        optuna.delete_study(study_name=name, storage=url)


def test_a_run_takes_no_notice_of_the_search_space(make_search):
    """The node `sweep` is the sweeper's; a job's config has none."""
    search, _ = make_search("sweep=cartpole")
    values = search._request.run_config([])
    assert "sweep" not in values
    assert json.dumps(values["trainer"]["total_steps"]) == "30000"
