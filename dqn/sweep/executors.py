"""Where the groups of a sweep are trained: in this process, in others, on a Ray cluster or by Slurm.

A group is trained by one call of a function. An executor only places the calls; what they do, and which groups there
are, is decided elsewhere.
"""

from __future__ import annotations

import importlib
import os
import traceback
from collections.abc import Callable, Generator, Sequence
from typing import Annotated, Any, Literal, NamedTuple, Protocol, TypeAlias, TypeVar

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from dqn.config import NonNegative, NonNegativeFloat, Positive, PositiveFloat
from dqn.errors import TrainingError, UserError

T = TypeVar("T")
R = TypeVar("R")

KEY = "hydra.launcher.executor"
SAVE_SECONDS = 120  # that a group in another process has for a checkpoint of each of its runs, when it is to stop
_STRICT = ConfigDict(extra="forbid")


@dataclass(config=_STRICT, frozen=True)
class SerialConfig:
    """conf/hydra/launcher/executor/serial.yaml."""

    kind: Literal["serial"]
    num_workers: Positive | None


@dataclass(config=_STRICT, frozen=True)
class ProcessesConfig:
    """conf/hydra/launcher/executor/processes.yaml."""

    kind: Literal["processes"]
    num_workers: Positive | None


@dataclass(config=_STRICT, frozen=True)
class RayConfig:
    """conf/hydra/launcher/executor/ray.yaml."""

    kind: Literal["ray"]
    address: str | None
    num_cpus: PositiveFloat
    num_gpus: NonNegativeFloat
    max_retries: NonNegative


@dataclass(config=_STRICT, frozen=True)
class SlurmConfig:
    """conf/hydra/launcher/executor/slurm.yaml."""

    kind: Literal["slurm"]
    folder: str
    cluster: Literal["slurm", "local", "debug"]
    timeout_minutes: Positive
    num_cpus: Positive
    num_gpus: NonNegative
    memory_gb: PositiveFloat
    partition: str | None
    parameters: dict[str, Any]


ExecutorConfig = Annotated[SerialConfig | ProcessesConfig | RayConfig | SlurmConfig, Field(discriminator="kind")]


class Failure(NamedTuple):
    """What a group gives that has no result: the cause in one line."""

    reason: str


Results: TypeAlias = Generator[tuple[int, R | Failure], None, None]


class Executor(Protocol):
    """Runs groups somewhere."""

    def run(self, work: Callable[[T], R], groups: Sequence[T]) -> Results[R]:
        """Call `work` with each group; nothing starts before the first result is asked for.

        A group that raises, or whose process dies, gives a Failure, and the others go on. After a death `work` may be
        called again with the same group. When the iterator is closed, what still runs is stopped.

        Args:
            work: a function that other processes can import, or a partial of one.
            groups: what to call it with; can be pickled.

        Yields:
            The index of a group and its result, as groups finish, in any order.

        Raises:
            UserError: the executor cannot start as it is configured.
        """
        ...


def make_executor(config: ExecutorConfig) -> Executor:
    """The executor that a config names.

    Raises:
        UserError: it needs a package that is not installed.
    """
    if isinstance(config, ProcessesConfig):
        from dqn.sweep.processes import Processes

        return Processes(config)
    if isinstance(config, RayConfig):
        from dqn.sweep.ray_cluster import Ray

        return Ray(config)
    if isinstance(config, SlurmConfig):
        from dqn.sweep.slurm import Slurm

        return Slurm(config)
    return _Serial()


def _attempt(work: Callable[[T], R], group: T) -> R | Failure:
    """The result of one group, or what it raised as a Failure; an interruption or an exit goes through."""
    try:
        return work(group)
    except (UserError, TrainingError) as error:
        return Failure(one_line(str(error)))
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        return Failure(f"{type(error).__name__}: {one_line(str(error))} ({place.filename}:{place.lineno})")


def attempt_in_worker(work: Callable[[T], R], group: T, threads: int | None) -> R | Failure:
    """The result of one group in another process, or a Failure, also where the group exits.

    Args:
        work: as for an executor.
        group: as for an executor.
        threads: its share of the machine's cores; None leaves it to who started the process.
    """
    if threads is not None:
        os.environ["OMP_NUM_THREADS"] = str(threads)
    try:
        return _attempt(work, group)
    except SystemExit as stop:
        return Failure(f"exited with status {stop.code}")


class _Serial:
    """In this process, one after the other."""

    def run(self, work: Callable[[T], R], groups: Sequence[T]) -> Results[R]:
        for index, group in enumerate(groups):
            yield index, _attempt(work, group)


def imported(package: str, extra: str) -> Any:
    """A package that comes with an extra of ours.

    Raises:
        UserError: it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise UserError(f"{KEY}.kind", extra, f'needs {package}: pip install -e ".[{extra}]"') from error


def one_line(text: str) -> str:
    """A message of several lines as one."""
    return " ".join(text.split())


def first_line(text: str) -> str:
    """Of a message that begins with what matters."""
    return next(iter(text.strip().splitlines()), "")


def last_line(text: str) -> str:
    """Of a traceback or a log, which ends with what matters."""
    return text.strip().rpartition("\n")[2]
