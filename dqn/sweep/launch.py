"""Trains the jobs of a Hydra multirun in stacks: what `hydra/launcher=population` does."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from hydra.core.utils import JobReturn, JobStatus
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass as checked_dataclass

from dqn.breeding import Child
from dqn.compose import resolve
from dqn.config import Config, Positive
from dqn.cores import default_threads
from dqn.errors import UserError
from dqn.faults import memory_errors_explained
from dqn.interruption import terminable
from dqn.run_folder import RunFolder, empty, final_return
from dqn.sweep import outcome
from dqn.sweep.breeder import TruncationBreeder
from dqn.sweep.executors import KEY, Executor, ExecutorConfig, Failure, ProcessesConfig, SerialConfig, make_executor
from dqn.sweep.grouping import differing_only_in_traits, pieces
from dqn.sweep.jobs import Job, Manifest, back_to_common_checkpoint, check_place, of_the_run
from dqn.sweep.progress import SweepProgress
from dqn.terminal import say
from dqn.trainer import Judge
from dqn.trusted import check_run, modules_of
from dqn.validation import validate

_LEAST_SHARE = 4  # members in one of the processes that share a group; fewer take hardly less time

Summaries = dict[int, dict[str, Any]]  # by the jobs' numbers


@checked_dataclass(config=ConfigDict(extra="forbid"), frozen=True)
class LauncherConfig:
    """conf/hydra/launcher/population.yaml."""

    max_members: Positive
    executor: ExecutorConfig


class JobJudge(Judge, Protocol):
    """A judge that knows the jobs by their numbers."""

    def recall(self, job: int, scores: Mapping[int, float]) -> None:
        """A job that is over, or about to go on, scored this before, by step."""

    def trial_of(self, job: int) -> int:
        """Jobs of the same trial are judged together, by one and the same judge."""


@dataclass(frozen=True)
class Group:
    """Jobs that train as one population; `draws` says whether the terminal is theirs alone."""

    first: Config
    jobs: tuple[Job, ...]
    judge: JobJudge | None
    breeder: TruncationBreeder | None
    draws: bool = False

    @property
    def title(self) -> str:
        """What messages call it."""
        jobs = "job" if len(self.jobs) == 1 else f"{len(self.jobs)} jobs from"
        return f"{self.first.name}, {jobs} {self.jobs[0].number}"


def prepare(config: DictConfig) -> None:
    """Check what can be known before anything is written.

    Raises:
        UserError: the launcher's settings or the sweep's folder will not do.
    """
    _settings(config)
    folder = Path(str(config.hydra.sweep.dir))
    check_place(folder, is_resumed=config.sweep.resume is not None)
    outcome.begin(folder)


def _settings(config: DictConfig) -> LauncherConfig:
    settings: Any = OmegaConf.to_container(config.hydra.launcher, resolve=True)
    del settings["_target_"]
    return validate(LauncherConfig, settings, prefix="hydra.launcher")


def launch(
    context: HydraContext,
    config: DictConfig,
    job_overrides: Sequence[Sequence[str]],
    initial_job_idx: int,
    judge: JobJudge | None,
    breeder: TruncationBreeder | None = None,
    keeps_numbers: bool = False,
) -> list[JobReturn]:
    """Train all jobs; returns in their order what came of them.

    A job that is over already (of a sweep that goes on) is not run again. Jobs whose training fails do not keep the
    others from theirs. With a breeder all jobs train as one population. Job i has the number `initial_job_idx` + i if
    the sweeper `keeps_numbers`; else a job that was in the sweep before is known again by its overrides.

    Raises:
        UserError: a job's config will not do; nothing has been written.
        KeyboardInterrupt: stopped by a signal; what was running has saved its state.
    """
    folder = Path(str(config.hydra.sweep.dir))
    with RunFolder(folder).locked("sweep.resume") if folder.is_dir() else nullcontext():
        return _launch(context, config, folder, job_overrides, initial_job_idx, judge, breeder, keeps_numbers)


def _launch(
    context: HydraContext,
    config: DictConfig,
    folder: Path,
    job_overrides: Sequence[Sequence[str]],
    initial_job_idx: int,
    judge: JobJudge | None,
    breeder: TruncationBreeder | None,
    keeps_numbers: bool,
) -> list[JobReturn]:
    chosen, manifest = _settings(config), Manifest(folder)
    jobs: list[Job] = []
    for number, overrides in enumerate(job_overrides, start=initial_job_idx):
        if keeps_numbers:
            manifest.reserve(number, of_the_run(overrides))
        else:
            number = manifest.number_for(of_the_run(overrides), number)
        jobs.append(_compose(context, config, overrides, number, manifest, folder))
    manifest.check_folders(jobs)
    waiting = [job for job in jobs if job.summary is None]
    if breeder is not None:
        _prepare_population(jobs, initial_job_idx, breeder, folder)
    begun, new = _rounds(waiting, manifest, chosen, judge, breeder)
    rounds = [*begun, *new]
    if judge is not None:
        _check_judged_together([group for groups in rounds for group in groups], judge, chosen.executor)
    _recall(judge, [job for job in jobs if job.summary is not None])
    folder.mkdir(parents=True, exist_ok=True)
    manifest.add(waiting, [[group.jobs for group in groups] for groups in new])
    if len(waiting) < len(jobs):
        say(f"{len(jobs) - len(waiting)} of {len(jobs)} jobs are over already")
    stopped = False
    progress = SweepProgress(len(jobs), [_status(job) for job in jobs if job.summary is not None])
    with terminable():
        for executor, together in _executions(rounds, chosen.executor):
            with closing(executor.run(train_group, together)) as results:
                for number, result in results:
                    group = together[number]
                    if isinstance(result, Failure):
                        say(f"{group.title} failed: {result.reason}")
                        manifest.fail([job for job in group.jobs if job.summary is None], result.reason)
                    elif any(summary["status"] == "interrupted" for summary in result.values()):
                        if group.draws:  # in this process: the signal was for the sweep
                            raise KeyboardInterrupt
                        say(f"{group.title}: stopped by a signal of its own; the others go on")
                        stopped = True
                        continue
                    progress.add([_status(job) for job in group.jobs])
                    if len(group.jobs) < len(waiting):
                        say(progress.line())
    if stopped:
        raise KeyboardInterrupt
    return [_returned(job) for job in jobs]


def _status(job: Job) -> str:
    """How a job ended."""
    return "failed" if job.summary is None else str(job.summary["status"])


def _compose(
    context: HydraContext, config: DictConfig, overrides: Sequence[str], number: int, manifest: Manifest, folder: Path
) -> Job:
    """One job of the multirun, in the folder that it may have had before."""
    composed = context.config_loader.load_sweep_config(config, list(overrides))
    with read_write(composed.hydra), open_dict(composed.hydra):
        composed.hydra.job.num, composed.hydra.job.id = number, str(number)
    name = manifest.folder_of(number) or str(composed.hydra.sweep.subdir)
    task_overrides = list(composed.hydra.overrides.task)
    with read_write(composed), open_dict(composed):
        del composed["hydra"]
    values = resolve(composed, task_overrides)
    if values["resume"] is not None:
        advice = "goes on with one run, without -m; sweep.resume=<folder> goes on with a sweep"
        raise UserError("resume", values["resume"], advice)
    return Job(number, tuple(of_the_run(overrides)), values, folder.absolute() / name)


def _prepare_population(jobs: Sequence[Job], first_number: int, breeder: TruncationBreeder, folder: Path) -> None:
    """Take the jobs that are not over, and their breeder, back to the last step at which all of them were saved.

    Raises:
        UserError: the jobs are not those with which the sweep began, or there is no such step.
    """
    if [job.number for job in jobs] != list(range(first_number, first_number + len(jobs))):
        raise UserError("sweep.resume", folder, "this sweep began with another space, seed or config")
    waiting = [job for job in jobs if job.summary is None]
    with _locked(waiting):
        _back_to_common_step(waiting, breeder)


def _back_to_common_step(jobs: Sequence[Job], breeder: TruncationBreeder) -> None:
    """Take jobs that are not over, and their breeder, back to the last step at which all of them were saved.

    Raises:
        UserError: there is no such step.
    """
    if not jobs:
        return
    step = back_to_common_checkpoint(jobs)
    if step is None and any(job.checkpoint_step > 0 for job in jobs):
        problem = "there is no step at which all members were saved; a larger checkpoint.keep leaves one"
        raise UserError("sweep.resume", jobs[0].folder.parent, problem)
    breeder.go_back_to(step or 0)


def _rounds(
    jobs: Sequence[Job],
    manifest: Manifest,
    chosen: LauncherConfig,
    judge: JobJudge | None,
    breeder: TruncationBreeder | None,
) -> tuple[list[list[Group]], list[list[Group]]]:
    """The groups that train at a time: those that were planned before and still will do, and those of other jobs.

    A stack that has been begun stays one. One that has no checkpoint yet may be found to be too large.
    """
    from dqn.experiment import check_buildable, stacks

    def most(first: Config) -> int:
        return chosen.max_members if breeder or stacks(first) else 1

    def will_do(population: Sequence[Job]) -> bool:
        configs = [validate(Config, job.values) for job in population]
        return len(population) <= most(configs[0]) and len(differing_only_in_traits(configs)) == 1

    planned, new = manifest.rounds(jobs)
    begun: list[list[Group]] = []
    for populations in planned:
        if any(job.checkpoint_step > 0 for those in populations for job in those) or all(map(will_do, populations)):
            begun.append(
                [Group(validate(Config, those[0].values), tuple(those), judge, breeder) for those in populations]
            )
        else:
            new += [job for those in populations for job in those]
    rounds: list[list[Group]] = []
    configs = [validate(Config, job.values) for job in new]
    for numbers in differing_only_in_traits(configs):
        first = configs[numbers[0]]
        for piece in pieces(numbers, most(first)):
            check_buildable([configs[number] for number in piece])
            whole = Group(first, tuple(new[number] for number in piece), judge, breeder)
            executor = chosen.executor
            share = _share(whole, executor.num_workers) if isinstance(executor, SerialConfig) else len(piece)
            rounds.append([replace(whole, jobs=tuple(part)) for part in pieces(whole.jobs, share)])
    return begun, rounds


def _check_judged_together(groups: Sequence[Group], judge: JobJudge, executor: ExecutorConfig) -> None:
    """Raise a UserError if jobs of one trial would be trained by different processes."""
    trials = [{judge.trial_of(job.number) for job in group.jobs} for group in groups]
    if not isinstance(executor, SerialConfig) and sum(map(len, trials)) > len(set[int]().union(*trials)):
        problem = "the seeds of a trial do not fit into one stack, and what prunes them must see all; use serial"
        raise UserError(KEY, executor.kind, problem)


def _recall(judge: JobJudge | None, jobs: Sequence[Job]) -> None:
    """Tell the judge, if there is one, what jobs have scored so far."""
    if judge is not None:
        for job in jobs:
            judge.recall(job.number, job.scores)


def _executions(
    rounds: Sequence[Sequence[Group]], config: ExecutorConfig
) -> Iterator[tuple[Executor, Sequence[Group]]]:
    """What an executor has to do at a time: everything; the serial one a single round, in processes if it is shared."""
    if not isinstance(config, SerialConfig):
        yield make_executor(config), [group for groups in rounds for group in groups]
        return
    for groups in rounds:
        if len(groups) > 1:
            yield make_executor(ProcessesConfig("processes", len(groups))), groups
        else:
            yield make_executor(config), [replace(groups[0], draws=True)]


def _share(group: Group, num_workers: int | None) -> int:
    """The most members of a group that one process is to train; only all of them can be judged or bred together."""
    from dqn.experiment import resolve_device

    jobs, trainer = len(group.jobs), group.first.trainer
    if group.judge is not None or group.breeder is not None or resolve_device(trainer.device).type != "cpu":
        return jobs
    processes = min(num_workers or default_threads() // (trainer.threads or 1), jobs // _LEAST_SHARE)
    return math.ceil(jobs / max(processes, 1))


def train_group(group: Group) -> Summaries:
    """Train the jobs of a group that are not over, those that have been begun from their last checkpoints on.

    An executor may call it again after the process of the first call has died.
    """
    with _locked([job for job in group.jobs if job.summary is None]):
        waiting = [job for job in group.jobs if job.summary is None]  # what another process has ended is over by now
        if group.breeder is not None:
            _back_to_common_step(waiting, group.breeder)
        else:
            back_to_common_checkpoint(waiting)
        _recall(group.judge, [job for job in group.jobs if job.summary is not None])
        by_step: dict[int, list[Job]] = {}
        for job in waiting:
            by_step.setdefault(job.checkpoint_step, []).append(job)
        summaries: Summaries = {}
        for part in by_step.values():
            summaries |= _train_together(replace(group, jobs=tuple(part)))
            if any(summary["status"] == "interrupted" for summary in summaries.values()):
                break
        return summaries


@contextmanager
def _locked(jobs: Sequence[Job]) -> Iterator[None]:
    """While inside, what jobs have begun is this process's alone: a worker may have outlived its leader."""
    with ExitStack() as locks:
        for job in jobs:
            if job.folder.is_dir():
                locks.enter_context(RunFolder(job.folder).locked("sweep.resume"))
        yield


