"""Normalization of what a convolution says of each place."""

from __future__ import annotations

from torch import Tensor, nn


class ChannelNorm(nn.LayerNorm):
    """Layer normalization over so many channels, each place by itself, as PQN's code has it (mttga/purejaxql)."""

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W), unchanged in shape."""
        # Channels come last in memory already, see `ScaleImage`: both permutations are views.
        return super().forward(images.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
