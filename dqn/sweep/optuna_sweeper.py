"""A search for hyperparameters: Optuna proposes batches of trials, a launcher trains each as one stack."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from omegaconf import DictConfig
from optuna.trial import Trial, TrialState

from dqn.errors import UserError
from dqn.observers.progress import duration
from dqn.sweep import outcome
from dqn.sweep.checks import check_search, check_space
from dqn.sweep.config import OptunaConfig
from dqn.sweep.jobs import Job, Manifest, of_the_run
from dqn.sweep.judge import OptunaJudge
from dqn.sweep.request import SweepRequest
from dqn.sweep.sampler import grid_points, make_sampler
from dqn.sweep.score import DIRECTIONS, FinishedRun, objective_values
from dqn.sweep.study import OpenStudy, StudyAddress, create_study, delete_study
from dqn.terminal import say
from dqn.validation import validate

if TYPE_CHECKING:
    from hydra.core.config_loader import ConfigLoader
    from hydra.plugins.launcher import Launcher

Proposal = tuple[int, list[str]]  # a trial's number and its overrides, without seed

# What a resumed sweep may have otherwise than when it began.
_MAY_CHANGE = ("trials", "trials_per_batch", "storage", "study_name")


class OptunaSearch:
    """One sweep, from its command line to the last of its trials.

    Trial t has the jobs t x seeds_per_trial + s, one for each seed s. All trials of a batch go to the launcher at once.
    Trials that a killed process has left running go on under their own numbers, from their runs' checkpoints if the
    launcher can do that.

    Args:
        config: what Hydra composed from the command line.
        launcher: trains jobs; one that can end jobs early, and go on with them, has an attribute `judge`.
        loader: composes the config of a job.
        arguments: the words of the command line that are not for Hydra itself.

    Raises:
        UserError: something in the config or on the command line cannot work; nothing has been written.
    """

    def __init__(self, config: DictConfig, launcher: Launcher, loader: ConfigLoader, arguments: Sequence[str]) -> None:
        self._launcher, self._max_members = launcher, int(config.hydra.launcher.get("max_members") or 1)
        self._request = request = SweepRequest(config, loader, arguments)
        self._folder, self._space, self._run_values = request.folder, request.space, request.run_values
        self._settings = validate(OptunaConfig, self._request.sweeper, "hydra.sweeper")
        check_search(self._settings, self._run_values, can_prune=self._has_our_launcher)
        check_space(self._space, self._request.run_config)
        self._memory = {
            "hydra": {"sweeper": {k: v for k, v in self._request.sweeper.items() if k not in _MAY_CHANGE}},
            "sweep": {"space": self._space.describe()},
            **self._run_values,
        }
        self._trials = self._settings.trials
        if self._settings.sampler.kind == "grid":
            self._trials = min(self._trials, len(grid_points(self._space, 0)))

    def run(self) -> None:
        """Train all trials that the study still lacks.

        Raises:
            UserError: the study cannot be made, or is not the one to resume.
        """
        if not self._has_our_launcher:
            outcome.begin(self._folder)
        self._opened = self._open()
        self._study = self._opened.study
        if self._has_our_launcher:
            self._launcher.judge = self._judge()  # type: ignore[attr-defined]  # of ours alone
            self._launcher.keeps_numbers = True  # type: ignore[attr-defined]  # of ours alone
        started, finished_before = time.monotonic(), self._finished()
        try:
            for batch in self._batches():
                self._train(batch)
                seconds_each = (time.monotonic() - started) / (self._finished() - finished_before)
                say(self._progress(seconds_each))
        except UserError:  # of a batch that cannot be built, or does not fit into the machine
            if self._request.take_back() and self._settings.storage is not None:
                delete_study(self._address)
            raise
        except (KeyboardInterrupt, SystemExit):
            say(f"{self._finished()}/{self._trials} trials done; the same with sweep.resume={self._folder} goes on")
            raise

    @property
    def _has_our_launcher(self) -> bool:
        """Whether it ends jobs early and goes on with those that were begun, as Hydra's own do not."""
        return hasattr(self._launcher, "judge")

    # --- the study -------------------------------------------------------------------------------------------

    @property
    def _address(self) -> StudyAddress:
        url = self._settings.storage or f"sqlite:///{(self._folder / 'optuna.db').absolute()}"
        return StudyAddress(url, self._settings.study_name)

    def _open(self) -> OpenStudy:
        """A new study in a new folder, or the one to resume."""
        resumed = self._request.is_resumed
        if resumed and not (self._folder / "optuna.db" if self._settings.storage is None else self._folder).exists():
            raise UserError("sweep.resume", self._folder, "there is no Optuna sweep in this place")
        if not resumed:
            self._request.make_folder()
            directions = [DIRECTIONS[objective] for objective in self._settings.objectives]
            try:
                create_study(self._address, directions, self._memory)
            except UserError:
                self._request.take_back()
                raise
            Manifest(self._folder).add([])  # by which the launcher knows a sweep's folder
            if self._settings.storage is not None:
                say("hydra.sweeper.storage: the report draws only a study in the sweep's folder")
        opened = OpenStudy(self._address, self._settings.pruner, self._run_values["trainer"]["total_steps"])
        if resumed:
            opened.check_memory(self._memory)
        return opened

    def _judge(self) -> OptunaJudge | None:
        settings = self._settings
        if settings.pruner.kind == "none":
            return None
        total_steps = self._run_values["trainer"]["total_steps"]
        return OptunaJudge(self._address, settings.pruner, total_steps, settings.seeds_per_trial, settings.aggregate)

    def _batches(self) -> Iterator[list[Proposal]]:
        """First what a killed process has left running, then new trials, up to the number wanted."""
        size = self._trials_per_batch
        left = [trial.number for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))]
        for start in range(0, len(left), size):
            # For what a trial lacks that was killed while it was proposed.
            self._study.sampler = make_sampler(self._settings.sampler, self._space, left[start])
            batch = [self._propose(self._opened.trial(number)) for number in left[start : start + size]]
            if not self._has_our_launcher:
                for proposal in batch:
                    self._remove_folders(proposal)
            yield batch
        while (asked := len(self._study.get_trials(deepcopy=False))) < self._trials:
            self._study.sampler = make_sampler(self._settings.sampler, self._space, asked)
            yield [self._propose(self._study.ask()) for _ in range(min(size, self._trials - asked))]

    @property
    def _trials_per_batch(self) -> int:
        if self._settings.trials_per_batch is not None:
            return self._settings.trials_per_batch
        return max(1, self._max_members // self._settings.seeds_per_trial)

    def _propose(self, trial: Trial) -> Proposal:
        return trial.number, self._space.overrides(self._space.suggest(trial))

    def _finished(self) -> int:
        return len(self._study.get_trials(deepcopy=False)) - self._count(TrialState.RUNNING)

    def _count(self, state: TrialState) -> int:
        return len(self._study.get_trials(deepcopy=False, states=(state,)))

    def _progress(self, seconds_each: float) -> str:
        pruned, failed = self._count(TrialState.PRUNED), self._count(TrialState.FAIL)
        line = f"trials {self._finished()}/{self._trials} done ({pruned} pruned, {failed} failed)"
        best = self._study.best_trials if self._count(TrialState.COMPLETE) else []
        if len(self._settings.objectives) > 1:
            line += f", {len(best)} that no other beats in both objectives"
        elif best:
            line += f", best {best[0].values[0]:,.1f} by trial {best[0].number}"
        return f"{line}, {duration(seconds_each * (self._trials - self._finished()))} left"

    # --- its jobs --------------------------------------------------------------------------------------------

    def _train(self, batch: Sequence[Proposal]) -> None:
        """Train the trials and tell the study how they went; interrupted ones are left to a resumed sweep."""
        interrupted = False
        for proposals in _consecutive(batch):
            jobs = [job for proposal in proposals for job in self._jobs(proposal)]
            first_job = proposals[0][0] * self._settings.seeds_per_trial
            runs = [FinishedRun.of(job) for job in self._launcher.launch(jobs, first_job)]
            if not self._has_our_launcher:
                self._write_down(jobs, first_job, runs)
            for index, (number, _) in enumerate(proposals):
                seeds = self._settings.seeds_per_trial
                interrupted |= not self._tell(number, runs[index * seeds : (index + 1) * seeds])
        if interrupted:
            raise KeyboardInterrupt

    def _write_down(self, jobs: Sequence[Sequence[str]], first_job: int, runs: Sequence[FinishedRun]) -> None:
        """Note for the report what another launcher has run."""
        made = [
            Job(number, tuple(of_the_run(words)), {}, run.folder.absolute())
            for number, (words, run) in enumerate(zip(jobs, runs, strict=True), start=first_job)
        ]
        manifest = Manifest(self._folder)
        manifest.add(made)
        failed = [job for job, run in zip(made, runs, strict=True) if run.status == "failed" and job.summary is None]
        manifest.fail(failed, "failed; the launcher's log may say why")

    def _tell(self, number: int, runs: Sequence[FinishedRun]) -> bool:
        """Tell the study; returns whether the trial is over."""
        statuses = {run.status for run in runs}
        if "interrupted" in statuses:
            return False
        if "failed" in statuses:
            self._study.tell(number, state=TrialState.FAIL)
        elif "pruned" in statuses:
            self._study.tell(number, state=TrialState.PRUNED)
        else:
            self._study.tell(number, objective_values(runs, self._settings, self._run_values))
        return True

    def _jobs(self, proposal: Proposal) -> list[list[str]]:
        """The overrides of each of a trial's jobs."""
        first = self._settings.first_seed
        seeds = range(first, first + self._settings.seeds_per_trial)
        return [[*self._request.shared, *proposal[1], f"seed={seed}"] for seed in seeds]

    def _remove_folders(self, proposal: Proposal) -> None:
        """Take away what a killed process has left of a trial's runs, for a launcher that needs empty folders."""
        for seed, overrides in enumerate(self._jobs(proposal)):
            config = self._request.compose(overrides)
            config.hydra.job.num = proposal[0] * self._settings.seeds_per_trial + seed
            folder = self._folder / str(config.hydra.sweep.subdir)
            if folder.is_dir() and folder.resolve().parent == self._folder.resolve():
                shutil.rmtree(folder)


def _consecutive(batch: Sequence[Proposal]) -> Iterator[list[Proposal]]:
    """The batch in parts of consecutive numbers, as a launcher counts its jobs on from the first."""
    part: list[Proposal] = []
    for proposal in batch:
        if part and proposal[0] != part[-1][0] + 1:
            yield part
            part = []
        part.append(proposal)
    if part:
        yield part
