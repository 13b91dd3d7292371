"""The training loop: a generator of events that knows nothing of files, logs or clocks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dqn.config import StopConfig, TrainerConfig
from dqn.convergence import Convergence, ValueProbe
from dqn.envs.base import Array, Environment, StepResult
from dqn.envs.stack import ObservationStack
from dqn.evaluation import Evaluator
from dqn.events import End, Episode, Evaluation, Event, Learning, Pause
from dqn.exploration import Policy, Schedule
from dqn.interruption import PlayInterruptedError
from dqn.learner import Learner
from dqn.memory.batch import Batch
from dqn.memory.stream import Experience
from dqn.memory.uniform import UniformMemory
from dqn.randomness import Stream, derive_seed


@dataclass(frozen=True)
class Traits:
    """What the loop itself reads of each of the M members."""

    seeds: tuple[int, ...]
    warmup_steps: Array  # (M,) int64
    learning_rate: Tensor  # (M,) float64
    terminal_reward: Tensor  # (M, 1) float32, NaN where the game's own reward counts


@dataclass(frozen=True)
class Parts:
    """What the loop runs."""

    environment: Environment
    memory: UniformMemory
    policy: Policy
    exploration_schedule: Schedule
    learning_rate_schedule: Schedule
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


class _Averages:
    """Means over updates, kept on the device so that an update waits for nothing."""

    def __init__(self, members: int, device: torch.device) -> None:
        self.sums = torch.zeros((4, members), dtype=torch.float64, device=device)
        self.counts = torch.zeros(members, dtype=torch.int64, device=device)

    def add(self, values: Sequence[Tensor], active: Tensor | None) -> None:
        new = torch.stack(list(values))
        self.sums += new if active is None else torch.where(active, new, 0.0)
        self.counts += 1 if active is None else active

    def are_finite(self) -> list[bool]:
        """Whether every value of each member was a number: one that was none spoils its sum for good."""
        finite: list[bool] = torch.isfinite(self.sums).all(0).tolist()
        return finite

    def take(self) -> tuple[list[int], list[list[float]]]:
        """Counts (M) and means (M x 4) since the last take."""
        counts = self.counts.tolist()
        means = (self.sums / self.counts.clamp(min=1)).T.tolist()
        self.sums.zero_()
        self.counts.zero_()
        return counts, means


class Trainer:
    """Acts, stores and learns, for a population of M members with E environments each.

    All members take their steps together; a member whose run is over goes on acting until the others are done, but
    learns and reports nothing more. `steps` counts agent steps of one member, summed over its environments; an
    autoreset takes one, so that members stay in step.
    """

    def __init__(self, parts: Parts, settings: TrainerConfig, stop: StopConfig, periods: Periods) -> None:
        self.parts, self.settings, self.periods = parts, settings, periods
        self.members = len(parts.traits.seeds)
        self.num_envs = parts.environment.num_envs // self.members
        self.device = parts.learner.parameters.device
        self.interrupted = False  # set from outside, e.g. by a signal: the loop ends after the step at hand

        shape = (self.members, self.num_envs)
        self.steps = 0
        self.episodes = np.zeros(self.members, dtype=np.int64)
        self.updates = np.zeros(self.members, dtype=np.int64)
        self.finished = np.zeros(self.members, dtype=bool)
        self._endings: dict[int, tuple[str, str]] = {}
        self._gone = np.zeros(self.members, dtype=bool)  # finished, and their End has been told
        self.best_score = np.full(self.members, -np.inf)
        self.best_step = np.full(self.members, -1, dtype=np.int64)
        self.best_parameters = torch.empty_like(parts.learner.parameters)
        self._learn_from = parts.traits.warmup_steps.copy()
        self._evaluations = 0
        self._last_evaluation = 0  # the step of it
        self._in_a_row = np.zeros(self.members, dtype=np.int64)
        self._convergence = Convergence(stop)
        self._probe = ValueProbe()
        self._averages = _Averages(self.members, self.device)
        self._returns, self._lengths = np.zeros(shape), np.zeros(shape, dtype=np.int64)
        self._stack = ObservationStack(parts.environment.spec, self.members, self.num_envs, self.device)
        self._started = False

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
        self._stack.start(frames)
        self._started = True

    def _step(self) -> Iterator[Event]:
        """One step call of all environments, and the learning that is then due."""
        parts, before = self.parts, self.steps
        q = parts.learner.q_values(self._stack.observations)
        draws = self._exploration_draws.at(before // self.num_envs)
        actions = parts.policy(q, draws, self._value_of(parts.exploration_schedule))
        result = parts.environment.step(actions.cpu().numpy().reshape(-1))
        experience = self._experience(actions, result)
        parts.memory.add(Experience(*(tensor.to(parts.memory.device) for tensor in experience)))
        self._stack.push(experience.frames, experience.was_reset)
        self.steps += self.num_envs

        ended = result.ended.reshape(self.members, self.num_envs)
        self._returns += result.raw_rewards.reshape(ended.shape)
        self._lengths += ~result.was_reset.reshape(ended.shape)
        if ended.any():
            yield from self._end_episodes(ended)
        if self.settings.learn_every_steps is None:
            times = ended.sum(1)
        else:
            times = np.full(self.members, _crossed(self.settings.learn_every_steps, before, self.steps))
        times[self.finished | (self.steps < self._learn_from)] = 0
        if parts.memory.may_run_empty:
            times[(parts.memory.size == 0).cpu().numpy()] = 0
        if times.any():
            self._learn(times, before // self.num_envs)
        parts.learner.update_target(before, self.steps)
        if self.settings.total_episodes is not None:
            done = ~self.finished & (self.episodes >= self.settings.total_episodes)
            self._finish(done, "completed", f"{self.settings.total_episodes:,} episodes")

    def _experience(self, actions: Tensor, result: StepResult) -> Experience:
        """A step's result as learning sees it."""
        ended = self._to_device(result.ended)
        terminated = self._to_device(result.terminated)
        if self.settings.truncation_is_terminal:
            terminated = terminated | ended
        rewards, instead = self._to_device(result.rewards), self.parts.traits.terminal_reward
        return Experience(
            actions=actions,
            rewards=torch.where(ended & ~instead.isnan(), instead, rewards),
            terminated=terminated,
            was_reset=self._to_device(result.was_reset),
            frames=self._to_device(result.frames),
        )

    def _end_episodes(self, ended: Array) -> Iterator[Event]:
        for m, e in zip(*np.nonzero(ended), strict=True):
            if not self.finished[m]:
                self.episodes[m] += 1
                yield Episode(int(m), self.steps, float(self._returns[m, e]), int(self._lengths[m, e]))
            self._returns[m, e], self._lengths[m, e] = 0.0, 0

    def _learn(self, times: Array, call: int) -> None:
        """Let each member learn as often as `times` (M,) says."""
        schedule = self.parts.learning_rate_schedule
        rate = (self.parts.traits.learning_rate * self._value_of(schedule)).to(torch.float32)
        counts = times * self.settings.updates_per_learn
        for k in range(int(counts.max())):
            learns = counts > k
            active = None if learns.all() else torch.from_numpy(learns).to(self.device)
            draws = self._sampling_draws.at(call * self._updates_per_call + k)
            batch = Batch(*(tensor.to(self.device) for tensor in self.parts.memory.sample(draws)))
            self._averages.add(self.parts.learner.update(batch, rate, active), active)
            self.updates += learns

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
        level = self._value_of(self.parts.exploration_schedule).tolist()
        rate = (self.parts.traits.learning_rate * self._value_of(self.parts.learning_rate_schedule)).tolist()
        name = self.parts.policy.level_name
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

    def _value_of(self, schedule: Schedule) -> Tensor:
        steps = torch.full((self.members,), self.steps, dtype=torch.int64, device=self.device)
        return schedule(steps, torch.from_numpy(self.episodes).to(self.device))

    def _to_device(self, array: Array) -> Tensor:
        """(M * E, ...) from an environment -> (M, E, ...)."""
        tensor = torch.from_numpy(array).view(self.members, self.num_envs, *array.shape[1:])
        return tensor.to(self.device, non_blocking=True)

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
