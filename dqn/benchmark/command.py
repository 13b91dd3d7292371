"""`scripts/benchmark.py`: measures, in turn with Stable-Baselines3, and prints the tables."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from dqn.benchmark import report
from dqn.benchmark.floor import Floor
from dqn.benchmark.growth import Growth, growth_table, measure_growth
from dqn.benchmark.measurement import Joint, differences, ratio
from dqn.benchmark.processes import OURS, PEER, in_a_process, measure
from dqn.benchmark.report import Result, fastest
from dqn.benchmark.sampling import KINDS as SAMPLED
from dqn.benchmark.startup import first_step_seconds, help_seconds
from dqn.benchmark.workloads import BREAKOUT, CARTPOLE_TORCH, GROWTH, STACK, STACK_EVERY_STEP, WORKLOADS, Workload
from dqn.compilation import can_compile
from dqn.errors import UserError, nearest
from dqn.files import write_json
from dqn.provenance import provenance
from dqn.terminal import make_console, say

_NAMES = (*WORKLOADS, GROWTH.name, "memory", "sampling", "startup", "checkpoint")
_GROUPS = {"sweep": (STACK_EVERY_STEP.name, STACK.name, CARTPOLE_TORCH.name, GROWTH.name), "all": _NAMES[:-1]}
_PAGE_WIDTH = 120  # characters, where the output is no terminal


@dataclass(config=ConfigDict(extra="forbid"), frozen=True)
class BenchmarkOptions:
    """Options of `scripts/benchmark.py`."""

    repeats: int = Field(5, ge=1, description="measurements of each side", examples=["3"])
    members: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (1, 4, 16, 64, 256), min_length=1, description="of the populations of growth", examples=[[1, 16, 64]]
    )
    memory_steps: int = Field(
        1_000_000, ge=1000, description="agent steps to fill the memory with; a million takes 7 GB"
    )
    output: str = Field("benchmark.json", description="where everything that was measured is written")


def benchmark(names: Sequence[str], options: BenchmarkOptions) -> None:
    """Measure the named workloads, or all.

    Raises:
        UserError: there is no such workload, the output has no folder, or Stable-Baselines3 is not installed.
    """
    chosen: list[str] = []
    for name in names or ("all",):
        if name not in (*_NAMES, *_GROUPS):
            raise UserError("workload", name, f"no such workload; {nearest(name, (*_NAMES, *_GROUPS))}")
        chosen += _GROUPS.get(name, (name,))
    _check_peer(chosen)
    output = Path(options.output)
    if not output.absolute().parent.is_dir():
        raise UserError("output", options.output, "there is no such folder to write in")
    record: dict[str, Any] = {"provenance": provenance(), "options": asdict(options), "workloads": {}}
    results, growth = [], None
    for name in dict.fromkeys(chosen):
        if name in WORKLOADS:
            results.append(_measure(WORKLOADS[name], options.repeats))
            record["workloads"][name] = _record(results[-1])
        elif name == GROWTH.name:
            growth = measure_growth(options.members)
            record["growth"] = growth.record
        elif name == "checkpoint":
            record["checkpoint"] = _measure_checkpoints(options.memory_steps, output.absolute().parent)
        elif name == "memory":
            record["memory"] = _measure_memory(options.memory_steps, options.repeats)
        elif name == "sampling":
            record["sampling"] = _measure_sampling(options.memory_steps)
        else:
            say("startup: five times each")
            record["startup"] = {"help_seconds": help_seconds(5), "first_step_seconds": first_step_seconds(5)}
        write_json(output, record)  # all so far: what follows takes minutes and may fail
    _print(results, growth, record)
    print(f"everything that was measured: {options.output}")


def _print(results: Sequence[Result], growth: Growth | None, record: dict[str, Any]) -> None:
    console = make_console()
    if not console.is_terminal:
        console = make_console(width=_PAGE_WIDTH)
    tables = [make(results) for make in (report.speed_table, report.variants_table, report.sections_table) if results]
    floors = {result.workload.name: result.floor for result in results}
    lines = [problem for result in results for problem in result.problems]
    if growth is not None:
        tables.append(growth_table(growth))
        floors[GROWTH.name] = growth.floor
        lines += growth.problems
    lines += report.floor_lines(floors)
    lines += report.memory_lines(record["memory"]) if "memory" in record else []
    lines += report.sampling_lines(record["sampling"]) if "sampling" in record else []
    lines += report.checkpoint_lines(record["checkpoint"]) if "checkpoint" in record else []
    lines += report.startup_lines(record["startup"]) if "startup" in record else []
    for table in tables:
        console.print(table)
    for line in lines:
        console.print(line, highlight=False)


def _check_peer(chosen: Sequence[str]) -> None:
    needed = [] if set(chosen) <= {"startup", "checkpoint", "sampling", GROWTH.name} else ["stable_baselines3"]
    needed += ["cv2"] if "breakout" in chosen else []
    if any(importlib.util.find_spec(module) is None for module in needed):
        raise UserError("", None, 'Stable-Baselines3 is not installed, or not all of it: pip install -e ".[bench]"')


def _record(result: Result) -> dict[str, Any]:
    """All that was measured, and what the table makes of it."""
    found = result.ratio
    verdict = {
        "compared": result.compared,
        "problems": result.problems,
        "ratio": None if found is None else asdict(found),
        "floor_steps_per_second": result.floor_steps_per_second,
    }
    return {**verdict, **asdict(result)}


def _measure(workload: Workload, repeats: int) -> Result:
    """Every variant once, then the fastest of each side in turn."""
    result = Result(workload, Floor(**in_a_process("dqn.benchmark.floor", {"workload": workload.name})))
    for module, how in _variants(result):
        result.tried.append(measure(module, workload, **how))
    ours, theirs = (fastest(result.tried, side).how for side in ("dqn", "stable-baselines3"))
    for _ in range(repeats):
        result.ours.append(measure(OURS, workload, **ours))
        result.theirs.append(measure(PEER, workload, **theirs))
    result.profiled = measure(OURS, workload, **ours, profile=True)
    return result


def _variants(result: Result) -> Iterator[tuple[str, dict[str, Any]]]:
    workload, floor, precisions = result.workload, result.floor, ["float32"]
    if workload is BREAKOUT:
        if torch.cpu._is_avx512_bf16_supported():
            precisions.append("bfloat16")
        else:
            full, half = floor.operations_per_second / 1e9, floor.bfloat16_operations_per_second / 1e9
            say(
                f"{workload.name}: bfloat16 is left out, since this processor has no instructions for it "
                f"(a matrix product: {half:,.0f} GFLOP/s, in float32 {full:,.0f})"
            )
    forms = workload.compile if can_compile() else ("never",)  # else what is called compiled would not be
    for num_envs in workload.num_envs:
        for compiles in forms:
            for precision, placing in product(precisions, workload.placings):
                yield OURS, {"num_envs": num_envs, "compile": compiles, "precision": precision, **placing}
        yield PEER, {"num_envs": num_envs, "processes": workload.processes}


def _measure_memory(steps: int, repeats: int) -> dict[str, Any]:
    """Plain and compressed: what each takes, and in turn how fast Breakout learns from it."""
    measured = in_a_process("dqn.benchmark.peer_memory", {})
    runs: dict[str, list[Joint]] = {"none": [], "lz4": []}
    for compression in runs:
        say(f"memory: filling {steps:,} steps, compression {compression}")
        measured[compression] = in_a_process("dqn.benchmark.memory", {"steps": steps, "compression": compression})
    how = {"num_envs": BREAKOUT.num_envs[-1], "compile": "never", "precision": "float32"}
    for _ in range(repeats):
        for compression, done in runs.items():
            done.append(measure(OURS, BREAKOUT, **how, compression=compression))
    problems = differences(BREAKOUT, runs["lz4"], runs["none"])
    return {
        **measured,
        "problems": problems,
        "speed_ratio": None if problems else asdict(ratio(runs["lz4"], runs["none"])),
        "runs": {compression: [asdict(one) for one in done] for compression, done in runs.items()},
    }


def _measure_sampling(steps: int) -> list[dict[str, Any]]:
    measured = []
    for kind in SAMPLED:
        say(f"sampling: filling {steps:,} steps, memory={kind}")
        measured.append(in_a_process("dqn.benchmark.sampling", {"steps": steps, "kind": kind}))
    return measured


def _measure_checkpoints(steps: int, folder: Path) -> list[dict[str, Any]]:
    """Of a plain and of a compressed memory; on the disk where the output goes."""
    measured = []
    for compression in ("none", "lz4"):
        say(f"checkpoint: filling {steps:,} steps, compression {compression}")
        request = {"steps": steps, "compression": compression, "folder": str(folder)}
        measured.append(in_a_process("dqn.benchmark.checkpoint", request))
    return measured
