"""What a memory hands to the learner."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Batch(NamedTuple):
    """B transitions for each of M members; the names are those of the papers."""

    obs_tm1: Tensor  # (M, B, *observation), as the environment gave it
    a_tm1: Tensor  # (M, B) int64
    r_t: Tensor  # (M, B) float32
    discount_t: Tensor  # (M, B) float32: 0 where bootstrapping stops
    obs_t: Tensor  # (M, B, *observation)
