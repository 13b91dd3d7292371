"""How weights begin, by name."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from dqn.networks.noisy import NoisyLinear
from dqn.networks.proposed import Proposal

Initializer = Callable[[Tensor, torch.Generator], None]


def _weight_only(initializer: Callable[..., Tensor], **settings: float | str) -> Initializer:
    def apply(weight: Tensor, generator: torch.Generator) -> None:
        initializer(weight, generator=generator, **settings)

    return apply


def _zeros(weight: Tensor, generator: torch.Generator) -> None:
    nn.init.zeros_(weight)


# Weights so, biases zero.
_WITH_ZERO_BIAS: dict[str, Initializer] = {
    # Keras's default ("glorot_uniform") and Dopamine's.
    "xavier_uniform": _weight_only(nn.init.xavier_uniform_),
    "he_uniform": _weight_only(nn.init.kaiming_uniform_, nonlinearity="relu"),
    "he_normal": _weight_only(nn.init.kaiming_normal_, nonlinearity="relu"),
    "orthogonal": _weight_only(nn.init.orthogonal_),
    # A Q-table of random initial values.
    "uniform_01": _weight_only(nn.init.uniform_, a=0.0, b=1.0),
    "zeros": _zeros,
}


def initialize(network: nn.Module, name: str, seed: int) -> None:
    """Set every weight and bias of `network` in place, from `seed` alone.

    Args:
        network: the module; its linear and convolutional layers are set.
        name: "torch" draws weights and biases from U(-1/sqrt(fan_in), 1/sqrt(fan_in)), as Torch7 did for the
            original DQN and PyTorch does by default; the others are `_WITH_ZERO_BIAS`.
        seed: of this network's own generator.
    """
    generator = torch.Generator().manual_seed(seed)
    for layer in network.modules():
        if not isinstance(layer, (nn.Linear, nn.Conv2d)):
            continue
        if name == "torch":
            bound = layer.weight[0].numel() ** -0.5  # one output's weights: fan_in of them
            for parameter in (layer.weight, layer.bias):
                if parameter is not None:
                    nn.init.uniform_(parameter, -bound, bound, generator=generator)
        else:
            _WITH_ZERO_BIAS[name](layer.weight, generator)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        if isinstance(layer, NoisyLinear):
            layer.reset_std()
        elif isinstance(layer, Proposal):
            layer.reset_parameters()
