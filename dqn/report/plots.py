"""The picture of a comparison: returns over steps, a line for each group of seeds."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import cycle, product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import numpy.typing as npt

from dqn.errors import UserError
from dqn.report.runs import Curve
from dqn.report.settings import Group
from dqn.report.statistics import mean_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Metric = Literal["evaluation", "training"]

# Okabe and Ito's colours, told apart by colour-blind people too, without the yellow that vanishes on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#555555")
_LINES = ("-", "--", ":", "-.")
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.edgecolor": "#888888",
    "axes.labelcolor": "#333333",
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.formatter.useoffset": False,
    "axes.grid": True,
    "grid.color": "#E5E5E5",
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "xtick.color": "#666666",
    "ytick.color": "#666666",
    "text.parse_math": False,
    "savefig.dpi": 200,
}
MUTED = "#666666"
_MOST_BINS = 60
_MOST_MARKERS = 40  # with more points than that, markers would hide the line


@dataclass(frozen=True)
class Band:
    """A group's line: steps (n,), the mean over seeds (n,), and the interval around it."""

    steps: npt.NDArray[np.float64]
    mean: npt.NDArray[np.float64]
    lower: npt.NDArray[np.float64]
    upper: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Panel:
    """The groups on one environment, whose returns may be compared; `bin_steps` is None for evaluations."""

    title: str
    bin_steps: int | None
    frames_per_step: int
    groups: tuple[Group, ...]
    bands: tuple[Band | None, ...]


def make_panels(groups: Sequence[Group], metric: Metric | None) -> list[Panel]:
    """A panel per environment with any returns; without a metric, evaluations if all its groups have some."""
    environments: dict[str, list[Group]] = {}
    for group in groups:
        environments.setdefault(group.runs[0].environment[1], []).append(group)
    panels = [_panel(of_environment, metric) for of_environment in environments.values()]
    return [panel for panel in panels if any(panel.bands)]


