"""The short table at the end of a run: what came out, where it is, what to run next."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dqn.observers.progress import duration
from dqn.terminal import make_console, printable, unfailing

_STYLES = {"completed": "bold green", "converged": "bold green", "diverged": "bold red"}


def print_result_table(summary: Mapping[str, Any], folder: Path, console: Console | None = None) -> None:
    """Prints a run's result.

    Args:
        summary: the content of summary.json.
        folder: the run's folder.
        console: where to; standard output if None.
    """
    console = console or make_console(file=unfailing(sys.stdout))
    table = Table.grid(padding=(0, 3))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for label, value in _rows(summary, folder):
        table.add_row(label, value)
    console.print()
    console.print(table)
    console.print("\nnext", style="dim", highlight=False)
    for command in _commands(summary, folder):
        # As long as it is: a wrapped command cannot be copied.
        console.print(f"  {command}", soft_wrap=True, markup=False, highlight=False)


def _rows(summary: Mapping[str, Any], folder: Path) -> Iterator[tuple[str, Text | str]]:
    status = Text(summary["status"], style=_STYLES.get(summary["status"], "bold yellow"))
    if summary["reason"]:
        status.append(printable(f": {summary['reason']}"), style="default not bold")
    yield "status", status
    yield "run", Text(printable(f"{summary['name']}, seed {summary['seed']}"))
    yield "training", _training(summary)
    yield from _final_evaluation(summary["final_evaluation"])
    if summary["best_evaluation"] is not None:
        best = summary["best_evaluation"]
        yield "best evaluation", f"{best['mean_return']:.1f} at step {best['step']:,}"
    yield "folder", Text(printable(shown(folder)))
    yield "", Text(printable(_contents(folder)))
    export = summary["export"]
    for name, reason in export["skipped"].items() if export is not None else ():
        yield "not exported", Text(f"{name}: {reason}")


def _training(summary: Mapping[str, Any]) -> str:
    counts = f"{summary['steps']:,} steps, {summary['episodes']:,} episodes, {summary['updates']:,} updates"
    if summary["frames"] != summary["steps"]:
        counts = f"{summary['frames']:,} frames, {counts}"
    return f"{counts} in {duration(summary['seconds'])}"


def _final_evaluation(result: Mapping[str, Any] | None) -> Iterator[tuple[str, str]]:
    if result is None:
        yield "final evaluation", "none"
        return
    error = result["standard_error"]
    margin = "" if error is None else f" ± {error:.1f} (standard error)"
    spread = f"{result['min_return']:.1f} to {result['max_return']:.1f}"
    middle = f"median {result['median_return']:.1f}, IQM {result['iqm_return']:.1f}"
    yield "final evaluation", f"mean {result['mean_return']:.1f}{margin}, {middle}, {spread}"
    played = f"{result['episodes']} episodes with epsilon {result['epsilon']:g}"
    yield "", f"{result['network']} network, of step {result['step']:,}; {played}"
    if result.get("optimal_fraction") is not None:
        yield "", f"optimal in {result['optimal_fraction']:.0%} of the episodes"


def _contents(folder: Path) -> str:
    """The run's files and folders, the exported files by name."""
    parts = []
    visible = [path for path in folder.iterdir() if not path.name.startswith(".")]
    for path in sorted(visible, key=lambda path: (path.is_dir(), path.name)):
        if path.name in ("export", "videos"):
            parts += [f"{path.name}/{file.name}" for file in sorted(path.iterdir())]
        else:
            parts.append(f"{path.name}/" if path.is_dir() else path.name)
    return "  ".join(parts)


def _commands(summary: Mapping[str, Any], folder: Path) -> Iterator[str]:
    run = _override_value(shown(folder))
    beside = shown(folder.parent / "*")
    runs = _override_value(f"./{beside}" if beside == "*" else beside)  # a bare star is YAML's, not a glob
    if summary["status"] == "interrupted":
        yield f"python scripts/train.py resume={shlex.quote(run)}"
    if summary["export"] is not None:
        yield f"python scripts/evaluate.py run={shlex.quote(run)} video=true"
    yield f"python scripts/compare.py runs={shlex.quote(f'[{runs}]')}"


def _override_value(text: str) -> str:
    """`text` as the value of an override: in quotes if it has characters that mean something to Hydra."""
    return text if re.fullmatch(r"[\w/.*+@-]+", text) else f'"{text}"'


def shown(folder: Path) -> str:
    """The folder as a user would type it: relative where it lies below the working directory."""
    relative = os.path.relpath(folder)
    return str(folder.absolute()) if relative.startswith("..") else relative
