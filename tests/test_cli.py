"""What a single job of Hydra's may be told."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hydra.types import RunMode
from omegaconf import OmegaConf

from dqn.cli import _check_is_no_sweep
from dqn.errors import UserError


@pytest.mark.parametrize(
    ("mode", "sweeper", "resumed", "refused"),
    [
        (RunMode.RUN, "basic", None, None),
        (RunMode.RUN, "basic", "there", "sweep.resume=there: goes on with a sweep: give -m"),
        (RunMode.RUN, "optuna", None, "hydra/sweeper=optuna: searches where -m is given"),
        (RunMode.MULTIRUN, "basic", "there", "sweep.resume=there: goes on with a sweep: give -m"),
        (RunMode.MULTIRUN, "optuna", "there", None),  # of Hydra's own launcher, in a search that goes on
    ],
)
def test_only_whole_sweeps_are_resumed_and_searched(mode, sweeper, resumed, refused):
    config = OmegaConf.create({"sweep": {"resume": resumed}})
    of_hydra = SimpleNamespace(mode=mode, runtime=SimpleNamespace(choices={"hydra/sweeper": sweeper}))
    if refused is None:
        _check_is_no_sweep(config, of_hydra)
    else:
        with pytest.raises(UserError, match=refused):
            _check_is_no_sweep(config, of_hydra)


def test_a_deleted_choice_of_sweeper_is_no_search():
    config = OmegaConf.create({"sweep": {"resume": None}})
    _check_is_no_sweep(config, SimpleNamespace(mode=RunMode.RUN, runtime=SimpleNamespace(choices={})))
