"""Quantiles of the return at any fractions (Dabney et al. 2018, arXiv 1806.06923, section 3)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class ImplicitQuantiles(nn.Module):
    """From features to quantiles of each action: the head sees them times an embedding of the fraction.

    Args:
        width: of the features.
        num_cosines: of the embedding; the paper has 64.
        num_fractions: where no fractions are given, the quantiles are those in the middle of so many equal shares.
        head: features to (N, A).
    """

    fractions: Tensor

    def __init__(self, width: int, num_cosines: int, num_fractions: int, head: nn.Sequential) -> None:
        super().__init__()
        self.embedding = nn.Sequential(nn.Linear(num_cosines, width), nn.ReLU())
        self.head = head
        # No state: who applies it at other fractions gives them, (K,) or (N, K).
        self.register_buffer("fractions", (torch.arange(num_fractions) + 0.5) / num_fractions, persistent=False)
        self.cosines: Tensor
        self.register_buffer("cosines", math.pi * torch.arange(num_cosines), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """(N, width) -> (N, A, K)."""
        angles = self.fractions.unsqueeze(-1) * self.cosines  # ([N,] K, cosines)
        embedded = self.embedding(angles.flatten(0, -2).cos()).view(*angles.shape[:-1], -1)
        return _per_fraction(self.head, features, embedded)

    def settled(self) -> AtFractions:
        """The same at its own fractions for good."""
        with torch.no_grad():
            embedded = self.embedding((self.fractions.unsqueeze(-1) * self.cosines).cos())
        return AtFractions(embedded, self.head)


class AtFractions(nn.Module):
    """`ImplicitQuantiles` at fractions that stay what they are, for which the embedding need not be computed.

    Args:
        embedded: of the fractions, (K, width).
        head: as there.
    """

    def __init__(self, embedded: Tensor, head: nn.Sequential) -> None:
        super().__init__()
        self.embedded, self.head = nn.Parameter(embedded), head

    def forward(self, features: Tensor) -> Tensor:
        """(N, width) -> (N, A, K)."""
        return _per_fraction(self.head, features, self.embedded)


def _per_fraction(head: nn.Sequential, features: Tensor, embedded: Tensor) -> Tensor:
    """Features (N, width), embedded fractions ([N,] K, width) -> (N, A, K)."""
    seen = features.unsqueeze(-2) * embedded
    outputs: Tensor = head(seen.flatten(0, 1))
    return outputs.view(*seen.shape[:2], -1).transpose(1, 2)
