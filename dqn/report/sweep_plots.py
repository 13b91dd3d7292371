"""Pictures of a sweep: the score of its settings over each swept parameter, and over all of them at once."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dqn.report.plots import COLOURS, MUTED, STYLE, save_figure
from dqn.report.sweep_runs import Setting
from dqn.report.terminal import short_value

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ABSENT = "-"
_MOST_COLUMNS = 3
_FEW_VALUES = 5  # so many numbers get a tick each
_FEW_DECADES = 150.0  # a ratio below which a logarithmic axis has ticks at 2 and 5 too
_LOG_RATIO = 10.0  # what spans more than that is drawn over its logarithm
_LONGEST_TICK = 24  # characters
_LONG_TICK = 10  # of categories, stands aslant, or upright where they are many
_MANY_CATEGORIES = 5
_INCHES_PER_CHARACTER = 0.07  # of a tick
_SCORE = "mean return"


class ValueScale:
    """Where the values of one parameter stand: numbers by size or its logarithm, anything else side by side.

    Args:
        texts: the values as given, with repetitions; a dash is the place of settings without the parameter.
        may_be_log: whether numbers that span more than a power of ten are drawn over their logarithm.
    """

    def __init__(self, texts: Sequence[str], may_be_log: bool = True) -> None:
        numbers = {text: _number(text) for text in texts if text != _ABSENT}
        self.is_numeric = bool(numbers) and all(number is not None for number in numbers.values())
        self.categories = [] if self.is_numeric else sorted(set(texts), key=_natural_order)
        values = sorted({number for number in numbers.values() if number is not None})
        self._values = values if self.is_numeric else [float(i) for i in range(len(self.categories))]
        self.is_log = may_be_log and self.is_numeric and values[0] > 0 and values[-1] / values[0] >= _LOG_RATIO

    def position(self, text: str) -> float:
        """The number, or the category's index; NaN for a setting that lacks a numeric parameter."""
        if not self.is_numeric:
            return float(self.categories.index(text))
        number = _number(text)
        return math.nan if number is None else number

    def fraction(self, position: float) -> float:
        """Where a position is between the least (0) and the greatest (1)."""
        low, high, at = (self._scaled(value) for value in (self._values[0], self._values[-1], position))
        return 0.5 if high == low else (at - low) / (high - low)

    def ticks(self) -> list[tuple[float, str]]:
        """Positions with what to write there: every value if they are few, else round numbers between them."""
        if not self.is_numeric:
            return [(float(i), _shortened(text)) for i, text in enumerate(self.categories)]
        if len(self._values) <= _FEW_VALUES:
            return [(value, _written(value)) for value in self._values]
        return [(value, _written(value)) for value in _round_numbers(self._values[0], self._values[-1], self.is_log)]

    @property
    def tick_rotation(self) -> int:
        """By how many degrees the ticks below a panel are turned, so that none stands over another."""
        if self.is_numeric or self._longest_tick <= _LONG_TICK:
            return 0
        return 90 if len(self.categories) > _MANY_CATEGORIES else 20

    @property
    def tick_height(self) -> float:
        """What upright ticks take below a panel, in inches."""
        return _INCHES_PER_CHARACTER * self._longest_tick if self.tick_rotation == 90 else 0.0

    @property
    def _longest_tick(self) -> int:
        return max(len(text) for _, text in self.ticks())

    def _scaled(self, value: float) -> float:
        return math.log(value) if self.is_log else value


