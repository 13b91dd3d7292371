"""What a population does with tensors alone: choose actions, store what came of them, learn.

What is compiled, or captured as a CUDA graph, touches no file, no log and no number that lives in Python, and gives the
same with or without.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dqn.compilation import Compiled, prepare_all
from dqn.cuda_graphs import Captured
from dqn.envs.base import Array, Environment, StepTensors, TensorEnvironment
from dqn.envs.stack import pushed
from dqn.exploration import Policy, Schedule
from dqn.learner import Learner
from dqn.memory.batch import Batch
from dqn.memory.prioritized import PrioritizedMemory, RankedMemory
from dqn.memory.rollout import RolloutMemory
from dqn.memory.stream import Experience
from dqn.memory.uniform import UniformMemory
from dqn.transfer import to_device

MOST_CALLS = 64  # of `Agent.play` in a row: what is done once for all of them is next to nothing for each


class Averages:
    """Means over updates, kept on the device so that an update waits for nothing."""

    def __init__(self, members: int, device: torch.device) -> None:
        self.sums = torch.zeros((members, 4), dtype=torch.float64, device=device)
        self.counts = torch.zeros(members, dtype=torch.int64, device=device)

    def add(self, values: Sequence[Tensor], active: Tensor | None) -> None:
        """Add one update's values, (M,) each, of the members that are active (M,) bool, or of all."""
        new = torch.stack(list(values), dim=1)
        self.sums += new if active is None else torch.where(active.unsqueeze(1), new, 0.0)
        self.counts += 1 if active is None else active

    def are_finite(self) -> list[bool]:
        """Whether every value of each member was a number: one that was none spoils its sum for good."""
        finite: list[bool] = torch.isfinite(self.sums).all(1).tolist()
        return finite

    def take(self, members: Sequence[int]) -> tuple[list[int], list[list[float]]]:
        """Counts and means (4 each) of these members since they were last taken."""
        chosen = torch.tensor(members, dtype=torch.int64, device=self.counts.device)
        counts = self.counts[chosen].tolist()
        means = (self.sums[chosen] / self.counts[chosen].clamp(min=1).unsqueeze(1)).tolist()
        self.sums[chosen] = 0.0
        self.counts[chosen] = 0
        return counts, means


@dataclass(frozen=True)
class Plan:
    """What changes over a run: how members explore and how fast they learn, by their progress."""

    policy: Policy
    exploration: Schedule
    learning_rate_schedule: Schedule
    learning_rate: Tensor  # (M,) float64, before the schedule's factor
    importance_exponent: Schedule | None  # of a memory with priorities: the paper's beta
    terminal_reward: Tensor  # (M, 1) float32, NaN where the game's own reward counts
    truncation_is_terminal: bool


