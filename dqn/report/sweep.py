"""What a sweep leaves for its reader: a row for each run, the best setting as a config, a table and plots."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

from omegaconf import OmegaConf
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from rich.console import Console

from dqn.errors import UserError
from dqn.files import write_text
from dqn.report.lineage_plot import draw_lineage
from dqn.report.plots import draw, make_panels
from dqn.report.runs import Run
from dqn.report.settings import Group
from dqn.report.study_plots import draw_study
from dqn.report.sweep_plots import draw_parallel_coordinates, draw_parameters
from dqn.report.sweep_runs import (
    Job,
    Setting,
    group_by_setting,
    ranked,
    read_jobs,
    steps_to_threshold,
    swept_keys,
)
from dqn.report.terminal import MOST_SETTINGS, failure_notes, sweep_counts, sweep_tables
from dqn.run_folder import check_links
from dqn.sweep.lineage import LINEAGE, read_lineage
from dqn.terminal import make_console, one_line

# What `experiment=best` leaves to the command line, as every preset does.
_NOT_IN_PRESETS = ("seed", "resume", "logger")


@dataclass(config=ConfigDict(extra="forbid"), frozen=True)
class SweepReportOptions:
    """What scripts/sweep_report.py can be asked."""

    sweep: Annotated[str, Field(description="the sweep's folder", examples=["runs/cartpole/2026-01-01_12-00-00-sweep"])]


def report_sweep(folder: Path, console: Console | None = None) -> int:
    """Write sweep.csv, best.yaml and the plots into the sweep's folder, and print its settings by score.

    A sweep that is still going on, or was broken off, is reported as far as it has come.

    Returns:
        How many of its jobs have failed.

    Raises:
        UserError: there is no sweep in this folder, or a file of it is damaged.
    """
    console = console or make_console()
    jobs = read_jobs(folder)
    check_links(folder, "sweep")
    settings = group_by_setting(jobs)
    ranking = ranked(settings)
    console.print(sweep_counts(jobs, len(settings)), highlight=False, markup=False)
    for note in failure_notes(jobs):
        console.print(note, style="yellow", highlight=False, markup=False)
    if ranking:
        console.print(f"The best {min(len(ranking), MOST_SETTINGS)} of {len(ranking)} settings with a score:")
        for table in sweep_tables(ranking, swept_keys(settings), console.width):
            console.print(table)
    notes = ["Settings that lack the score of a seed come last."] if _some_incomplete(ranking) else []
    written = list(_write(folder, jobs, settings, ranking, notes))
    for note in notes:
        console.print(note, highlight=False, markup=False)
    console.print(f"Written in {folder}: {', '.join(written)}", highlight=False, markup=False, soft_wrap=True)
    return sum(job.status == "failed" for job in jobs)


def _some_incomplete(ranking: Sequence[Setting]) -> bool:
    return any(setting.is_complete for setting in ranking) and not all(setting.is_complete for setting in ranking)


def _write(
    folder: Path, jobs: Sequence[Job], settings: Sequence[Setting], ranking: Sequence[Setting], notes: list[str]
) -> Iterator[str]:
    """Write everything there is to write; yields the files' names, and adds lines for the reader to `notes`."""
    try:
        write_text(folder / "sweep.csv", csv_text(jobs))
        yield "sweep.csv"
        if len({run.environment[1] for setting in ranking for run in setting.runs}) > 1:
            notes.append("The settings play different environments, whose returns do not compare: there is no best.")
        elif ranking:
            yield from _write_best(folder, ranking)
        else:
            notes.append("No run has ended as planned yet: there is no best setting.")
        yield from _draw(folder, settings, ranking, notes)
        if (folder / LINEAGE).is_file():
            notes.append(f"Members were copied, and their traits changed: see {LINEAGE}. Values are those at the end.")
            yield draw_lineage(jobs, read_lineage(folder), folder / "lineage.png")
    except OSError as error:
        raise UserError("sweep", folder, f"cannot be written to: {error.strerror}") from None


def _draw(folder: Path, settings: Sequence[Setting], ranking: Sequence[Setting], notes: list[str]) -> Iterator[str]:
    keys = swept_keys(settings)
    if ranking and keys:
        yield draw_parameters(ranking, keys, folder / "parameters.png")
        if len(keys) > 1:
            yield draw_parallel_coordinates(ranking, keys, folder / "parallel_coordinates.png")
    runs = tuple(job.run for setting in settings for job in setting.jobs if job.run)
    if runs and not keys:
        group = Group(runs[0].name, {}, runs)
        panels = make_panels([group], None)
        if panels:
            draw(panels, [group.label], folder / "curves.png")
            yield "curves.png"
    if (folder / "optuna.db").is_file():
        yield from draw_study(folder, notes)


