"""What a population does with tensors alone: choose actions, store what came of them, learn.

No function here touches a file, a log or a number that lives in Python, so each can be compiled, or captured as a CUDA
graph, and gives the same with or without.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dqn.compilation import Compiled, prepare_all
from dqn.cuda_graphs import Captured
from dqn.envs.base import Environment, StepTensors, TensorEnvironment
from dqn.envs.stack import pushed
from dqn.exploration import Policy, Schedule
from dqn.learner import Learner
from dqn.memory.batch import Batch
from dqn.memory.stream import Experience
from dqn.memory.uniform import UniformMemory


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

    def take(self) -> tuple[list[int], list[list[float]]]:
        """Counts (M) and means (M x 4) since the last take."""
        counts = self.counts.tolist()
        means = (self.sums / self.counts.clamp(min=1).unsqueeze(1)).tolist()
        self.sums.zero_()
        self.counts.zero_()
        return counts, means


@dataclass(frozen=True)
class Plan:
    """What changes over a run: how members explore and how fast they learn, by their progress."""

    policy: Policy
    exploration: Schedule
    learning_rate_schedule: Schedule
    learning_rate: Tensor  # (M,) float64, before the schedule's factor
    terminal_reward: Tensor  # (M, 1) float32, NaN where the game's own reward counts
    truncation_is_terminal: bool

    def rate(self, steps: Tensor, episodes: Tensor) -> Tensor:
        """The learning rates after so many agent steps and episodes, (M,) each -> (M,) float64."""
        return self.learning_rate * self.learning_rate_schedule(steps, episodes)


class Agent:
    """M members with E environments each.

    Args:
        environment: members-major.
        learner: their networks.
        memory: their experience.
        plan: what changes over the run.
    """

    def __init__(self, environment: Environment, learner: Learner, memory: UniformMemory, plan: Plan) -> None:
        members, self._device = learner.parameters.shape[0], learner.parameters.device
        spec, num_envs = environment.spec, environment.num_envs // members
        self._environment = environment if isinstance(environment, TensorEnvironment) else None
        self._spec, self._learner, self._memory, self._plan = spec, learner, memory, plan
        shape = (members, num_envs, *spec.observation_shape)
        self.observations = torch.zeros(shape, dtype=getattr(torch, spec.frame_dtype), device=self._device)
        self.averages = Averages(members, self._device)
        self._act: Callable[..., Tensor] = self._choose
        self._store: Callable[..., None] = self._take_in
        self._learn: Callable[..., None] = self._learn_often
        self._learn_once: Callable[..., None] = self._sample_and_update
        self._play: Callable[..., Tensor] = self._act_and_store

    def compile(self) -> None:
        """Act, store and learn in compiled form from now on; results differ by rounding only."""
        self._act = Compiled(self._choose, "acting")
        self._play = Compiled(self._act_and_store, "playing")
        if self._memory.is_traceable:
            self._store = Compiled(self._take_in, "storing")
        if self._spec.is_image or not self._memory.is_traceable:  # PyTorch's own kernels gather frames faster
            update = Compiled(lambda *tensors: self._update(Batch(*tensors[:5]), *tensors[5:]), "learning")
            self._learn_once = lambda draws, *progress: update(*self._memory.sample(draws), *progress)
        else:
            self._learn_once = Compiled(self._sample_and_update, "learning")

    def capture(self) -> None:
        """Act, store and learn as CUDA graphs from now on, with the memory on the same GPU."""
        functions = self._choose, self._take_in, self._act_and_store
        self._act, self._store, self._play = (Captured(function) for function in functions)
        # All updates of a step call are one launch; how many they are may vary from call to call.
        by_number: defaultdict[int, Captured] = defaultdict(lambda: Captured(self._learn_often))
        self._learn = lambda draws, *progress: by_number[len(draws)](draws, *progress)

    def prepare_to_play(self, draws: Tensor, sampling_draws: Tensor, *progress: Tensor) -> None:
        """Have `play` and `learn` ready before their first calls, with arguments like these (one update's draws)."""
        functions = (self._play, draws), (self._learn_once, sampling_draws)
        prepare_all([(function, (of, *progress)) for function, of in functions if isinstance(function, Compiled)])

    def start(self, frames: Tensor) -> None:
        """Episodes begin with frames (M, E, *frame), which the memory has already."""
        everywhere = torch.ones(frames.shape[:2], dtype=torch.bool, device=self._device)
        self.observations.copy_(pushed(self.observations, frames, everywhere))

    def act(self, draws: Tensor, steps: Tensor, episodes: Tensor) -> Tensor:
        """Choose actions (M, E) int64 by uniforms (M, E, 2) after so many agent steps and episodes, (M,) each."""
        actions: Tensor = self._act(draws, steps, episodes)
        return actions

    def store(
        self, actions: Tensor, frames: Tensor, rewards: Tensor, terminated: Tensor, ended: Tensor, was_reset: Tensor
    ) -> None:
        """Take in what a step call brought: (M, E, ...) each, see `dqn.envs.base.StepResult`."""
        self._store(actions, frames, rewards, terminated, ended, was_reset)

    @property
    def plays(self) -> bool:
        """Whether the environments are stepped here, by `play`."""
        return self._environment is not None

    def play(self, draws: Tensor, steps: Tensor, episodes: Tensor) -> Tensor:
        """Choose actions as `act` does, take them, and store what comes of them.

        Returns:
            (3, M, E) float64: the game's own rewards, whether the call was an autoreset, whether the episode is over.
        """
        assert self._environment is not None
        self._environment.prepare(1)
        outcome: Tensor = self._play(draws, steps, episodes)
        return outcome

    def learn(self, draws: Tensor, steps: Tensor, episodes: Tensor) -> None:
        """Update K times, on batches chosen by uniforms (K, M, B)."""
        self._learn(draws, steps, episodes)

    def learn_some(self, draws: Tensor, steps: Tensor, episodes: Tensor, active: Tensor) -> None:
        """Update the members that are active (M,) bool once, on batches chosen by uniforms (M, B)."""
        self._update(self._memory.sample(draws), steps, episodes, active)

    def _choose(self, draws: Tensor, steps: Tensor, episodes: Tensor) -> Tensor:
        q = self._learner.q_values(self.observations)
        return self._plan.policy(q, draws, self._plan.exploration(steps, episodes))

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

    def _act_and_store(self, draws: Tensor, steps: Tensor, episodes: Tensor) -> Tensor:
        assert self._environment is not None
        actions = self._choose(draws, steps, episodes)
        result = self._environment.step_tensors(actions.flatten())
        result = StepTensors(*(tensor.view(*actions.shape, *tensor.shape[1:]) for tensor in result))
        self._take_in(actions, result.frames, result.rewards, result.terminated, result.ended, result.was_reset)
        outcome = result.raw_rewards, result.was_reset, result.ended
        return torch.stack([tensor.to(torch.float64) for tensor in outcome])

    def _learn_often(self, draws: Tensor, steps: Tensor, episodes: Tensor) -> None:
        for one in draws:
            self._learn_once(one, steps, episodes)

    def _sample_and_update(self, draws: Tensor, steps: Tensor, episodes: Tensor) -> None:
        self._update(self._memory.sample(draws), steps, episodes)

    def _update(self, batch: Batch, steps: Tensor, episodes: Tensor, active: Tensor | None = None) -> None:
        batch = Batch(*(tensor.to(self._device) for tensor in batch))
        rate = self._plan.rate(steps, episodes).to(torch.float32)
        self.averages.add(self._learner.update(batch, rate, active), active)
