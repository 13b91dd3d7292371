"""The training loop: a generator of events that knows nothing of files, logs or clocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from dqn import members
from dqn.agent import MOST_CALLS, Agent
from dqn.config import StopConfig, TrainerConfig
from dqn.endings import Endings
from dqn.envs.base import Array, NotReplayableError, StatefulEnvironment
from dqn.episodes import Episodes
from dqn.evaluation import Evaluator
from dqn.events import Event, Learning, Pause
from dqn.interruption import PlayInterruptedError
from dqn.learner import Learner
from dqn.memory.stream import Experience
from dqn.memory.uniform import UniformMemory
from dqn.randomness import Stream, derive_seed
from dqn.sections import Sections
from dqn.standing import Standing
from dqn.traits import Traits
from dqn.transfer import HostCopy, to_device
from dqn.updates import UpdatePlan, crossed


@dataclass(frozen=True)
class Parts:
    """What the loop runs."""

    environment: StatefulEnvironment
    memory: UniformMemory
    learner: Learner
    evaluator: Evaluator
    traits: Traits


class Judge(Protocol):
    """Says which members are not worth going on with."""

    def __call__(self, step: int, scores: Mapping[int, float]) -> Mapping[int, str]:
        """The mean returns of an evaluation at agent step `step`, by member -> members to prune, each with a reason."""


@dataclass(frozen=True)
class Succession:
    """What every member goes on with: the learning state of member `sources[m]`, its own or another's, and traits."""

    sources: Sequence[int]
    traits: Traits


# From the agent step of the evaluation before (0 at the first), the step of this one, and the mean returns of the
# members that go on; None: everybody goes on as it is.
SuccessionRule = Callable[[int, int, Mapping[int, float]], Succession | None]


