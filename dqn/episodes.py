"""The episodes in which the environments of a population are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from dqn.envs.base import Array
from dqn.events import Episode


class Episodes:
    """Counts episodes, and what they bring until they end.

    Attributes:
        counts: of each member, (M,) int64.

    Args:
        counts: where they are counted.
        num_envs: of each member, E.
    """

    def __init__(self, counts: Array, num_envs: int) -> None:
        self.counts = counts
        shape = (len(counts), num_envs)
        self._num_envs = num_envs
        self._returns, self._lengths = np.zeros(shape), np.zeros(shape, dtype=np.int64)

    def take_in(self, outcomes: Array, steps: int, finished: Array) -> Iterator[Episode]:
        """What the last N step calls have brought.

        Args:
            outcomes: (N, 3, M, E), see `Agent.take_outcomes`.
            steps: agent steps of each member after them.
            finished: members of which nothing is told any more, (M,) bool.
        """
        rewards, was_taken = outcomes[:, 0], outcomes[:, 1] == 0
        ends: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
        for k, m, e in np.argwhere(outcomes[:, 2]).tolist():
            ends[k].append((m, e))
        step = steps - len(outcomes) * self._num_envs
        for k in range(len(outcomes)):  # one by one: a sum of floats depends on the order
            self._returns += rewards[k]
            self._lengths += was_taken[k]
            step += self._num_envs
            for m, e in ends.get(k, ()):
                if not finished[m]:
                    self.counts[m] += 1
                    yield Episode(m, step, float(self._returns[m, e]), int(self._lengths[m, e]))
                self._returns[m, e], self._lengths[m, e] = 0.0, 0

    def begin_anew(self) -> None:
        """All episodes under way were given up."""
        self._returns[:], self._lengths[:] = 0.0, 0

    def state_dict(self) -> dict[str, Any]:
        """Everything, with a leading member axis."""
        return {
            "counts": self.counts.tolist(),
            "returns": torch.from_numpy(self._returns.copy()),
            "lengths": torch.from_numpy(self._lengths.copy()),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        self.counts[:] = state["counts"]
        self._returns[:], self._lengths[:] = state["returns"].numpy(), state["lengths"].numpy()
