"""Read what a sweep has left behind: its jobs, and the settings that they have tried with one or more seeds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pydantic.dataclasses import dataclass as checked_dataclass

from dqn.errors import UserError
from dqn.report.runs import Run, is_run, read_run
from dqn.report.settings import differing_keys
from dqn.report.statistics import mean_interval
from dqn.terminal import one_line
from dqn.validation import validate, yaml_text

_AS_PLANNED = ("completed", "converged")


@checked_dataclass(frozen=True)
class JobRecord:
    """One entry of sweep.json; `folder` is relative to the sweep's, `error` the line with which the run failed."""

    number: int
    overrides: tuple[str, ...]
    folder: str
    error: str | None


@checked_dataclass(frozen=True)
class SweepRecord:
    """sweep.json; `rounds` has job numbers by what trains at a time, and of that by population."""

    jobs: tuple[JobRecord, ...]
    rounds: tuple[tuple[tuple[int, ...], ...], ...] = ()


@dataclass(frozen=True)
class Job:
    """One run of the sweep.

    `overrides` are its values by key, as given or, of traits that changed while it trained, as they were at the end;
    `name` is that of its folder, as seen from the sweep's; `run` is None until it has begun.
    """

    number: int
    overrides: dict[str, str]
    name: str
    folder: Path
    error: str | None
    run: Run | None

    @property
    def seed(self) -> object:
        """The run's seed, if it was given or the run has begun."""
        return self.overrides.get("seed") if self.run is None else self.run.seed

    @property
    def status(self) -> str:
        """`failed`, `waiting`, `running`, or how the run ended."""
        if self.error is not None:
            return "failed"
        if self.run is not None:
            return self.run.status
        return "running" if self.folder.is_dir() else "waiting"

    @property
    def score(self) -> float | None:
        """The final evaluation's mean return, if the run has ended as planned."""
        return self.run.final_return if self.run is not None and self.status in _AS_PLANNED else None

    @property
    def reason(self) -> str:
        """Why the run ended as it did, in one line, where that is known."""
        summary = self.run.summary if self.run else None
        return self.error or str((summary or {}).get("reason") or "")


@dataclass(frozen=True)
class Setting:
    """Jobs that differ in their seed only; `overrides` are what they share."""

    overrides: dict[str, str]
    jobs: tuple[Job, ...]

    @cached_property
    def done(self) -> list[Job]:
        """The jobs that have a score, one for each seed: the same seed again says nothing new."""
        return list({job.seed: job for job in reversed(self.jobs) if job.score is not None}.values())[::-1]

    @property
    def num_seeds(self) -> int:
        """How many seeds the setting is to be tried with."""
        return len({str(job.seed) for job in self.jobs})

    @property
    def is_complete(self) -> bool:
        """Whether every seed has a score."""
        return len(self.done) == self.num_seeds

    @property
    def scores(self) -> list[float]:
        """The score of each seed that has one."""
        return [job.score for job in self.done if job.score is not None]

    @cached_property
    def score(self) -> float | None:
        """The mean over the seeds that have a score; None if none has."""
        return float(np.mean(self.scores)) if self.done else None

    @cached_property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of the mean over seeds, their range if they are 2, None if there is no second."""
        if len(self.done) < 2:
            return None
        lower, upper = mean_interval(self.scores)
        return float(lower), float(upper)

    @property
    def runs(self) -> list[Run]:
        """The runs of the seeds that have a score."""
        return [job.run for job in self.done if job.run]

    @property
    def steps(self) -> float:
        """Agent steps, the mean over the seeds that have a score."""
        return float(np.mean([run.steps for run in self.runs])) if self.runs else 0.0


def read_jobs(folder: Path) -> list[Job]:
    """The jobs of the sweep in a folder, by number.

    Raises:
        UserError: there is no such sweep, or a file in it is damaged.
    """
    if not folder.is_dir():
        raise UserError("sweep", folder, "is a file, not a sweep folder" if folder.exists() else "no such folder")
    path = folder / "sweep.json"
    if not path.is_file():
        raise UserError("sweep", folder, "is no sweep folder: it has no sweep.json")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("it holds no record of jobs")
        record = validate(SweepRecord, content)
    except (ValueError, OSError, UserError) as error:
        raise UserError("sweep", path, f"cannot be read: {error}") from None
    if not record.jobs:
        raise UserError("sweep", path, "lists no run yet")
    return sorted((_job(folder, one) for one in record.jobs), key=lambda job: job.number)


def group_by_setting(jobs: Sequence[Job]) -> list[Setting]:
    """The settings of the jobs, in the order in which they come first."""
    members: dict[tuple[tuple[str, str], ...], list[Job]] = {}
    for job in jobs:
        members.setdefault(tuple(sorted(_without_seed(job).items())), []).append(job)
    return [Setting(_without_seed(group[0]), tuple(group)) for group in members.values()]


def ranked(settings: Sequence[Setting]) -> list[Setting]:
    """The settings that have a score, the best first.

    A setting of which a seed has failed, was pruned or is not done comes after all that are complete: the mean
    of the seeds that came through flatters it. Of equal scores the one with fewer steps is first.
    """
    scored = [(setting, setting.score) for setting in settings if setting.score is not None]
    return [one for one, _ in sorted(scored, key=lambda pair: (not pair[0].is_complete, -pair[1], pair[0].steps))]


def swept_keys(settings: Sequence[Setting]) -> list[str]:
    """The keys in which the settings differ; the seed is none of them."""
    return differing_keys([setting.overrides for setting in settings])


def steps_to_threshold(run: Run, mean_return: float) -> int | None:
    """The agent step of the first evaluation whose mean return reached the threshold; None if none did."""
    curve = run.curves["evaluation"]
    reached = np.flatnonzero(curve.returns >= mean_return)
    return int(curve.steps[reached[0]]) if len(reached) else None


def _job(folder: Path, record: JobRecord) -> Job:
    path = folder / record.folder
    overrides = dict(_key_and_value(word) for word in record.overrides)
    run = read_run(path) if is_run(path) else None
    if run is not None and run.summary is not None and "traits" in run.summary:
        from dqn.compose import with_values  # with Hydra

        traits = run.summary["traits"]
        overrides |= {key: yaml_text(value) for key, value in traits.items()}
        run = replace(run, config=with_values(run.config, traits))
    error = None if record.error is None else one_line(record.error)
    return Job(record.number, overrides, one_line(record.folder), path, error, run)


def _key_and_value(override: str) -> tuple[str, str]:
    """A word of Hydra's command line without the plus signs that say whether its key is new."""
    key, _, value = one_line(override).partition("=")
    return key.lstrip("+"), value


def _without_seed(job: Job) -> dict[str, Any]:
    return {key: value for key, value in job.overrides.items() if key != "seed"}