# --- sweep.csv ---


def csv_text(jobs: Sequence[Job]) -> str:
    """The table with a row for each run; the columns between status and seed are the overrides as given."""
    keys = list(dict.fromkeys(key for job in jobs for key in job.overrides if key != "seed"))
    with_threshold = any(_threshold(job.run) is not None for job in jobs if job.run)
    text = io.StringIO()
    rows = [_row(job, keys) for job in jobs]
    names = [name for name in (rows[0] if rows else {}) if with_threshold or name != "steps_to_threshold"]
    writer = csv.DictWriter(text, names, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _row(job: Job, keys: Sequence[str]) -> dict[str, Any]:
    """A row by column; None becomes an empty cell."""
    run = job.run
    summary: dict[str, Any] = (run.summary if run else None) or {}
    final, best = summary.get("final_evaluation") or {}, summary.get("best_evaluation") or {}
    threshold = _threshold(run)
    return {
        "number": job.number,
        "folder": job.name,
        "status": job.status,
        **{key: job.overrides.get(key) for key in keys},
        "seed": job.seed,
        "final_mean_return": final.get("mean_return"),
        "final_standard_error": final.get("standard_error"),
        "best_evaluation_mean_return": best.get("mean_return"),
        "steps": run.steps if run else None,
        "frames": run.steps * run.frames_per_step if run else None,
        "seconds": summary.get("seconds"),
        "steps_to_threshold": steps_to_threshold(run, threshold) if run and threshold is not None else None,
        "error": job.error,
    }


def _threshold(run: Run | None) -> float | None:
    """The run's evaluation.stop.mean_return."""
    stop = ((run.config if run else {}).get("evaluation") or {}).get("stop") or {}
    return stop.get("mean_return")


# --- best.yaml ---


def _write_best(folder: Path, ranking: Sequence[Setting]) -> Iterator[str]:
    """Write the best setting's config twice: to be run as it is, and as a preset."""
    from dqn.run_folder import primary_config

    best = ranking[0]
    config, place = best.runs[0].config, one_line(str(folder.absolute()))
    told = _told_of_best(best, len(ranking))
    fresh = ",".join(str(seed) for seed in _fresh_seeds(best))
    header = (
        f"{told}#   python scripts/train.py -m --config-path {place} --config-name best seed={fresh}\n"
        "# As a preset, whose values can be changed as usual (but not its groups), it is\n"
        f"#   python scripts/train.py --config-dir {place} experiment=best\n"
    )
    write_text(folder / "best.yaml", primary_config(config, header))
    yield "best.yaml"
    preset = {key: value for key, value in config.items() if key not in _NOT_IN_PRESETS}
    (folder / "experiment").mkdir(exist_ok=True)
    header = (
        f"# @package _global_\n{told}#   python scripts/train.py -m --config-dir {place} experiment=best seed={fresh}\n"
    )
    write_text(folder / "experiment" / "best.yaml", header + OmegaConf.to_yaml(OmegaConf.create(preset)))
    yield "experiment/best.yaml"


def _told_of_best(best: Setting, num_settings: int) -> str:
    """Lines of comment: which setting it is, its score, and what that is worth."""
    overrides = " ".join(f"{key}={value}" for key, value in best.overrides.items()) or "none but the seed"
    seeds = f"{len(best.done)} seed{'s' if best.num_seeds != 1 else ''}"
    if not best.is_complete:
        seeds = f"{len(best.done)} of {best.num_seeds} seeds; no setting has a score for every seed"
    interval = f" (95 % interval {best.interval[0]:g} to {best.interval[1]:g})" if best.interval else ""
    return (
        f"# The best of {num_settings} settings of a sweep. Overrides: {overrides}\n"
        f"# Mean return of the final evaluations: {best.score:g}{interval}, over {seeds}.\n"
        "# The best of many tries is an optimistic estimate; run it with fresh seeds to know what it is worth:\n"
    )


def _fresh_seeds(best: Setting) -> list[int]:
    """Five seeds that the setting has not been tried with."""
    first = 1 + max((int(str(job.seed)) for job in best.jobs if str(job.seed).isdigit()), default=0)
    return list(range(first, first + 5))
