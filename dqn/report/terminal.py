"""Tables of a comparison and of a sweep for the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from dqn.report.protocol import differences, protocol_of, scored_runs, task_of
from dqn.report.published import BASELINES, Score, Source, published
from dqn.report.runs import Run
from dqn.report.settings import Group, Settings, all_keys, differing_keys
from dqn.report.statistics import interquartile_mean, mean_interval
from dqn.report.sweep_runs import Job, Setting
from dqn.terminal import printable
from dqn.validation import yaml_text

_ABSENT = "-"
_WIDEST_CELL = 24  # what is longer goes on in the next line
MOST_SETTINGS = 20  # in the table of a sweep
_MOST_NOTES = 10
_LAYOUT: dict[str, Any] = {"title_justify": "left", "pad_edge": False, "padding": (0, 0, 0, 1)}


def settings_tables(labels: Sequence[str], settings: Sequence[Settings], show_all: bool, width: int) -> Iterator[Table]:
    """The settings that differ (or all), a column for each label; a dash where there is no such key.

    What does not fit side by side into `width` characters goes on in a further table.
    """
    keys = all_keys(settings) if show_all else differing_keys(settings)
    cells = [[_cell(one, key) for key in keys] for one in settings]  # by label, then key
    if len(labels) > max(4, len(keys)):  # many groups that differ in little: a row for each
        by_key = list(zip(*cells, strict=True))
        return _tables("", labels, dict(zip(keys, by_key, strict=True)).items(), width)
    return _tables("setting", keys, zip(labels, cells, strict=True), width)


def scores_table(groups: Sequence[Group]) -> Table:
    """Final evaluations: each run counts once, with the mean return of the network that it left."""
    networks = {str(final.get("network")) for group in groups for _, final in _scored(group)}
    which = f" of the {networks.pop()} network" if len(networks) == 1 else ""
    table = Table(box=SIMPLE_HEAD, title=f"Final evaluation{which}, over seeds", **_LAYOUT)
    table.add_column("", overflow="fold")
    for heading in (
        "seeds",
        "mean",
        "95 % interval",
        "IQM",
        "steps",
        "seconds",
        *(["network"] if networks else []),
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    for group in groups:
        table.add_row(Text(group.label), *_score_cells(group)[: len(table.columns) - 1])
    return table


def status_notes(groups: Sequence[Group]) -> Iterator[str]:
    """A line for each run that has not ended as planned or that has no score."""
    for group in groups:
        for run in group.runs:
            if run.status not in ("completed", "converged") or run.final_return is None:
                reason = (run.summary or {}).get("reason")
                what = f"{run.status}{f' ({reason})' if reason else ''}, {run.steps:,} steps so far"
                without = "" if run.final_return is not None else "; its mean return is no number"
                scored = without if run.final_evaluation else "; no final evaluation"
                yield f"{group.label}, seed {run.seed}: {what}{scored}"


def published_section(groups: Sequence[Group]) -> Iterator[RenderableType]:
    """What papers and repositories report of the same preset and task, beside ours; nothing where nothing is known."""
    found = [(group, list(published(group.settings.get("name"), task_of(group.settings)))) for group in groups]
    found = [(group, reports) for group, reports in found if reports]
    if not found:
        return
    table = Table(box=SIMPLE_HEAD, title="Published scores, below ours", **_LAYOUT)
    table.add_column("", overflow="fold")
    for heading in ("seeds", "mean", "95 % interval", "human %"):
        table.add_column(heading, justify="right", no_wrap=True)
    for group, reports in found:
        task = task_of(group.settings)
        for of_training, of_kind in groupby(reports, lambda report: report[0].protocol.is_of_training):
            label = f"{group.label}, training" if of_training else group.label
            table.add_row(Text(label), *_our_cells(group, of_training, task))
            for source, score in of_kind:
                table.add_row(Text(f"  {source.title}"), *_their_cells(source, score, task))
        table.add_section()
    yield table
    for group, reports in found:
        for source, score in reports:
            yield from _protocol_notes(group, source, score)
    for task in dict.fromkeys(task_of(group.settings) for group, _ in found):
        if baseline := BASELINES.get(task):
            text = f"human %: in {task}, 0 is {baseline.random} (random play), 100 is {baseline.human}."
            yield Text(text, style="dim")


def sweep_counts(jobs: Sequence[Job], num_settings: int) -> str:
    """How many runs of a sweep are done, pruned, failed, waiting and so on."""
    done = {"completed": "done", "converged": "done"}
    counts = Counter(done.get(job.status, job.status) for job in jobs)
    order = ["done", "pruned", "failed", "diverged", "interrupted", "running", "waiting"]
    told = [f"{counts[status]} {status}" for status in dict.fromkeys([*order, *counts]) if counts[status]]
    return f"{_count(len(jobs), 'run')} of {_count(num_settings, 'setting')}: {', '.join(told)}"


def failure_notes(jobs: Sequence[Job]) -> Iterator[str]:
    """A line for each of the first runs that failed or diverged, with the reason."""
    failures = [job for job in jobs if job.status in ("failed", "diverged")]
    for job in failures[:_MOST_NOTES]:
        yield f"{job.name} {job.status}: {job.reason or 'no reason is known'}"
    if len(failures) > _MOST_NOTES:
        yield f"and {len(failures) - _MOST_NOTES} more, see sweep.csv"


def sweep_tables(ranking: Sequence[Setting], keys: Sequence[str], width: int) -> Iterator[Table]:
    """The best settings of a sweep, the best first, with their scores and their values of the `keys`.

    The score is the final evaluation's mean return, of which the mean over seeds and its interval are shown. What
    does not fit side by side into `width` characters goes on in a further table.
    """
    shown = ranking[:MOST_SETTINGS]
    scores = zip(*map(_setting_cells, shown), strict=True)
    columns = list(zip(("seeds", "mean", "95 % interval", "steps", "seconds"), scores, strict=True))
    for key in keys:
        columns.append((_heading(key, keys), tuple(short_value(one.overrides.get(key, _ABSENT)) for one in shown)))
    yield from _tables("", [str(place) for place in range(1, len(shown) + 1)], columns, width)


def short_value(text: str) -> str:
    """A value as given, but a number of many digits with four of them."""
    try:
        shortened = f"{float(text):.4g}"
    except ValueError:
        return text
    return shortened if len(shortened) < len(text) else text


def _setting_cells(setting: Setting) -> list[str]:
    runs = setting.runs
    lower, upper = setting.interval or (0.0, 0.0)
    return [
        str(setting.num_seeds) if setting.is_complete else f"{len(runs)} of {setting.num_seeds}",
        _number(setting.score or 0.0),
        f"{_number(lower)} to {_number(upper)}" if setting.interval else _ABSENT,
        _range([run.steps for run in runs], _short),
        _range([run.summary["seconds"] for run in runs if run.summary], lambda seconds: f"{seconds:,.0f}"),
    ]


def _heading(key: str, keys: Sequence[str]) -> str:
    """The key's last name, or all of it where that is ambiguous, in lines that are short."""
    name = key.rpartition(".")[2]
    if sum(other.rpartition(".")[2] == name for other in keys) > 1:
        name = key
    return name.replace("_", "_\n").replace(".", ".\n")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _tables(
    corner: str, rows: Sequence[str], columns: Iterable[tuple[str, Sequence[str]]], width: int
) -> Iterator[Table]:
    """Tables with the same rows and as many of the (heading, cells) columns each as fit."""
    left = min(max(map(len, rows)), width - _WIDEST_CELL - 4)
    room, side_by_side = 0, list[tuple[str, Sequence[str]]]()
    for heading, cells in columns:
        needed = 2 + _column_width(heading, cells)
        if side_by_side and needed > room:
            yield _table(corner, rows, side_by_side, left)
            side_by_side = []
        room = (room if side_by_side else width - left - 2) - needed
        side_by_side.append((heading, cells))
    yield _table(corner, rows, side_by_side, left)


