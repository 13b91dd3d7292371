"""Acrobot: two links that hang from a joint, the lower of which is to be swung up by a torque between them.

Sutton, "Generalization in Reinforcement Learning: Successful Examples Using Sparse Coarse Coding" (1996), with the
equation of the angular acceleration from Sutton & Barto (2018), section 11.3, and one Runge-Kutta step of 0.2 s, as in
Gymnasium's gymnasium/envs/classic_control/acrobot.py. Both links have length, mass and moment of inertia 1 and
their center of mass in the middle; the numbers below are what Gymnasium's terms come to with these.
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
_STEP = 0.2  # s
_LARGEST_VELOCITIES = (4 * math.pi, 9 * math.pi)  # rad/s
_TURN = 2 * math.pi


@dataclass(frozen=True)
class Acrobot:
    """States are the two links' angles and their angular velocities; see `Dynamics`."""

    is_random: ClassVar[bool] = False

    def initial_states(self, generator: np.random.Generator, turns: Array) -> Array:
        """Near the hanging rest, rounded to float32 as Gymnasium's are; see `Dynamics.initial_states`."""
        return generator.uniform(-0.1, 0.1, size=(len(turns), 4)).astype(np.float32).astype(np.float64)

    def step(self, states: Tensor, actions: Tensor, uniforms: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Apply the torque -1 (0), none (1) or 1 (2); see `Dynamics.step`."""
        torque = actions.to(torch.float64) - 1.0
        # The classical Runge-Kutta method; the torque stays the same meanwhile.
        k1 = _rates(states, torque)
        k2 = _rates(states + (_STEP / 2) * k1, torque)
        k3 = _rates(states + (_STEP / 2) * k2, torque)
        k4 = _rates(states + _STEP * k3, torque)
        angle1, angle2, velocity1, velocity2 = (states + (_STEP / 6) * (k1 + 2 * (k2 + k3) + k4)).unbind(1)
        angle1, angle2 = _wrapped(angle1), _wrapped(angle2)
        limit1, limit2 = _LARGEST_VELOCITIES
        velocities = velocity1.clamp(-limit1, limit1), velocity2.clamp(-limit2, limit2)
        terminated = -angle1.cos() - (angle1 + angle2).cos() > 1.0
        return torch.stack([angle1, angle2, *velocities], dim=1), terminated.to(torch.float64) - 1.0, terminated

    def observe(self, states: Tensor) -> Tensor:
        """Cosine and sine of each angle, and the angular velocities, (N, 6) float32."""
        angles, velocities = states[:, :2], states[:, 2:]
        directions = torch.stack([angles.cos(), angles.sin()], dim=2).flatten(1)  # (N, 4)
        return torch.cat([directions, velocities], dim=1).to(torch.float32)

    def optimal_returns(self, starts: Tensor) -> None:
        """Not known."""


def _rates(states: Tensor, torque: Tensor) -> Tensor:
    """The time derivatives of states (N, 4) under torques (N,)."""
    angle1, angle2, velocity1, velocity2 = states.unbind(1)
    cosine2, half_sine2 = angle2.cos(), 0.5 * angle2.sin()
    d1, d2 = 3.5 + cosine2, 1.25 + 0.5 * cosine2
    phi2 = (0.5 * _GRAVITY) * (angle1 + angle2).sin()
    phi1 = (1.5 * _GRAVITY) * angle1.sin() + phi2 - half_sine2 * velocity2 * (velocity2 + 2 * velocity1)
    ratio = d2 / d1
    acceleration2 = (torque + ratio * phi1 - half_sine2 * velocity1.square() - phi2) / (1.25 - d2 * ratio)
    acceleration1 = -(d2 * acceleration2 + phi1) / d1
    return torch.stack([velocity1, velocity2, acceleration1, acceleration2], dim=1)


def _wrapped(angles: Tensor) -> Tensor:
    """Angles as they are within [-pi, pi], others by whole turns into it."""
    return angles - (angles / _TURN).round() * _TURN
