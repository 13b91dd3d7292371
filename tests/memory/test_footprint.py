"""What a filled memory of Atari steps takes of the machine's memory, measured on the process itself."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from dqn.envs.base import EnvironmentSpec
from dqn.memory.stream import Experience
from dqn.memory.uniform import UniformMemory

STATM = Path("/proc/self/statm")
ATARI = EnvironmentSpec((1, 84, 84), "uint8", 4, None, 4, ("",) * 4, 4, None)
BYTES_PER_STEP = 7100
OVERHEAD_BYTES = 50_000_000  # of the process, at first use
NUM_ENVS = 8


def resident_bytes() -> int:
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not STATM.exists(), reason="reads the process's size from /proc")
@pytest.mark.parametrize("steps", [50_000, pytest.param(1_000_000, marks=pytest.mark.large)])
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
    print(f"{steps:,} steps take {used / 1e9:.3f} GB, {used / steps:.0f} bytes each")
    assert 7056 * steps < used <= BYTES_PER_STEP * steps + OVERHEAD_BYTES