def draw(panels: Sequence[Panel], labels: Sequence[str], output: Path) -> None:
    """Write the picture; a group has the same colour in every panel, as the order of all `labels` says.

    Raises:
        UserError: the file cannot be written.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    styles = dict(zip(labels, cycle(product(_LINES, COLOURS)), strict=False))
    with rc_context(STYLE):
        layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12)
        height = sum(4.2 + 0.22 * len(panel.groups) for panel in panels)  # the legend takes a line per group
        figure = Figure(figsize=(8, height), layout=layout)
        axes = figure.subplots(len(panels), squeeze=False)[:, 0]
        for panel, ax in zip(panels, axes, strict=True):
            _draw_panel(ax, panel, styles)
        figure.supxlabel(_caption(panels), fontsize=8.5, color=MUTED, x=0.015, ha="left")
        save_figure(figure, output)


def band(curves: Sequence[Curve], ended: Sequence[bool], steps: npt.ArrayLike) -> Band:
    """The mean and its interval at the given steps, from those of the curves that have come so far.

    Between its points a curve is a straight line. Of a run that has `ended`, the last value stays.
    """
    at = np.asarray(steps, dtype=np.float64)
    rows = [
        np.interp(at, curve.steps, curve.returns, left=np.nan, right=None if end else np.nan)
        for curve, end in zip(curves, ended, strict=True)
    ]
    values = np.array(rows)  # (seeds, steps)
    reached = ~np.isnan(values).all(axis=0)
    lower, upper = mean_interval(values[:, reached])
    return Band(at[reached], np.nanmean(values[:, reached], axis=0), lower, upper)


def binned(curve: Curve, bin_steps: int) -> Curve:
    """The mean return of the episodes that ended in each bin of `bin_steps` steps, at the bin's middle."""
    bins, where = np.unique((curve.steps - 1).clip(0) // bin_steps, return_inverse=True)
    means = np.bincount(where, weights=curve.returns) / np.bincount(where) if len(curve) else curve.returns
    return Curve(bins * bin_steps + bin_steps // 2, means)


def bin_width(last_step: int) -> int:
    """A round width (1, 2 or 5 times a power of ten) that needs at most 60 bins up to `last_step`."""
    power = 1
    while True:
        for width in (power, 2 * power, 5 * power):
            if width * _MOST_BINS >= last_step:
                return width
        power *= 10


def _panel(groups: Sequence[Group], metric: Metric | None) -> Panel:
    lacking = [group.label for group in groups if not any(run.curves["evaluation"] for run in group.runs)]
    if metric == "evaluation" and lacking:
        raise UserError("metric", metric, f"{lacking[0]} has no evaluations yet; use metric=training")
    metric = metric or ("training" if lacking else "evaluation")
    last_step = max(run.steps for group in groups for run in group.runs)
    bin_steps = bin_width(last_step) if metric == "training" else None
    repeats = {run.frames_per_step for group in groups for run in group.runs}
    return Panel(
        title=groups[0].runs[0].environment[0],
        bin_steps=bin_steps,
        frames_per_step=repeats.pop() if len(repeats) == 1 else 1,
        groups=tuple(groups),
        bands=tuple(_group_band(group, bin_steps) for group in groups),
    )


def _group_band(group: Group, bin_steps: int | None) -> Band | None:
    """The group's evaluations, or with `bin_steps` its training episodes; None where there are none yet."""
    kind = "evaluation" if bin_steps is None else "episode"
    runs = [run for run in group.runs if run.curves[kind]]
    if not runs:
        return None
    curves = [run.curves[kind] if bin_steps is None else binned(run.curves[kind], bin_steps) for run in runs]
    steps = np.unique(np.concatenate([curve.steps for curve in curves]))
    return band(curves, [run.status != "running" for run in runs], steps)


def _draw_panel(ax: Axes, panel: Panel, styles: Mapping[str, tuple[str, str]]) -> None:
    from matplotlib.transforms import offset_copy

    for group, line in zip(panel.groups, panel.bands, strict=True):
        if line is None:
            continue
        linestyle, colour = styles[group.label]
        marker = "o" if len(line.steps) <= _MOST_MARKERS else ""
        ax.fill_between(line.steps, line.lower, line.upper, color=colour, alpha=0.16, linewidth=0)
        ax.plot(
            line.steps, line.mean, linestyle, color=colour, marker=marker, markersize=3.5, linewidth=1.8,
            label=f"{group.label} ({_seeds(group)})",
        )  # fmt: skip
    ax.set_title(panel.title, loc="left", fontsize=12, fontweight="bold", pad=10)
    ax.set_ylabel("evaluation return" if panel.bin_steps is None else "training episode return")
    ax.set_xlim(left=0)
    ax.margins(x=0.02)
    label_steps(ax, panel.frames_per_step)
    below = offset_copy(ax.transAxes, ax.get_figure(root=True), y=-42, units="points")  # the axis labels
    entries = [textwrap.fill(str(line.get_label()), 80) for line in ax.get_lines()]
    columns = 2 if max(map(len, entries)) <= 36 else 1
    ax.legend(
        ax.get_lines(), entries, ncols=columns, loc="upper left", bbox_to_anchor=(0, 0), bbox_transform=below,
        frameon=False, borderaxespad=0, borderpad=0.2,
    )  # fmt: skip


def label_steps(ax: Axes, frames_per_step: int) -> None:
    """Agent steps below; frames above, where a step is several of them."""
    from matplotlib.ticker import EngFormatter

    ax.set_xlabel("agent steps")
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    if frames_per_step > 1:
        conversion = (lambda steps: steps * frames_per_step, lambda frames: frames / frames_per_step)
        frames = ax.secondary_xaxis("top", functions=cast(Any, conversion))
        frames.set_xlabel(f"frames ({frames_per_step} per step)", color=MUTED)
        frames.xaxis.set_major_formatter(EngFormatter(sep=""))
        frames.spines["top"].set_visible(False)


def _seeds(group: Group) -> str:
    running = sum(run.status == "running" for run in group.runs)
    count = f"{len(group.runs)} seed{'s' if len(group.runs) != 1 else ''}"
    return f"{count}, {running} still running" if running else count


def _caption(panels: Sequence[Panel]) -> str:
    """What the lines and the bands are."""
    sentences = []
    num_seeds = {len(group.runs) for panel in panels for group in panel.groups}
    if max(num_seeds) >= 3:
        few = " (lowest to highest seed where there are fewer than 3)" if min(num_seeds) < 3 else ""
        sentences.append(f"Line: mean over seeds. Band: 95 % bootstrap interval of that mean{few}.")
    elif max(num_seeds) == 2:
        sentences.append("Line: mean over seeds. Band: lowest to highest seed.")
    groups = [group.runs for panel in panels for group in panel.groups]
    if any(run.status == "running" for runs in groups for run in runs if len(runs) > 1):
        sentences.append("Runs still going count as far as they have come.")
    if any(len({run.steps for run in runs if run.status != "running"}) > 1 for runs in groups):
        sentences.append("A run that ended before the others of its group counts with its last value from there.")
    for bin_steps in sorted({panel.bin_steps for panel in panels if panel.bin_steps}):
        sentences.append(f"Training returns are means over the episodes in bins of {bin_steps:,} steps.")
    return "\n".join(sentences)


def save_figure(figure: Figure, output: Path) -> None:
    """Write the whole file or nothing: beside its place first, then renamed.

    Raises:
        UserError: the file cannot be written.
    """
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    temporary = output.with_name(f".{output.name}.part")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(picture.getvalue())
        temporary.replace(output)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise UserError("output", output, f"cannot be written: {error.strerror}") from None
