"""The picture of population-based training: members over steps, who became a copy of whom, and how traits went."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dqn.report.plots import MUTED, STYLE, label_steps, save_figure
from dqn.report.sweep_plots import ValueScale
from dqn.report.sweep_runs import Job
from dqn.sweep.lineage import Birth
from dqn.terminal import one_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap, Normalize

_PARENT = "#333333"


def draw_lineage(jobs: Sequence[Job], births: Sequence[Birth], output: Path) -> str:
    """Draw members as lines coloured by score, with arrows to copies, and each trait below; returns the file's name."""
    from matplotlib import colormaps, rc_context
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    lives = {job.number: _Life(job, [birth for birth in births if birth.member == job.number]) for job in jobs}
    scores = [score for life in lives.values() for _, score in life.scores]
    shades = Normalize(min(scores, default=0.0), max(scores, default=1.0))
    colours = ListedColormap(colormaps["viridis_r"](np.linspace(0.05, 0.95, 256)))  # its yellow vanishes on white
    traits = list(births[0].values)
    heights = [0.24 * len(lives) + 1.0, *[1.9] * len(traits)]
    with rc_context(STYLE):
        layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)
        figure = Figure(figsize=(8.5, sum(heights) + 0.6), layout=layout)
        top, *rest = figure.subplots(len(heights), sharex=True, squeeze=False, height_ratios=heights)[:, 0]
        _draw_members(top, lives, births, shades, colours)
        for ax, trait in zip(rest, traits, strict=True):
            _draw_trait(ax, trait, lives, shades, colours)
        label_steps([top, *rest][-1], jobs[0].run.frames_per_step if jobs[0].run else 1)
        figure.colorbar(ScalarMappable(shades, colours), ax=[top, *rest], label="evaluation return", aspect=40)
        caption = (
            "A line is a member, coloured by its next evaluation. An arrow leads from a parent to the member that\n"
            "goes on as its copy (network, optimizer, perturbed traits); those of one step stand side by side."
        )
        figure.supxlabel(caption, fontsize=8.5, color=MUTED, x=0.015, ha="left")
        save_figure(figure, output)
    return output.name


class _Life:
    """What is drawn of one member: its evaluations (step, score), and its births."""

    def __init__(self, job: Job, births: Sequence[Birth]) -> None:
        curve = job.run.curves["evaluation"] if job.run else None
        self.scores = [] if curve is None else list(zip(curve.steps.tolist(), curve.returns.tolist(), strict=True))
        self.births = births

    def stretches(self) -> list[tuple[int, int, float]]:
        """From evaluation to evaluation, the first from the beginning on: begin, end, score at the end."""
        return [(begin, end, score) for (begin, _), (end, score) in pairwise([(0, 0.0), *self.scores])]

    def value(self, trait: str, step: int) -> float:
        """The trait's value from a step on."""
        return [birth.values[trait] for birth in self.births if birth.step <= step][-1]


def _draw_members(
    ax: Axes, lives: Mapping[int, _Life], births: Sequence[Birth], shades: Normalize, colours: Colormap
) -> None:
    rows = {member: row for row, member in enumerate(lives)}
    for member, life in lives.items():
        for begin, end, score in life.stretches():
            ax.plot(
                [begin, end], [rows[member]] * 2, color=colours(shades(score)), linewidth=4.5, solid_capstyle="butt"
            )
    for x, member, parent in _side_by_side(births):
        arrow = {"arrowstyle": "-|>", "color": _PARENT, "linewidth": 0.9, "shrinkA": 0, "shrinkB": 0}
        ax.annotate("", xy=(x, rows[member]), xytext=(x, rows[parent]), arrowprops=arrow)
        ax.plot([x], [rows[parent]], "o", color=_PARENT, markersize=3, zorder=4)
    ax.set_yticks(list(rows.values()), [str(member) for member in rows], fontsize=8)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_xlim(left=0)
    ax.grid(visible=False, axis="y")
    ax.set_ylabel("member")


def _side_by_side(births: Sequence[Birth]) -> Iterator[tuple[float, int, int]]:
    """Where to draw the arrow of each copy, with member and parent: those of one step next to each other, around it."""
    steps = sorted({birth.step for birth in births})
    room = 0.6 * min((after - before for before, after in pairwise(steps)), default=0)
    for step in steps:
        of_step = [(birth.member, birth.parent) for birth in births if birth.step == step and birth.parent is not None]
        for place, (member, parent) in enumerate(of_step):
            yield step + room * ((place + 0.5) / len(of_step) - 0.5), member, parent


def _draw_trait(ax: Axes, trait: str, lives: Mapping[int, _Life], shades: Normalize, colours: Colormap) -> None:
    from matplotlib.ticker import NullLocator

    for life in lives.values():
        for begin, end, score in life.stretches():
            ax.plot([begin, end], [life.value(trait, begin)] * 2, color=colours(shades(score)), linewidth=1.6)
        for before, after in pairwise(life.births):
            places = [before.values[trait], after.values[trait]]
            ax.plot([after.step] * 2, places, color="#BBBBBB", linewidth=0.6, zorder=1)
    scale = ValueScale([repr(birth.values[trait]) for life in lives.values() for birth in life.births])
    if scale.is_log:
        ax.set_yscale("log")
    ticks = scale.ticks()
    ax.set_yticks([position for position, _ in ticks], [text for _, text in ticks], fontsize=8)
    ax.yaxis.set_minor_locator(NullLocator())
    ax.set_title(one_line(trait), loc="left", fontsize=9.5, fontweight="bold")
