"""From what a network says of each action to its Q-value: the last layer of a policy, without parameters."""

from __future__ import annotations

from torch import Tensor, nn


class ExpectedValue(nn.Module):
    """Logits of a distribution over atoms.

    Args:
        atoms: (K,).
    """

    def __init__(self, atoms: Tensor) -> None:
        super().__init__()
        # Not a parameter and not state: a constant that moves with the module.
        self.atoms: Tensor
        self.register_buffer("atoms", atoms, persistent=False)

    def forward(self, logits: Tensor) -> Tensor:
        """(..., A, K) -> (..., A)."""
        return (logits.softmax(-1) * self.atoms).sum(-1)


class MeanQuantile(nn.Module):
    """Quantiles that are equally likely."""

    def forward(self, quantiles: Tensor) -> Tensor:
        """(..., A, K) -> (..., A)."""
        return quantiles.mean(-1)