@dataclass(frozen=True)
class Periods:
    """Agent steps between the things that happen between stretches of training; None for never."""

    log_steps: int
    evaluation_steps: int | None
    pause_steps: int | None

    def next_stop(self, steps: int) -> int:
        """The first step after `steps` at which one of them is due."""
        return min((steps // period + 1) * period for period in self._set)

    def last_stop(self, steps: int) -> int:
        """The last step up to `steps` at which one of them was due, or 0."""
        return max(steps // period * period for period in self._set)

    @property
    def _set(self) -> list[int]:
        return [period for period in (self.log_steps, self.evaluation_steps, self.pause_steps) if period is not None]


class Trainer:
    """Acts, stores and learns, for a population of M members with E environments each.

    All members take their steps together; a member whose run is over goes on until the others are done or it is left
    out, but reports nothing more. `steps` counts agent steps of one member, summed over its environments; an
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
        shrinks_for_updates: float = 0,
    ) -> None:
        self.parts, self.settings, self.periods = parts, settings, periods
        self.members = len(parts.traits.seeds)
        self.num_envs = parts.environment.num_envs // self.members
        self.device = parts.learner.parameters.device
        self.sections = sections or Sections()
        self.form = {"device": self.device.type, "compiled": compiles}  # on which last bits depend
        self.interrupted = False  # set from outside, e.g. by a signal: the loop ends after the step call at hand
        self.is_preparing = False  # true while a KeyboardInterrupt does no harm, and ends the loop just so
        self.pause_is_due = False  # set from outside: the loop pauses once more than it would, as soon as it may
        self.judge: Judge | None = None  # set from outside
        self.succession_rule: SuccessionRule | None = None  # set from outside

        self.steps = 0
        # Progress of the members, (2, M): agent steps and episodes, which the agent must be told.
        self._progress = np.zeros((2, self.members), dtype=np.int64)
        self.updates = np.zeros(self.members, dtype=np.int64)
        self.standing = Standing(parts.learner.parameters, stop)
        self.endings = Endings(settings, self._progress[1], self.standing, shrinks_for_updates)
        self._episodes = Episodes(self._progress[1], self.num_envs)
        self._agent = Agent(parts.environment, parts.learner, parts.memory, parts.traits.plan, settings.batch_size)
        self._averages = self._agent.averages
        self._plays = self._agent.plays and not settings.learn_while_stepping
        if compiles and self.device.type == "cpu":
            self._agent.compile()
        elif compiles:
            self._agent.capture()
        self._has_begun = False  # episodes are under way
        self.gave_up: str | None = None  # after `load_state_dict`: why episodes that were under way begin anew
        self._ahead: tuple[Tensor, HostCopy] | None = None  # actions of the next step call, chosen before learning

        draws_to_act, draws_to_update = self._agent.draws_to_act, self._agent.draws_to_update
        self._update_plan = UpdatePlan(settings, parts.traits, self.num_envs, draws_to_update, parts.memory.device)
        self._exploration_draws = Stream(parts.traits.seeds, "exploration", (draws_to_act,), self.device)

    # --- the loop ---

    def run(self) -> Iterator[Event]:
        """Train until most members are done, and the others would be faster without them; see `dqn.events`."""
        endings = self.endings
        self._start()
        for m in range(self.members):
            endings.finish_if_over(m)  # it was stopped just after it had come to its end
        yield from self._evaluate()  # if it was stopped before that had been played
        if not (self.interrupted or endings.are_due) and endings.would_shrink(self.updates):
            return  # it was stopped just after the last of most had gone
        while endings.remaining:
            before, stop_at = self.steps, self.periods.next_stop(self.steps)
            if self.settings.total_steps is not None:
                stop_at = min(stop_at, self.settings.total_steps)
            while self.steps < stop_at and not self.interrupted and not endings.are_due:
                calls = self._foreseeable_calls(stop_at)
                yield from self._stretch(calls) if calls > 0 else self._step()
            yield from self._end_diverged()
            is_at_end = self.settings.total_steps is not None and self.steps >= self.settings.total_steps
            if is_at_end and not self.interrupted:
                endings.finish(endings.learning, "completed", f"{self.steps:,} steps")
            if self.steps > before:
                is_time = is_at_end or crossed(self.periods.log_steps, before, self.steps) > 0
                yield from self._report_learning([m for m in self.remaining if is_time or endings.finished[m]])
            if self.interrupted and endings.remaining:  # what else is due now comes first when the run goes on
                yield Pause(-1, self.steps)
                endings.finish(endings.learning, "interrupted", "stopped by a signal")
                yield from endings.tell(self.steps)
                return
            yield from self._evaluate()
            if endings.are_due or self.pause_is_due or crossed(self.periods.pause_steps, before, self.steps):
                self.pause_is_due = False
                yield Pause(-1, self.steps)
            yield from endings.tell(self.steps)
            if endings.would_shrink(self.updates):
                return

    def _start(self) -> None:
        """Begin episodes, unless they are under way, and make ready what is called often."""
        if not self._has_begun:
            self._begin_episodes()
        if self.interrupted:
            return
        self.is_preparing = True
        try:
            with self.sections("play"):  # of which what compiling takes is told apart
                (sampling_draws,) = self._update_plan.draws(0, 1)
                self._agent.prepare(self._exploration_draws.at(0), sampling_draws, self._plays)
        except KeyboardInterrupt:
            self.interrupted = True
        finally:
            self.is_preparing = False

    def _begin_episodes(self) -> None:
        """Begin the run's first episodes, or new ones in place of those that were given up."""
        seeds = [
            derive_seed(seed, "environment", e, self.steps)
            for seed in self.parts.traits.seeds
            for e in range(self.num_envs)
        ]
        frames = self._to_device(self.parts.environment.reset(seeds))
        place = self.parts.memory.device
        if self.parts.memory.is_empty:
            self.parts.memory.start(frames.to(place))
            self._update_plan.learn_from = self.parts.traits.warmup_steps + self.steps
        else:
            nothing = torch.zeros((self.members, self.num_envs), device=place)
            no, yes = nothing.bool(), ~nothing.bool()
            self.parts.memory.add(Experience(nothing.long(), nothing, no, yes, frames.to(place)))
        self._agent.start(frames)
        self._episodes.begin_anew()
        self._has_begun = True

    def _foreseeable_calls(self, stop_at: int) -> int:
        """How many step calls can be made before anybody must look at what they bring."""
        if not self._plays or self.settings.total_episodes is not None or self.parts.memory.may_run_empty:
            return 0
        return min(self._update_plan.foreseeable_calls(self.steps, stop_at, self.finished), MOST_CALLS)

    def _stretch(self, calls: int) -> Iterator[Event]:
        """Several step calls, each with its learning, given out without waiting for what they bring."""
        agent, timed = self._agent, self.sections
        learns, made = self._update_plan.have_begun(self.steps + self.num_envs, self.finished), 0
        agent.set_progress(self._progress)
        for _ in range(calls):
            if self.interrupted:
                break
            before, call = self.steps, self.steps // self.num_envs
            with timed("play"):
                agent.play(self._exploration_draws.at(call))
            self.steps += self.num_envs
            updates = self._update_plan.in_call(self.steps) if learns else 0
            if updates > 0:
                with timed("learn"):
                    agent.learn(self._update_plan.draws(call, updates))
            made += updates
            with timed("target"):
                self.parts.learner.update_target(before, self.steps)
        self.updates[~self.finished] += made
        self._progress[0] = self.steps
        with timed("play"):
            outcomes = agent.take_outcomes()
        yield from self._episodes.take_in(outcomes, self.steps, self.finished)

    def _step(self) -> Iterator[Event]:
        """One step call of all environments, and the learning that is then due."""
        parts, before, timed = self.parts, self.steps, self.sections
        call = before // self.num_envs
        if self._plays:
            with timed("play"):
                self._agent.set_progress(self._progress)
                self._agent.play(self._exploration_draws.at(call))
                outcomes = self._agent.take_outcomes()
        else:
            outcomes = self._play(call)
        self.steps += self.num_envs
        self._progress[0] = self.steps
        yield from self._episodes.take_in(outcomes, self.steps, self.finished)
        ended = outcomes[0, 2] != 0
        if self.settings.learn_while_stepping:
            with timed("act"):
                self._ahead = self._choose(call + 1)
        counts = self._update_plan.due(self.steps, ended, self.finished)
        if parts.memory.may_run_empty:
            counts[(parts.memory.size == 0).cpu().numpy()] = 0
        if counts.any():
            self._learn(counts, call)
        with timed("target"):
            parts.learner.update_target(before, self.steps)
        if self.settings.total_episodes is not None:
            for m in np.flatnonzero(~self.finished & ended.any(1)).tolist():
                self.endings.finish_if_over(m)

    def _play(self, call: int) -> Array:
        """Act, step and store; the same as `Agent.play` for environments that are no functions of tensors.

        Returns:
            (1, 3, M, E), as `Agent.take_outcomes` does.
        """
        timed = self.sections
        with timed("act"):
            actions, on_host = self._ahead or self._choose(call)
            chosen = on_host.wait().reshape(-1)
        with timed("environment"):
            result = self.parts.environment.step(chosen)
        self._ahead = None  # only now: if the environment has raised, they are still to be taken
        with timed("store"):
            arrays = (result.frames, result.rewards, result.terminated, result.ended, result.was_reset)
            self._agent.store(actions, *[self._to_device(array) for array in arrays])
        outcomes = np.stack([result.raw_rewards, result.was_reset, result.ended])
        return outcomes.reshape(1, 3, self.members, self.num_envs)

    def _choose(self, call: int) -> tuple[Tensor, HostCopy]:
        """The actions (M, E) of a step call, and their copy for the environments."""
        self._agent.set_progress(self._progress)
        actions = self._agent.act(self._exploration_draws.at(call))
        return actions, HostCopy(actions)

    def _learn(self, counts: Array, call: int) -> None:
        """Let each member make as many updates as `counts` (M,) says."""
        self.updates += counts
        # Nobody looks at those who are gone any more, and all at once is faster than all but some.
        counts[self.endings.gone] = counts.max()
        draws = self._update_plan.draws(call, int(counts.max()))
        self._agent.set_progress(self._progress)
        with self.sections("learn"):
            if counts.min() == counts.max():
                self._agent.learn(draws)
            else:
                for k, one in enumerate(self._agent.begin_round(draws)):
                    self._agent.learn_some(one, active=to_device(counts > k, self.device))

    @property
    def episodes(self) -> Array:
        """How many each member has finished, (M,) int64."""
        return self._episodes.counts

    @property
    def finished(self) -> Array:
        """Who learns no more, (M,) bool."""
        return self.endings.finished

    @property
    def remaining(self) -> list[int]:
        """The members that are not done."""
        return self.endings.remaining

    @property
    def is_over(self) -> bool:
        """Whether every member has reached the configured length or has converged."""
        return self.endings.are_all_at(self.steps)

    def close(self) -> None:
        """Close all environments."""
        self.parts.environment.close()
        self.parts.evaluator.close()

    # --- between stretches ---

    def _report_learning(self, members: Sequence[int]) -> Iterator[Event]:
        if not members:
            return
        counts, means = self._averages.take(members)
        self._agent.set_progress(self._progress)
        level, rate = self._agent.exploration_levels().tolist(), self._agent.learning_rates().tolist()
        name = self.parts.traits.plan.policy.level_name
        for m, count, mean in zip(members, counts, means, strict=True):
            loss, mean_q, td_error, gradient_norm = mean if count else [None] * 4
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

    def _due_for_evaluation(self) -> list[int]:
        """Whose networks of this step are to be evaluated; at their end too, so that the last can be the best."""
        period, last_steps = self.periods.evaluation_steps, self.standing.last_step
        if period is None:
            return []
        ending = self.finished & (last_steps != self.steps)
        return [m for m in self.remaining if ending[m] or crossed(period, int(last_steps[m]), self.steps)]

    def _evaluate(self) -> Iterator[Event]:
        """Evaluate those who are due; nothing about the others changes."""
        members = self._due_for_evaluation()
        if not members:
            return
        standing, evaluator, q_function = self.standing, self.parts.evaluator, self.parts.learner.q_values
        number, since = (int(of_members[members[0]]) for of_members in (standing.evaluations, standing.last_step))
        try:
            with self.sections("evaluate"):
                watching = standing.wants_observations if len(members) == len(self.remaining) else None
                games = evaluator(q_function, number, lambda: self.interrupted, watching)
        except PlayInterruptedError:
            return  # still due: a resumed run plays it again
        events = standing.take_in(self.steps, games, members, evaluator.epsilon, q_function)
        yield from events
        scores = {event.member: event.mean_return for event in events}
        for m in scores:
            self.endings.finish_if_over(m)
        for m, reason in (self.judge(self.steps, scores) if self.judge else {}).items():
            if not self.finished[m]:
                self.endings.finish([m], "pruned", reason)
        going_on = {m: score for m, score in scores.items() if not self.finished[m]}
        succession = self.succession_rule(since, self.steps, going_on) if self.succession_rule else None
        if succession is not None:
            self._follow(succession)

    def _follow(self, succession: Succession) -> None:
        """Copy learning state between members, by index, and change their traits.

        What a member has lived through and measured stays its own: memory, episodes, counts of updates, its best
        network. (Jaderberg et al. 2017, arXiv 1711.09846, copy weights and hyperparameters.)
        """
        learner = self.parts.learner
        learner.load_state_dict(members.select(learner.state_dict(), succession.sources))
        self.standing.begin_anew(np.array(succession.sources) != np.arange(self.members))
        self.parts.traits.take_over(succession.traits)
        learner.target_rule = succession.traits.target_rule

    def _end_diverged(self) -> Iterator[Event]:
        """End members whose loss has stopped being a number; nothing is saved or evaluated after that."""
        # Since the last stop, not since this process began: a resumed run says what one says that was never stopped.
        before = self.periods.last_stop(self.steps - self.num_envs)
        parameters = torch.isfinite(self.parts.learner.parameters).all(1).tolist()
        for m, losses in enumerate(self._averages.are_finite()):
            if not (losses and parameters[m]) and not self.endings.gone[m]:
                reason = (
                    f"the loss stopped being a finite number between steps {before:,} and {self.steps:,}; "
                    "a lower optimizer.learning_rate, algorithm/loss=huber or optimizer.max_gradient_norm=10 may help"
                )
                self.endings.finish([m], "diverged", reason)
                yield from self.endings.tell(self.steps, only=m)

    # --- small things ---

    def _to_device(self, array: Array) -> Tensor:
        """(M * E, ...) from an environment -> (M, E, ...)."""
        return to_device(array.reshape(self.members, self.num_envs, *array.shape[1:]), self.device)

    # --- state ---

    def state_dict(self, memory: bool = True, since: Sequence[int] | None = None) -> dict[str, Any]:
        """Everything, environments in mid-episode included; see `dqn.members`.

        Args:
            memory: whether with the memory.
            since: see `UniformMemory.state_dict`.
        """
        return {
            "steps": self.steps,
            "updates": self.updates.tolist(),
            "learn_from": self._update_plan.learn_from.tolist(),
            "average_sums": self._averages.sums,
            "average_counts": self._averages.counts,
            **self.standing.state_dict(),
            "endings": self.endings.state_dict(),
            "learner": self.parts.learner.state_dict(),
            "memory": self.parts.memory.state_dict(since) if memory else {},
            "has_begun": self._has_begun,
            "episodes": self._episodes.state_dict(),
            "observations": self._agent.observations,
            "ahead": None if self._ahead is None else self._ahead[0],
            "environment": members.grouped(self.parts.environment.state_dict(), self.members),
        }

    def load_state_dict(self, state: dict[str, Any], environment: bool = True) -> None:
        """Take over what `state_dict` gave.

        Where the environments cannot go on in mid-episode, or there is no memory, `gave_up` says why and new episodes
        begin.

        Args:
            state: of a population of as many members.
            environment: whether the environments are to be brought to where they were; if not, they are there.
        """
        self.steps = state["steps"]
        self._progress[0] = self.steps
        self.updates[:] = state["updates"]
        self._update_plan.learn_from[:] = state["learn_from"]
        self.standing.load_state_dict(state)
        self.endings.load_state_dict(state["endings"])
        self._averages.sums.copy_(state["average_sums"])
        self._averages.counts.copy_(state["average_counts"])
        self.parts.learner.load_state_dict(state["learner"])
        self._episodes.load_state_dict(state["episodes"])
        self._agent.observations.copy_(state["observations"])
        if state["ahead"] is not None:
            self._ahead = state["ahead"].to(self.device), HostCopy(state["ahead"])
        self._has_begun = state["has_begun"]
        if state["memory"]:
            self.parts.memory.load_state_dict(state["memory"])
        elif self._has_begun:
            self._give_up("the checkpoint is without the memory")
        if environment and self._has_begun:
            try:
                self.parts.environment.load_state_dict(members.ungrouped(state["environment"]))
            except NotReplayableError as error:
                self._give_up(str(error))

    def _give_up(self, reason: str) -> None:
        """The episodes under way cannot go on."""
        self.gave_up, self._has_begun, self._ahead = reason, False, None
