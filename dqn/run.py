"""Runs from their configs to their summaries: builds the parts, listens to the loop, concludes.

Runs that differ in traits only train together, as the members of one population; one run is a population of one.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dqn import checkpoint, members
from dqn.breeding import Breeder
from dqn.compilation import Compiled
from dqn.compose import with_values
from dqn.config import Config
from dqn.errors import TrainingError, UserError
from dqn.events import End, Pause
from dqn.experiment import build_trainer, make_traits
from dqn.faults import disk_errors_explained
from dqn.interruption import interruptible
from dqn.member import Member, Networks, changed_traits
from dqn.observers.base import Watcher
from dqn.provenance import provenance
from dqn.run_folder import RunFolder
from dqn.sections import Stopwatch
from dqn.terminal import say
from dqn.trainer import Judge, Succession, Trainer
from dqn.validation import validate

Values = dict[str, Any]


def train(
    values: Sequence[Values],
    paths: Sequence[Path],
    watcher: Watcher | None = None,
    judge: Judge | None = None,
    breeder: Breeder | None = None,
) -> list[dict[str, Any]]:
    """Train new runs together, each in its folder; returns their summaries.

    Args:
        values: the runs' configs, which differ in traits only.
        paths: of their folders.
        watcher: shows how all of them are getting on, in place of a progress bar for each.
        judge: says which to prune.
        breeder: says which go on as copies of others.

    Raises:
        UserError: the configs or a folder will not do; nothing has been written.
        TrainingError: training had to stop.
    """
    configs = [validate(Config, one) for one in values]
    folders = [RunFolder(path) for path in paths]
    for folder in folders:
        folder.check_is_new()
    trainer = build_trainer(configs)
    with disk_errors_explained(folders[0]):
        of_all = provenance()
        for folder, one in zip(folders, values, strict=True):
            folder.create(one, of_all)
        try:
            together = _members(configs, values, paths, trainer, watcher is None)
        except UserError:  # of a logger that cannot start
            for path in paths:
                shutil.rmtree(path)
            raise
        return Run(trainer, together, watcher, judge, breeder).execute()


def resume(
    paths: Sequence[Path],
    changes: Mapping[str, Any],
    watcher: Watcher | None = None,
    judge: Judge | None = None,
    breeder: Breeder | None = None,
) -> list[dict[str, Any]]:
    """Go on with the runs in the folders from their last checkpoints, which are of the same step.

    Args:
        paths: of the runs' folders.
        changes: a new length: trainer.total_steps, trainer.total_episodes or both.
        watcher: see `train`.
        judge: see `train`.
        breeder: see `train`.

    Raises:
        UserError: there is no such run, it has no whole checkpoint, or nothing is left to do.
        TrainingError: the checkpoints are not of the same step, or training had to stop.
    """
    values, configs, states = [], [], []
    damaged: list[str] = []
    for path in paths:
        folder = RunFolder(path)
        folder.check_is_run("resume")
        values.append(_changed(folder.read_config(), changes))
        state, damages = checkpoint.load_last(folder.checkpoints, str(folder))
        states.append(state)
        configs.append(validate(Config, with_values(values[-1], changed_traits(state))))
        for damage in damages:
            say(f"{damage}; the one before is used")
            damaged.append(f"{folder}: {damage}")
    if len({state["trainer"]["steps"] for state in states}) > 1:
        advice = "the runs cannot go on together: remove damaged checkpoints, and each goes on from the one before"
        raise TrainingError(f"{'; '.join(damaged) or 'checkpoints of different steps'}; {advice}")
    trainer = build_trainer(configs)
    trainer.load_state_dict(members.join([state["trainer"] for state in states]))
    folder = RunFolder(paths[0])
    if trainer.is_over and folder.is_concluded:
        advice = "to go on, give a larger trainer.total_steps; one that has converged ends where it did"
        raise UserError("resume", folder, f"is complete after {trainer.steps:,} steps; {advice}")
    with disk_errors_explained(folder):
        together = _members(configs, values, paths, trainer, watcher is None)
        for member, state, one in zip(together, states, values, strict=True):
            member.load_state_dict(state)
            member.folder.write_config(one)
            member.folder.remove_summary()
            if watcher is None:
                say(f"resuming {member.folder} at step {trainer.steps:,}")
        return Run(trainer, together, watcher, judge, breeder, states[0]["seconds"]).execute()


def _changed(values: Values, changes: Mapping[str, Any]) -> Values:
    """A run's config with a new length."""
    changes, schedule = dict(changes), values["optimizer"]["learning_rate_schedule"]
    spans_the_run = "duration_steps" in schedule and schedule["duration_steps"] == values["trainer"]["total_steps"]
    if spans_the_run and "trainer.total_steps" in changes:  # and still shall
        changes["optimizer.learning_rate_schedule.duration_steps"] = changes["trainer.total_steps"]
    return with_values(values, changes)


def _members(
    configs: Sequence[Config], values: Sequence[Values], paths: Sequence[Path], trainer: Trainer, show_progress: bool
) -> list[Member]:
    frames_per_step = trainer.parts.environment.spec.frames_per_step
    made: list[Member] = []
    try:
        for config, one, path in zip(configs, values, paths, strict=True):
            made.append(Member(config, one, path, frames_per_step, show_progress))
    except BaseException:
        for member in made:
            member.close()
        raise
    return made


