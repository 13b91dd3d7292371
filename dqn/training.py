"""Training of a population, and what is made of it: events to listeners, states to checkpoints, ends to summaries."""

from __future__ import annotations

import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch

from dqn import members
from dqn.breeding import Breeder
from dqn.compilation import Compiled
from dqn.errors import EnvironmentRaisedError, TrainingError, first_line
from dqn.events import End, Pause
from dqn.experiment import build_trainer, make_traits
from dqn.interruption import interruptible
from dqn.member import Member, Networks
from dqn.observers.base import Watcher
from dqn.saving import BackgroundWriter, detached, is_worth_no_copy
from dqn.sections import Stopwatch
from dqn.terminal import say
from dqn.trainer import Judge, Succession, Trainer

_NOTHING_NEW = 2**62  # step calls: more than any memory has seen


class Training:
    """Training of a population.

    Args:
        trainer: built from the members' configs.
        together: the members.
        watcher: is told of everything, with the members' numbers in `together`.
        judge: says which to prune, likewise.
        breeder: says which go on as copies of others, likewise.
        population: names of all members of the trainer, also of those who are gone.
        places: of the members in the trainer.
        seconds_before: that have been trained already.
    """

    def __init__(
        self,
        trainer: Trainer,
        together: Sequence[Member],
        watcher: Watcher | None,
        judge: Judge | None,
        breeder: Breeder | None,
        population: Sequence[str],
        places: Sequence[int],
        seconds_before: float = 0.0,
    ) -> None:
        self._trainer, self._members, self._population = trainer, list(together), list(population)
        # Of each place in the trainer the number of the member; -1, which is that of some member, where it is gone.
        self._numbers = [places.index(m) if m in places else -1 for m in range(len(population))]
        self._watcher, self._judge, self._breeder = watcher, judge, breeder
        self.writer = BackgroundWriter()
        self._started, self._compiled_before = time.monotonic() - seconds_before, Compiled.seconds

    def execute(self) -> list[dict[str, Any]]:
        """Train to the end, conclude, and return the summaries."""
        try:
            with interruptible(self):
                self._train()
                while self._trainer.remaining:
                    if not self.interrupted:  # else those who go on are saved among those who may not be through yet
                        self._shrink()
                    self._train()
            self._report_profile()
        except EnvironmentRaisedError as error:
            raise self._failed(error) from error
        except Exception:
            with suppress(Exception):  # what is under way tells what went wrong first
                self.writer.wait()  # a checkpoint that has been begun is as good as any
            raise
        else:
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

    @property
    def is_preparing(self) -> bool:
        """Whether a signal may raise KeyboardInterrupt at once."""
        return self._trainer.is_preparing

    def _train(self) -> None:
        """Until the trainer has no more to tell."""
        trainer = self._trainer
        interrupted: list[End] = []
        trainer.judge = self._judged if self._judge else None
        trainer.succession_rule = self._bred if self._breeder else None
        for event in trainer.run():
            if isinstance(event, Pause):
                with trainer.sections("checkpoint"):
                    self.save()
                continue
            self.writer.wait_before(self._next_look_step)
            if self.writer.has_failed:  # else as much again would be trained for nothing
                trainer.pause_is_due = True
            number = self._numbers[event.member]
            if isinstance(event, End):
                with trainer.sections("conclude"):
                    self.writer.wait()
                    if event.status == "interrupted":
                        self._members[number].summarize(event, self._record_of(event.member))
                        interrupted.append(event)  # everybody is safe before anybody is exported
            with trainer.sections("log"):  # an end, too, only now: what listens may fail
                self._members[number].tell(event)
                if self._watcher is not None:
                    self._watcher.on_event(replace(event, member=number))
            if isinstance(event, End) and event.status != "interrupted":
                with trainer.sections("conclude"):
                    self._conclude(event)
        for event in interrupted:
            self._conclude(event)

    def _failed(self, error: EnvironmentRaisedError) -> TrainingError:
        """Save what training has come to before the step call that failed; says what happened."""
        trainer = self._trainer
        if trainer.remaining:  # else all have been saved as they ended
            self.save()
        self.writer.wait()
        folder = self._members[0].folder
        (folder.path / "error.txt").write_text("".join(traceback.format_exception(error)), encoding="utf-8")
        state = f"saved; resume={folder} goes on from there"
        return TrainingError(f"{error}, after step {trainer.steps:,}, which is {state} (traceback: {folder}/error.txt)")

    def _shrink(self) -> None:
        """Go on without the members that are done."""
        old, remaining = self._trainer, self._trainer.remaining
        num_envs = old.num_envs
        chosen = [m * num_envs + e for m in remaining for e in range(num_envs)]
        environment = old.parts.environment.select(chosen)
        numbers = [self._numbers[m] for m in remaining]
        trainer = build_trainer([self._members[n].config for n in numbers], environment, old.sections)
        trainer.load_state_dict(members.select(old.state_dict(), remaining), environment=False)
        old.parts.evaluator.close()
        self._trainer, self._numbers = trainer, numbers
        self._population = [self._population[m] for m in remaining]
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

    def save(self) -> None:
        """Begin to write a checkpoint of each member; training goes on if it leaves alone what is being written.

        After one that could not be written this waits: there may be room on the disk again.

        Raises:
            Exception: it is the second in a row that could not be written.
        """
        trainer, in_trainer = self._trainer, range(len(self._numbers))
        failure = self.writer.failure()  # only now it is known what is new since the checkpoint before
        since = [_NOTHING_NEW] * len(self._numbers)
        for m in trainer.remaining:
            since[m] = self._members[self._numbers[m]].recorded_calls
        state = trainer.state_dict(self._members[0].config.checkpoint.memory, since)
        recordings = state["memory"].pop("recordings", [[] for _ in in_trainer])
        oldest_call = state["memory"].pop("oldest_call", 0)
        deadline_step = None
        if is_worth_no_copy(recordings):
            first = min(recording["first"] for of_one in recordings for recording in of_one)
            calls_left = trainer.parts.memory.calls_until_overwritten(first)
            deadline_step = trainer.steps + calls_left * trainer.num_envs
        else:
            recordings = detached(recordings)
        saves, circumstances = [], {"threads": torch.get_num_threads(), **trainer.form}
        remaining = [self._members[self._numbers[m]] for m in trainer.remaining]
        for m, member in zip(trainer.remaining, remaining, strict=True):
            population = {"members": self._population, "place": m, **circumstances}
            of_member = detached(members.select(state, [m]))
            saves.append(member.saves(trainer.steps, of_member, population, self._seconds, recordings[m], oldest_call))

        def write() -> None:
            for save in saves:
                save()
            for member in remaining:
                member.prune()

        self.writer.start(write, deadline_step)
        if failure is not None:
            self.writer.wait()
            say(f"a checkpoint could not be written ({first_line(failure)}); that of step {trainer.steps:,} could")
        self.writer.wait_before(self._next_look_step)

    @property
    def _next_look_step(self) -> int:
        """At which agent step at the latest training yields an event again: it stops after whole step calls."""
        return self._trainer.steps + self._trainer.periods.log_steps + self._trainer.num_envs

    def _record_of(self, m: int) -> dict[str, Any]:
        """What the trainer knows of a member for its summary."""
        return {
            "episodes": int(self._trainer.episodes[m]),
            "updates": int(self._trainer.updates[m]),
            "seconds": round(self._seconds, 3),
            "compile_seconds": round(Compiled.seconds - self._compiled_before, 3),
        }

    def _conclude(self, end: End) -> None:
        trainer, m = self._trainer, end.member
        learner, standing = trainer.parts.learner, trainer.standing
        networks = Networks(
            learner.template,
            learner.readout,
            learner.parameters[m],
            end.step,
            standing.best_parameters[m],
            int(standing.best_step[m]),
        )
        member = self._members[self._numbers[m]]
        member.conclude(end, self._record_of(m), networks, trainer.device, lambda: trainer.interrupted)
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