def _table(corner: str, rows: Sequence[str], columns: Sequence[tuple[str, Sequence[str]]], left: int) -> Table:
    table = Table(box=SIMPLE_HEAD, **_LAYOUT)
    table.add_column(corner, style="cyan", overflow="fold", max_width=left)
    for heading, cells in columns:
        table.add_column(Text(heading), overflow="fold", max_width=_column_width(heading, cells))
    lines = list(zip(rows, *(cells for _, cells in columns), strict=True))
    sections = [list(section) for _, section in groupby(lines, lambda line: _section(line[0]))]
    for section in sections:
        for name, *values in section:
            table.add_row(Text(name), *map(_value, values))
        if max(map(len, sections)) > 1:
            table.add_section()
    return table


def _column_width(heading: str, cells: Sequence[str]) -> int:
    """As wide as the longest line of a cell, up to a limit, and as the longest word of the heading."""
    longest_line = max(map(len, "\n".join(cells).split("\n")))
    return max([min(_WIDEST_CELL, longest_line), *map(len, heading.split())])


def _section(key: str) -> str:
    return key.partition(".")[0]


def _cell(settings: Settings, key: str) -> str:
    return printable(yaml_text(settings[key]).rstrip()) if key in settings else _ABSENT


def _value(cell: str) -> Text:
    return Text(cell, style="dim" if cell == _ABSENT else "")


