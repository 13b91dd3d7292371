"""Population-based training as a sweep: the launcher trains one population, whose members a breeder replaces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from dqn.config import Config
from dqn.errors import UserError
from dqn.sweep.breeder import TruncationBreeder
from dqn.sweep.checks import check_space
from dqn.sweep.config import PBTConfig
from dqn.sweep.grouping import is_trait
from dqn.sweep.lineage import LINEAGE, Birth, add_births
from dqn.sweep.parameters import Range
from dqn.sweep.request import SweepRequest
from dqn.sweep.space import Space
from dqn.validation import validate

if TYPE_CHECKING:
    from hydra.core.config_loader import ConfigLoader
    from hydra.plugins.launcher import Launcher

_BEGINNING_ONLY = "memory.warmup_steps"  # no more than a beginning knows of it


class PopulationTraining:
    """One sweep, from its command line to the end of its population. Member m is job m.

    Args:
        config: what Hydra composed from the command line.
        launcher: trains jobs; it must be able to train all as one population, and then has an attribute `breeder`.
        loader: composes the config of a job.
        arguments: the words of the command line that are not for Hydra itself.

    Raises:
        UserError: something in the config or on the command line cannot work; nothing has been written.
    """

    def __init__(self, config: DictConfig, launcher: Launcher, loader: ConfigLoader, arguments: Sequence[str]) -> None:
        self._launcher, self._request = launcher, SweepRequest(config, loader, arguments)
        _check_evaluations(self._request.run_values)
        self._settings = validate(PBTConfig, self._request.sweeper, "hydra.sweeper")
        _check_launcher(self._settings, launcher, config.hydra.launcher.get("max_members"))
        check_space(self._request.space, self._request.run_config)
        ranges = _ranges(self._request.space, validate(Config, self._request.run_config([])))
        self._breeder = TruncationBreeder(ranges, self._settings, self._request.folder)

    def run(self) -> None:
        """Train the population, or go on with it.

        Raises:
            UserError: there is no such sweep to resume, or something else in the folder of a new one.
        """
        request = self._request
        members = [self._breeder.first_values(member) for member in range(self._settings.population)]
        if request.is_resumed:
            if not (request.folder / LINEAGE).is_file():
                raise UserError("sweep.resume", request.folder, "there is no population-based training in this place")
        else:
            request.make_folder()
            add_births(
                request.folder,
                0,
                [Birth(0, member, None, None, None, None, values) for member, values in enumerate(members)],
            )
        jobs = [
            [*request.shared, *request.space.overrides(values), f"seed={self._settings.first_seed + member}"]
            for member, values in enumerate(members)
        ]
        self._launcher.breeder = self._breeder  # type: ignore[attr-defined]  # of ours alone
        try:
            self._launcher.launch(jobs, 0)
        except UserError:  # of a population that cannot be built, or does not fit into the machine
            request.take_back()
            raise


def _ranges(space: Space, config: Config) -> dict[str, Range]:
    """The space as ranges of traits.

    Raises:
        UserError: a parameter is something else.
    """
    ranges: dict[str, Range] = {}
    for key, parameter in space.parameters.items():
        path = f"sweep.space.{key}"
        if not isinstance(parameter, Range):
            raise UserError(f"{path}.type", "categorical", "choices cannot be perturbed; give a range, or one value")
        if parameter.when is not None:
            raise UserError(f"{path}.when", parameter.when, "nothing is conditional in population-based training")
        if not is_trait(config, key) or key == _BEGINNING_ONLY:
            raise UserError("sweep.space", key, "cannot change while a population trains; give one value")
        ranges[key] = parameter
    return ranges


def _check_launcher(settings: PBTConfig, launcher: Launcher, max_members: int | None) -> None:
    if not hasattr(launcher, "breeder") or max_members is None:
        problem = "needs a launcher that trains all members as one population; give hydra/launcher=population"
        raise UserError("hydra/sweeper", "pbt", problem)
    if settings.population > max_members:
        problem = f"trains as one stack, which has at most hydra.launcher.max_members ({max_members})"
        raise UserError("hydra.sweeper.population", settings.population, problem)


def _check_evaluations(run: Mapping[str, Any]) -> None:
    if run["evaluation"]["every_steps"] is None:
        raise UserError("evaluation.every_steps", None, "population-based training compares members at evaluations")
