"""The judge: what it reports to Optuna, and whom it prunes."""

from __future__ import annotations

import pickle

import optuna
import pytest

from dqn.sweep.config import HyperbandConfig, MedianConfig, NoPrunerConfig, SuccessiveHalvingConfig
from dqn.sweep.judge import OptunaJudge
from dqn.sweep.study import OpenStudy, StudyAddress, create_study

MEDIAN = MedianConfig(kind="median", warmup_steps=0, startup_trials=1)


@pytest.fixture
def address(tmp_path):
    address = StudyAddress(f"sqlite:///{tmp_path / 'optuna.db'}", "made up")
    create_study(address, ["maximize"], {})
    return address


def ask(address, count):
    study = OpenStudy(address, NoPrunerConfig(kind="none"), None).study
    for _ in range(count):
        study.ask()
    return study


def reported(address, trial):
    return optuna.load_study(study_name=address.name, storage=address.url).trials[trial].intermediate_values


def judge_of(address, pruner=MEDIAN, seeds=2, aggregate="mean"):
    return OptunaJudge(address, pruner, 30_000, seeds, aggregate)


def test_a_trials_value_is_the_mean_over_its_seeds(address):
    ask(address, 2)
    judge = judge_of(address)
    assert judge(100, {0: 10.0, 1: 30.0, 2: 5.0, 3: 6.0}) == {}
    assert reported(address, 0) == {100: 20.0}
    assert reported(address, 1) == {100: 5.5}


def test_the_iqm_leaves_out_the_extremes(address):
    ask(address, 1)
    judge_of(address, seeds=4, aggregate="iqm")(100, {0: 0.0, 1: 10.0, 2: 20.0, 3: 1000.0})
    assert reported(address, 0) == {100: 15.0}


def test_nothing_is_told_before_every_seed_has_a_score(address):
    """The second seed is in a stack that trains later."""
    ask(address, 1)
    judge = judge_of(address)
    judge(100, {0: 10.0})
    judge(200, {0: 20.0})
    assert reported(address, 0) == {}
    judge(100, {1: 30.0})
    judge(200, {1: 60.0})
    assert reported(address, 0) == {100: 20.0, 200: 40.0}


def test_a_seed_that_has_ended_counts_with_its_last_score(address):
    ask(address, 1)
    judge = judge_of(address)
    judge(100, {0: 500.0, 1: 100.0})
    judge(200, {1: 200.0})
    judge(300, {1: 400.0})
    assert reported(address, 0) == {100: 300.0, 200: 350.0, 300: 450.0}


def test_a_trial_below_the_median_is_pruned_with_all_its_seeds(address):
    study = ask(address, 3)
    judge = judge_of(address)
    judge(100, {0: 50.0, 1: 50.0})
    study.tell(0, 50.0)
    reasons = judge(100, {2: 100.0, 3: 20.0, 4: 45.0, 5: 45.0})
    assert set(reasons) == {4, 5}  # 60 against the median 50; then 45
    assert reasons[4] == "median pruned trial 2 at step 100: 45.0"


def test_the_median_waits_for_its_warmup(address):
    study = ask(address, 2)
    judge = judge_of(address, MedianConfig(kind="median", warmup_steps=200, startup_trials=1))
    for step in (100, 200):
        judge(step, {0: 50.0, 1: 50.0})
    study.tell(0, 50.0)
    assert judge(100, {2: 1.0, 3: 1.0}) == {}
    assert set(judge(200, {2: 1.0, 3: 1.0})) == {2, 3}


def test_successive_halving_keeps_the_best_share_of_those_asked_before(address):
    ask(address, 8)
    pruner = SuccessiveHalvingConfig(kind="successive_halving", min_steps=1000, reduction_factor=2)
    judge = judge_of(address, pruner, seeds=1)
    falling = {job: float(10 - job) for job in range(8)}
    assert judge(500, falling) == {}  # before the first rung
    # One after the other: the first has no rival yet, the k-th must be among the best k // 2 of the first k.
    assert set(judge(1000, falling)) == {1, 2, 3, 4, 5, 6, 7}


def test_hyperband_takes_the_runs_length(address):
    ask(address, 12)
    pruner = HyperbandConfig(kind="hyperband", min_steps=1000, reduction_factor=3)
    judge = judge_of(address, pruner, seeds=1)
    alive = set(range(12))
    left = {}
    for step in range(1000, 30_001, 2000):
        alive -= set(judge(step, {job: float(job * 5 % 12) for job in alive}))
        left[step] = len(alive)
    assert 12 > left[29_000] > 0


def test_a_judge_works_in_another_process(address):
    ask(address, 1)
    judge = judge_of(address)
    judge(100, {0: 10.0, 1: 30.0})  # connected now
    copy = pickle.loads(pickle.dumps(judge))
    copy(200, {0: 20.0, 1: 40.0})
    assert reported(address, 0) == {100: 20.0, 200: 30.0}


def test_what_is_recalled_counts_as_if_it_had_been_seen(address):
    """The first seed has converged, and another process goes on with the second."""
    ask(address, 1)
    judge_of(address)(100, {0: 500.0, 1: 100.0})
    other = judge_of(address)
    other.recall(0, {100: 500.0})
    other.recall(1, {100: 100.0})
    other(200, {1: 200.0})
    assert reported(address, 0) == {100: 300.0, 200: 350.0}


def test_a_trial_that_has_gone_back_is_not_judged_by_what_it_was_later(address):
    study = ask(address, 2)
    judge = judge_of(address, seeds=1)
    for step in (100, 200, 300):
        judge(step, {0: 50.0})
    study.tell(0, 50.0)
    OpenStudy(address, MEDIAN, None).report(1, 300, 1.0)
    again = judge_of(address, seeds=1)
    assert again(100, {1: 40.0}) == {}
    assert again(200, {1: 10.0}) == {}
    assert set(again(300, {1: 10.0})) == {1}


def test_a_trial_that_is_trained_again_tells_anew(address):
    ask(address, 1)
    judge_of(address)(100, {0: 10.0, 1: 30.0})
    judge_of(address)(100, {0: 11.0, 1: 31.0})
    assert reported(address, 0) == {100: 21.0}
