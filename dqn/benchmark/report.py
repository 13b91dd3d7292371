"""The tables of a benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from dqn.benchmark.floor import Floor
from dqn.benchmark.measurement import Joint, Ratio, counted, differences, median_speed, ratio
from dqn.benchmark.workloads import Workload

LAYOUT: dict[str, Any] = {"box": SIMPLE_HEAD, "title_justify": "left", "pad_edge": False, "padding": (0, 1, 0, 0)}


@dataclass
class Result:
    """All that was measured of one workload."""

    workload: Workload
    floor: Floor
    tried: list[Joint] = field(default_factory=list)  # each variant once
    ours: list[Joint] = field(default_factory=list)  # the fastest variant, in turn with theirs
    theirs: list[Joint] = field(default_factory=list)
    profiled: Joint | None = None  # a further run of our fastest

    @property
    def problems(self) -> list[str]:
        """Why there is no ratio."""
        return [f"{self.workload.name}: {words}" for words in differences(self.workload, self.ours, self.theirs)]

    @property
    def ratio(self) -> Ratio | None:
        """How many times as fast we are; None where the two sides did not do the same work."""
        return None if self.problems else ratio(self.ours, self.theirs)

    @property
    def floor_steps_per_second(self) -> float:
        """The floor in the precision that we took."""
        return self.floor.steps_per_second(self.ours[0].precision)

    @property
    def compared(self) -> str:
        """Which variants the ratio is of."""
        ours, theirs = self.ours[0], self.theirs[0]
        return f"{self.workload.name}: {_how(ours)} against {_how(theirs)}"


def fastest(measurements: Sequence[Joint], side: str) -> Joint:
    """The fastest variant of a side."""
    return max((one for one in measurements if one.side == side), key=lambda one: one.steps_per_second)


def speed_table(results: Sequence[Result]) -> Table:
    """Agent steps per second of both sides, their ratio, and the floor."""
    variants = "\n".join(["The faster variant of each side:", *(result.compared for result in results)])
    title = "Agent steps per second of all members while learning, without those that only reset, medians"
    table = Table(title=title, caption=variants, caption_justify="left", **LAYOUT)
    headings = ("", "dqn", "Stable-Baselines3", "ratio (least to largest)", "target", "floor", "of it")
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "" else "right", overflow="fold")
    for result in results:
        speed, target = median_speed(result.ours), result.workload.target_ratio
        found = result.ratio
        if found is None:
            quotient, verdict = "not the same work", "-"
        else:
            quotient = f"{found.median:.2f} ({found.least:.2f} to {found.largest:.2f})"
            verdict = f"{target:g} {'met' if found.median >= target else 'missed'}"
        floor = result.floor_steps_per_second
        theirs = f"{median_speed(result.theirs):,.0f}"
        cells = (
            result.workload.name,
            f"{speed:,.0f}",
            theirs,
            quotient,
            verdict,
            f"{floor:,.0f}",
            f"{speed / floor:.0%}",
        )
        table.add_row(*cells)
    return table


def variants_table(results: Sequence[Result]) -> Table:
    """What each choice brings: every variant, measured once."""
    table = Table(title="Every variant, once", **LAYOUT)
    for heading in ("", "side", "environments", "how", "steps/s", "compiling or loading, s"):
        table.add_column(heading, justify="left" if heading in ("", "side", "how") else "right", overflow="fold")
    for result in results:
        for one in result.tried:
            compiling = f"{one.compile_seconds:.1f}" if one.compile_seconds else ""
            speed = f"{one.steps_per_second:,.0f}"
            table.add_row(result.workload.name, one.side, str(one.num_envs), one.variant, speed, compiling)
    return table


def sections_table(results: Sequence[Result]) -> Table:
    """Where our time goes, in one of our processes: each section's share, and the microseconds of a step in all."""
    profiled = [(result.workload.name, result.profiled.processes[0]) for result in results if result.profiled]
    names = list(dict.fromkeys(name for _, one in profiled for name in one.sections))
    table = Table(title="Where our time goes, in a further run with a clock in it", **LAYOUT)
    table.add_column("")
    for name in names:
        table.add_column(name, justify="right", overflow="fold")
    table.add_column("us a step", justify="right", overflow="fold")
    for workload, one in profiled:
        total = sum(one.sections.values())
        cells = [f"{one.sections.get(name, 0.0) / total:.1%}" for name in names]
        table.add_row(workload, *cells, f"{1e6 * total / one.steps:,.1f}")
    return table


