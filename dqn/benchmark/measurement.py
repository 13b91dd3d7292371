"""One measurement, and what several of them say together."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from dqn.benchmark.workloads import Workload

_LEAST_OVERLAP = (
    0.7  # of the time in which any process is timed; the rest of it one has more than its share of the machine
)


@dataclass(frozen=True)
class Measurement:
    """What one process did in the timed steps of a workload: steps, updates and resets of all its members."""

    side: str  # dqn or stable-baselines3
    num_envs: int  # of each member
    variant: str  # how it was run, for the reader
    steps: int
    started: float  # seconds on a clock that all processes share
    seconds: float
    updates: int
    batch_size: int
    parameters: int  # of the network that learns
    members: int = 1  # of the population
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


@dataclass(frozen=True)
class Joint:
    """Processes of one side that were measured at the same time; mostly there is one."""

    how: dict[str, Any]  # that they were asked to do it
    processes: list[Measurement]

    @property
    def side(self) -> str:
        """Whose."""
        return self.processes[0].side

    @property
    def precision(self) -> str:
        """Of the arithmetic."""
        return self.processes[0].precision

    @property
    def variant(self) -> str:
        """How it was run, for the reader."""
        count, each = len(self.processes), self.processes[0].variant
        return each if count == 1 else f"{each}, in each of {count} processes"

    @property
    def num_envs(self) -> int:
        """Of each member."""
        return self.processes[0].num_envs

    @property
    def members(self) -> int:
        """Of all of them."""
        return sum(one.members for one in self.processes)

    @property
    def compile_seconds(self) -> float:
        """Until the last of them was ready."""
        return max(one.compile_seconds for one in self.processes)

    @property
    def steps_per_second(self) -> float:
        """Agent steps per second, the sum of theirs."""
        return sum(one.steps_per_second for one in self.processes)

    @property
    def overlap(self) -> float:
        """Of the time in which any of them was timed, the share in which all were."""
        begins = [one.started for one in self.processes]
        ends = [one.started + one.seconds for one in self.processes]
        return max(0.0, min(ends) - max(begins)) / (max(ends) - min(begins))


def differences(workload: Workload, ours: Sequence[Joint], theirs: Sequence[Joint]) -> list[str]:
    """Where the two sides did not do the same work for each member, in words; a ratio is worth nothing then.

    Steps and updates may differ by what one step call of several environments brings.
    """
    together = [*ours, *theirs]
    found = [words for joint in together for words in _not_together(workload, joint)]
    every = [one for joint in together for one in joint.processes]
    for one in every:
        due = workload.updates_due(one.steps)
        slack = one.members * max(1, workload.updates_due(2 * one.num_envs))
        if abs(one.updates - due) > slack:
            found.append(f"{one.side} made {one.updates} updates in {one.steps} steps, where {due} are due")
        timed = one.members * workload.timed_steps
        if abs(one.steps - timed) > one.members * one.num_envs:
            found.append(f"{one.side} was timed over {one.steps} steps instead of {timed}")
        if one.batch_size != workload.batch_size:
            found.append(f"{one.side} learned from batches of {one.batch_size} instead of {workload.batch_size}")
    sizes = {one.side: one.parameters for one in every}
    if len(set(sizes.values())) > 1:
        found.append("networks differ: " + ", ".join(f"{side} has {n:,} parameters" for side, n in sizes.items()))
    return list(dict.fromkeys(found))


def _not_together(workload: Workload, joint: Joint) -> Iterator[str]:
    wanted = workload.members if joint.side == "dqn" else workload.processes
    if joint.members != wanted:
        yield f"{joint.side} trained {joint.members} at the same time instead of {wanted}"
    if joint.overlap < _LEAST_OVERLAP:
        yield f"{joint.side}'s processes were timed together for {joint.overlap:.0%} of the time only"


@dataclass(frozen=True)
class Ratio:
    """How many times as fast one side is: the median of paired measurements, and the least and largest of them."""

    median: float
    least: float
    largest: float


def ratio(ours: Sequence[Joint], theirs: Sequence[Joint]) -> Ratio:
    """Of measurements that were taken in turn."""
    ratios = [a.steps_per_second / b.steps_per_second for a, b in zip(ours, theirs, strict=True)]
    return Ratio(statistics.median(ratios), min(ratios), max(ratios))


def median_speed(measurements: Sequence[Joint]) -> float:
    """Steps per second."""
    return statistics.median(one.steps_per_second for one in measurements)


def counted(number: int, noun: str) -> str:
    """A number and its noun."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
