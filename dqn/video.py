"""Films of an agent at work: an mp4 and a GIF of one episode."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dqn.envs.base import Array

_GIF_FRAMES_PER_SECOND = 15.0
_GIF_MOST_FRAMES = 300
_GIF_WIDTH = 320


def write_videos(frames: list[Array], frames_per_second: float, folder: Path, name: str) -> list[Path]:
    """Write folder/<name>.mp4, and <name>.gif with fewer and smaller frames; returns both paths.

    Args:
        frames: (height, width, 3) uint8 each.
        frames_per_second: of the episode as it was played.
        folder: made if it is not there.
        name: without suffix.
    """
    import imageio.v2 as imageio
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    mp4, gif = folder / f"{name}.mp4", folder / f"{name}.gif"
    # The codec wants even sizes; repeating the last row or column changes nothing one sees.
    padding = [(0, frames[0].shape[0] % 2), (0, frames[0].shape[1] % 2), (0, 0)]
    with imageio.get_writer(mp4, fps=frames_per_second, codec="libx264", macro_block_size=2) as writer:
        for frame in frames:
            writer.append_data(np.pad(frame, padding, mode="edge"))
    every = max(1, round(frames_per_second / _GIF_FRAMES_PER_SECOND))
    pictures = [Image.fromarray(frame) for frame in frames[::every][:_GIF_MOST_FRAMES]]
    if pictures[0].width > _GIF_WIDTH:
        size = (_GIF_WIDTH, round(pictures[0].height * _GIF_WIDTH / pictures[0].width))
        pictures = [picture.resize(size, Image.Resampling.BILINEAR) for picture in pictures]
    # One palette for all, or the colours flicker.
    palette = pictures[len(pictures) // 2].quantize(128)
    pictures = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
    milliseconds = round(1000 * every / frames_per_second)
    pictures[0].save(gif, save_all=True, append_images=pictures[1:], duration=milliseconds, loop=0, optimize=True)
    return [mp4, gif]
