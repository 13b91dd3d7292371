"""Films."""

from __future__ import annotations

from functools import partial

import imageio.v2 as imageio
import numpy as np
import pytest
from PIL import Image

from dqn.video import Film


def test_an_episode_that_is_broken_off_leaves_no_film(tmp_path):
    """And nothing hides the cause."""
    with pytest.raises(KeyError, match="the cause"), Film(tmp_path, "final", 50.0) as film:
        film.add(lambda: {}["the cause"])
    with pytest.raises(KeyError, match="at once"), Film(tmp_path, "final", 50.0):
        raise KeyError("at once")
    assert list(tmp_path.iterdir()) == []


def test_a_film_leaves_out_frames_beyond_thirty_a_second(tmp_path):
    rendered = []

    def render(step):
        rendered.append(step)
        frame = np.zeros((41, 701, 3), dtype=np.uint8)  # odd, and too wide for a GIF
        frame[:, 14 * step : 14 * step + 14] = 255
        return frame

    with Film(tmp_path, "final", 50.0) as film:
        for step in range(50):
            film.add(partial(render, step))
    mp4, gif = film.paths
    assert rendered == list(range(0, 50, 2))
    with imageio.get_reader(mp4) as reader:
        assert reader.get_meta_data()["fps"] == 25
        frames = list(reader.iter_data())
    assert [int(np.flatnonzero(frame.mean((0, 2)) > 128).mean()) // 14 for frame in frames] == rendered
    assert frames[0].shape == (42, 702, 3)
    with Image.open(gif) as picture:
        assert picture.size == (234, 14)
        assert picture.n_frames == 13
        assert picture.info["duration"] == 80
