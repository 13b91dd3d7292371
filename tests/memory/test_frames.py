"""Compressed frames beside dense ones: the same bytes, on random and on real frames."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from dqn.checks import check_config, check_fit
from dqn.envs.base import EnvironmentSpec
from dqn.errors import UserError
from dqn.memory.frames import CompressedFrames, DenseFrames
from dqn.memory.stream import Experience
from dqn.memory.uniform import UniformMemory
from dqn.randomness import Stream

CPU = torch.device("cpu")
MEMBERS, NUM_ENVS = 2, 2
SPEC = EnvironmentSpec((1, 84, 84), "uint8", 4, None, 4, ("",) * 4, 4, None)


@pytest.fixture(scope="module")
def game(play_breakout) -> tuple[Tensor, list[Experience]]:
    """Games that are cut short, so that there are resets."""
    return play_breakout(MEMBERS, NUM_ENVS, 120, max_frames_per_episode=150)


def make_memory(compressed: bool, capacity_steps: int) -> UniformMemory:
    return UniformMemory(SPEC, NUM_ENVS, capacity_steps, torch.tensor([0.9, 0.99]), True, CPU, compressed)


def assert_same_batches(one: UniformMemory, other: UniformMemory, call: int) -> None:
    draws = Stream(range(MEMBERS), "sampling", (8,), CPU).at(call)
    for here, there in zip(one.sample(draws), other.sample(draws), strict=True):
        assert here.dtype == there.dtype
        assert torch.equal(here, there)


# Random bytes, which LZ4 makes longer, numbers of all kinds, and frames of one number.
@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((1, 84, 84), "uint8"), ((3, 5, 2), "uint8"), ((7,), "float32"), ((), "int64"), ((1, 300, 300), "uint8")],
)
def test_what_is_put_is_read_bit_by_bit(shape, dtype):
    spec = replace(SPEC, frame_shape=shape, frame_dtype=dtype)
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    random = np.random.default_rng(0)
    frames = CompressedFrames(spec, 2, 3, slots=4)
    written = torch.from_numpy(random.integers(0, 256, (5, 2, 3, size), dtype=np.uint8))
    for i, bits in enumerate(written):
        frames.put(torch.tensor([i % 4]), bits.view(getattr(torch, dtype)).view(2, 3, *shape))
    assert frames.blank == 24
    places = torch.tensor([[[0, 1, 24], [23, 8, 0]]])  # (1, 2, 3)
    read = frames.read(places)
    assert read.shape == (1, 2, 3, *shape)
    assert read.dtype == getattr(torch, dtype)
    # In ring 0 the fifth frame has taken the first one's slot; place 23 is the last slot of the last ring.
    expected = [written[4, 0, 0], written[1, 0, 0], torch.zeros(size), written[3, 1, 2], written[4, 0, 2]]
    assert torch.equal(read.reshape(6, -1).view(torch.uint8), torch.stack([*expected, expected[0]]).to(torch.uint8))


@pytest.mark.parametrize("capacity_steps", [60, 1000], ids=["wraps_around", "never_full"])
def test_batches_are_those_of_a_dense_memory_over_a_whole_run(game, capacity_steps):
    start, experiences = game
    compressed, dense = make_memory(True, capacity_steps), make_memory(False, capacity_steps)
    assert dense.is_traceable
    assert not compressed.is_traceable
    for memory in (compressed, dense):
        memory.start(start)
    assert any(experience.was_reset.any() for experience in experiences)
    for call, experience in enumerate(experiences):
        for memory in (compressed, dense):
            memory.add(experience)
        assert_same_batches(compressed, dense, call)


@pytest.mark.parametrize(
    ("calls", "capacity_steps", "new_capacity_steps"),
    [(20, 60, 60), (20, 60, 100), (50, 60, 60)],
    ids=["part_full", "into_a_larger_one", "wrapped_around"],
)
def test_a_restored_memory_goes_on_like_a_dense_one(game, calls, capacity_steps, new_capacity_steps):
    start, experiences = game
    memories = [make_memory(compressed, capacity_steps) for compressed in (True, False)]
    for memory in memories:
        memory.start(start)
        for experience in experiences[:calls]:
            memory.add(experience)
    restored = [make_memory(compressed, new_capacity_steps) for compressed in (True, False)]
    for new, old in zip(restored, memories, strict=True):
        new.load_state_dict(copy.deepcopy(old.state_dict()))
    assert_same_batches(restored[0], memories[1], 0)
    for call, experience in enumerate(experiences[calls:]):
        for memory in restored:
            memory.add(experience)
        assert_same_batches(*restored, call)


def test_the_state_holds_compressed_bytes_of_what_was_written(game):
    start, experiences = game
    memory = make_memory(True, 1000)
    memory.start(start)
    for experience in experiences[:9]:
        memory.add(experience)
    state = memory.state_dict()
    for m in range(MEMBERS):
        for e in range(NUM_ENVS):
            (recording,) = state["recordings"][m]
            lengths, data = recording[f"frame_lengths.{e}"], recording[f"frames.{e}"]
            assert lengths.shape == (9,)
            assert data.shape == (int(lengths.sum()),)
            assert data.dtype == torch.uint8
            assert len(data) < 9 * 7056 / 4


@pytest.mark.parametrize("compressed", [True, False])
def test_a_checkpoint_of_the_other_kind_is_refused(game, compressed):
    memory = make_memory(not compressed, 100)
    memory.start(game[0])
    memory.add(game[1][0])
    with pytest.raises(UserError, match=r"memory\.compression="):
        make_memory(compressed, 100).load_state_dict(memory.state_dict())


def test_dense_frames_are_written_without_a_copy():
    frames = DenseFrames(SPEC, 1, 1, 4, CPU)
    parts = [frames.recorded(0, slice(1, stop))["frames.0"] for stop in (2, 4)]
    assert parts[0].data_ptr() == parts[1].data_ptr()
    assert [len(part) for part in parts] == [1, 3]


def test_a_config_that_cannot_be_compressed_is_refused(make_config):
    config = make_config("experiment=pong", "memory.compression=lz4")
    check_config(config)
    check_fit(config, SPEC, 1)
    with pytest.raises(UserError, match=r"memory\.compression=lz4: needs images, but observations are float32 \(4,\)"):
        check_fit(config, replace(SPEC, frame_shape=(4,), frame_dtype="float32", frame_stack=1), 1)
    with pytest.raises(UserError, match=r"memory\.device=cuda: compressed images are kept on the CPU; use auto or cpu"):
        check_config(make_config("experiment=pong", "memory.compression=lz4", "memory.device=cuda"))


def test_a_memory_that_fits_only_compressed_is_accepted(make_config, monkeypatch):
    monkeypatch.setattr("dqn.checks.installed_memory", lambda: 2_000_000_000)
    settings = ("experiment=pong", "memory.device=cpu", "memory.capacity_steps=1_000_000")
    check_fit(make_config(*settings, "memory.compression=lz4"), SPEC, 1)
    with pytest.raises(UserError, match=r"memory\.capacity_steps=1000000: needs 7\.1 GB"):
        check_fit(make_config(*settings), SPEC, 1)
