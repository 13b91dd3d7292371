"""Linear layers with noise on their weights, by which a network explores."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class NoisyLinear(nn.Linear):
    """A linear layer whose weights and biases are normal variables with learned means and standard deviations.

    The noise is factorised: that of a weight is the product of one number of its input and one of its output
    (Fortunato et al. 2018, arXiv 1706.10295, section 3). The layer with zero noise, which it has by itself, is the one
    of the means. With products taken in another order no matrix of noise is ever made.

    Args:
        in_features: inputs.
        out_features: outputs.
        std: the initial standard deviation, before it is divided by the root of `in_features`; the paper's sigma_0.
        bias: whether it has biases.
    """

    noise: Tensor
    weight_std: nn.Parameter
    bias_std: nn.Parameter | None

    def __init__(self, in_features: int, out_features: int, std: float, bias: bool = True) -> None:
        super().__init__(in_features, out_features, bias)
        self._initial_std = std / math.sqrt(in_features)
        self.weight_std = nn.Parameter(torch.empty(out_features, in_features))
        self.register_parameter("bias_std", nn.Parameter(torch.empty(out_features)) if bias else None)
        # Of the inputs, then of the outputs. No state: who applies the layer with noise gives it.
        self.register_buffer("noise", torch.zeros(in_features + out_features), persistent=False)
        self.reset_std()

    def reset_std(self) -> None:
        """Set the standard deviations as they are in the beginning."""
        for std in (self.weight_std, self.bias_std):
            if std is not None:
                nn.init.constant_(std, self._initial_std)

    def forward(self, inputs: Tensor) -> Tensor:
        """(N, in_features) -> (N, out_features)."""
        of_inputs, of_outputs = torch.split(self.noise, [self.in_features, self.out_features])
        means = F.linear(inputs, self.weight, self.bias)
        return means + of_outputs * F.linear(inputs * of_inputs, self.weight_std, self.bias_std)

    def mean(self) -> nn.Linear:
        """The layer without noise."""
        layer = nn.Linear(self.in_features, self.out_features, self.bias is not None)
        layer.weight, layer.bias = self.weight, self.bias
        return layer


def noise_of(uniforms: Tensor) -> Tensor:
    """Factors of noise from uniforms in [0, 1) of float64: sign(x) sqrt(|x|) of a standard normal x; float32."""
    at_least = 2.0**-54  # which is below all but 0, whose normal would be infinite
    normal: Tensor = math.sqrt(2.0) * torch.special.erfinv(2.0 * uniforms.clamp(min=at_least) - 1.0)
    return (normal.sign() * normal.abs().sqrt()).to(torch.float32)
