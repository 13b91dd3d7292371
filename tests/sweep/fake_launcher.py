"""A launcher that trains nothing: a made-up score, and the files that a run would leave."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus

EVERY_STEPS, TOTAL_STEPS = 2000, 30_000


def settings_of(overrides: Sequence[str]) -> dict[str, str]:
    return dict(word.split("=", 1) for word in overrides)


def smooth_score(settings: dict[str, str], step: int) -> float:
    """Grows with the step, the better the nearer the learning rate is to 1e-3; the seed adds a little."""
    distance = math.log10(float(settings.get("optimizer.learning_rate", 1e-3)) / 1e-3)
    return 500 * math.exp(-(distance**2)) * min(1, step / 20_000) + int(settings["seed"])


class FakeLauncher:
    """Scores jobs of a stack side by side, evaluation by evaluation.

    Args:
        folder: the sweep's.
        score: of a job's settings at a step.
        status: of a job by its settings: completed, diverged, interrupted, or failed (no summary at all).
        stop_at_batch: raises KeyboardInterrupt in place of this call of `launch`, counted from 1.
        prunes: whether it takes a judge and goes on with runs that were begun; if not, it needs empty folders.
    """

    def __init__(
        self,
        folder: Path,
        score: Callable[[dict[str, str], int], float] = smooth_score,
        status: Callable[[dict[str, str], int], str] = lambda settings, job: "completed",
        stop_at_batch: int | None = None,
        prunes: bool = True,
    ) -> None:
        self.folder, self.score, self.status, self.stop_at_batch = folder, score, status, stop_at_batch
        self.launches: list[tuple[int, list[list[str]]]] = []
        self.pruned: dict[int, tuple[int, str]] = {}  # by job: the step and the reason
        if prunes:
            self.judge: Any = None
            self.keeps_numbers = False

    @property
    def jobs(self) -> dict[int, dict[str, str]]:
        """Settings by job number, of all that were launched."""
        return {
            first + index: settings_of(overrides)
            for first, jobs in self.launches
            for index, overrides in enumerate(jobs)
        }

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        self.launches.append((initial_job_idx, [list(overrides) for overrides in job_overrides]))
        jobs = {initial_job_idx + index: settings_of(words) for index, words in enumerate(job_overrides)}
        for job, settings in jobs.items():
            if hasattr(self, "judge"):  # and goes on with what is there
                assert self.keeps_numbers
            self.folder_of(job, settings).mkdir(parents=True, exist_ok=hasattr(self, "judge"))
        if self.stop_at_batch == len(self.launches):
            raise KeyboardInterrupt
        records: dict[int, list[tuple[int, float]]] = {job: [] for job in jobs}
        alive = set(jobs)
        for step in range(EVERY_STEPS, TOTAL_STEPS + 1, EVERY_STEPS):
            scores = {job: self.score(jobs[job], step) for job in sorted(alive)}
            for job, score in scores.items():
                records[job].append((step, score))
            verdicts = self.judge(step, scores) if getattr(self, "judge", None) else {}
            assert set(verdicts) <= alive
            self.pruned |= {job: (step, reason) for job, reason in verdicts.items()}
            alive -= set(verdicts)
        return [self._finish(job, settings, records[job]) for job, settings in jobs.items()]

    def folder_of(self, job: int, settings: dict[str, str]) -> Path:
        return self.folder / f"{job}-seed{settings['seed']}"

    def _finish(self, job: int, settings: dict[str, str], records: list[tuple[int, float]]) -> JobReturn:
        folder = self.folder_of(job, settings)
        status = "pruned" if job in self.pruned else self.status(settings, job)
        done = JobReturn(working_dir=str(folder), status=JobStatus.COMPLETED)
        if status == "failed":
            done.status, done.return_value = JobStatus.FAILED, RuntimeError("made up")
            return done
        lines = [{"kind": "evaluation", "step": step, "mean_return": score} for step, score in records]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        (folder / "summary.json").write_text(json.dumps({"status": status, "steps": records[-1][0]}))
        done.return_value = records[-1][1] if status in ("completed", "converged") else None
        return done