def _train_together(group: Group) -> Summaries:
    """Train jobs as one population, on from their checkpoints, which are of the same step."""
    from dqn import run
    from dqn.observers.stack_progress import StackProgress

    jobs, judge, breeder = group.jobs, group.judge, group.breeder
    _recall(judge, jobs)  # only now: until then nothing is decided about trials that wait for one of these
    numbers = [job.number for job in jobs]

    def judged(step: int, scores: Mapping[int, float]) -> dict[int, str]:
        assert judge is not None
        verdict = judge(step, {numbers[member]: score for member, score in scores.items()})
        return {numbers.index(number): reason for number, reason in verdict.items()}

    def bred(since: int, step: int, scores: Mapping[int, float], configs: Mapping[int, Config]) -> dict[int, Child]:
        assert breeder is not None
        children = breeder(
            since,
            step,
            {numbers[member]: score for member, score in scores.items()},
            {numbers[member]: config for member, config in configs.items()},
        )
        return {
            numbers.index(number): replace(child, parent=numbers.index(child.parent))
            for number, child in children.items()
        }

    paths = [job.folder for job in jobs]
    with (
        memory_errors_explained(RunFolder(paths[0]), len(jobs)),
        StackProgress(group.title, len(jobs), group.first.trainer, group.draws) as watcher,
    ):
        hooks = watcher, None if judge is None else judged, None if breeder is None else bred
        if jobs[0].checkpoint_step > 0:
            values = [RunFolder(path).read_config() for path in paths]
            for one, job in zip(values, jobs, strict=True):  # the folders may have been anywhere since
                check_run(one, modules_of(job.values))
            summaries = run.resume(values, paths, *hooks)
        else:
            for path in filter(Path.exists, paths):
                empty(path)  # begun, but with nothing to go on from
            summaries = run.train([job.values for job in jobs], paths, *hooks)
    return dict(zip(numbers, summaries, strict=True))


def _returned(job: Job) -> JobReturn:
    """What Hydra hears of a job: its final mean return."""
    returned = JobReturn(
        overrides=list(job.overrides),
        working_dir=str(job.folder),
        task_name="train",
        status=JobStatus.COMPLETED,  # of one that has failed Hydra would end the whole multirun
    )
    returned.return_value = final_return(job.summary)
    return returned
