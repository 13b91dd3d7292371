"""What finished runs of a trial are worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hydra.core.utils import JobReturn, JobStatus

from dqn.run_folder import RunFolder

if TYPE_CHECKING:
    from dqn.sweep.config import Aggregate, Objective, OptunaConfig

Direction = Literal["maximize", "minimize"]
DIRECTIONS: dict[Objective, Direction] = {"mean_return": "maximize", "steps_to_threshold": "minimize"}


@dataclass(frozen=True)
class FinishedRun:
    """A run of a sweep that has come back from the launcher.

    Attributes:
        status: complete, pruned, interrupted or failed.
        mean_return: of the final evaluation, where the run is complete.
        folder: the run's.
        steps: agent steps that it has made.
    """

    status: Literal["complete", "pruned", "interrupted", "failed"]
    mean_return: float | None
    folder: Path
    steps: int

    @classmethod
    def of(cls, job: JobReturn) -> FinishedRun:
        """What a launcher's answer and the run's summary.json tell."""
        folder = _folder(job)
        summary = RunFolder(folder).read_summary() or {}
        told, steps = summary.get("status"), int(summary.get("steps", 0))
        if job.status != JobStatus.COMPLETED:
            return cls("failed", None, folder, steps)
        if told == "pruned":
            return cls("pruned", None, folder, steps)
        if told == "interrupted":
            return cls("interrupted", None, folder, steps)
        if told == "diverged" or job.return_value is None:
            return cls("failed", None, folder, steps)
        return cls("complete", float(job.return_value), folder, steps)

    def steps_to(self, threshold: float, total_steps: int | None) -> int:
        """The step of the first evaluation whose mean return reached the threshold; never: the run's total steps."""
        from dqn.report.runs import Run

        curve = Run(self.folder, {}, None).curves["evaluation"]
        reached = curve.steps[curve.returns >= threshold]
        if len(reached):
            return int(reached[0])
        return self.steps if total_steps is None else total_steps


def objective_values(runs: Sequence[FinishedRun], search: OptunaConfig, run_values: Mapping[str, Any]) -> list[float]:
    """The trial's value for each of the sweep's objectives.

    Args:
        runs: the trial's, all complete.
        search: the sweep's config.
        run_values: what its runs share.
    """
    values: list[float] = []
    for objective in search.objectives:
        if objective == "mean_return":
            of_seeds = [run.mean_return for run in runs if run.mean_return is not None]
        else:
            threshold = run_values["evaluation"]["stop"]["mean_return"]
            of_seeds = [float(run.steps_to(threshold, run_values["trainer"]["total_steps"])) for run in runs]
        values.append(aggregated(of_seeds, search.aggregate))
    return values


def aggregated(values: Sequence[float], how: Aggregate) -> float:
    """One number for the seeds of a trial: their mean, or their interquartile mean."""
    if how == "iqm":
        from dqn.report.statistics import interquartile_mean

        return interquartile_mean(values)
    return sum(values) / len(values)


def _folder(job: JobReturn) -> Path:
    """Hydra's own launchers give the folder in the job's config; their `working_dir` is where the process stands."""
    if job.hydra_cfg is not None:
        return Path(job.hydra_cfg.hydra.runtime.output_dir)
    return Path(job.working_dir or ".")
