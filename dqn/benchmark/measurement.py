"""One measurement, and what several of them say together."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from dqn.benchmark.workloads import Workload
from dqn.errors import TrainingError


@dataclass(frozen=True)
class Measurement:
    """What one side did in the timed steps of a workload."""

    side: str  # dqn or stable-baselines3
    num_envs: int
    variant: str  # how it was run, for the reader
    steps: int
    seconds: float
    updates: int
    batch_size: int
    parameters: int  # of the network that learns
    resets: int = 0  # of the steps, those that only began an episode: Stable-Baselines3 takes none for that
    compile_seconds: float = 0.0
    sections: dict[str, float] = field(default_factory=dict)  # of the timed seconds, where it was profiled

    @property
    def precision(self) -> str:
        """Of the arithmetic."""
        return "bfloat16" if "bfloat16" in self.variant else "float32"

    @property
    def steps_per_second(self) -> float:
        """Agent steps per second, of those in which the agent acted."""
        return (self.steps - self.resets) / self.seconds


def in_a_process(module: str, request: dict[str, Any]) -> dict[str, Any]:
    """The answer of `python -m module` to a request: a fresh process, so that threads and caches are its own.

    Raises:
        TrainingError: it failed; says what it printed last.
    """
    command = [sys.executable, "-m", module, json.dumps(request)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        raise TrainingError(f"{module} ended with status {done.returncode}: {last}")
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


def measure(module: str, workload: Workload, **how: Any) -> Measurement:
    """One measurement of a workload by the side that a module runs."""
    return Measurement(**in_a_process(module, {"workload": workload.name, **how}))


def answer(measurement: Measurement) -> None:
    """Print a measurement for `in_a_process`."""
    print(json.dumps(asdict(measurement)))


def differences(workload: Workload, ours: Sequence[Measurement], theirs: Sequence[Measurement]) -> list[str]:
    """Where the two sides did not do the same work, in words; a ratio is worth nothing then.

    Steps and updates may differ by what one step call of several environments brings.
    """
    found = []
    for one in (*ours, *theirs):
        due = workload.updates_due(one.steps)
        slack = max(1, workload.updates_due(2 * one.num_envs))
        if abs(one.updates - due) > slack:
            found.append(f"{one.side} made {one.updates} updates in {one.steps} steps, where {due} are due")
        if abs(one.steps - workload.timed_steps) > one.num_envs:
            found.append(f"{one.side} was timed over {one.steps} steps instead of {workload.timed_steps}")
        if one.batch_size != workload.batch_size:
            found.append(f"{one.side} learned from batches of {one.batch_size} instead of {workload.batch_size}")
    sizes = {one.side: one.parameters for one in (*ours, *theirs)}
    if len(set(sizes.values())) > 1:
        found.append("networks differ: " + ", ".join(f"{side} has {n:,} parameters" for side, n in sizes.items()))
    return list(dict.fromkeys(found))


@dataclass(frozen=True)
class Ratio:
    """How many times as fast one side is: the median of paired measurements, and the least and largest of them."""

    median: float
    least: float
    largest: float


def ratio(ours: Sequence[Measurement], theirs: Sequence[Measurement]) -> Ratio:
    """Of measurements that were taken in turn."""
    ratios = [a.steps_per_second / b.steps_per_second for a, b in zip(ours, theirs, strict=True)]
    return Ratio(statistics.median(ratios), min(ratios), max(ratios))


def median_speed(measurements: Sequence[Measurement]) -> float:
    """Steps per second."""
    return statistics.median(one.steps_per_second for one in measurements)
