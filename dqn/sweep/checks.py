"""What must fit together in a sweep, found before anything is written."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dqn.checks import check_config
from dqn.config import Config
from dqn.errors import UserError
from dqn.sweep.config import HyperbandConfig, OptunaConfig
from dqn.sweep.space import Space
from dqn.validation import validate, yaml_text


def check_installed(option: str, package: str) -> None:
    """Raise a UserError if what hydra/sweeper (or its sampler) needs is not there."""
    if importlib.util.find_spec(package) is None:
        group, _, choice = option.partition("=")
        raise UserError(group, choice, f'needs the package {package}: pip install -e ".[optuna]"')


def check_search(search: OptunaConfig, run: Mapping[str, Any], can_prune: bool) -> None:
    """Raise a UserError for the first thing that cannot work.

    Args:
        search: the sweep's config.
        run: the values that its runs share.
        can_prune: whether the launcher can end jobs early.
    """
    for sampler, package in {"cmaes": "cmaes", "qmc": "scipy"}.items():
        if search.sampler.kind == sampler:
            check_installed(f"hydra/sweeper/sampler={sampler}", package)
    objectives = search.objectives
    if len(set(objectives)) < len(objectives):
        raise UserError("hydra.sweeper.objectives", yaml_text(objectives), "has one of them twice")
    if len(objectives) > 1 and search.sampler.kind == "cmaes":
        raise UserError("hydra/sweeper/sampler", "cmaes", "has one objective; tpe, random, grid and qmc take several")
    if "steps_to_threshold" in objectives and run["evaluation"]["stop"]["mean_return"] is None:
        raise UserError("evaluation.stop.mean_return", None, "is the threshold of steps_to_threshold, and must be set")
    if search.pruner.kind != "none":
        _check_pruner(search, run, can_prune)


def _check_pruner(search: OptunaConfig, run: Mapping[str, Any], can_prune: bool) -> None:
    pruner, total_steps = search.pruner, run["trainer"]["total_steps"]
    if not can_prune:
        problem = "this launcher cannot end runs early; give hydra/launcher=population"
        raise UserError("hydra/sweeper/pruner", pruner.kind, problem)
    if search.objectives != ["mean_return"]:
        raise UserError("hydra/sweeper/pruner", pruner.kind, "prunes by mean_return, which must be the only objective")
    if run["evaluation"]["every_steps"] is None:
        raise UserError("evaluation.every_steps", None, f"the pruner {pruner.kind} decides at evaluations")
    if isinstance(pruner, HyperbandConfig) and (total_steps is None or total_steps < pruner.min_steps):
        problem = "hyperband needs the length of a run in steps, at least hydra.sweeper.pruner.min_steps"
        raise UserError("trainer.total_steps", total_steps, problem)


def check_space(space: Space, compose: Callable[[Sequence[str]], dict[str, Any]]) -> None:
    """Raise a UserError if a run's config does not take an end of a range, or a choice.

    Args:
        space: to check.
        compose: from overrides to the resolved values of a run.
    """
    for values in space.probes():
        check_config(validate(Config, compose(space.overrides(values))))