def _scored(group: Group) -> list[tuple[Run, dict[str, Any]]]:
    """The runs that have a score, with their final evaluation."""
    return [(run, run.final_evaluation) for run in group.runs if run.final_evaluation and run.final_return is not None]


def _score_cells(group: Group) -> list[str]:
    scored = _scored(group)
    seeds = str(len(scored)) if len(scored) == len(group.runs) else f"{len(scored)} of {len(group.runs)}"
    if not scored:
        return [seeds, *[_ABSENT] * 6]
    scores = np.array([final["mean_return"] for _, final in scored], dtype=np.float64)
    return [
        seeds,
        _number(float(scores.mean())),
        _interval(scores.tolist()),
        _number(interquartile_mean(scores)),
        _range([run.steps for run, _ in scored], _short),
        _range([run.summary["seconds"] for run, _ in scored if run.summary], lambda seconds: f"{seconds:,.0f}"),
        ", ".join(sorted({str(final.get("network")) for _, final in scored})),
    ]


def _our_cells(group: Group, of_training: bool, task: str) -> list[str]:
    scores = [score for _, score in scored_runs(group, of_training)]
    seeds = str(len(scores)) if len(scores) == len(group.runs) else f"{len(scores)} of {len(group.runs)}"
    if not scores:
        return [seeds, *[_ABSENT] * 3]
    mean = float(np.mean(scores))
    return [seeds, _number(mean), _interval(scores), _human_percent(mean, task)]


def _their_cells(source: Source, score: Score, task: str) -> list[str]:
    spread = _ABSENT if score.spread is None else f"± {_number(score.spread)}"
    runs = _ABSENT if source.runs is None else str(source.runs)
    return [runs, _number(score.mean), spread, _human_percent(score.mean, task)]


def _human_percent(score: float, task: str) -> str:
    baseline = BASELINES.get(task)
    return _ABSENT if baseline is None else f"{100 * baseline.normalise(score):.0f}"


def _protocol_notes(group: Group, source: Source, score: Score) -> Iterator[RenderableType]:
    """Where a published score stands, and how it was measured otherwise than ours."""
    protocol = source.protocol
    spread = f"; ± is over {source.spread_over}" if score.spread is not None else ""
    yield Text(f"{group.label}, {source.title}: {source.citation} (read {source.read}){spread}.")
    of_ours = protocol_of(group, protocol.is_of_training)
    theirs, ours = differences(protocol, of_ours)
    if theirs:
        yield Padding(Text(f"theirs: {', '.join(theirs)}; ours: {', '.join(ours)}"), (0, 0, 0, 2), expand=False)
    if unknown := protocol.unknown_beside(of_ours):
        yield Padding(Text(f"not known of theirs: {', '.join(unknown)}", style="dim"), (0, 0, 0, 2), expand=False)


def _interval(scores: Sequence[float]) -> str:
    """The 95 % interval of the mean over seeds; a dash for one seed."""
    lower, upper = map(float, mean_interval(scores))
    return f"{_number(lower)} to {_number(upper)}" if len(scores) > 1 else _ABSENT


def _range(numbers: Sequence[float], write: Callable[[float], str]) -> str:
    """All the numbers in short: one if they read the same, else the least and the greatest."""
    least, greatest = write(min(numbers)), write(max(numbers))
    return least if least == greatest else f"{least} to {greatest}"


def _short(number: float) -> str:
    """50k for 50,000; 1.25M for 1,250,000."""
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= unit:
            return f"{number / unit:.3g}{letter}"
    return f"{number:.0f}"


def _number(value: float) -> str:
    """Five digits or so: 12.346, 499.8, 21,345."""
    return f"{value:,.3f}" if abs(value) < 10 else f"{value:,.1f}" if abs(value) < 10_000 else f"{value:,.0f}"
