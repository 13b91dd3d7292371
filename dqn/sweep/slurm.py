"""Groups of a sweep as jobs of Slurm."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dqn.errors import UserError
from dqn.sweep.executors import KEY, Failure, R, Results, SlurmConfig, T, attempt_in_worker, imported, last_line

_POLL_SECONDS = {"slurm": 10.0, "local": 0.2, "debug": 0.0}


class Slurm:
    """As jobs of Slurm, or for trying out as processes that behave like them."""

    def __init__(self, config: SlurmConfig) -> None:
        self._submitit, self._config = imported("submitit", "slurm"), config

    def run(self, work: Callable[[T], R], groups: Sequence[T]) -> Results[R]:
        """Run the groups; as in `Executor`."""
        if not groups:
            return
        jobs = self._submit(work, groups)
        unfinished = {job: index for index, job in enumerate(jobs)}
        try:
            for job in self._submitit.helpers.as_completed(jobs, poll_frequency=_POLL_SECONDS[self._config.cluster]):
                yield unfinished.pop(job), _job_outcome(job)
        finally:
            for job in unfinished:
                job.cancel(check=False)

    def _submit(self, work: Callable[[T], R], groups: Sequence[T]) -> list[Any]:
        """One job for each group."""
        arguments = [work] * len(groups), groups, [self._config.num_cpus] * len(groups)
        try:
            jobs: list[Any] = self._make_executor().map_array(attempt_in_worker, *arguments)
            return jobs
        except self._submitit.core.utils.FailedJobError as error:  # of sbatch itself
            raise UserError(KEY, "slurm", f"sbatch refuses the jobs: {last_line(str(error))}") from error

    def _make_executor(self) -> Any:
        config = self._config
        try:
            executor = self._submitit.AutoExecutor(config.folder, config.cluster)
        except RuntimeError as error:
            expectation = "there is no srun here: this machine is not part of a Slurm cluster"
            raise UserError(f"{KEY}.cluster", config.cluster, expectation) from error
        executor.update_parameters(
            name="dqn",
            timeout_min=config.timeout_minutes,
            cpus_per_task=config.num_cpus,
            gpus_per_node=config.num_gpus or None,
            mem_gb=config.memory_gb,
            slurm_partition=config.partition,
            slurm_additional_parameters=config.parameters,
        )
        return executor


def _job_outcome(job: Any) -> Any:
    """The result of a finished job, or the last line of its log."""
    error = job.exception()
    if error is None:
        return job.result()
    last = last_line(job.stderr() or "") or f"nothing in {job.paths.stderr}"
    return Failure(f"its job ended without a result: {last}")
