"""Where the stream's frames are kept: as they are in one tensor, or each compressed on its own.

Both are rings of `slots` frames, one for each environment of each member. Frames are read by flat place, `(member * E +
environment) * slots + slot`; the place `blank` holds the frame of zeros that stacks show from before an episode.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Protocol

import lz4.block
import numpy as np
import torch
from torch import Tensor

from dqn.envs.base import EnvironmentSpec
from dqn.errors import UserError


class Frames(Protocol):
    """Frames of M members with E environments each."""

    blank: int
    is_traceable: bool  # whether `put` and `read` are operations on tensors alone

    def put(self, slot: Tensor, frames: Tensor) -> None:
        """Keep frames (M, E, *frame) in the slot (1,) int64 of every ring."""

    def read(self, places: Tensor) -> Tensor:
        """The frames at places (M, B, K) int64 -> (M, B, K, *frame), bit by bit as they were put."""

    def recorded(self, member: int, slots: slice) -> dict[str, Tensor]:
        """A member's frames in neighbouring slots, by environment; they hold until a slot is put anew."""

    def replay(self, member: int, slots: Tensor, recorded: Mapping[str, Tensor]) -> None:
        """Take over into these slots (K,) int64 what `recorded` gave of K slots."""


class DenseFrames:
    """Frames in one tensor.

    Args:
        spec: of the environment.
        members: M.
        num_envs: E.
        slots: per environment.
        device: where the tensor is.
    """

    is_traceable = True

    def __init__(self, spec: EnvironmentSpec, members: int, num_envs: int, slots: int, device: torch.device) -> None:
        self.blank = members * num_envs * slots
        dtype = getattr(torch, spec.frame_dtype)
        # Not zeroed: memory that is never written is never taken from the machine.
        self._flat = torch.empty((self.blank + 1, *spec.frame_shape), dtype=dtype, device=device)
        self._flat[self.blank] = 0
        self._frames = self._flat[: self.blank].view(members, num_envs, slots, *spec.frame_shape)

    def put(self, slot: Tensor, frames: Tensor) -> None:
        """Keep frames (M, E, *frame) in the slot (1,) int64 of every ring."""
        self._frames.index_copy_(2, slot, frames.unsqueeze(2))

    def read(self, places: Tensor) -> Tensor:
        """The frames at places (M, B, K) int64 -> (M, B, K, *frame)."""
        # Copies whole frames, where indexing would go by single bytes.
        return self._flat.index_select(0, places.flatten()).view(*places.shape, *self._flat.shape[1:])

    def recorded(self, member: int, slots: slice) -> dict[str, Tensor]:
        """A member's frames in neighbouring slots, by environment, without copying."""
        return {f"frames.{e}": ring[slots] for e, ring in enumerate(self._frames[member])}

    def replay(self, member: int, slots: Tensor, recorded: Mapping[str, Tensor]) -> None:
        """Take over into these slots (K,) int64 what `recorded` gave of K slots."""
        if "frame_lengths.0" in recorded:
            raise UserError("memory.compression", "none", "the memory in this checkpoint is compressed; use lz4")
        for e, ring in enumerate(self._frames[member]):
            ring.index_copy_(0, slots, recorded[f"frames.{e}"].to(ring.device))


class CompressedFrames:
    """Frames in the machine's memory, each an LZ4 block; reading gives back the very bytes.

    Args:
        spec: of the environment.
        members: M.
        num_envs: E.
        slots: per environment.
    """

    is_traceable = False

    def __init__(self, spec: EnvironmentSpec, members: int, num_envs: int, slots: int) -> None:
        self._slots = slots
        self._shape, self._dtype = spec.frame_shape, getattr(torch, spec.frame_dtype)
        self._size = math.prod(spec.frame_shape) * self._dtype.itemsize  # bytes of a frame
        self.blank = members * num_envs * slots
        # An array, not a list: Python's garbage collector would go through a list of a million frames again and again.
        self._blocks = np.empty(self.blank + 1, dtype=object)
        self._blocks[:] = _compress(bytes(self._size))  # everywhere the same object
        self._rings = self._blocks[: self.blank].reshape(members, num_envs, slots)

    def put(self, slot: Tensor, frames: Tensor) -> None:
        """Keep frames (M, E, *frame) in the slot (1,) int64 of every ring."""
        data = frames.contiguous().view(-1).view(torch.uint8).numpy().data
        for place in range(int(slot), self.blank, self._slots):
            self._blocks[place], data = _compress(data[: self._size]), data[self._size :]

    def read(self, places: Tensor) -> Tensor:
        """The frames at places (M, B, K) int64 -> (M, B, K, *frame)."""
        size = self._size
        frames = torch.empty(places.numel() * size, dtype=torch.uint8)
        data = frames.numpy().data
        # One at a time, each is copied while it is in the processor's cache.
        for i, block in enumerate(self._blocks[places.flatten().numpy()].tolist()):
            data[i * size : (i + 1) * size] = lz4.block.decompress(block, size)
        return frames.view(self._dtype).view(*places.shape, *self._shape)

    def recorded(self, member: int, slots: slice) -> dict[str, Tensor]:
        """A member's blocks one after another, (bytes,) uint8 for each environment, and the length of each."""
        recorded: dict[str, Tensor] = {}
        for e, ring in enumerate(self._rings[member]):
            blocks = ring[slots].tolist()
            recorded[f"frames.{e}"] = torch.frombuffer(bytearray().join(blocks), dtype=torch.uint8)
            recorded[f"frame_lengths.{e}"] = torch.tensor([len(block) for block in blocks])  # (K,) int64
        return recorded

    def replay(self, member: int, slots: Tensor, recorded: Mapping[str, Tensor]) -> None:
        """Take over into these slots (K,) int64 what `recorded` gave of K slots."""
        if "frame_lengths.0" not in recorded:
            raise UserError("memory.compression", "lz4", "the memory in this checkpoint is not compressed; use none")
        for e, ring in enumerate(self._rings[member]):
            data = recorded[f"frames.{e}"].numpy().data
            ends = recorded[f"frame_lengths.{e}"].cumsum(0).tolist()
            for slot, begin, end in zip(slots.tolist(), [0, *ends], ends, strict=False):
                ring[slot] = bytes(data[begin:end])


def _compress(frame: bytes | memoryview) -> bytes:
    block: bytes = lz4.block.compress(frame, store_size=False)
    return block
