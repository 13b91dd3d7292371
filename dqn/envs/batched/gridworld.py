"""The grid world, stepped through the very tables of `dqn.envs.gridworld.GridWorld`."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dqn.envs.base import Array
from dqn.envs.gridworld import GridWorld
from dqn.envs.gridworld_model import MOVES


class BatchedGridWorld:
    """States are the cells' numbers, scalars; see `Dynamics`.

    Where moves slip, whether they do is decided by the step's uniforms, and not by the generator that draws the start
    states, as in `GridWorld`: episodes are then equal in distribution, not draw for draw.

    Args:
        world: the rules, the starts and the observations.
        device: of the tables.
    """

    def __init__(self, world: GridWorld, device: torch.device) -> None:
        self._world = world
        self.is_random = not world.is_deterministic
        self._starts = np.array(world.starts, dtype=np.int64)
        model = world.model
        tables = [model.next_states, model.rewards, model.terminated]  # (S, A, 3) each
        if not self.is_random:
            tables = [table[..., 0] for table in tables]
        self._next_states, self._rewards, self._terminated = (
            torch.from_numpy(table.reshape(-1)).to(device) for table in tables
        )
        self._cells = torch.arange(world.num_states, device=device)
        self._frames: Tensor | None = None
        if world.observation in ("coordinates", "image"):
            frames = np.stack([world.observation_of(state) for state in range(world.num_states)])
            self._frames = torch.from_numpy(frames).to(device)

    def initial_states(self, generator: np.random.Generator, turns: Array) -> Array:
        """See `Dynamics.initial_states`, and `GridWorld` for its `start`."""
        count = len(self._starts)
        chosen = generator.integers(count, size=len(turns)) if self._world.start == "random" else turns % count
        starts: Array = self._starts[chosen]
        return starts

    def step(self, states: Tensor, actions: Tensor, uniforms: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Make one move; see `Dynamics.step`."""
        places = states * len(MOVES) + actions
        if self.is_random:
            slip = self._world.slip_probability
            # The model's outcomes: 0 as intended, 1 and 2 a slip to either side.
            places = places * 3 + 2 * (uniforms < slip).long() - (uniforms < slip / 2).long()
        return self._next_states[places], self._rewards[places], self._terminated[places]

    def observe(self, states: Tensor) -> Tensor:
        """As the world's `observation` says."""
        if self._frames is not None:
            return self._frames[states]
        if self._world.observation == "one_hot":
            return (states.unsqueeze(1) == self._cells).to(torch.float32)
        return states

    def optimal_returns(self, starts: Tensor) -> Array:
        """See `GridWorld.optimal_return`."""
        return np.array([self._world.optimal_return(start) for start in starts.tolist()], dtype=np.float64)