def sampling_lines(measured: Sequence[dict[str, Any]]) -> list[str]:
    """What the kinds of memory take for a batch."""
    lines = []
    for one in measured:
        line = f"memory={one['kind']}: of {one['steps']:,} steps of CartPole a batch of 32 is sampled in"
        line += f" {1e3 * one['sample']:.2f} ms ({_verdict(one['sample'] < 3e-4, '0.3 ms')})"
        line += f", given priorities in {1e3 * one['prioritize']:.2f} ms" if "prioritize" in one else ""
        lines.append(line + (f"; all are ranked in {1e3 * one['rank']:.0f} ms" if "rank" in one else ""))
    return lines


def memory_lines(measured: dict[str, Any]) -> list[str]:
    """The memory's figures beside their targets."""
    lines = []
    for kind, limit in (("none", 7.2), ("lz4", 2.0)):
        one = measured[kind]
        per_million = one["bytes"] / one["steps"] * 1e6 / 1e9
        lines.append(
            f"memory.compression={kind}: {one['steps']:,} steps of Breakout take {one['bytes'] / 1e9:.2f} GB, "
            f"{per_million:.2f} GB a million ({_verdict(per_million <= limit, f'{limit} GB')}); "
            f"a batch of 32 is sampled in {1e3 * one['sample_seconds']:.2f} ms"
        )
    sample = measured["none"]["sample_seconds"]
    peer = measured["peer_bytes_per_step"] * 1e6 / 1e9
    lines[0] += f" ({_verdict(sample < 3e-4, '0.3 ms')})"
    lines.append(f"Stable-Baselines3's replay buffer takes {peer:.1f} GB a million")
    lines += [f"memory.compression=lz4: {words}" for words in measured["problems"]]
    speed = measured["speed_ratio"]
    if speed is not None:
        lines.append(
            f"memory.compression=lz4: Breakout learns {speed['median']:.2f} times as fast as without "
            f"({speed['least']:.2f} to {speed['largest']:.2f}; {_verdict(speed['median'] > 0.9, 'over 0.9')})"
        )
    return lines


def startup_lines(measured: dict[str, float]) -> list[str]:
    """The times to begin beside their targets."""
    step, help_ = measured["first_step_seconds"], measured["help_seconds"]
    return [
        f"startup: scripts/train.py takes {step:.2f} s to its first environment step ({_verdict(step < 4, '4 s')})",
        f"startup: --help takes {help_:.2f} s ({_verdict(help_ < 1, '1 s')})",
    ]


def floor_lines(floors: Mapping[str, Floor]) -> list[str]:
    """What the floors of workloads, by name, are made of."""
    return [f"floor of {name}: {_made_of(floor)}" for name, floor in floors.items()]


def _made_of(floor: Floor) -> str:
    seconds, speed = floor.environment_seconds_per_step, floor.steps_per_second("float32")
    return (
        f"{speed:,.0f} steps/s, from {floor.operations_per_step / 1e6:,.1f} million operations "
        f"a step at {floor.operations_per_second / 1e9:,.0f} GFLOP/s on {counted(floor.threads, 'thread')} "
        f"(bfloat16: {floor.bfloat16_operations_per_second / 1e9:,.0f})"
        + (f" and {1e6 * seconds:,.0f} us of environment" if seconds else "")
    )


def _how(one: Joint) -> str:
    return f"{counted(one.num_envs, 'environment')} {one.variant}"


def _verdict(met: bool, target: str) -> str:
    return f"target {target}: {'met' if met else 'missed'}"


def checkpoint_lines(measured: Sequence[Mapping[str, Any]]) -> list[str]:
    """What checkpoints of a filled memory take, and what they cost the training that goes on meanwhile."""
    lines = []
    for one in measured:
        first, later, steps = one["first"], one["later"], one["steps"]
        speed, lost = one["steps_per_second"], later["stall_seconds"]
        lines += [
            f"checkpoints of {steps:,} steps of Breakout, compression {one['compression']}:",
            f"  the first: {first['bytes'] / 1e9:.2f} GB in {first['seconds']:.1f} s",
            f"  after {steps // 4:,} steps more: {later['bytes'] / 1e9:.2f} GB in {later['seconds']:.1f} s",
            f"  of which training at {speed:,.0f} steps/s loses {lost:.1f} s, {later['call_seconds']:.2f} s at once: "
            f"{lost * speed / (steps // 4):.2%} of the time between two",
            f"  resuming: {one['resume_seconds']:.1f} s, and at most {one['replay_seconds']:.1f} s to replay the games",
        ]
    return lines
