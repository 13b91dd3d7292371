"""Films of an agent at work: an mp4 of one episode, and a GIF of its beginning."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from dqn.envs.base import Array

_MOST_FRAMES_PER_SECOND = 30.0
_GIF_FRAMES_PER_SECOND = 15.0
_GIF_MOST_FRAMES = 300
_GIF_WIDTH = 320  # at most


class Film:
    """Takes frames one by one, since a long episode's would fill the memory, and writes <name>.mp4 and <name>.gif.

    A context manager; the films are there after it, and none of an episode that was broken off.

    Args:
        folder: made if it is not there.
        name: of the files, without suffix.
        frames_per_second: of the episode as it was played. The mp4 leaves out frames to have no more than 30, the GIF
            has fewer and smaller ones still.
    """

    def __init__(self, folder: Path, name: str, frames_per_second: float) -> None:
        import imageio.v2 as imageio

        folder.mkdir(parents=True, exist_ok=True)
        self._mp4, self._gif = folder / f"{name}.mp4", folder / f"{name}.gif"
        self.paths = [self._mp4, self._gif]
        self._every = math.ceil(frames_per_second / _MOST_FRAMES_PER_SECOND)
        self._rate = frames_per_second / self._every
        self._gif_every = max(1, round(self._rate / _GIF_FRAMES_PER_SECOND))
        self._gif_frames: list[Array] = []
        self._count = 0
        self._writer: Any = imageio.get_writer(
            self._mp4,
            fps=self._rate,
            codec="libx264",
            macro_block_size=2,
            output_params=["-preset", "ultrafast", "-threads", "1"],  # other runs may be training meanwhile
        )

    def add(self, render: Callable[[], Array]) -> None:
        """The next frame, which `render` gives as (height, width, 3) uint8, if this one is wanted."""
        number, left_out = divmod(self._count, self._every)
        self._count += 1
        if left_out:
            return
        frame = render()
        # The codec wants even sizes; repeating the last row or column changes nothing one sees.
        padding = [(0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0)]
        self._writer.append_data(np.pad(frame, padding, mode="edge"))
        if number % self._gif_every == 0 and len(self._gif_frames) < _GIF_MOST_FRAMES:
            self._gif_frames.append(frame.copy())

    def __enter__(self) -> Film:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        self._writer.close()
        if error is None:
            self._write_gif()
        else:
            self._mp4.unlink(missing_ok=True)

    def _write_gif(self) -> None:
        from PIL import Image

        pictures = [Image.fromarray(frame) for frame in self._gif_frames]
        if pictures[0].width > _GIF_WIDTH:
            factor = math.ceil(pictures[0].width / _GIF_WIDTH)
            pictures = [picture.reduce(factor) for picture in pictures]
        # One palette for all, or the colours flicker.
        palette = pictures[len(pictures) // 2].quantize(128)
        first, *others = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
        milliseconds = round(1000 * self._gif_every / self._rate)
        first.save(self._gif, save_all=True, append_images=others, duration=milliseconds, loop=0)
