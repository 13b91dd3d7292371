"""Where the parameters of the targets come from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import torch
from torch import Tensor


class TargetRule(Protocol):
    """How target parameters follow the online ones."""

    @property
    def shares_online(self) -> bool:
        """Whether the target parameters are the online ones."""

    def update_(self, target: Tensor, online: Tensor, steps_before: int, steps_after: int) -> None:
        """Move target parameters (M, P) in place after the agent steps (steps_before, steps_after]."""


@dataclass(frozen=True)
class NoTarget:
    """Targets come from the online parameters themselves, without gradient."""

    shares_online: bool = True

    def update_(self, target: Tensor, online: Tensor, steps_before: int, steps_after: int) -> None:
        """Nothing to move."""


@dataclass(frozen=True, eq=False)
class PeriodicTarget:
    """Every `period_steps` agent steps the target moves towards the online parameters by `rate`.

    A rate of 1 is the copy of Nature 518; a small one every step is Polyak averaging (Lillicrap et al. 2016,
    arXiv 1509.02971, section 3).

    Args:
        period_steps: one per member.
        rate: (M,).
    """

    period_steps: tuple[int, ...]
    rate: Tensor
    shares_online: bool = False

    def update_(self, target: Tensor, online: Tensor, steps_before: int, steps_after: int) -> None:
        """See `TargetRule`."""
        moves = tuple([steps_after // period - steps_before // period for period in self.period_steps])
        if any(moves):
            target.lerp_(online, self._weight(moves))

    @lru_cache(maxsize=16)  # noqa: B019 - a rule lives as long as its run
    def _weight(self, moves: tuple[int, ...]) -> Tensor:
        """How far that many moves go, (M, 1): several moves towards the same point are one longer move."""
        weight = 1.0 - (1.0 - self.rate.to(torch.float64)) ** torch.tensor(moves, device=self.rate.device)
        return weight.to(self.rate.dtype).unsqueeze(-1)
