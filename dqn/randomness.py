"""Stateless randomness: a random number is a function of (run seed, purpose, index) and of nothing else.

So a member draws the same numbers alone or in a population, there is no generator to save in a checkpoint, and two
purposes never share a stream.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

# Part of the function: changing it changes every run.
_BLOCK = 256


def _seed_sequence(seed: int, purpose: str, *indices: int) -> np.random.SeedSequence:
    return np.random.SeedSequence(seed, spawn_key=(zlib.crc32(purpose.encode()), *indices))


def derive_seed(seed: int, purpose: str, *indices: int) -> int:
    """A seed below 2**31 for something that has a generator of its own: an environment, an initialization."""
    return int(_seed_sequence(seed, purpose, *indices).generate_state(1)[0]) >> 1


class Stream:
    """Uniform numbers in [0, 1) for one purpose, for each member of a population, at any index.

    Args:
        seeds: the run seeds of the M members.
        purpose: names the stream.
        shape: of the numbers at one index for one member.
        device: where the numbers go.
    """

    def __init__(self, seeds: Sequence[int], purpose: str, shape: tuple[int, ...], device: torch.device) -> None:
        self._seeds, self._purpose, self._shape, self._device = tuple(seeds), purpose, shape, device
        self._first = 0  # index of the block that is at hand
        self._block: Sequence[Tensor] = ()

    def at(self, index: int) -> Tensor:
        """The numbers at `index`: (M, *shape) float64, since float32 has too few values to pick among millions."""
        if not 0 <= index - self._first < len(self._block):
            self._draw(index // _BLOCK)
        return self._block[index - self._first]

    def _draw(self, block: int) -> None:
        """Have a whole block at hand, since setting up a generator costs far more than drawing from it."""
        self._block = ()  # before there are others: they may be large
        draws = np.empty((_BLOCK, len(self._seeds), *self._shape))
        for m, seed in enumerate(self._seeds):
            generator = np.random.Generator(np.random.Philox(_seed_sequence(seed, self._purpose, block)))
            draws[:, m] = generator.random((_BLOCK, *self._shape))
        self._block = torch.from_numpy(draws).to(self._device).unbind()
        self._first = block * _BLOCK
