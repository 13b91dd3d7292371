"""What a filled replay memory of Breakout takes: `python -m dqn.benchmark.memory REQUEST` prints it."""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dqn.compose import compose_config
from dqn.config import Config
from dqn.experiment import make_environment
from dqn.memory.stream import Experience
from dqn.memory.uniform import UniformMemory
from dqn.validation import validate

_NUM_ENVS = 8
_CALLS_PLAYED = 500  # of the games; the memory is filled with these again and again
_SAMPLES = 500


def measure_memory(steps: int, compression: str) -> dict[str, Any]:
    """Bytes of the process that filling took, and seconds to sample a batch of 32."""
    torch.set_num_threads(1)
    config = validate(Config, compose_config(["experiment=breakout", f"env.num_envs={_NUM_ENVS}"]))
    environment = make_environment(config.env, 1, 1)
    first = torch.from_numpy(environment.reset(list(range(_NUM_ENVS)))).unsqueeze(0)
    random = np.random.default_rng(0)
    played = []
    for _ in range(_CALLS_PLAYED):
        actions = random.integers(environment.spec.num_actions, size=_NUM_ENVS)
        result = environment.step(actions)
        arrays = (actions, result.rewards, result.terminated, result.was_reset, result.frames.copy())
        played.append(Experience(*(torch.from_numpy(array).unsqueeze(0) for array in arrays)))
    environment.close()
    before = _resident_bytes()
    discount = torch.tensor([0.99])
    memory = UniformMemory(
        environment.spec, _NUM_ENVS, steps, discount, True, torch.device("cpu"), compression == "lz4"
    )
    memory.start(first)
    for call in range(steps // _NUM_ENVS):
        memory.add(played[call % _CALLS_PLAYED])
    taken = _resident_bytes() - before
    seconds = []
    for _ in range(_SAMPLES):
        uniforms = torch.rand((1, 32), dtype=torch.float64)
        started = time.perf_counter()
        memory.sample(uniforms)
        seconds.append(time.perf_counter() - started)
    return {"steps": steps, "compression": compression, "bytes": taken, "sample_seconds": statistics.median(seconds)}


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    request = json.loads(sys.argv[1])
    print(json.dumps(measure_memory(request["steps"], request["compression"])))
