"""First layers: raw observations, as environments give them and the memory keeps them, to floats."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ScaleImage(nn.Module):
    """Bytes (N, C, H, W) to floats in [0, 1]; the one place where images are divided by 255."""

    def forward(self, observation: Tensor) -> Tensor:
        """(N, C, H, W) uint8 -> (N, C, H, W) float32, or the half precision that convolutions are to have."""
        # Channels last in memory: convolutions on a CPU are a quarter faster so. A view, since vmap knows no formats.
        channels_last = observation.permute(0, 2, 3, 1).contiguous()
        device = observation.device.type
        if torch.is_autocast_enabled(device):  # which has all bytes as they are, and rounds the quotient either way
            channels_last = channels_last.to(torch.get_autocast_dtype(device))
        return (channels_last / 255.0).permute(0, 3, 1, 2)


class ToFloat(nn.Module):
    """Vectors of any number type to float32."""

    def forward(self, observation: Tensor) -> Tensor:
        """(N, ...) -> (N, ...) float32."""
        return observation.to(torch.float32)


class OneHot(nn.Module):
    """Indices of discrete states to one-hot vectors.

    Args:
        num_states: how many states there are.
    """

    def __init__(self, num_states: int) -> None:
        super().__init__()
        self.num_states = num_states
        # Not a parameter and not state: a constant that moves with the module.
        self.states: Tensor
        self.register_buffer("states", torch.arange(num_states), persistent=False)

    def forward(self, observation: Tensor) -> Tensor:
        """(N,) int64 -> (N, num_states) float32."""
        # A comparison rather than F.one_hot, which torch.vmap cannot map.
        return (observation.unsqueeze(-1) == self.states).to(torch.float32)
