"""The jobs of a sweep, and the file in which a sweep's folder keeps them."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dqn import checkpoint
from dqn.errors import UserError
from dqn.files import write_json
from dqn.run_folder import RunFolder, check_links, is_free

MANIFEST = "sweep.json"
_OF_THE_SWEEP = ("hydra.", "hydra/", "sweep.", "sweep=")  # what does not belong to a run
_OVER = ("completed", "converged", "diverged", "pruned")


@dataclass(frozen=True)
class Job:
    """One run of a sweep: its number, the overrides that make it, its whole config and its folder."""

    number: int
    overrides: tuple[str, ...]
    values: dict[str, Any]
    folder: Path

    @property
    def summary(self) -> dict[str, Any] | None:
        """What the run came to, if it is over and not merely interrupted."""
        summary = RunFolder(self.folder).read_summary()
        return summary if summary is not None and summary["status"] in _OVER else None

    @property
    def scores(self) -> dict[int, float]:
        """Mean returns of its evaluations by agent step; what it would go on from does not know later ones."""
        from dqn.report.runs import Run

        if not (self.folder / "metrics.jsonl").is_file():
            return {}
        curve = Run(self.folder, {}, None).curves["evaluation"]
        until = math.inf if self.summary is not None else self.checkpoint_step
        return {
            step: score
            for step, score in zip(curve.steps.tolist(), curve.returns.tolist(), strict=True)
            if step <= until
        }

    @property
    def checkpoint_step(self) -> int:
        """The agent step of the last checkpoint, from which a run that was begun can go on; 0 without any."""
        there = _checkpoints(self)
        return checkpoint.step_of(there[-1]) if there else 0


def of_the_run(overrides: Sequence[str]) -> list[str]:
    """Those that do not belong to the sweep."""
    return [override for override in overrides if not override.lstrip("+~").startswith(_OF_THE_SWEEP)]


def back_to_common_checkpoint(jobs: Sequence[Job]) -> int | None:
    """Remove checkpoints that not all jobs have, and return the last step of the others; None if none is common.

    Jobs that train as one population save one after another, and may be killed between two. If that was the first
    time, those who were saved begin again with the others; if no step is common for another reason, all stay.
    """
    saved = [{checkpoint.step_of(place): place for place in _checkpoints(job)} for job in jobs]
    common = set.intersection(*map(set, saved)) if saved else set()
    was_the_first = not all(saved) and len({step for places in saved for step in places}) < 2
    if not common and not was_the_first:
        return None
    for places in saved:
        for step, place in places.items():
            if step > max(common, default=0):
                checkpoint.remove(place)
    return max(common, default=None)


def _checked_rounds(rounds: Any) -> list[list[list[int]]]:
    numbers = _flat(rounds)
    if not all(isinstance(number, int) for number in numbers) or len(set(numbers)) < len(numbers):
        raise ValueError("its rounds are no numbers of jobs")
    return [[list(population) for population in populations] for populations in rounds]


def _flat(rounds: Iterable[Iterable[Iterable[int]]]) -> list[int]:
    """The numbers of all jobs."""
    return [number for populations in rounds for population in populations for number in population]


def _checkpoints(job: Job) -> list[Path]:
    return checkpoint.checkpoints(RunFolder(job.folder).checkpoints)


def check_place(folder: Path, is_resumed: bool) -> None:
    """Raise a UserError unless a new sweep can begin in this folder, or the one that is there can go on."""
    key = "sweep.resume" if is_resumed else "hydra.sweep.dir"
    try:
        if is_resumed and not (folder / MANIFEST).is_file():
            problem = f"is no sweep's folder: it has no {MANIFEST}"
            raise UserError(key, folder, problem if folder.exists() else "there is no sweep in this place")
        if is_resumed:
            check_links(folder, key)
        if not is_resumed and not is_free(folder):
            advice = f"sweep.resume={folder} goes on with a sweep, another folder starts one"
            raise UserError(key, folder, f"exists and is not empty; {advice}")
    except OSError as error:  # of a name that is too long
        raise UserError(key, folder, f"there can be no such folder: {error.strerror}") from error


class Manifest:
    """sweep.json: every job of the sweep, with its folder and, where it failed, why; and how they were put together.

    Args:
        folder: of the sweep; made if it is not there.

    Raises:
        UserError: the file cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / MANIFEST
        self._jobs: dict[int, dict[str, Any]] = {}
        self._rounds: list[list[list[int]]] = []  # job numbers by what trains at a time, and of that by population
        if self._path.is_file():
            try:
                record = json.loads(self._path.read_text(encoding="utf-8"))
                self._jobs = {job["number"]: job for job in record["jobs"]}
                self._rounds = _checked_rounds(record.get("rounds", []))
            except (ValueError, KeyError, TypeError) as error:
                raise UserError("sweep.resume", folder, f"{MANIFEST} is damaged: {error}") from error
        self._unclaimed = dict(self._jobs)

    def number_for(self, overrides: Sequence[str], wanted: int) -> int:
        """The number that a job with these overrides has already, or else `wanted`, or the next that is free.

        Args:
            overrides: of the job.
            wanted: its place among the jobs of the command line, to which values may have been added.
        """
        same = sorted(overrides)  # as the words of a command line may come in another order
        of_same = [number for number, job in self._unclaimed.items() if sorted(job["overrides"]) == same]
        number = wanted if wanted in of_same else next(iter(of_same), wanted)
        if not of_same and number in self._jobs:
            number = max(self._jobs) + 1
        self._unclaimed.pop(number, None)
        self.reserve(number, overrides)  # at once: several jobs ask before any is written
        return number

    def reserve(self, number: int, overrides: Sequence[str]) -> None:
        """Give this number to a job with these overrides, unless it is theirs already."""
        self._jobs.setdefault(number, {"number": number, "overrides": list(overrides), "folder": "", "error": None})

    def add(self, jobs: Sequence[Job], rounds: Iterable[Sequence[Sequence[Job]]] = ()) -> None:
        """Write down jobs that are about to run, and how those of them that are new, or are newly planned, will."""
        for job in jobs:
            folder = os.path.relpath(job.folder, self._path.parent)
            record = {"number": job.number, "overrides": list(job.overrides), "folder": folder, "error": None}
            self._jobs[job.number] = record
        planned = [[[job.number for job in members] for members in populations] for populations in rounds]
        replanned = set(_flat(planned))
        self._rounds = [populations for populations in self._rounds if replanned.isdisjoint(_flat([populations]))]
        self._rounds += planned
        self._write()

    def rounds(self, jobs: Iterable[Job]) -> tuple[list[list[list[Job]]], list[Job]]:
        """Those of the jobs that were planned before, by what trains at a time, in populations; and those that are new.

        What is computed for a member depends, in its last bits, on how many there are and on their threads.
        """
        new = {job.number: job for job in jobs}
        rounds: list[list[list[Job]]] = []
        for numbers in self._rounds:
            populations = [[new.pop(number) for number in population if number in new] for population in numbers]
            rounds.append([population for population in populations if population])
        return [populations for populations in rounds if populations], list(new.values())

    def check_folders(self, jobs: Sequence[Job]) -> None:
        """Raise a UserError unless each job has a folder of its own in the sweep's, which is new or was its own before.

        What a job has begun without a checkpoint is removed when it begins again: nothing else may be.
        """
        sweep = self._path.parent.resolve()
        owners = {(sweep / job["folder"]).resolve(): number for number, job in self._jobs.items() if job["folder"]}
        for job in jobs:
            folder = job.folder.resolve()
            owner = owners.setdefault(folder, job.number)
            name = os.path.relpath(folder, sweep)
            if owner != job.number:
                advice = "with ${hydra.job.num} in it each has its own"
                raise UserError("hydra.sweep.subdir", name, f"is the folder of jobs {owner} and {job.number}; {advice}")
            if sweep not in folder.parents:
                raise UserError("hydra.sweep.subdir", name, "a run's folder must be inside the sweep's")
            try:
                if not self.folder_of(job.number) and not is_free(folder):
                    raise UserError("hydra.sweep.subdir", name, "exists and is not empty")
            except OSError as error:  # of a name that is too long
                problem = f"there can be no such folder: {error.strerror}"
                raise UserError("hydra.sweep.subdir", name, problem) from error

    def fail(self, jobs: Sequence[Job], reason: str) -> None:
        """Write down why jobs have failed."""
        for job in jobs:
            self._jobs[job.number]["error"] = reason
        self._write()

    def folder_of(self, number: int) -> str:
        """The folder that a job has had before, as seen from the sweep's; empty for a new one."""
        return str(self._jobs[number]["folder"])

    def _write(self) -> None:
        jobs: Mapping[int, Any] = dict(sorted(self._jobs.items()))
        write_json(self._path, {"jobs": list(jobs.values()), "rounds": self._rounds})
