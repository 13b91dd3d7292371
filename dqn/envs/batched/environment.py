"""N environments that are one function of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dqn.envs.base import Array, EnvironmentSpec, StepResult, StepTensors
from dqn.envs.batched.dynamics import Dynamics
from dqn.envs.batched.tables import StartTable, UniformTable

_UNLIMITED_STEPS = 2**62


class BatchedEnvironment:
    """N environments stepped at once, in place; implements `dqn.envs.base.TensorEnvironment`.

    Seeded resets begin where Gymnasium's do, and so do the resets that follow. An episode that terminates at the very
    step at which its time is up is terminated and not truncated (Gymnasium's TimeLimit says both).

    Args:
        dynamics: the rules.
        spec: what it looks like from outside; of it counts here the time limit, and whether the optimum is known.
        num_envs: N, members-major.
        members: of the population that shares the N environments.
        device: of all tensors.
        max_calls: the most step calls for which `prepare` can be asked at once.
    """

    def __init__(
        self,
        dynamics: Dynamics,
        spec: EnvironmentSpec,
        num_envs: int,
        members: int = 1,
        device: torch.device | None = None,
        max_calls: int = 1024,
    ) -> None:
        self.spec, self.num_envs, self.max_calls = spec, num_envs, max_calls
        self._dynamics, self._members = dynamics, members
        self._device = device or torch.device("cpu")
        self._limit = _UNLIMITED_STEPS if spec.max_episode_steps is None else spec.max_episode_steps
        # A reset and the episode's steps take two calls at least; even the last call looks at the next start.
        self._starts = StartTable(dynamics, num_envs, members, max_calls // 2 + 1, self._device)
        self._uniforms = UniformTable(num_envs, max_calls, self._device) if dynamics.is_random else None
        self._calls_left = 0  # for which the tables are sure to last
        self._seeds = [0] * num_envs

        nowhere = torch.zeros(num_envs, dtype=torch.bool, device=self._device)
        self._states = torch.zeros_like(self._starts.take(nowhere))  # (N, *state)
        self._origins = torch.zeros_like(self._states)  # where the episodes began, if the optimum is known
        self._steps = torch.zeros(num_envs, dtype=torch.int64, device=self._device)  # of each episode
        self._ended = nowhere
        self._no_uniforms = torch.zeros(num_envs, dtype=torch.float64, device=self._device)

    def reset(self, seeds: Sequence[int]) -> Array:
        """Start N new episodes; see `Environment.reset`."""
        self._seed([int(seed) for seed in seeds], np.zeros(self.num_envs, dtype=np.int64), calls=0)
        self._states.copy_(self._starts.take(torch.ones_like(self._ended)))
        self._starts.refill()
        self._origins.copy_(self._states)
        self._steps.zero_()
        self._ended.zero_()
        return self._dynamics.observe(self._states).to("cpu", copy=True).numpy()

    def prepare(self, calls: int) -> None:
        """Make sure that `calls` calls of `step_tensors` find their start states and random numbers.

        So many calls at most may follow before the next `prepare`. It changes nothing about what they give.

        Raises:
            ValueError: `calls` is more than `max_calls`.
        """
        if calls > self.max_calls:
            raise ValueError(f"prepare: {calls} step calls, but the tables hold enough for {self.max_calls}")
        if self._calls_left < calls:
            self._starts.refill()
            if self._uniforms is not None:
                self._uniforms.refill()
            self._calls_left = self.max_calls
        self._calls_left -= calls

    def step_tensors(self, actions: Tensor) -> StepTensors:
        """Take actions (N,) int64; see `StepResult`. After `prepare`; can be compiled or captured in a CUDA graph."""
        was_reset = self._ended.clone()
        starts = self._starts.take(was_reset)
        uniforms = self._no_uniforms if self._uniforms is None else self._uniforms.take()
        states, rewards, terminated = self._dynamics.step(self._states, actions, uniforms)
        begins = was_reset.view(-1, *[1] * (states.dim() - 1))
        states = torch.where(begins, starts, states)
        rewards = rewards.masked_fill(was_reset, 0.0)
        terminated = terminated & ~was_reset
        steps = (self._steps + 1).masked_fill(was_reset, 0)
        ended = terminated | (steps >= self._limit)
        if self.spec.knows_optimum:
            self._origins.copy_(torch.where(begins, starts, self._origins))
        self._states.copy_(states)
        self._steps.copy_(steps)
        self._ended.copy_(ended)
        return StepTensors(
            frames=self._dynamics.observe(states),
            rewards=rewards.to(torch.float32),
            terminated=terminated,
            truncated=ended & ~terminated,
            was_reset=was_reset,
            ended=ended,
            raw_rewards=rewards,
        )

    def step(self, actions: Array) -> StepResult:
        """Take actions (N,) int64; see `StepResult`."""
        self.prepare(1)
        tensors = self.step_tensors(torch.from_numpy(actions).to(self._device))
        return StepResult(*(tensor.cpu().numpy() for tensor in tensors))

    def select(self, chosen: Sequence[int]) -> BatchedEnvironment:
        """The environments of some members, in mid-episode; see `Environment.select`."""
        members = self._members * len(chosen) // self.num_envs
        selected = BatchedEnvironment(self._dynamics, self.spec, len(chosen), members, self._device, self.max_calls)
        state = self.state_dict()
        calls = state.pop("calls")
        selected.load_state_dict({name: tensor[list(chosen)] for name, tensor in state.items()} | {"calls": calls})
        return selected

    def state_dict(self) -> dict[str, Any]:
        """Everything, in mid-episode too: copies of tensors (N, ...) on the CPU, and the number of calls."""
        tensors = {
            "seeds": torch.tensor(self._seeds),
            "resets": self._starts.resets,
            "states": self._states,
            "origins": self._origins,
            "steps": self._steps,
            "ended": self._ended,
        }
        calls = 0 if self._uniforms is None else self._uniforms.calls
        return {name: tensor.to("cpu", copy=True) for name, tensor in tensors.items()} | {"calls": calls}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken, in the same tensors as before."""
        self._seed(state["seeds"].tolist(), state["resets"].cpu().numpy(), state["calls"])
        self._states.copy_(state["states"])
        self._origins.copy_(state["origins"])
        self._steps.copy_(state["steps"])
        self._ended.copy_(state["ended"])

    def render(self) -> Array:
        """Nothing here can draw."""
        raise NotImplementedError("environments that are drawn are Gymnasium's own")

    def optimal_returns(self) -> Array | None:
        """See `Environment.optimal_returns`."""
        return self._dynamics.optimal_returns(self._origins) if self.spec.knows_optimum else None

    def path_drawing(self) -> None:
        """Nothing here can draw."""

    def close(self) -> None:
        """There is nothing to close."""

    def _seed(self, seeds: list[int], resets: Array, calls: int) -> None:
        """Draw as environments do that were seeded so, after so many resets (N,) and step calls."""
        if len(seeds) != self.num_envs:
            raise ValueError(f"{len(seeds)} seeds for {self.num_envs} environments")
        self._seeds = seeds
        self._starts.seed(seeds, resets)
        if self._uniforms is not None:
            self._uniforms.seed(seeds, calls)
        self._calls_left = self.max_calls
