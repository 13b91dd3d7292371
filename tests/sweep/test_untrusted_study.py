"""A study that somebody else has prepared."""

from __future__ import annotations

import json
import os
import pickle
import sqlite3
from pathlib import Path

import optuna
import pytest

from dqn.errors import UserError

RATE = "optimizer.learning_rate=tag(log,interval(1e-5,1e-1))"
WORDS = [
    RATE, "algorithm.discount=interval(0.9,0.99)", "hydra/sweeper/sampler=cmaes",
    "hydra.sweeper.sampler.startup_trials=2", "hydra.sweeper.trials_per_batch=2", "hydra.sweeper.seeds_per_trial=1",
]  # fmt: skip


class Evil:
    def __reduce__(self):
        return os.system, ("touch mark",)


def test_the_state_of_cmaes_is_read_and_nothing_else_unpickled(make_search):
    search, first = make_search(*WORDS, "hydra.sweeper.trials=12")
    search.run()
    study = optuna.load_study(study_name="cartpole", storage=f"sqlite:///{first.folder / 'optuna.db'}")
    with_state = [trial for trial in study.trials if "cma:optimizer:0" in trial.system_attrs]
    assert with_state, "the sampler has had a state to come back to"
    search, _ = make_search(*WORDS, "hydra.sweeper.trials=16", f"sweep.resume={first.folder}")
    search.run()

    with sqlite3.connect(first.folder / "optuna.db") as database:
        database.execute("delete from trial_system_attributes where key glob 'cma:optimizer:[1-9]*'")
        states = "update trial_system_attributes set value_json = ? where key = 'cma:optimizer:0'"
        assert database.execute(states, (json.dumps(pickle.dumps(Evil()).hex()),)).rowcount > 0
    search, _ = make_search(*WORDS, "hydra.sweeper.trials=20", f"sweep.resume={first.folder}")
    with pytest.raises(
        UserError, match=r"the study is not to be trusted: the state of its sampler holds posix\.system"
    ):
        search.run()
    assert not Path("mark").exists()