def draw_parameters(ranking: Sequence[Setting], keys: Sequence[str], output: Path) -> str:
    """A panel for each parameter, a point for each setting that has a score; returns the file's name."""
    from matplotlib import rc_context

    with rc_context(STYLE):
        columns = min(len(keys), _MOST_COLUMNS)
        rows = math.ceil(len(keys) / columns)
        scales = [_scale_of(ranking, key) for key in keys]
        heights = [
            2.9 + max(scale.tick_height for scale in scales[i : i + columns]) for i in range(0, len(keys), columns)
        ]
        figure = _figure(max(3.4 * columns, 5.0), sum(heights) + 0.5)
        panels = figure.subplots(rows, columns, squeeze=False, sharey=True, height_ratios=heights).ravel()
        for ax, key, scale in zip(panels, keys, scales, strict=False):
            _draw_parameter(ax, ranking, key, scale)
        for ax in panels[len(keys) :]:
            ax.set_axis_off()
        for ax in panels[::columns]:
            ax.set_ylabel(_SCORE)
        caption = textwrap.fill(_caption(ranking), int(13 * figure.get_figwidth()))
        figure.supxlabel(caption, fontsize=8.5, color=MUTED, x=0.015, ha="left")
        save_figure(figure, output)
    return output.name


def draw_parallel_coordinates(ranking: Sequence[Setting], keys: Sequence[str], output: Path) -> str:
    """A line for each setting through its values, coloured by its score, on the right; returns the file's name."""
    from matplotlib import colormaps, rc_context

    scores = [f"{setting.score!r}" for setting in ranking]
    texts = [[setting.overrides.get(key, _ABSENT) for setting in ranking] for key in keys] + [scores]
    scales = [ValueScale(column, may_be_log=column is not scores) for column in texts]
    heights = np.array(
        [_heights(scale, column) for scale, column in zip(scales, texts, strict=True)]
    )  # (axes, settings)
    with rc_context(STYLE | {"axes.grid": False}):
        figure = _figure(max(1.7 * len(scales) + 1.0, 6.0), 4.4)
        ax = figure.subplots()
        colours = colormaps["viridis_r"](0.05 + 0.9 * heights[-1])
        for i in reversed(range(len(ranking))):  # the best last, on top
            ax.plot(heights[:, i], color=colours[i], linewidth=1.1, alpha=0.75)
        ax.plot(heights[:, 0], color=COLOURS[1], linewidth=2.4)
        for x, (name, scale) in enumerate(zip([*keys, _SCORE], scales, strict=True)):
            _draw_axis(ax, x, name, scale, _ABSENT in texts[x])
        ax.set_xlim(-0.1, len(scales) - 0.4)
        ax.set_ylim(-0.18, 1.1)
        ax.set_axis_off()
        caption = "A line is a setting, darker with a higher score (mean over its seeds); the best is orange."
        figure.supxlabel(caption, fontsize=8.5, color=MUTED, x=0.015, ha="left")
        save_figure(figure, output)
    return output.name


def _scale_of(ranking: Sequence[Setting], key: str) -> ValueScale:
    return ValueScale([setting.overrides.get(key, _ABSENT) for setting in ranking])


def _draw_parameter(ax: Axes, ranking: Sequence[Setting], key: str, scale: ValueScale) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    texts = [setting.overrides.get(key, _ABSENT) for setting in ranking]
    if scale.is_log:
        ax.set_xscale("log")
    for place, (setting, text) in reversed(list(enumerate(zip(ranking, texts, strict=True)))):
        x = scale.position(text) + (0.0 if scale.is_numeric else _jitter(place))
        colour = COLOURS[1] if place == 0 else COLOURS[0]
        if setting.interval:
            ax.plot([x, x], setting.interval, color=colour, linewidth=0.9, alpha=0.45)
        face = colour if setting.is_complete else "white"
        ax.plot(
            [x],
            [setting.score or 0.0],
            "o",
            color=colour,
            markerfacecolor=face,
            markersize=6 if place == 0 else 4,
            alpha=0.85,
        )
    ticks = dict(scale.ticks())
    ax.xaxis.set_major_locator(FixedLocator(list(ticks)))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: _nearest(ticks, x)))
    if not scale.is_numeric:
        ax.set_xlim(-0.5, len(scale.categories) - 0.5)
    ax.tick_params(axis="x", labelrotation=scale.tick_rotation)
    ax.tick_params(labelleft=True, labelsize=8.5)
    ax.set_title(key, loc="left", fontsize=9.5, fontweight="bold")


