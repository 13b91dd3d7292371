"""What an environment must tell of itself to be stepped in a batch."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from torch import Tensor

from dqn.envs.base import Array


class Dynamics(Protocol):
    """The rules of one environment as pure functions; time limits and resets are `BatchedEnvironment`'s.

    `step` and `observe` look at no tensor's value, so that they can be compiled or captured.
    """

    @property
    def is_random(self) -> bool:
        """Whether `step` uses its uniforms."""

    def initial_states(self, generator: np.random.Generator, turns: Array) -> Array:
        """The states in which the next len(turns) episodes of one environment begin.

        Args:
            generator: the environment's own; what Gymnasium's form draws from it at so many resets in a row.
            turns: (count,) int64: the resets' numbers, where the E environments of a member take turns (the resets
                of environment e are e, e + E, e + 2E and so on).

        Returns:
            (count, *state), float64 or int64.
        """

    def step(self, states: Tensor, actions: Tensor, uniforms: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One step of N environments.

        Args:
            states: (N, *state).
            actions: (N,) int64.
            uniforms: (N,) float64 in [0, 1), for what is random in a step.

        Returns:
            New states (N, *state), rewards (N,) float64, and whether each episode has terminated, (N,) bool.
        """

    def observe(self, states: Tensor) -> Tensor:
        """The frames of states (N, *state), as the environment's spec describes them; may be `states` itself."""

    def optimal_returns(self, starts: Tensor) -> Array | None:
        """The best expected return from each start (N, *state), (N,) float64, where it is known."""
