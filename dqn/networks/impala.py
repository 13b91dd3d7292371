"""The residual torso of IMPALA (Espeholt et al. 2018, arXiv 1802.01561, figure 3, right), normalized if wanted."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from dqn.networks.channel_norm import ChannelNorm


class Residual(nn.Module):
    """Two convolutions that keep the shape, added to what they see.

    Args:
        channels: in and out.
        layer_norm: whether they see it normalized over its channels.
    """

    def __init__(self, channels: int, layer_norm: bool = False) -> None:
        super().__init__()
        self.norms = nn.ModuleList(ChannelNorm(channels) if layer_norm else nn.Identity() for _ in range(2))
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        """(N, channels, H, W), unchanged in shape."""
        inner = images
        for norm, convolution in zip(self.norms, (self.first, self.second), strict=True):
            inner = convolution(F.relu(norm(inner)))
        return images + inner


class ImpalaSection(nn.Module):
    """A convolution, max-pooling to half the size, and two residual blocks.

    Args:
        in_channels: in.
        out_channels: out.
        height: of the images.
        width: likewise.
        layer_norm: see `Residual`.
    """

    def __init__(self, in_channels: int, out_channels: int, height: int, width: int, layer_norm: bool = False) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        # As TensorFlow pads, whose layers the paper's are: an even number of pixels only at the end.
        self.pooling = nn.MaxPool2d(3, 2, (height % 2, width % 2), ceil_mode=True)
        self.residuals = nn.Sequential(*(Residual(out_channels, layer_norm) for _ in range(2)))

    def forward(self, images: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, ceil(H / 2), ceil(W / 2))."""
        outputs: Tensor = self.residuals(self.pooling(self.convolution(images)))
        return outputs
