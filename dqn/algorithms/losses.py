"""What a temporal-difference error costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class TDLoss(Protocol):
    """A cost for each temporal-difference error."""

    def __call__(self, td_error: Tensor) -> Tensor:
        """Errors (M, B) -> losses (M, B)."""


@dataclass(frozen=True)
class SquaredError:
    """factor * td^2; a factor of 1 is Keras's, PyTorch's and Dopamine's, 1/2 the textbooks'."""

    factor: Tensor  # (M,)

    def __call__(self, td_error: Tensor) -> Tensor:
        """See `TDLoss`."""
        return self.factor.unsqueeze(-1) * td_error.square()


@dataclass(frozen=True)
class Huber:
    """td^2 / 2 up to the threshold, linear beyond.

    Its gradient is the error clipped to +-threshold: the "error clipping" of Nature 518, Methods.
    """

    threshold: Tensor  # (M,)

    def __call__(self, td_error: Tensor) -> Tensor:
        """See `TDLoss`."""
        threshold = self.threshold.unsqueeze(-1)
        size = td_error.abs()
        clipped = torch.minimum(size, threshold)
        return clipped * (size - 0.5 * clipped)
