"""How long memories of small observations take: `python -m dqn.benchmark.sampling REQUEST` prints it of one kind."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from dqn.compose import compose_config
from dqn.config import Config
from dqn.experiment import build_trainer
from dqn.memory.prioritized import PrioritizedMemory, RankedMemory
from dqn.memory.stream import Experience
from dqn.validation import validate

KINDS = ("uniform", "prioritized", "ranked")
_BATCH_SIZE = 32
_REPEATS = 500
_RANKINGS = 5


def measure_sampling(steps: int, kind: str) -> dict[str, Any]:
    """Seconds to draw, weigh and read a batch of 32, to give it new priorities, and to rank all."""
    words = ["experiment=cartpole", "env.num_envs=100", f"memory={kind}", f"memory.capacity_steps={steps}"]
    trainer = build_trainer(
        [validate(Config, compose_config([*words, "logger=none", "trainer.threads=1", "trainer.device=cpu"]))]
    )
    memory, num_envs = trainer.parts.memory, trainer.num_envs
    memory.start(torch.zeros((1, num_envs, 4)))
    for _ in range(steps // num_envs):
        frames, no = torch.rand((1, num_envs, 4)), torch.zeros((1, num_envs), dtype=torch.bool)
        memory.add(Experience(no.long(), frames[..., 0], frames[..., 1] < 0.01, no, frames))
    if isinstance(memory, RankedMemory):
        memory.rank()
    trainer.close()
    seconds: dict[str, list[float]] = {}

    def timed(what: str, call: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        result = call()
        seconds.setdefault(what, []).append(time.perf_counter() - started)
        return result

    def sample() -> torch.Tensor:
        places = memory.draw(torch.rand((1, _BATCH_SIZE), dtype=torch.float64))
        if isinstance(memory, PrioritizedMemory):
            memory.importance(places)
        memory.read(places)
        return places

    for _ in range(_REPEATS):
        places = timed("sample", sample)
        if isinstance(memory, PrioritizedMemory):
            timed("prioritize", partial(memory.prioritize, places, torch.rand((1, _BATCH_SIZE))))
    if isinstance(memory, RankedMemory):
        for _ in range(_RANKINGS):
            timed("rank", memory.rank)
    return {"kind": kind, "steps": steps, **{what: statistics.median(times) for what, times in seconds.items()}}


if __name__ == "__main__":
    request = json.loads(sys.argv[1])
    print(json.dumps(measure_sampling(request["steps"], request["kind"])))
