"""How actions are chosen while training: schedules over a run, and the policies that follow them.

Everything is a function on tensors with a leading member axis M; a schedule's numbers are traits of shape (M,).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

# --- schedules -----------------------------------------------------------------------------------------------


class Schedule(Protocol):
    """A value for each member as a function of its progress."""

    def __call__(self, steps: Tensor, episodes: Tensor) -> Tensor:
        """Agent steps taken and episodes ended, (M,) each -> values (M,) float64."""


@dataclass(frozen=True)
class Constant:
    """The same value throughout."""

    value: Tensor

    def __call__(self, steps: Tensor, episodes: Tensor) -> Tensor:
        """See `Schedule`."""
        return self.value


@dataclass(frozen=True)
class Linear:
    """`start` until `delay_steps`, then a straight line that reaches `end` after `duration_steps` more."""

    start: Tensor
    end: Tensor
    delay_steps: Tensor
    duration_steps: Tensor

    def __call__(self, steps: Tensor, episodes: Tensor) -> Tensor:
        """See `Schedule`."""
        progress = ((steps - self.delay_steps) / self.duration_steps).clamp(0.0, 1.0)
        return torch.lerp(self.start, self.end, progress)


@dataclass(frozen=True)
class Exponential:
    """Multiplied by `decay` after each step or episode for as long as it is above `end`.

    The last multiplication may take it just below `end`, as in the loop "if epsilon > end: epsilon *= decay".
    """

    start: Tensor
    end: Tensor
    decay: Tensor
    per: Literal["step", "episode"]

    def __call__(self, steps: Tensor, episodes: Tensor) -> Tensor:
        """See `Schedule`."""
        count = steps if self.per == "step" else episodes
        exact = torch.log(self.end / self.start) / torch.log(self.decay)
        # Rounding must not add a multiplication where a whole number of them hits the end.
        multiplications_to_end = (exact - 1e-9).ceil().clamp(min=0)
        return self.start * self.decay ** torch.minimum(count.to(torch.float64), multiplications_to_end)


@dataclass(frozen=True)
class Piecewise:
    """Straight lines through the points (`steps`, `values`), both (M, K); constant before and after them."""

    steps: Tensor
    values: Tensor

    def __call__(self, steps: Tensor, episodes: Tensor) -> Tensor:
        """See `Schedule`."""
        at = steps.to(torch.float64).unsqueeze(-1)  # (M, 1)
        right = torch.searchsorted(self.steps, at, right=True).clamp(max=self.steps.shape[-1] - 1)
        left = (right - 1).clamp(min=0)
        x0, x1 = self.steps.gather(-1, left), self.steps.gather(-1, right)
        y0, y1 = self.values.gather(-1, left), self.values.gather(-1, right)
        progress = ((at - x0) / (x1 - x0).clamp(min=1)).clamp(0.0, 1.0)
        return torch.lerp(y0, y1, progress).squeeze(-1)


# --- policies ------------------------------------------------------------------------------------------------


def greedy(q: Tensor) -> Tensor:
    """The action of the largest Q-value: (..., A) -> (...) int64."""
    return q.argmax(-1)


def boltzmann(q: Tensor, uniform: Tensor, temperature: Tensor) -> Tensor:
    """Draw actions with probability proportional to exp(q / temperature).

    Args:
        q: (..., A).
        uniform: (...) in [0, 1), one per draw.
        temperature: broadcastable to (...), above 0.
    """
    cumulative = torch.softmax(q.to(torch.float64) / temperature.unsqueeze(-1), -1).cumsum(-1)
    return (cumulative <= uniform.unsqueeze(-1)).sum(-1).clamp(max=q.shape[-1] - 1)


def epsilon_greedy(q: Tensor, uniforms: Tensor, epsilon: Tensor) -> Tensor:
    """With probability epsilon a uniformly random action, otherwise the greedy one.

    Args:
        q: (..., A).
        uniforms: (..., 2) in [0, 1): whether to explore, and which action then.
        epsilon: broadcastable to (...).
    """
    explore = uniforms[..., 0] < epsilon
    random_actions = (uniforms[..., 1] * q.shape[-1]).to(torch.int64)
    return torch.where(explore, random_actions, greedy(q))


class Policy(Protocol):
    """How a population acts; `level` is the schedule's value: an epsilon or a temperature."""

    @property
    def level_name(self) -> Literal["epsilon", "temperature"] | None:
        """What the schedule's value is."""

    def __call__(self, q: Tensor, uniforms: Tensor, level: Tensor) -> Tensor:
        """Q-values (M, E, A), uniforms (M, E, 2) and the schedule's value (M,) -> actions (M, E) int64."""


@dataclass(frozen=True)
class EpsilonGreedy:
    """`epsilon_greedy` for a population."""

    level_name: Literal["epsilon"] = "epsilon"

    def __call__(self, q: Tensor, uniforms: Tensor, level: Tensor) -> Tensor:
        """See `Policy`."""
        return epsilon_greedy(q, uniforms, level.unsqueeze(-1))


@dataclass(frozen=True)
class Boltzmann:
    """`boltzmann` for a population."""

    level_name: Literal["temperature"] = "temperature"

    def __call__(self, q: Tensor, uniforms: Tensor, level: Tensor) -> Tensor:
        """See `Policy`."""
        return boltzmann(q, uniforms[..., 0], level.unsqueeze(-1))


@dataclass(frozen=True)
class MaxBoltzmann:
    """With probability epsilon a Boltzmann draw, otherwise the greedy action (Wiering 1999, section 4.3.2)."""

    temperature: Tensor  # (M,)
    level_name: Literal["epsilon"] = "epsilon"

    def __call__(self, q: Tensor, uniforms: Tensor, level: Tensor) -> Tensor:
        """See `Policy`."""
        explore = uniforms[..., 0] < level.unsqueeze(-1)
        return torch.where(explore, boltzmann(q, uniforms[..., 1], self.temperature.unsqueeze(-1)), greedy(q))


@dataclass(frozen=True)
class Greedy:
    """Always the greedy action."""

    level_name: None = None

    def __call__(self, q: Tensor, uniforms: Tensor, level: Tensor) -> Tensor:
        """See `Policy`."""
        return greedy(q)
