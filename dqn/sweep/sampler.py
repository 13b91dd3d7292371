"""The samplers and pruners that a sweep's config names."""

from __future__ import annotations

import io
import pickle
import warnings
from typing import Any

import numpy as np
from optuna import pruners, samplers
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.study import Study
from optuna.trial import FrozenTrial

from dqn.errors import UserError
from dqn.sweep.config import (
    CMAESConfig,
    GridConfig,
    HyperbandConfig,
    MedianConfig,
    PrunerConfig,
    QMCConfig,
    RandomConfig,
    SamplerConfig,
    SuccessiveHalvingConfig,
)
from dqn.sweep.space import Space, Values


class Grid(samplers.BaseSampler):
    """Trial number k gets point k of a list. (Optuna's own cannot leave out what a condition rules out.)

    Args:
        points: values by parameter.
    """

    def __init__(self, points: list[Values]) -> None:
        self._points = points

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Nothing: each parameter is asked for by itself."""
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Nothing."""
        return {}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """The point's value of the parameter."""
        return self._points[trial.number][param_name]


class CMAES(samplers.CmaEsSampler):
    """Optuna's, whose state is a pickle in the study: a study may be somebody else's, so nothing else is unpickled."""

    def _restore_optimizer(self, completed_trials: list[FrozenTrial]) -> Any:
        for trial in reversed(completed_trials):
            parts = {key: text for key, text in trial.system_attrs.items() if key.startswith(self._attr_key_optimizer)}
            if parts:
                state = bytes.fromhex(self._concat_optimizer_attrs(parts))
                return _StateOfCMAES(io.BytesIO(state)).load()
        return None


class _StateOfCMAES(pickle.Unpickler):
    """Knows the classes of the state alone (https://docs.python.org/3/library/pickle.html#restricting-globals)."""

    _known = frozenset(
        {
            ("cmaes._cma", "CMA"),
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
            *((f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
        }
    )

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._known:
            problem = f"the study is not to be trusted: the state of its sampler holds {module}.{name}"
            raise UserError("", "", problem)
        return super().find_class(module, name)


def make_sampler(config: SamplerConfig, space: Space, trials_before: int) -> samplers.BaseSampler:
    """What proposes a batch of trials.

    Its draws are a function of the seed and of `trials_before`, how many trials the study has had: so a resumed sweep
    goes on as the uninterrupted one would have, and does not propose its first trials again.
    """
    draws = int(np.random.SeedSequence((config.seed, trials_before)).generate_state(1)[0])
    if isinstance(config, RandomConfig):
        return samplers.RandomSampler(seed=draws)
    if isinstance(config, GridConfig):
        return Grid(grid_points(space, config.seed))
    if isinstance(config, CMAESConfig):
        return CMAES(n_startup_trials=config.startup_trials, seed=draws, warn_independent_sampling=False)
    if isinstance(config, QMCConfig):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return samplers.QMCSampler(  # the place in its sequence stands in the study, the sequence must stay
                qmc_type=config.sequence,
                scramble=True,
                seed=config.seed,
                independent_sampler=samplers.RandomSampler(seed=draws),
                warn_independent_sampling=False,
            )
    return samplers.TPESampler(n_startup_trials=config.startup_trials, seed=draws)


def grid_points(space: Space, seed: int) -> list[Values]:
    """Every point of the space, shuffled, so that a part of them is spread over it."""
    points = space.points()
    return [points[index] for index in np.random.default_rng(seed).permutation(len(points))]


def make_pruner(config: PrunerConfig, max_steps: int | None) -> pruners.BasePruner:
    """What ends trials; its resource is agent steps, of which a whole run has `max_steps`."""
    if isinstance(config, MedianConfig):
        return pruners.MedianPruner(n_startup_trials=config.startup_trials, n_warmup_steps=config.warmup_steps)
    if isinstance(config, SuccessiveHalvingConfig):
        return pruners.SuccessiveHalvingPruner(min_resource=config.min_steps, reduction_factor=config.reduction_factor)
    if isinstance(config, HyperbandConfig):
        assert max_steps is not None
        return pruners.HyperbandPruner(
            min_resource=config.min_steps, max_resource=max_steps, reduction_factor=config.reduction_factor
        )
    return pruners.NopPruner()
