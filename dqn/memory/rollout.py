"""What came since the last learning, with the Q(lambda) returns that one network makes of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dqn.memory.batch import Batch
from dqn.memory.uniform import UniformMemory


class RolloutMemory(UniformMemory):
    """The last T step calls of each environment, learned from in epochs.

    Args:
        trace_decay: lambda, (M,).
        memory: as for `UniformMemory`, with T step calls as its capacity, returns of one step, and replacement.
    """

    def __init__(self, trace_decay: Tensor, **memory: Any) -> None:
        super().__init__(**memory, replacement=True, n_step=1)
        self._trace_decay = trace_decay.unsqueeze(-1)
        self._calls_kept = self._storage.slots - self._lead - 1
        self._returns = torch.zeros(self._queue[:, :-1].shape, device=self.device)  # by place

    def in_turn(self, uniforms: Tensor) -> Tensor:
        """Uniforms (M, K), K a multiple of a rollout's size, that draw everything once in each epoch.

        Where a step call was an autoreset there is no transition; as many of the others are drawn twice.
        """
        size = self._calls_kept * self._env_offsets.shape[1]
        epochs = uniforms.view(len(uniforms), -1, size)
        return ((epochs.argsort(-1).argsort(-1) + 0.5) / size).flatten(1)

    def take_values(self, value: Callable[[Tensor], Tensor]) -> None:
        """Make the returns of the whole rollout.

        Args:
            value: observations (M, E, *observation) to the greatest Q-values (M, E).
        """
        newest = self._storage.slot
        envs = torch.arange(self._env_offsets.shape[1], device=self.device).expand(self._env_offsets.shape)
        calls = self._calls_kept
        of_slot = [(newest - calls + k) % self._storage.slots for k in range(calls + 1)]
        values = [value(self._storage.observed(envs, slot.expand_as(envs))) for slot in of_slot]
        later, is_last = values[-1], torch.ones_like(envs, dtype=torch.bool)
        for k in reversed(range(calls)):
            rewards, terminated, was_reset = self._storage.brought(of_slot[k])
            trace = torch.where(is_last, 0.0, self._trace_decay)
            ahead = trace * later + (1.0 - trace) * values[k + 1]
            later = rewards + self._discount * ~terminated * ahead
            self._returns[self._rows, self._env_offsets + of_slot[k]] = later
            is_last = was_reset  # the call before ended an episode: it bootstraps from what was observed then

    def read(self, places: Tensor) -> Batch:
        """The transitions at places (M, B), whose rewards are their returns."""
        envs, slots = places // self._storage.slots, places % self._storage.slots
        observations, returns = self._storage.observed(envs, slots), self._returns.gather(1, places)
        actions = self._storage.taken(envs, slots)
        return Batch(observations, actions, returns, torch.zeros_like(returns), observations)
