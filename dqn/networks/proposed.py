"""Quantiles at fractions that a network proposes (Yang et al. 2019, arXiv 1911.02140, section 3)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dqn.networks.implicit import FractionEmbedding, per_fraction


class Proposed(NamedTuple):
    """What `ProposedQuantiles` says of an action: K quantiles, and how the fractions divide [0, 1] among them."""

    quantiles: Tensor  # (..., K): in the middle of each share
    at_bounds: Tensor  # (..., K - 1): quantiles at the bounds between shares
    bounds: Tensor  # (..., K - 1): the paper's tau_1 to tau_{N-1}

    @classmethod
    def of(cls, outputs: Tensor) -> Proposed:
        """Read outputs (..., 3K - 2)."""
        count = (outputs.shape[-1] + 2) // 3
        return cls(outputs[..., :count], outputs[..., count : 2 * count - 1], outputs[..., 2 * count - 1 :])

    @property
    def shares(self) -> Tensor:
        """The width of each, (..., K)."""
        lower, upper = _edges(self.bounds)
        return upper - lower

    @property
    def fractions(self) -> Tensor:
        """The middle of each, (..., K); the paper's tau-hat."""
        return _middles(self.bounds)

    @property
    def mean(self) -> Tensor:
        """The expected return (...), equation 1 of the paper."""
        return (self.shares * self.quantiles).sum(-1)


class Proposal(nn.Linear):
    """From features to logits of the shares, which are equal in the beginning; `initialize` leaves that to this."""

    def reset_parameters(self) -> None:
        """Set weights and biases as they are in the beginning."""
        # Shares that begin far apart grow further apart with the features, before they have learned to move.
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)


class ProposedQuantiles(nn.Module):
    """From features to fractions, and to the quantiles of each action there.

    Gradients through the bounds reach the proposal's own weights only, those through the quantiles of the shares all
    others; the quantiles at the bounds have none.

    Args:
        width: of the features.
        num_cosines: of a fraction's embedding.
        num_fractions: K.
        head: features to (N, A).
    """

    def __init__(self, width: int, num_cosines: int, num_fractions: int, head: nn.Sequential) -> None:
        super().__init__()
        self.proposal = Proposal(width, num_fractions)
        self.embedding = FractionEmbedding(num_cosines, width)
        self.head = head

    def forward(self, features: Tensor) -> Tensor:
        """(N, width) -> (N, A, 3K - 2), which `Proposed.of` reads."""
        shares = self.proposal(features.detach()).float().softmax(-1)
        bounds = shares.cumsum(-1)[:, :-1]  # (N, K - 1)
        quantiles = per_fraction(self.head, features, self.embedding(_middles(bounds.detach()))).float()
        at_bounds = per_fraction(self.head, features, self.embedding(bounds)).float().detach()
        return torch.cat([quantiles, at_bounds, bounds.unsqueeze(1).expand(-1, quantiles.shape[1], -1)], -1)


def _edges(bounds: Tensor) -> tuple[Tensor, Tensor]:
    """Where shares begin and end, (..., K) each."""
    return F.pad(bounds, (1, 0)), F.pad(bounds, (0, 1), value=1.0)


def _middles(bounds: Tensor) -> Tensor:
    lower, upper = _edges(bounds)
    return (lower + upper) / 2.0