class Agent:
    """M members with E environments each.

    Args:
        environment: members-major.
        learner: their networks.
        memory: their experience.
        plan: what changes over the run.
        batch_size: of an update.
    """

    def __init__(
        self, environment: Environment, learner: Learner, memory: UniformMemory, plan: Plan, batch_size: int
    ) -> None:
        members, self._device = learner.parameters.shape[0], learner.parameters.device
        spec, num_envs = environment.spec, environment.num_envs // members
        self._environment = environment if isinstance(environment, TensorEnvironment) else None
        self._spec, self._learner, self._memory, self._plan = spec, learner, memory, plan
        self._batch_size = batch_size
        # How many uniforms acting once takes: two for each environment, and the networks'; and how many an update: one
        # for each transition, and the learner's.
        self.draws_to_act = 2 * num_envs + learner.draws_to_act
        self.draws_to_update = batch_size + learner.draws_to_update(batch_size)
        shape = (members, num_envs, *spec.observation_shape)
        self.observations = torch.zeros(shape, dtype=getattr(torch, spec.frame_dtype), device=self._device)
        self.averages = Averages(members, self._device)
        # Agent steps taken and episodes ended by each member, (M,), of which schedules make exploration and rates.
        self.steps, self.episodes = (torch.zeros(members, dtype=torch.int64, device=self._device) for _ in range(2))
        self._outcomes = torch.zeros((MOST_CALLS, 3, members, num_envs), dtype=torch.float64, device=self._device)
        self._row = torch.zeros(1, dtype=torch.int64, device=self._device)  # of the outcomes, for the next call
        self._calls = 0  # the same, known without asking the device
        self._act: Callable[..., Tensor] = self._choose
        self._store: Callable[..., None] = self._take_in
        self._learn: Callable[..., None] = self._learn_often
        self._learn_once: Callable[..., None] = self._sample_and_update
        self._value: Callable[..., Tensor] = self._greatest
        self._play: Callable[..., None] = self._act_and_store

    def compile(self) -> None:
        """Act, store and learn in compiled form from now on; results differ by rounding only."""
        self._act = Compiled(self._choose, "acting")
        if self._memory.is_traceable:
            self._play = Compiled(self._act_and_store, "playing")
            self._store = Compiled(self._take_in, "storing")
        if self._spec.is_image or not self._memory.is_traceable:  # PyTorch's own kernels gather frames faster
            update = Compiled(lambda draws, places, *batch: self._update(draws, places, Batch(*batch)), "learning")

            def learn(draws: Tensor) -> None:
                places = self._memory.draw(draws[:, : self._batch_size])
                update(draws, places, *self._memory.read(places))

            self._learn_once = learn
        else:
            self._learn_once = Compiled(self._sample_and_update, "learning")

    def capture(self) -> None:
        """Act, store and learn as CUDA graphs from now on, with the memory on the same GPU."""
        functions = self._choose, self._take_in, self._act_and_store
        self._act, self._store, self._play = (Captured(function) for function in functions)
        # All updates of a step call are one launch; how many they are may vary from call to call.
        by_number: defaultdict[int, Captured] = defaultdict(lambda: Captured(self._learn_often))
        self._learn = lambda draws: by_number[len(draws)](torch.stack(list(draws)))

    def prepare(self, draws: Tensor, sampling_draws: Tensor, plays: bool) -> None:
        """Have what is compiled ready before the first calls.

        Args:
            draws: for acting.
            sampling_draws: for one update.
            plays: whether `play` will be called, or `act` and `store`.
        """
        actions = torch.zeros(self.observations.shape[:2], dtype=torch.int64, device=self._device)
        rewards = torch.zeros(actions.shape, device=self._device)
        frames = torch.zeros((*actions.shape, *self._spec.frame_shape), dtype=self.observations.dtype)
        flags = rewards.bool()
        store = self._store, (actions, frames.to(self._device), rewards, flags, flags.clone(), flags.clone())
        here = [(self._play, (draws,))] if plays else [(self._act, (draws,)), store]
        functions = [*here, (self._learn_once, (sampling_draws,))]
        prepare_all([(function, of) for function, of in functions if isinstance(function, Compiled)])

    def start(self, frames: Tensor) -> None:
        """Episodes begin with frames (M, E, *frame), which the memory has already."""
        everywhere = torch.ones(frames.shape[:2], dtype=torch.bool, device=self._device)
        self.observations.copy_(pushed(self.observations, frames, everywhere))

    def set_progress(self, progress: Array) -> None:
        """How far the members are: agent steps and episodes, (2, M) int64."""
        steps, episodes = to_device(progress, self._device)
        self.steps.copy_(steps)
        self.episodes.copy_(episodes)

    def act(self, draws: Tensor) -> Tensor:
        """Choose actions (M, E) int64 by uniforms (M, `draws_to_act`)."""
        actions: Tensor = self._act(draws)
        return actions

    def store(
        self, actions: Tensor, frames: Tensor, rewards: Tensor, terminated: Tensor, ended: Tensor, was_reset: Tensor
    ) -> None:
        """Take in what a step call brought: (M, E, ...) each, see `dqn.envs.base.StepResult`."""
        self._store(actions, frames, rewards, terminated, ended, was_reset)
        self._note_call()

    @property
    def plays(self) -> bool:
        """Whether the environments are stepped here, by `play`."""
        return self._environment is not None

    def play(self, draws: Tensor) -> None:
        """Choose actions as `act` does, take them, store what comes of them, and count it as progress.

        After `MOST_CALLS` calls at most `take_outcomes` tells what came of them. Until then the device need not be
        waited for.
        """
        assert self._environment is not None
        self._environment.prepare(1)
        self._play(draws)
        self._note_call()
        self._calls += 1

    def take_outcomes(self) -> Array:
        """What came of the N calls of `play` since the last time; it lasts until the next of them.

        Returns:
            (N, 3, M, E) float64: the game's own rewards, whether the call was an autoreset, whether the episode is
            over.
        """
        outcomes = self._outcomes[: self._calls].cpu().numpy()
        self._row.zero_()
        self._calls = 0
        return outcomes

    def learn(self, draws: Sequence[Tensor]) -> None:
        """Update once for each of `draws`, uniforms (M, `draws_to_update`), the first of which choose the batch."""
        self._learn(draws)

    def learn_some(self, draws: Tensor, active: Tensor) -> None:
        """Update the members that are active (M,) bool once, by uniforms (M, `draws_to_update`)."""
        self._sample_and_update(draws, active)

    def exploration_levels(self) -> Tensor:
        """What the policy explores with now, (M,)."""
        return self._plan.exploration(self.steps, self.episodes)

    def learning_rates(self) -> Tensor:
        """What an update would learn with now, (M,) float64."""
        return self._plan.learning_rate * self._plan.learning_rate_schedule(self.steps, self.episodes)

    def _note_call(self) -> None:
        """What is done in Python after a step call has been stored."""
        if isinstance(self._memory, RankedMemory):
            self._memory.rank_if_due()

    def _choose(self, draws: Tensor) -> Tensor:
        num_envs = self.observations.shape[1]
        of_policy, of_network = draws[:, : 2 * num_envs], draws[:, 2 * num_envs :]
        q = self._learner.q_values(self.observations, of_network)
        return self._plan.policy(q, of_policy.reshape(-1, num_envs, 2), self.exploration_levels())

    def _take_in(
        self, actions: Tensor, frames: Tensor, rewards: Tensor, terminated: Tensor, ended: Tensor, was_reset: Tensor
    ) -> None:
        if self._plan.truncation_is_terminal:
            terminated = terminated | ended
        instead = self._plan.terminal_reward
        rewards = torch.where(ended & ~instead.isnan(), instead, rewards)
        experience = Experience(actions, rewards, terminated, was_reset, frames)
        self._memory.add(Experience(*(tensor.to(self._memory.device) for tensor in experience)))
        self.observations.copy_(pushed(self.observations, frames, was_reset))

    def _act_and_store(self, draws: Tensor) -> None:
        assert self._environment is not None
        actions = self._choose(draws)
        result = self._environment.step_tensors(actions.flatten())
        result = StepTensors(*(tensor.view(*actions.shape, *tensor.shape[1:]) for tensor in result))
        self._take_in(actions, result.frames, result.rewards, result.terminated, result.ended, result.was_reset)
        outcome = torch.stack([t.to(torch.float64) for t in (result.raw_rewards, result.was_reset, result.ended)])
        self._outcomes.index_copy_(0, self._row, outcome.unsqueeze(0))
        self._row += 1
        self.steps += actions.shape[1]
        self.episodes += result.ended.sum(1)

    def begin_round(self, draws: Sequence[Tensor]) -> Sequence[Tensor]:
        """Before all updates of a step call: make what they share, and the draws by which they share it out."""
        memory, size = self._memory, self._batch_size
        if not isinstance(memory, RolloutMemory):
            return draws
        memory.take_values(lambda observed: self._value(observed.to(self._device)).to(memory.device))
        in_turn = torch.split(memory.in_turn(torch.cat([one[:, :size] for one in draws], dim=1)), size, dim=1)
        return [torch.cat([turn, one[:, size:]], dim=1) for turn, one in zip(in_turn, draws, strict=True)]

    def _greatest(self, observations: Tensor) -> Tensor:
        return self._learner.q_values(observations).amax(-1)

    def _learn_often(self, draws: Sequence[Tensor]) -> None:
        for one in self.begin_round(draws):
            self._learn_once(one)

    def _sample_and_update(self, draws: Tensor, active: Tensor | None = None) -> None:
        places = self._memory.draw(draws[:, : self._batch_size])
        self._update(draws, places, self._memory.read(places), active)

    def _update(self, draws: Tensor, places: Tensor, batch: Batch, active: Tensor | None = None) -> None:
        batch = Batch(*(tensor.to(self._device) for tensor in batch))
        memory, rate, weights = self._memory, self.learning_rates().to(torch.float32), None
        if isinstance(memory, PrioritizedMemory):
            assert self._plan.importance_exponent is not None
            exponent = self._plan.importance_exponent(self.steps, self.episodes).to(torch.float32)
            weights = memory.importance(places).to(self._device) ** exponent.unsqueeze(-1)
        draws = draws[:, self._batch_size :].to(self._device)
        metrics, priorities = self._learner.update(batch, rate, active, weights, draws)
        self.averages.add(metrics, active)
        if isinstance(memory, PrioritizedMemory):
            active = None if active is None else active.to(memory.device)
            memory.prioritize(places, priorities.to(memory.device), active)
