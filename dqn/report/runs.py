"""Read what runs have left behind: their settings, their summaries and their returns over steps."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from yaml import YAMLError

from dqn.errors import UserError
from dqn.run_folder import final_return
from dqn.terminal import one_line

_RETURN_FIELDS = {"evaluation": "mean_return", "episode": "episode_return"}


@dataclass(frozen=True)
class Curve:
    """Returns over steps: agent steps (n,) int64, ascending, and returns (n,) float64."""

    steps: npt.NDArray[np.int64]
    returns: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.steps)


@dataclass(frozen=True)
class Run:
    """One run folder; `summary` is None as long as the run is going on."""

    folder: Path
    config: dict[str, Any]
    summary: dict[str, Any] | None

    @property
    def name(self) -> str:
        """The experiment's name."""
        return one_line(str(self.config.get("name", self.folder.parent.name)))

    @property
    def seed(self) -> object:
        """The run's seed."""
        return self.config.get("seed")

    @property
    def status(self) -> str:
        """How the run ended (completed, converged, interrupted, diverged, pruned), or `running`."""
        return one_line(str((self.summary or {}).get("status", "running")))

    @property
    def final_return(self) -> float | None:
        """The final evaluation's mean return, where there is one and it is a number."""
        return final_return(self.summary)

    @property
    def final_evaluation(self) -> dict[str, Any] | None:
        """The summary's record of the final evaluation, where there has been one."""
        return (self.summary or {}).get("final_evaluation")

    @property
    def steps(self) -> int:
        """How many agent steps the run has made, as far as it has told."""
        if self.summary and "steps" in self.summary:
            return int(self.summary["steps"])
        return max((int(curve.steps[-1]) for curve in self.curves.values() if len(curve)), default=0)

    @property
    def environment(self) -> tuple[str, str]:
        """A title for the environment, and what identifies it: returns on another one are not comparable."""
        env = self.config.get("env", {})
        if "map" in env:
            rows = str(env["map"]).split()
            return f"Grid world, {len(rows)} x {len(rows[0]) if rows else 0}", f"gridworld {rows}"
        title = one_line(str(env.get("id") or env.get("game") or env.get("kind", "environment")))
        return title.replace("_", " ").capitalize() if "game" in env else title, title

    @property
    def frames_per_step(self) -> int:
        """How many frames the environment makes of one agent step."""
        return int(self.config.get("env", {}).get("action_repeat", 1))

    @cached_property
    def curves(self) -> dict[str, Curve]:
        """The returns of `evaluation` (mean of each evaluation's episodes) and of training by `episode`."""
        return _read_curves(self.folder / "metrics.jsonl")


def find_runs(patterns: Sequence[str]) -> list[Run]:
    """The runs in the folders that the patterns name; globs skip what is no run folder.

    Raises:
        UserError: a folder that is missing or no run, a glob that matches no run, a file that cannot be read.
    """
    folders: dict[Path, Path] = {}  # by resolved path: two globs may match the same run
    for pattern in patterns:
        for folder in _matching_folders(pattern):
            folders.setdefault(folder.resolve(), folder)
    return [read_run(folder) for folder in folders.values()]


def _matching_folders(pattern: str) -> list[Path]:
    path = Path(pattern).expanduser()
    if path.exists() or not any(magic in pattern for magic in "*?["):
        if not path.is_dir():
            raise UserError("runs", pattern, "is a file, not a run folder" if path.exists() else "no such folder")
        if not is_run(path):
            inside = sum(map(is_run, path.iterdir()))
            hint = (
                f"; it holds {inside}: runs={pattern.rstrip('/')}/*"
                if inside
                else " (config.yaml and metrics.jsonl make one)"
            )
            raise UserError("runs", pattern, f"is no run folder{hint}")
        return [path]
    root = Path(path.anchor)
    matches = sorted(root.glob(str(path.relative_to(root))))
    runs = [match for match in matches if is_run(match)]
    if not runs:
        problem = f"matches {len(matches)} paths, none of them a run folder" if matches else "matches nothing"
        raise UserError("runs", pattern, problem)
    return runs


def is_run(folder: Path) -> bool:
    """Whether the folder has what every run leaves as soon as it has begun."""
    return all((folder / name).is_file() for name in ("config.yaml", "metrics.jsonl"))


def read_run(folder: Path) -> Run:
    """The run in a folder that `is_run`.

    Raises:
        UserError: its config or its summary cannot be read.
    """
    from dqn.run_folder import RunFolder  # with the whole config schema, which --help need not wait for

    of_run = RunFolder(folder)
    try:
        config = of_run.read_config()
    except (YAMLError, UnicodeDecodeError, OSError) as error:
        problem = f"cannot be read: {str(error).splitlines()[0]}"
        raise UserError("runs", folder / "config.yaml", problem) from None
    try:
        summary = of_run.read_summary()
    except (ValueError, OSError) as error:
        raise UserError("runs", folder / "summary.json", f"cannot be read: {error}") from None
    return Run(folder, config, summary)


def _read_curves(path: Path) -> dict[str, Curve]:
    points: dict[str, list[tuple[int, float]]] = {kind: [] for kind in _RETURN_FIELDS}
    for number, record in _records(path):
        kind = record.get("kind")
        if kind not in points or record.get(_RETURN_FIELDS[kind], 0) is None:  # null: the return was not finite
            continue
        try:
            point = int(record["step"]), float(record[_RETURN_FIELDS[kind]])
        except (KeyError, TypeError, ValueError):
            problem = f"line {number}: an {kind} needs numbers for step and {_RETURN_FIELDS[kind]}"
            raise UserError("runs", path, problem) from None
        points[kind].append(point)
    return {kind: _curve(of_kind) for kind, of_kind in points.items()}


def _curve(points: Iterable[tuple[int, float]]) -> Curve:
    table = np.array(list(points), dtype=np.float64).reshape(-1, 2)
    return Curve(table[:, 0].astype(np.int64), table[:, 1])


def _records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The file's records with their line numbers; a last line that is still being written is left out."""
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            if not isinstance(record, dict):
                raise ValueError("no record")
        except ValueError:
            if number == len(lines):
                return
            raise UserError("runs", path, f"line {number} is no JSON record; the file is damaged") from None
        yield number, record
