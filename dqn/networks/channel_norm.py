"""Normalization of what a convolution says of each place."""

from __future__ import annotations

from torch import Tensor, nn


class ChannelNorm(nn.LayerNorm):
    """Layer normalization over the channels, each place by itself, as PQN's code has it (mttga/purejaxql).

    Args:
        channels: how many there are.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels)

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W), unchanged in shape."""
        # Channels come last in memory already, see `ScaleImage`: both permutations are views.
        return super().forward(images.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