class Run:
    """Training of a population, and what is made of it.

    Args:
        trainer: built from the members' configs.
        together: the members, in the trainer's order.
        watcher: is told of everything, with the members' numbers in `together`.
        judge: says which to prune, likewise.
        breeder: says which go on as copies of others, likewise.
        seconds_before: that have been trained already.
    """

    def __init__(
        self,
        trainer: Trainer,
        together: Sequence[Member],
        watcher: Watcher | None = None,
        judge: Judge | None = None,
        breeder: Breeder | None = None,
        seconds_before: float = 0.0,
    ) -> None:
        self._trainer, self._members = trainer, list(together)
        self._numbers = list(range(len(self._members)))  # of the members that are in the trainer, in its order
        self._watcher, self._judge, self._breeder = watcher, judge, breeder
        self._started, self._compiled_before = time.monotonic() - seconds_before, Compiled.seconds

    def execute(self) -> list[dict[str, Any]]:
        """Train to the end, conclude, and return the summaries."""
        try:
            with interruptible(self):
                self._train()
                while self._trainer.remaining:
                    self._shrink()
                    self._train()
            self._report_profile()
            return [member.summary for member in self._members if member.summary is not None]
        finally:
            self._trainer.close()
            for member in self._members:
                member.close()

    @property
    def interrupted(self) -> bool:
        """Whether training is to end after the step calls at hand; a signal sets it."""
        return self._trainer.interrupted

    @interrupted.setter
    def interrupted(self, value: bool) -> None:
        self._trainer.interrupted = value

    def _train(self) -> None:
        """Until the trainer has no more to tell."""
        trainer = self._trainer
        trainer.judge = self._judged if self._judge else None
        trainer.succession_rule = self._bred if self._breeder else None
        for event in trainer.run():
            if isinstance(event, Pause):
                with trainer.sections("checkpoint"):
                    self._save()
                continue
            number = self._numbers[event.member]
            with trainer.sections("log"):
                self._members[number].tell(event)
                if self._watcher is not None:
                    self._watcher.on_event(replace(event, member=number))
            if isinstance(event, End):
                with trainer.sections("conclude"):
                    self._conclude(event)

    def _shrink(self) -> None:
        """Go on without the members that are done."""
        old, remaining = self._trainer, self._trainer.remaining
        num_envs = old.num_envs
        chosen = [m * num_envs + e for m in remaining for e in range(num_envs)]
        environment = old.parts.environment.select(chosen)
        numbers = [self._numbers[m] for m in remaining]
        trainer = build_trainer([self._members[n].config for n in numbers], environment, old.sections)
        trainer.load_state_dict(members.select(old.state_dict(), remaining))
        trainer.go_on_with(members.select(old.episodes_in_progress(), remaining))
        old.parts.evaluator.close()
        self._trainer, self._numbers = trainer, numbers
        if old.interrupted:  # after its last look
            trainer.interrupted = True

    def _judged(self, step: int, scores: Mapping[int, float]) -> dict[int, str]:
        """The judge knows the members by their numbers."""
        assert self._judge is not None
        verdict = self._judge(step, {self._numbers[m]: score for m, score in scores.items()})
        return {self._numbers.index(number): reason for number, reason in verdict.items()}

    def _bred(self, since: int, step: int, scores: Mapping[int, float]) -> Succession | None:
        """The breeder knows the members by their numbers, too."""
        assert self._breeder is not None
        numbers = self._numbers
        configs = {numbers[m]: self._members[numbers[m]].config for m in scores}
        children = self._breeder(since, step, {numbers[m]: score for m, score in scores.items()}, configs)
        if not children:
            return None
        sources = list(range(len(numbers)))
        for number, child in children.items():
            sources[numbers.index(number)] = numbers.index(child.parent)
            self._members[number].change_traits(child.values)
        return Succession(sources, make_traits([self._members[number].config for number in numbers]))

    @property
    def _seconds(self) -> float:
        return time.monotonic() - self._started

    def _save(self) -> None:
        trainer = self._trainer
        state = trainer.state_dict(memory=self._members[0].config.checkpoint.memory)
        for m in trainer.remaining:
            self._members[self._numbers[m]].save(trainer.steps, members.select(state, [m]), self._seconds)

    def _conclude(self, end: End) -> None:
        trainer, m = self._trainer, end.member
        learner = trainer.parts.learner
        record = {
            "episodes": int(trainer.episodes[m]),
            "updates": int(trainer.updates[m]),
            "seconds": round(self._seconds, 3),
            "compile_seconds": round(Compiled.seconds - self._compiled_before, 3),
        }
        standing = trainer.standing
        networks = Networks(
            learner.template, learner.parameters[m], end.step, standing.best_parameters[m], int(standing.best_step[m])
        )
        member = self._members[self._numbers[m]]
        member.conclude(end, record, networks, trainer.device, lambda: trainer.interrupted)
        if self._watcher is not None and member.summary is not None:
            self._watcher.on_run_end(self._numbers[m], member.summary)

    def _report_profile(self) -> None:
        """Print where the time went, and write the trace."""
        sections = self._trainer.sections
        if not isinstance(sections, Stopwatch):
            return
        shares = sections.shares()
        total = sum(shares.values())
        say(f"{total:,.1f} s, by section:")
        for name, seconds in shares.items():
            per_call = f"{1e6 * seconds / sections.calls[name]:10,.0f} us a call" if name in sections.calls else ""
            say(f"  {name:12} {seconds:9,.2f} s {seconds / total:6.1%}  {per_call}".rstrip())
        path = self._members[0].folder.path / "trace.json"
        sections.write_trace(path)
        say(f"{path}: open it in https://ui.perfetto.dev")