def _draw_axis(ax: Axes, x: int, name: str, scale: ValueScale, with_absent: bool) -> None:
    """One of the parallel axes, with its ticks on the right."""
    ax.plot([x, x], [0, 1], color="#888888", linewidth=1.0, zorder=5)
    ticks = [(scale.fraction(position), text) for position, text in scale.ticks()]
    if with_absent and scale.is_numeric:
        ticks.append((_heights(scale, [_ABSENT])[0], "not set"))
    for height, text in ticks:
        ax.plot([x, x + 0.03], [height, height], color="#888888", linewidth=1.0, zorder=5)
        box = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.8}
        ax.text(x + 0.05, height, text, fontsize=8, color="#333333", va="center", zorder=6, bbox=box)
    ax.text(x, 1.06, "\n".join(_broken(name)), fontsize=8.5, fontweight="bold", ha="center", va="bottom")


def _heights(scale: ValueScale, texts: Sequence[str]) -> list[float]:
    """Fractions of the axis; a setting without a numeric parameter passes below it."""
    positions = [scale.position(text) for text in texts]
    return [-0.12 if math.isnan(position) else scale.fraction(position) for position in positions]


def _broken(key: str) -> Iterator[str]:
    """The key in lines: its section above its name."""
    section, _, name = key.rpartition(".")
    if section:
        yield f"{section}."
    yield name


def _caption(ranking: Sequence[Setting]) -> str:
    sentences = ["A point is a setting: the mean over its seeds of the final evaluation. Orange: the best."]
    counts = {len(setting.done) for setting in ranking}
    if max(counts) >= 3:
        sentences.append("Line: 95 % bootstrap interval of that mean.")
    elif max(counts) == 2:
        sentences.append("Line: lowest to highest seed.")
    if not all(setting.is_complete for setting in ranking):
        sentences.append("Hollow: not every seed has a score.")
    return " ".join(sentences)


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    return Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1))


def _jitter(place: int) -> float:
    """Keeps the points of a category apart: evenly spread, the same each time."""
    return 0.3 * ((place * 0.6180339887) % 1.0 - 0.5)


def _nearest(ticks: dict[float, str], x: float) -> str:
    """What stands at the tick that matplotlib means, which it may have rounded."""
    return ticks[min(ticks, key=lambda position: abs(position - x))]


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _written(value: float) -> str:
    """20k, 1.5M; small numbers in four digits."""
    if abs(value) < 1e4:
        return f"{value:.4g}"
    return f"{value / 1e3:.4g}k" if abs(value) < 1e6 else f"{value / 1e6:.4g}M"


def _round_numbers(low: float, high: float, is_log: bool) -> list[float]:
    """Three to six or so round numbers from `low` to `high`."""
    from matplotlib.ticker import LogLocator, MaxNLocator

    if not is_log:
        numbers = MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    else:
        factors = (1.0, 2.0, 5.0) if high / low < _FEW_DECADES else (1.0,)
        numbers = LogLocator(subs=factors, numticks=12).tick_values(low, high)
    return [float(number) for number in numbers if low <= number <= high]


def _natural_order(text: str) -> tuple[bool, float, list[int], str]:
    """Numbers by size, then other values by the numbers in them: [64,64] before [120,84]."""
    number = _number(text)
    return number is None, number or 0.0, [int(digits) for digits in re.findall(r"\d+", text)], text


def _shortened(text: str) -> str:
    """Without its middle where it is too long: names often differ only in their ends."""
    text, half = short_value(text), (_LONGEST_TICK - 3) // 2
    return text if len(text) <= _LONGEST_TICK else f"{text[:half]}...{text[-half:]}"
