"""Films of an agent at work: an mp4 of one episode, and a GIF of its beginning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dqn.envs.base import Array

_GIF_FRAMES_PER_SECOND = 15.0
_GIF_MOST_FRAMES = 300
_GIF_WIDTH = 320


class Film:
    """Takes frames one by one, since a long episode's would fill the memory, and writes <name>.mp4 and <name>.gif.

    Args:
        folder: made if it is not there.
        name: of the files, without suffix.
        frames_per_second: of the episode as it was played; the GIF has fewer and smaller frames.
    """

    def __init__(self, folder: Path, name: str, frames_per_second: float) -> None:
        import imageio.v2 as imageio

        folder.mkdir(parents=True, exist_ok=True)
        self._mp4, self._gif = folder / f"{name}.mp4", folder / f"{name}.gif"
        self._rate = frames_per_second
        self._gif_every = max(1, round(frames_per_second / _GIF_FRAMES_PER_SECOND))
        self._gif_frames: list[Array] = []
        self._count = 0
        self._writer: Any = imageio.get_writer(self._mp4, fps=frames_per_second, codec="libx264", macro_block_size=2)

    def add(self, frame: Array) -> None:
        """The next frame, (height, width, 3) uint8."""
        # The codec wants even sizes; repeating the last row or column changes nothing one sees.
        padding = [(0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0)]
        self._writer.append_data(np.pad(frame, padding, mode="edge"))
        if self._count % self._gif_every == 0 and len(self._gif_frames) < _GIF_MOST_FRAMES:
            self._gif_frames.append(frame.copy())
        self._count += 1

    def close(self) -> list[Path]:
        """Finish the files; returns their paths."""
        from PIL import Image

        self._writer.close()
        pictures = [Image.fromarray(frame) for frame in self._gif_frames]
        if pictures[0].width > _GIF_WIDTH:
            size = (_GIF_WIDTH, round(pictures[0].height * _GIF_WIDTH / pictures[0].width))
            pictures = [picture.resize(size, Image.Resampling.BILINEAR) for picture in pictures]
        # One palette for all, or the colours flicker.
        palette = pictures[len(pictures) // 2].quantize(128)
        first, *others = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
        milliseconds = round(1000 * self._gif_every / self._rate)
        first.save(self._gif, save_all=True, append_images=others, duration=milliseconds, loop=0)
        return [self._mp4, self._gif]
