"""`scripts/benchmark.py`: measures, in turn with Stable-Baselines3, and prints the tables."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from rich.console import Console

from dqn.benchmark import report
from dqn.benchmark.floor import Floor
from dqn.benchmark.measurement import Measurement, in_a_process, measure
from dqn.benchmark.report import Result, fastest
from dqn.benchmark.startup import first_step_seconds, help_seconds
from dqn.benchmark.workloads import BREAKOUT, WORKLOADS, Workload
from dqn.errors import UserError, nearest
from dqn.files import write_json
from dqn.provenance import provenance
from dqn.terminal import say

_OURS, _PEER = "dqn.benchmark.ours", "dqn.benchmark.peer"
_NAMES = (*WORKLOADS, "memory", "startup")


@dataclass(config=ConfigDict(extra="forbid"), frozen=True)
class BenchmarkOptions:
    """Options of `scripts/benchmark.py`."""

    repeats: int = Field(5, ge=1, description="measurements of each side", examples=["3"])
    memory_steps: int = Field(
        1_000_000, ge=1000, description="agent steps to fill the memory with; a million takes 7 GB"
    )
    output: str = Field("benchmark.json", description="where everything that was measured is written")


def benchmark(names: Sequence[str], options: BenchmarkOptions) -> None:
    """Measure the named workloads, or all.

    Raises:
        UserError: there is no such workload, or Stable-Baselines3 is not installed.
    """
    chosen = _NAMES if "all" in names or not names else tuple(names)
    for name in chosen:
        if name not in _NAMES:
            raise UserError("workload", name, f"no such workload; {nearest(name, (*_NAMES, 'all'))}")
    if importlib.util.find_spec("stable_baselines3") is None:
        raise UserError("", None, 'Stable-Baselines3 is not installed: pip install -e ".[bench]"')
    record: dict[str, Any] = {"provenance": provenance()}
    results = [_measure(WORKLOADS[name], options.repeats) for name in chosen if name in WORKLOADS]
    record["workloads"] = {result.workload.name: asdict(result) for result in results}
    lines = [problem for result in results for problem in result.problems] + report.floor_lines(results)
    if "memory" in chosen:
        record["memory"] = _measure_memory(options.memory_steps)
        lines += report.memory_lines(record["memory"])
    if "startup" in chosen:
        say("startup: five times each")
        record["startup"] = {"help_seconds": help_seconds(5), "first_step_seconds": first_step_seconds(5)}
        lines += report.startup_lines(record["startup"])
    console = Console()
    if results:
        for table in (report.speed_table, report.variants_table, report.sections_table):
            console.print(table(results))
    for line in lines:
        console.print(line, highlight=False)
    write_json(Path(options.output), record)
    console.print(f"everything that was measured: {options.output}", highlight=False)


def _measure(workload: Workload, repeats: int) -> Result:
    """Every variant once, then the fastest of each side in turn."""
    result = Result(workload, Floor(**in_a_process("dqn.benchmark.floor", {"workload": workload.name})))
    for module, how in _variants(workload):
        result.tried.append(_measure_aloud(module, workload, how))
    ours, theirs = (_how_of(fastest(result.tried, side), workload) for side in ("dqn", "stable-baselines3"))
    for _ in range(repeats):
        result.ours.append(_measure_aloud(_OURS, workload, ours))
        result.theirs.append(_measure_aloud(_PEER, workload, theirs))
    result.sections = _measure_aloud(_OURS, workload, {**ours, "profile": True}).sections
    return result


def _variants(workload: Workload) -> Iterator[tuple[str, dict[str, Any]]]:
    precisions = ["float32"]
    if workload is BREAKOUT:
        if torch.cpu._is_avx512_bf16_supported():
            precisions.append("bfloat16")
        else:
            say(f"{workload.name}: bfloat16 is left out, since this processor has no instructions for it")
    for num_envs in workload.num_envs:
        for compiles in workload.compile:
            for precision in precisions:
                yield _OURS, {"num_envs": num_envs, "compile": compiles, "precision": precision}
        yield _PEER, {"num_envs": num_envs}


def _how_of(one: Measurement, workload: Workload) -> dict[str, Any]:
    """The request that a measurement answered."""
    if one.side != "dqn":
        return {"num_envs": one.num_envs}
    compiles = "never" if one.variant.startswith("uncompiled") else "always"
    precision = "bfloat16" if "bfloat16" in one.variant else "float32"
    return {"num_envs": one.num_envs, "compile": compiles, "precision": precision}


def _measure_aloud(module: str, workload: Workload, how: dict[str, Any]) -> Measurement:
    one = measure(module, workload, **how)
    say(f"{workload.name}: {one.side}, {one.num_envs} at once, {one.variant}: {one.steps_per_second:,.0f} steps/s")
    return one


def _measure_memory(steps: int) -> dict[str, Any]:
    say(f"memory: filling {steps:,} steps")
    peer = in_a_process("dqn.benchmark.peer_memory", {})
    kinds = {
        kind: in_a_process("dqn.benchmark.memory", {"steps": steps, "compression": kind}) for kind in ("none", "lz4")
    }
    return {**kinds, **peer}
