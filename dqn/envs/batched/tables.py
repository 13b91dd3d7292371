"""What environments will draw, drawn ahead of time into tensors that step functions read from.

Tensors keep their shapes and places for good, so that compiled or captured functions may own them. Refilling changes
nothing about what is read.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from gymnasium.utils.seeding import np_random
from torch import Tensor

from dqn.envs.base import Array
from dqn.envs.batched.dynamics import Dynamics
from dqn.randomness import Stream


class StartTable:
    """The start states of N environments, each drawn from a generator of its own, seeded as Gymnasium seeds.

    Args:
        dynamics: what draws them.
        num_envs: N.
        members: among whom the N environments are divided.
        rows: how many start states per environment the table holds.
        device: where they are wanted.
    """

    def __init__(self, dynamics: Dynamics, num_envs: int, members: int, rows: int, device: torch.device) -> None:
        self._dynamics = dynamics
        self._per_member = num_envs // members
        self._generators: list[np.random.Generator] = []
        self._first = np.zeros(num_envs, dtype=np.int64)  # (N,) resets before the first row
        example = dynamics.initial_states(np.random.default_rng(0), np.zeros(1, dtype=np.int64))
        self._drawn = np.zeros((num_envs, rows, *example.shape[1:]), dtype=example.dtype)
        self._states = torch.from_numpy(self._drawn).to(device, copy=True)  # (N, rows, *state)
        self._next_rows = torch.zeros(num_envs, dtype=torch.int64, device=device)
        self._offsets = torch.arange(num_envs, device=device) * rows

    @property
    def resets(self) -> Tensor:
        """How many start states each environment has taken since it was seeded, (N,) int64."""
        return self._next_rows + torch.from_numpy(self._first).to(self._next_rows.device)

    def seed(self, seeds: Sequence[int], resets: Array) -> None:
        """Begin with the start states that come after so many resets (N,) of environments with these seeds."""
        self._generators = [np_random(seed)[0] for seed in seeds]
        self._first = resets.copy()
        rows = self._drawn.shape[1]
        for index, passed in enumerate(resets.tolist()):
            self._drawn[index] = self._draw(index, 0, passed + rows)[passed:]
        self._publish()

    def refill(self) -> None:
        """Have all rows unread again."""
        read, rows = self._next_rows.cpu().numpy(), self._drawn.shape[1]
        for index in np.flatnonzero(read).tolist():
            fresh = self._draw(index, int(self._first[index]) + rows, int(read[index]))
            self._drawn[index] = np.concatenate([self._drawn[index, read[index] :], fresh])
        self._first += read
        self._publish()

    def take(self, wanted: Tensor) -> Tensor:
        """The next start state of each environment, (N, *state); it is used up where wanted (N,) bool."""
        states = self._states.flatten(0, 1).index_select(0, self._offsets + self._next_rows)
        self._next_rows += wanted
        return states

    def _draw(self, index: int, first: int, count: int) -> Array:
        """Start states number `first` and following of one environment, whose generator has drawn those before."""
        turns = np.arange(first, first + count) * self._per_member + index % self._per_member
        return self._dynamics.initial_states(self._generators[index], turns)

    def _publish(self) -> None:
        self._states.copy_(torch.from_numpy(self._drawn))
        self._next_rows.zero_()


class UniformTable:
    """A uniform number in [0, 1) for each of N environments and step calls.

    Args:
        num_envs: N.
        rows: how many step calls the table lasts.
        device: where the numbers are wanted.
    """

    def __init__(self, num_envs: int, rows: int, device: torch.device) -> None:
        self._stream: Stream | None = None
        self._first = 0  # calls before the first row
        self._uniforms = torch.zeros((rows, num_envs), dtype=torch.float64, device=device)
        self._next_row = torch.zeros(1, dtype=torch.int64, device=device)

    @property
    def calls(self) -> int:
        """How many rows have been taken since the environments were seeded."""
        return self._first + int(self._next_row)

    def seed(self, seeds: Sequence[int], calls: int) -> None:
        """Begin with the numbers that come after so many calls of environments with these seeds."""
        self._stream = Stream(seeds, "transition", (), torch.device("cpu"))
        self._first = calls
        self._publish()

    def refill(self) -> None:
        """Have all rows unread again."""
        self._first = self.calls
        self._publish()

    def take(self) -> Tensor:
        """The next call's numbers, (N,) float64."""
        uniforms = self._uniforms.index_select(0, self._next_row).squeeze(0)
        self._next_row += 1
        return uniforms

    def _publish(self) -> None:
        assert self._stream is not None
        rows = range(self._first, self._first + len(self._uniforms))
        self._uniforms.copy_(torch.stack([self._stream.at(row) for row in rows]))
        self._next_row.zero_()
