"""The training loop: a generator of events that knows nothing of files, logs or clocks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dqn.agent import Agent, Plan
from dqn.config import StopConfig, TrainerConfig
from dqn.convergence import Convergence, ValueProbe
from dqn.envs.base import Array, Environment
from dqn.evaluation import Evaluator
from dqn.events import End, Episode, Evaluation, Event, Learning, Pause
from dqn.interruption import PlayInterruptedError
from dqn.learner import Learner
from dqn.memory.stream import Experience
from dqn.memory.uniform import UniformMemory
from dqn.randomness import Stream, derive_seed
from dqn.sections import Sections
from dqn.transfer import HostCopy, to_device


@dataclass(frozen=True)
class Traits:
    """What the loop itself reads of each of the M members."""

    seeds: tuple[int, ...]
    warmup_steps: Array  # (M,) int64


@dataclass(frozen=True)
class Parts:
    """What the loop runs."""

    environment: Environment
    memory: UniformMemory
    plan: Plan
    learner: Learner
    evaluator: Evaluator
    traits: Traits


@dataclass(frozen=True)
class Periods:
    """Agent steps between the things that happen between stretches of training; None for never."""

    log_steps: int
    evaluation_steps: int | None
    pause_steps: int | None

    def next_stop(self, steps: int) -> int:
        """The first step after `steps` at which one of them is due."""
        periods = [self.log_steps, self.evaluation_steps, self.pause_steps]
        return min((steps // period + 1) * period for period in periods if period is not None)


def _crossed(period: int | None, before: int, after: int) -> int:
    """How many multiples of `period` lie in (before, after]."""
    return 0 if period is None else after // period - before // period


class Trainer:
    """Acts, stores and learns, for a population of M members with E environments each.

    All members take their steps together; a member whose run is over goes on acting until the others are done, but
    learns and reports nothing more. `steps` counts agent steps of one member, summed over its environments; an
    autoreset takes one, so that members stay in step.
    """

    def __init__(
        self,
        parts: Parts,
        settings: TrainerConfig,
        stop: StopConfig,
        periods: Periods,
        compiles: bool = False,
        sections: Sections | None = None,
    ) -> None:
        self.parts, self.settings, self.periods = parts, settings, periods
        self.members = len(parts.traits.seeds)
        self.num_envs = parts.environment.num_envs // self.members
        self.device = parts.learner.parameters.device
        self.sections = sections or Sections()
        self.interrupted = False  # set from outside, e.g. by a signal: the loop ends after the step at hand

        shape = (self.members, self.num_envs)
        self.steps = 0
        # Progress of the members, (2, M): agent steps and episodes, as numbers here and as tensors for the agent.
        self._progress = np.zeros((2, self.members), dtype=np.int64)
        self.episodes = self._progress[1]
        self.updates = np.zeros(self.members, dtype=np.int64)
        self.finished = np.zeros(self.members, dtype=bool)
        self._endings: dict[int, tuple[str, str]] = {}
        self._gone = np.zeros(self.members, dtype=bool)  # finished, and their End has been told
        self.best_score = np.full(self.members, -np.inf)
        self.best_step = np.full(self.members, -1, dtype=np.int64)
        self.best_parameters = torch.zeros_like(parts.learner.parameters)
        self._learn_from = parts.traits.warmup_steps.copy()
        self._evaluations = 0
        self._last_evaluation = 0  # the step of it
        self._in_a_row = np.zeros(self.members, dtype=np.int64)
        self._convergence = Convergence(stop)
        self._probe = ValueProbe()
        self._agent = Agent(parts.environment.spec, self.num_envs, parts.learner, parts.memory, parts.plan)
        self._averages = self._agent.averages
        if compiles and self.device.type == "cpu":
            self._agent.compile()
        elif compiles:
            self._agent.capture()
        self._returns, self._lengths = np.zeros(shape), np.zeros(shape, dtype=np.int64)
        self._started = False
        self._ahead: tuple[Tensor, HostCopy] | None = None  # actions of the next step call, chosen before learning

        seeds, batch_size = parts.traits.seeds, settings.batch_size
        learn_steps = settings.learn_every_steps
        times_per_call = self.num_envs if learn_steps is None else math.ceil(self.num_envs / learn_steps)
        self._updates_per_call = times_per_call * settings.updates_per_learn
        self._exploration_draws = Stream(seeds, "exploration", (self.num_envs, 2), self.device)
        self._sampling_draws = Stream(seeds, "sampling", (batch_size,), parts.memory.device)

    # --- the loop ---

    def run(self) -> Iterator[Event]:
        """Train until every member is done; see `dqn.events`."""
        self._start()
        while not self._gone.all():
            before, stop_at = self.steps, self.periods.next_stop(self.steps)
            if self.settings.total_steps is not None:
                stop_at = min(stop_at, self.settings.total_steps)
            while self.steps < stop_at and not self.interrupted and not self.finished.all():
                yield from self._step()
            yield from self._end_diverged(before)
            if self.interrupted and not self._gone.all():
                yield Pause(-1, self.steps)
                self._finish(~self.finished, "interrupted", "stopped by a signal")
                yield from self._end_finished()
                return
            if self.settings.total_steps is not None and self.steps >= self.settings.total_steps:
                self._finish(~self.finished, "completed", f"{self.steps:,} steps")
            ending = bool((self.finished & ~self._gone).any())
            if self.steps > before and (ending or _crossed(self.periods.log_steps, before, self.steps)):
                yield from self._report_learning()
            # Also at the end, so that the last network can be the best.
            period = self.periods.evaluation_steps
            due = period is not None and (ending or _crossed(period, self._last_evaluation, self.steps) > 0)
            if due and self._last_evaluation < self.steps and not self._gone.all():
                yield from self._evaluate()
            if (self.finished & ~self._gone).any() or _crossed(self.periods.pause_steps, before, self.steps):
                yield Pause(-1, self.steps)
            yield from self._end_finished()

    def _start(self) -> None:
        """Begin episodes: the run's first, or after a resume new ones in place of those that were cut."""
        if self._started:
            return
        seeds = [
            derive_seed(seed, "environment", e, self.steps)
            for seed in self.parts.traits.seeds
            for e in range(self.num_envs)
        ]
        frames = self._to_device(self.parts.environment.reset(seeds))
        place = self.parts.memory.device
        if self.parts.memory.is_empty:
            self.parts.memory.start(frames.to(place))
            self._learn_from += self.steps
        else:
            nothing = torch.zeros((self.members, self.num_envs), device=place)
            no, yes = nothing.bool(), ~nothing.bool()
            self.parts.memory.add(Experience(nothing.long(), nothing, no, yes, frames.to(place)))
        self._agent.start(frames)
        self._started = True

    def _step(self) -> Iterator[Event]:
        """One step call of all environments, and the learning that is then due."""
        parts, before, timed = self.parts, self.steps, self.sections
        call = before // self.num_envs
        with timed("act"):
            actions, on_host = self._ahead or self._choose(call)
            self._ahead = None
            chosen = on_host.wait().reshape(-1)
        with timed("environment"):
            result = parts.environment.step(chosen)
        with timed("store"):
            arrays = (result.frames, result.rewards, result.terminated, result.ended, result.was_reset)
            self._agent.store(actions, *[self._to_device(array) for array in arrays])
        self.steps += self.num_envs
        self._progress[0] = self.steps

        ended = result.ended.reshape(self.members, self.num_envs)
        self._returns += result.raw_rewards.reshape(ended.shape)
        self._lengths += ~result.was_reset.reshape(ended.shape)
        if ended.any():
            yield from self._end_episodes(ended)
        if self.settings.learn_while_stepping:
            with timed("act"):
                self._ahead = self._choose(call + 1)
        times = self._learning_due(before, ended)
        if times is not None:
            self._learn(times, call)
        with timed("target"):
            parts.learner.update_target(before, self.steps)
        if self.settings.total_episodes is not None:
            done = ~self.finished & (self.episodes >= self.settings.total_episodes)
            self._finish(done, "completed", f"{self.settings.total_episodes:,} episodes")

    def _choose(self, call: int) -> tuple[Tensor, HostCopy]:
        """The actions (M, E) of a step call, and their copy for the environments."""
        actions = self._agent.act(self._exploration_draws.at(call), *self._progress_tensors())
        return actions, HostCopy(actions)

    def _learning_due(self, before: int, ended: Array) -> Array | None:
        """How often each member learns now, (M,); None if none does."""
        if self.settings.learn_every_steps is None:
            times = ended.sum(1)
        else:
            crossed = _crossed(self.settings.learn_every_steps, before, self.steps)
            if crossed == 0:
                return None
            times = np.full(self.members, crossed)
        times[self.finished | (self.steps < self._learn_from)] = 0
        if self.parts.memory.may_run_empty:
            times[(self.parts.memory.size == 0).cpu().numpy()] = 0
        return times if times.any() else None

    def _end_episodes(self, ended: Array) -> Iterator[Event]:
        for m, e in zip(*np.nonzero(ended), strict=True):
            if not self.finished[m]:
                self.episodes[m] += 1
                yield Episode(int(m), self.steps, float(self._returns[m, e]), int(self._lengths[m, e]))
            self._returns[m, e], self._lengths[m, e] = 0.0, 0

    def _learn(self, times: Array, call: int) -> None:
        """Let each member learn as often as `times` (M,) says."""
        counts = times * self.settings.updates_per_learn
        progress, first = self._progress_tensors(), call * self._updates_per_call
        draws = torch.stack([self._sampling_draws.at(first + k) for k in range(int(counts.max()))])
        with self.sections("learn"):
            if counts.min() == counts.max():
                self._agent.learn(draws, *progress)
            else:
                for k, one in enumerate(draws):
                    self._agent.learn_some(one, *progress, active=to_device(counts > k, self.device))
        self.updates += counts

    @property
    def is_over(self) -> bool:
        """Whether the configured length has been reached by every member."""
        steps, episodes = self.settings.total_steps, self.settings.total_episodes
        enough_episodes = episodes is not None and bool((self.episodes >= episodes).all())
        return (steps is not None and self.steps >= steps) or enough_episodes

    def close(self) -> None:
        """Close all environments."""
        self.parts.environment.close()
        self.parts.evaluator.close()

    # --- between stretches ---

    def _report_learning(self) -> Iterator[Event]:
        counts, means = self._averages.take()
        plan, progress = self.parts.plan, self._progress_tensors()
        level, rate = plan.exploration(*progress).tolist(), plan.rate(*progress).tolist()
        name = plan.policy.level_name
        for m in np.nonzero(~self._gone)[0].tolist():
            loss, mean_q, td_error, gradient_norm = means[m] if counts[m] else [None] * 4
            yield Learning(
                member=m,
                step=self.steps,
                updates=int(self.updates[m]),
                loss=loss,
                mean_q=mean_q,
                td_error=td_error,
                gradient_norm=gradient_norm,
                epsilon=level[m] if name == "epsilon" else None,
                temperature=level[m] if name == "temperature" else None,
                learning_rate=rate[m],
            )

    def _evaluate(self) -> Iterator[Event]:
        probing = self._convergence.settings.max_value_change is not None
        q_function = self.parts.learner.q_values
        collect = self._probe.collect if probing else None
        try:
            with self.sections("evaluate"):
                games = self.parts.evaluator(q_function, self._evaluations, lambda: self.interrupted, collect)
        except PlayInterruptedError:
            return  # still due: a resumed run plays it again
        self._last_evaluation = self.steps
        changes = self._probe.change(q_function) if probing else None
        self._evaluations += 1
        for m in np.nonzero(~self._gone)[0].tolist():
            score, change = float(np.mean(games[m].returns)), None if changes is None else changes[m]
            is_best = bool(score >= self.best_score[m])  # of equals the later, which has learned longer
            if is_best:
                self.best_score[m], self.best_step[m] = score, self.steps
                self.best_parameters[m] = self.parts.learner.parameters[m]
            optimal = games[m].optimal
            yield Evaluation(
                member=m,
                step=self.steps,
                returns=tuple(games[m].returns),
                lengths=tuple(games[m].lengths),
                epsilon=self.parts.evaluator.epsilon,
                optimal=None if optimal is None else tuple(optimal),
                value_change=change,
                is_best=is_best,
            )
            self._in_a_row[m] = self._in_a_row[m] + 1 if self._convergence.meets(games[m], change) else 0
            reason = self._convergence.reason(int(self._in_a_row[m]))
            if reason and not self.finished[m]:
                self._finish(np.arange(self.members) == m, "converged", reason)

    def _end_diverged(self, steps_before: int) -> Iterator[Event]:
        """End members whose loss has stopped being a number; nothing is saved or evaluated after that."""
        parameters = torch.isfinite(self.parts.learner.parameters).all(1).tolist()
        for m, losses in enumerate(self._averages.are_finite()):
            if not (losses and parameters[m]) and not self._gone[m]:
                reason = (
                    f"the loss stopped being a finite number between steps {steps_before:,} and {self.steps:,}; "
                    "a lower optimizer.learning_rate, algorithm/loss=huber or optimizer.max_gradient_norm=10 may help"
                )
                self._finish(np.arange(self.members) == m, "diverged", reason)
                yield from self._end_finished(only=m)

    def _finish(self, members: Array, status: str, reason: str) -> None:
        """Members (M,) learn no more; their `End` follows when everything about them has been reported."""
        self.finished |= members
        for m in np.nonzero(members)[0].tolist():
            self._endings[m] = (status, reason)

    def _end_finished(self, only: int | None = None) -> Iterator[Event]:
        for m in np.nonzero(self.finished & ~self._gone)[0].tolist():
            if only is None or m == only:
                self._gone[m] = True
                yield End(m, self.steps, *self._endings[m])

    # --- small things ---

    def _progress_tensors(self) -> tuple[Tensor, Tensor]:
        """Agent steps taken and episodes ended, (M,) each."""
        steps, episodes = to_device(self._progress, self.device)
        return steps, episodes

    def _to_device(self, array: Array) -> Tensor:
        """(M * E, ...) from an environment -> (M, E, ...)."""
        return to_device(array.reshape(self.members, self.num_envs, *array.shape[1:]), self.device)

    # --- state ---

    def state_dict(self, memory: bool = True) -> dict[str, Any]:
        """Everything but the environments' own state: tensors and plain values, nested."""
        return {
            "steps": self.steps,
            "evaluations": self._evaluations,
            "last_evaluation": self._last_evaluation,
            "episodes": self.episodes.tolist(),
            "updates": self.updates.tolist(),
            "best_score": [score if math.isfinite(score) else None for score in self.best_score.tolist()],
            "best_step": self.best_step.tolist(),
            "in_a_row": self._in_a_row.tolist(),
            "best_parameters": self.best_parameters,
            "average_sums": self._averages.sums,
            "average_counts": self._averages.counts,
            "probe": self._probe.state_dict(),
            "learner": self.parts.learner.state_dict(),
            "memory": self.parts.memory.state_dict() if memory else {},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave; environments begin new episodes."""
        self.steps = state["steps"]
        self._evaluations, self._last_evaluation = state["evaluations"], state["last_evaluation"]
        self._progress[0] = self.steps
        self.episodes[:] = state["episodes"]
        self.updates[:] = state["updates"]
        self.best_score[:] = [-np.inf if score is None else score for score in state["best_score"]]
        self.best_step[:] = state["best_step"]
        self._in_a_row[:] = state["in_a_row"]
        self.best_parameters.copy_(state["best_parameters"])
        self._averages.sums.copy_(state["average_sums"])
        self._averages.counts.copy_(state["average_counts"])
        self._probe.load_state_dict({name: tensor.to(self.device) for name, tensor in state["probe"].items()})
        self.parts.learner.load_state_dict(state["learner"])
        if state["memory"]:
            self.parts.memory.load_state_dict(state["memory"])
