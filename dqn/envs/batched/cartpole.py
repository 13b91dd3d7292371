"""CartPole: a pole that is to be balanced on a cart.

The equations are those of Florian, "Correct equations for the dynamics of the cart-pole system" (2007), without
friction, with explicit Euler steps, as in Gymnasium's gymnasium/envs/classic_control/cartpole.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from dqn.envs.base import Array

_GRAVITY = 9.8  # m/s^2
_POLE_MASS = 0.1  # kg
_TOTAL_MASS = 1.1  # kg, with the cart
_HALF_LENGTH = 0.5  # m, of the pole
_POLE_MASS_LENGTH = _POLE_MASS * _HALF_LENGTH
_FORCE = 10.0  # N
_STEP = 0.02  # s
_LARGEST_POSITION = 2.4  # m
_LARGEST_ANGLE = 12 * 2 * math.pi / 360


@dataclass(frozen=True)
class CartPole:
    """States are the cart's position and velocity, the pole's angle and angular velocity; see `Dynamics`.

    Args:
        sutton_barto_reward: 0 for each step and -1 for the fall, in place of 1 for each step.
    """

    sutton_barto_reward: bool = False

    is_random: ClassVar[bool] = False

    def initial_states(self, generator: np.random.Generator, turns: Array) -> Array:
        """Near the upright rest; see `Dynamics.initial_states`."""
        return generator.uniform(-0.05, 0.05, size=(len(turns), 4))

    def step(self, states: Tensor, actions: Tensor, uniforms: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Push left (0) or right (1); see `Dynamics.step`."""
        _, velocity, angle, angular_velocity = states.unbind(1)
        cosine, sine = angle.cos(), angle.sin()
        force = actions.to(torch.float64) * (2 * _FORCE) - _FORCE
        push = (force + _POLE_MASS_LENGTH * angular_velocity.square() * sine) / _TOTAL_MASS
        angular_acceleration = (_GRAVITY * sine - cosine * push) / (
            _HALF_LENGTH * (4.0 / 3.0 - _POLE_MASS * cosine.square() / _TOTAL_MASS)
        )
        acceleration = push - _POLE_MASS_LENGTH * angular_acceleration * cosine / _TOTAL_MASS
        rates = torch.stack([velocity, acceleration, angular_velocity, angular_acceleration], dim=1)
        states = states + _STEP * rates
        terminated = (states[:, 0].abs() > _LARGEST_POSITION) | (states[:, 2].abs() > _LARGEST_ANGLE)
        rewards = -terminated.to(torch.float64) if self.sutton_barto_reward else torch.ones_like(angle)
        return states, rewards, terminated

    def observe(self, states: Tensor) -> Tensor:
        """The states themselves, (N, 4) float32."""
        return states.to(torch.float32)

    def optimal_returns(self, starts: Tensor) -> None:
        """Not known."""
