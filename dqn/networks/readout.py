"""From what a network says of each action to its Q-value: the last layer of a policy, without parameters."""

from __future__ import annotations

from torch import Tensor, nn

from dqn.networks.proposed import Proposed


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


class MeanOfProposed(nn.Module):
    """Quantiles at fractions that a network has proposed, see `dqn.networks.proposed`."""

    def forward(self, outputs: Tensor) -> Tensor:
        """(..., A, 3K - 2) -> (..., A)."""
        return Proposed.of(outputs).mean
