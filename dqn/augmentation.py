"""Images of a batch shifted at random (Kostrikov et al. 2021, DrQ, arXiv 2004.13649, section 3.1)."""

from __future__ import annotations

import torch
from torch import Tensor

from dqn.memory.batch import Batch


def shifted(batch: Batch, uniforms: Tensor, pixels: int) -> Batch:
    """Each observation shifted on its own, by so many pixels at most, up or down and left or right.

    What comes in at an edge is the edge's own pixel again, as if the image had been padded so and cropped.

    Args:
        batch: (M, B, ...), of images.
        uniforms: (M, 4 * B) in [0, 1).
        pixels: at most.
    """
    shifts = (uniforms * (2 * pixels + 1)).to(torch.int64) - pixels
    down_tm1, right_tm1, down_t, right_t = shifts.view(*batch.r_t.shape, 4).unbind(-1)
    return batch._replace(
        obs_tm1=_shift(_shift(batch.obs_tm1, down_tm1, -2), right_tm1, -1),
        obs_t=_shift(_shift(batch.obs_t, down_t, -2), right_t, -1),
    )


def _shift(images: Tensor, by: Tensor, axis: int) -> Tensor:
    """Images (M, B, C, H, W) by pixels (M, B) along one of the last two axes."""
    size = images.shape[axis]
    source = (torch.arange(size, device=images.device) - by.unsqueeze(-1)).clamp(0, size - 1)  # (M, B, size)
    shape = [*source.shape[:2], 1, 1, 1]
    shape[axis] = size
    return images.take_along_dim(source.view(shape), axis)
