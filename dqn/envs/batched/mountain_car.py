"""MountainCar: a car in a valley, too weak to leave it without swinging.

Moore, "Efficient Memory-based Learning for Robot Control" (1990), with the equations of Sutton & Barto (2018),
example 10.1, and the numbers of Gymnasium's gymnasium/envs/classic_control/mountain_car.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from dqn.envs.base import Array

_POSITIONS = (-1.2, 0.6)
_LARGEST_VELOCITY = 0.07
_GOAL_POSITION = 0.5
_FORCE = 0.001
_GRAVITY = 0.0025


@dataclass(frozen=True)
class MountainCar:
    """States are the car's position and velocity; see `Dynamics`.

    Args:
        goal_velocity: that the car must have at the goal.
    """

    goal_velocity: float = 0.0

    is_random: ClassVar[bool] = False

    def initial_states(self, generator: np.random.Generator, turns: Array) -> Array:
        """At rest near the bottom; see `Dynamics.initial_states`."""
        positions = generator.uniform(-0.6, -0.4, size=len(turns))
        return np.stack([positions, np.zeros(len(turns))], axis=1)

    def step(self, states: Tensor, actions: Tensor, uniforms: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Push left (0), not at all (1) or right (2); see `Dynamics.step`."""
        position, velocity = states.unbind(1)
        push = (actions - 1).to(torch.float64) * _FORCE
        velocity = velocity + (push + (3 * position).cos() * -_GRAVITY)
        velocity = velocity.clamp(-_LARGEST_VELOCITY, _LARGEST_VELOCITY)
        position = (position + velocity).clamp(*_POSITIONS)
        hits_wall = (position == _POSITIONS[0]) & (velocity < 0)
        velocity = velocity.masked_fill(hits_wall, 0.0)
        terminated = (position >= _GOAL_POSITION) & (velocity >= self.goal_velocity)
        return torch.stack([position, velocity], dim=1), torch.full_like(position, -1.0), terminated

    def observe(self, states: Tensor) -> Tensor:
        """The states themselves, (N, 2) float32."""
        return states.to(torch.float32)

    def optimal_returns(self, starts: Tensor) -> None:
        """Not known."""
