"""Compare runs: their settings, their final scores, their returns over steps. Or presets: their settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from rich.console import Console

from dqn.errors import UserError
from dqn.report.plots import Metric, draw, make_panels
from dqn.report.runs import find_runs
from dqn.report.settings import Settings, all_keys, differing_keys, flatten, group_runs
from dqn.report.terminal import published_section, scores_table, settings_tables, status_notes
from dqn.terminal import make_console


@dataclass(config=ConfigDict(extra="forbid"), frozen=True)
class CompareOptions:
    """What scripts/compare.py can be asked."""

    runs: Annotated[
        tuple[str, ...],
        Field(description="run folders or globs", examples=[["runs/cartpole/*", "runs/cartpole_blog/*"]]),
    ] = ()
    experiments: Annotated[
        tuple[str, ...],
        Field(
            description="presets in conf/experiment/, to see their settings without any run",
            examples=[["cartpole", "breakout"]],
        ),
    ] = ()
    all: Annotated[bool, Field(description="show every setting, not only those that differ")] = False
    metric: Annotated[
        Metric | None,
        Field(description="which returns to draw; null: evaluations where all groups have some, else training"),
    ] = None
    output: Annotated[
        str,
        Field(description="where to write the picture", pattern=r"\.png$", examples=["figures/cartpole.png"]),
    ] = "comparison.png"


def compare(options: CompareOptions, console: Console | None = None) -> None:
    """Print the comparison that the options ask for and draw its picture.

    Raises:
        UserError: options that do not go together, unknown presets, folders that are no runs, damaged files.
    """
    console = console or make_console()
    if bool(options.runs) == bool(options.experiments):
        problem = "give either runs or experiments" if options.runs else "runs is missing"
        example = 'e.g. runs="[runs/cartpole/*, runs/cartpole_blog/*]" or experiments="[cartpole, breakout]"'
        raise UserError("", None, f"{problem}: {example}")
    if options.experiments:
        _compare_experiments(options, console)
    else:
        _compare_runs(options, console)


def _compare_experiments(options: CompareOptions, console: Console) -> None:
    from dqn.compose import compose_config

    settings = [flatten(compose_config([f"experiment={name}"])) for name in options.experiments]
    _print_settings(options.experiments, settings, options.all, console)


def _compare_runs(options: CompareOptions, console: Console) -> None:
    groups = group_runs(find_runs(options.runs))
    panels = make_panels(groups, options.metric)
    labels = [group.label for group in groups]
    _print_settings(labels, [group.settings for group in groups], options.all, console)
    console.print(scores_table(groups))
    for note in status_notes(groups):
        console.print(note, style="yellow", highlight=False, markup=False)
    for part in published_section(groups):
        console.print(part)
    if not panels:
        console.print("No returns have been recorded yet: there is no picture to draw.")
        return
    draw(panels, labels, Path(options.output))
    console.print(f"Picture: {options.output}", highlight=False, markup=False, soft_wrap=True)


def _print_settings(
    labels: tuple[str, ...] | list[str], settings: list[Settings], show_all: bool, console: Console
) -> None:
    num_keys, num_differing = len(all_keys(settings)), len(differing_keys(settings))
    if num_differing or show_all:
        for table in settings_tables(labels, settings, show_all, console.width):
            console.print(table)
    same = f"{num_keys - num_differing} settings are the same" if num_differing else "All settings are the same"
    console.print(f"{same}{'' if show_all else ' (all=true shows them)'}.\n", style="dim", highlight=False)
