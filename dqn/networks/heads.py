"""The last layers of a Q-network: from features to what it says of each action."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from dqn.networks.implicit import ImplicitQuantiles
from dqn.networks.noisy import NoisyLinear
from dqn.networks.proposed import ProposedQuantiles

# Fresh layers, hidden ones if the network has them, from its features to so many outputs; the last is linear.
Stream = Callable[[int], list[nn.Module]]
# From a stream, the number of actions A and the outputs K for each to layers that give (N, A), or (N, A, K).
Head = Callable[[Stream, int, int], list[nn.Module]]


def linear(stream: Stream, num_actions: int, per_action: int) -> list[nn.Module]:
    """One output layer."""
    return [*stream(num_actions * per_action), *_split(num_actions, per_action)]


def shared_bias(stream: Stream, num_actions: int, per_action: int) -> list[nn.Module]:
    """One output layer whose bias all actions share (van Hasselt et al. 2016, arXiv 1509.06461, "tuned")."""
    *hidden, last = stream(num_actions * per_action)
    assert isinstance(last, nn.Linear)
    last.register_parameter("bias", None)
    if isinstance(last, NoisyLinear):
        last.register_parameter("bias_std", None)
    return [*hidden, last, *_split(num_actions, per_action), SharedBias(per_action)]


def dueling(stream: Stream, num_actions: int, per_action: int, gradient_scale: float = 1.0) -> list[nn.Module]:
    """Two streams, see `Dueling`."""
    advantage = [*stream(num_actions * per_action), *_split(num_actions, per_action)]
    return [Dueling(nn.Sequential(*stream(per_action)), nn.Sequential(*advantage), gradient_scale)]


def quantiles_at_fractions(
    kind: type[ImplicitQuantiles | ProposedQuantiles], head: Head, num_cosines: int, num_fractions: int
) -> Head:
    """A head with which another one sees features times embedded fractions."""

    def at_fractions(stream: Stream, num_actions: int, per_action: int) -> list[nn.Module]:
        layers = nn.Sequential(*head(stream, num_actions, 1))
        first = next(layer for layer in layers.modules() if isinstance(layer, nn.Linear))
        return [kind(first.in_features, num_cosines, num_fractions, layers)]

    return at_fractions


def _split(num_actions: int, per_action: int) -> list[nn.Module]:
    return [nn.Unflatten(-1, (num_actions, per_action))] if per_action > 1 else []


class SharedBias(nn.Module):
    """Adds the same to each action.

    Args:
        per_action: outputs of an action, K.
    """

    def __init__(self, per_action: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(per_action))

    def forward(self, outputs: Tensor) -> Tensor:
        """(N, A) or (N, A, K), unchanged in shape."""
        return outputs + self.bias


class Dueling(nn.Module):
    """Q(s, a) = V(s) + A(s, a) - mean of A(s, .) (Wang et al. 2016, arXiv 1511.06581, equation 9).

    Args:
        value: features to (N, K).
        advantage: features to (N, A), or (N, A, K).
        gradient_scale: of the gradient that leaves by the features (section 4.2).
    """

    def __init__(self, value: nn.Sequential, advantage: nn.Sequential, gradient_scale: float = 1.0) -> None:
        super().__init__()
        self.value, self.advantage = value, advantage
        self._gradient_scale = gradient_scale

    def forward(self, features: Tensor) -> Tensor:
        """(N, features) -> (N, A), or (N, A, K)."""
        scale = self._gradient_scale
        if scale != 1.0:
            features = features.detach() + scale * (features - features.detach())  # the very same numbers
        value: Tensor = self.value(features)
        advantage: Tensor = self.advantage(features)
        if advantage.dim() > value.dim():
            value = value.unsqueeze(1)
        return value + advantage - advantage.mean(1, keepdim=True)
