"""Quantiles of the return at any fractions (Dabney et al. 2018, arXiv 1806.06923, section 3)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class FractionEmbedding(nn.Module):
    """From fractions to features, by their cosines (equation 4 of the paper).

    Args:
        num_cosines: how many; the paper has 64.
        width: of the features.
    """

    def __init__(self, num_cosines: int, width: int) -> None:
        super().__init__()
        self.layer = nn.Sequential(nn.Linear(num_cosines, width), nn.ReLU())
        self.cosines: Tensor
        self.register_buffer("cosines", math.pi * torch.arange(num_cosines), persistent=False)

    def forward(self, fractions: Tensor) -> Tensor:
        """([N,] K) -> ([N,] K, width)."""
        angles = fractions.unsqueeze(-1) * self.cosines
        embedded: Tensor = self.layer(angles.flatten(0, -2).cos())
        return embedded.view(*angles.shape[:-1], -1)


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
        self.embedding = FractionEmbedding(num_cosines, width)
        self.head = head
        # No state: who applies it at other fractions gives them, (K,) or (N, K).
        self.register_buffer("fractions", (torch.arange(num_fractions) + 0.5) / num_fractions, persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """(N, width) -> (N, A, K)."""
        return per_fraction(self.head, features, self.embedding(self.fractions))

    def settled(self) -> AtFractions:
        """The same at its own fractions for good."""
        with torch.no_grad():
            embedded = self.embedding(self.fractions)
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
        return per_fraction(self.head, features, self.embedded)


def per_fraction(head: nn.Sequential, features: Tensor, embedded: Tensor) -> Tensor:
    """What a head says of features (N, width) times embedded fractions ([N,] K, width), (N, A, K)."""
    seen = features.unsqueeze(-2) * embedded
    outputs: Tensor = head(seen.flatten(0, 1))
    return outputs.view(*seen.shape[:2], -1).transpose(1, 2)
