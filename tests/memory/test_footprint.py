"""What a filled memory of Atari steps takes of the machine's memory, measured on the process itself."""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path

import pytest
import torch

from dqn.envs.base import EnvironmentSpec
from dqn.memory.stream import Experience
from dqn.memory.uniform import UniformMemory

STATM = Path("/proc/self/statm")
ATARI = EnvironmentSpec((1, 84, 84), "uint8", 4, None, 4, ("",) * 4, 4, None)
BYTES_PER_STEP = 7100
COMPRESSED_BYTES_PER_STEP = 600  # of Breakout
OVERHEAD_BYTES = 50_000_000  # of the process, at first use
NUM_ENVS = 8


def resident_bytes() -> int:
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


STEPS = pytest.mark.parametrize("steps", [50_000, pytest.param(1_000_000, marks=pytest.mark.large)])
needs_proc = pytest.mark.skipif(not STATM.exists(), reason="reads the process's size from /proc")


def report(memory: UniformMemory, steps: int, used: int) -> None:
    """Print what the memory takes, and how long a batch of 32 does."""
    seconds = []
    for _ in range(200):
        uniforms = torch.rand((1, 32), dtype=torch.float64)
        started = time.perf_counter()
        memory.sample(uniforms)
        seconds.append(time.perf_counter() - started)
    print(
        f"{steps:,} steps take {used / 1e9:.3f} GB, {used / steps:.0f} bytes each; "
        f"a batch of 32 takes {1e3 * statistics.median(seconds):.2f} ms"
    )


@needs_proc
@STEPS
def test_a_filled_memory(steps):
    frames = torch.randint(0, 256, (1, NUM_ENVS, 1, 84, 84), dtype=torch.uint8)
    no = torch.zeros((1, NUM_ENVS), dtype=torch.bool)
    experience = Experience(no.long(), no.float(), no, no, frames)
    before = resident_bytes()
    memory = UniformMemory(ATARI, NUM_ENVS, steps, torch.tensor([0.99]), True, torch.device("cpu"))
    memory.start(frames)
    for _ in range(steps // NUM_ENVS):
        memory.add(experience)
    assert memory.size.tolist() == [steps]
    used = resident_bytes() - before
    report(memory, steps, used)
    assert 7056 * steps < used <= BYTES_PER_STEP * steps + OVERHEAD_BYTES


@needs_proc
@STEPS
def test_a_filled_compressed_memory(steps, play_breakout):
    start, played = play_breakout(1, NUM_ENVS, 500)
    before = resident_bytes()
    memory = UniformMemory(ATARI, NUM_ENVS, steps, torch.tensor([0.99]), True, torch.device("cpu"), compressed=True)
    memory.start(start)
    for call in range(steps // NUM_ENVS):
        memory.add(played[call % len(played)])
    used = resident_bytes() - before
    report(memory, steps, used)
    assert used <= COMPRESSED_BYTES_PER_STEP * steps + OVERHEAD_BYTES
