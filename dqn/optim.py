"""Optimizers over a population: pure arithmetic on flat parameters (M, P), each member with its own constants.

Hyperparameters are traits of shape (M,). State is a dict of tensors, so it is saved as it stands.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

State = dict[str, Tensor]


class Optimizer(Protocol):
    """A rule that moves parameters along gradients."""

    def init(self, parameters: Tensor) -> State:
        """Fresh state for parameters (M, P)."""

    def update_(self, parameters: Tensor, gradients: Tensor, state: State, learning_rate: Tensor) -> None:
        """Move parameters (M, P) and state in place; learning_rate is (M,)."""


def clip_by_norm(gradients: Tensor, norms: Tensor, max_norm: Tensor) -> Tensor:
    """Scale each member's gradient (M, P) whose norm (M,) exceeds max_norm (M,) down to it; inf never clips."""
    return gradients * (max_norm / norms).clamp(max=1.0).unsqueeze(-1)


@dataclass(frozen=True)
class SGD:
    """Gradient descent with heavy-ball momentum (0 for none)."""

    momentum: Tensor

    def init(self, parameters: Tensor) -> State:
        """See `Optimizer`."""
        return {"velocity": torch.zeros_like(parameters)}

    def update_(self, parameters: Tensor, gradients: Tensor, state: State, learning_rate: Tensor) -> None:
        """See `Optimizer`."""
        velocity = state["velocity"].mul_(self.momentum.unsqueeze(-1)).add_(gradients)
        parameters.sub_(learning_rate.unsqueeze(-1) * velocity)


@dataclass(frozen=True)
class RMSProp:
    """RMSProp with epsilon outside the root, as PyTorch and Keras 2 have it."""

    decay: Tensor
    epsilon: Tensor

    def init(self, parameters: Tensor) -> State:
        """See `Optimizer`."""
        return {"square": torch.zeros_like(parameters)}

    def update_(self, parameters: Tensor, gradients: Tensor, state: State, learning_rate: Tensor) -> None:
        """See `Optimizer`."""
        square = state["square"].lerp_(gradients.square(), 1.0 - self.decay.unsqueeze(-1))
        denominator = square.sqrt().add_(self.epsilon.unsqueeze(-1))
        parameters.sub_(learning_rate.unsqueeze(-1) * gradients / denominator)


@dataclass(frozen=True)
class CenteredRMSProp:
    """DeepMind's RMSProp: g and n are running means of d and d^2, the step is lr * d / sqrt(n - g^2 + epsilon).

    Source: NeuralQLearner.lua in google-deepmind/dqn; Nature's Extended Data Table 1 calls the two decays
    "gradient momentum" and "squared gradient momentum", which is not heavy-ball momentum. With the gradient of a
    mean over B transitions instead of a sum, the published epsilon of 0.01 becomes 0.01 / B^2.
    """

    decay: Tensor
    epsilon: Tensor

    def init(self, parameters: Tensor) -> State:
        """See `Optimizer`."""
        return {"mean": torch.zeros_like(parameters), "square": torch.zeros_like(parameters)}

    def update_(self, parameters: Tensor, gradients: Tensor, state: State, learning_rate: Tensor) -> None:
        """See `Optimizer`."""
        weight = 1.0 - self.decay.unsqueeze(-1)
        mean = state["mean"].lerp_(gradients, weight)
        square = state["square"].lerp_(gradients.square(), weight)
        # A variance; only rounding takes it below zero.
        variance = (square - mean.square()).clamp_(min=0.0)
        denominator = variance.add_(self.epsilon.unsqueeze(-1)).sqrt_()
        parameters.sub_(learning_rate.unsqueeze(-1) * gradients / denominator)


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma and Ba 2015, algorithm 1), epsilon outside the root as in PyTorch."""

    beta1: Tensor
    beta2: Tensor
    epsilon: Tensor

    def init(self, parameters: Tensor) -> State:
        """See `Optimizer`."""
        return {
            "mean": torch.zeros_like(parameters),
            "square": torch.zeros_like(parameters),
            # float64: beta ** count is taken of it, and 1 - beta2 ** count is a small difference at first.
            "count": torch.zeros(parameters.shape[0], dtype=torch.float64, device=parameters.device),
        }

    def update_(self, parameters: Tensor, gradients: Tensor, state: State, learning_rate: Tensor) -> None:
        """See `Optimizer`."""
        count = state["count"].add_(1.0)
        mean = state["mean"].lerp_(gradients, 1.0 - self.beta1.unsqueeze(-1))
        square = state["square"].lerp_(gradients.square(), 1.0 - self.beta2.unsqueeze(-1))
        correction1 = 1.0 - self.beta1.to(torch.float64) ** count
        correction2 = 1.0 - self.beta2.to(torch.float64) ** count
        step_size = (learning_rate / correction1).to(parameters.dtype).unsqueeze(-1)
        # sqrt(square / correction2), with a division less: these are what takes the time.
        scale = correction2.rsqrt().to(parameters.dtype).unsqueeze(-1)
        denominator = square.sqrt().mul_(scale).add_(self.epsilon.unsqueeze(-1))
        parameters.sub_(step_size * mean / denominator)


@dataclass(frozen=True)
class RAdam(Adam):
    """Rectified Adam (Liu et al. 2020, arXiv 1908.03265, algorithm 2): momentum alone until the variance is known."""

    def update_(self, parameters: Tensor, gradients: Tensor, state: State, learning_rate: Tensor) -> None:
        """See `Optimizer`."""
        count = state["count"].add_(1.0)
        mean = state["mean"].lerp_(gradients, 1.0 - self.beta1.unsqueeze(-1))
        square = state["square"].lerp_(gradients.square(), 1.0 - self.beta2.unsqueeze(-1))
        beta2 = self.beta2.to(torch.float64)
        correction1, correction2 = 1.0 - self.beta1.to(torch.float64) ** count, 1.0 - beta2**count
        longest = 2.0 / (1.0 - beta2) - 1.0
        length = longest - 2.0 * count * beta2**count / correction2  # of the average of squares; the paper's rho
        known = (length > 5.0).unsqueeze(-1)  # below, its variance is not finite
        ratio = (length - 4.0) * (length - 2.0) * longest / ((longest - 4.0) * (longest - 2.0) * length)
        rectified = (ratio.clamp(min=0.0) * correction2).sqrt().unsqueeze(-1)
        rate = (learning_rate / correction1).unsqueeze(-1) * torch.where(known, rectified, 1.0)
        # Of momentum alone the denominator is 1, made without another tensor: these are what takes the time.
        epsilon = torch.where(known, self.epsilon.unsqueeze(-1), 1.0)
        denominator = square.sqrt().mul_(known).add_(epsilon)
        parameters.sub_(rate.to(parameters.dtype) * mean / denominator)
