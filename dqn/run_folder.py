"""The folder a run leaves behind."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from omegaconf import OmegaConf

from dqn.compose import CONF, leaves
from dqn.config import Config
from dqn.errors import UserError
from dqn.files import PART, write_json, write_text
from dqn.terminal import one_line
from dqn.validation import validate

_HEADER = """\
# The whole config of this run, resolved. The same run again:
#   python scripts/train.py --config-path {folder} --config-name config
"""
_DEFAULTS = """\
defaults:
  - _self_
  - sweep: none
  - override hydra/launcher: population
  - override hydra/job_logging: none
  - override hydra/hydra_logging: none
"""
# What config.yaml has beside the run's own config, for Hydra.
_FOR_HYDRA = ("defaults", "hydra")
# What is in the folder of a sweep: of ours, and of any by Hydra.
_SWEEP_MARKS = ("sweep.json", "multirun.yaml")
_LINK_OF_WANDB = "wandb/*run-*-*/logs/debug-core.log"  # to a log in the home directory
_LOCK = ".lock"
_held: set[Path] = set()  # folders that are this process's alone


def primary_config(config: dict[str, Any], header: str) -> str:
    """The YAML of a resolved config that `scripts/train.py --config-path ... --config-name ...` runs.

    `header` is what stands above it: lines of comment.
    """
    hydra = OmegaConf.to_yaml(OmegaConf.create({"hydra": OmegaConf.load(CONF / "config.yaml").hydra}))
    resolved = OmegaConf.to_yaml(OmegaConf.create(config))
    return f"{header}{_DEFAULTS}\n{hydra}\n{resolved}"


class RunFolder:
    """Paths and files of one run.

    Args:
        path: of the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        try:
            return str(self.path.relative_to(Path.cwd()))
        except ValueError:
            return str(self.path)

    @property
    def sweep(self) -> str | None:
        """The name of the folder of the sweep that the run belongs to; None if it is a run of its own."""
        for folder in self.path.absolute().parents[:2]:  # hydra.sweep.subdir may have a level of its own
            if any((folder / mark).is_file() for mark in _SWEEP_MARKS):
                return folder.name
        return None

    @property
    def checkpoints(self) -> Path:
        """Where the checkpoints are."""
        return self.path / "checkpoints"

    @property
    def export(self) -> Path:
        """Where the exported policy is."""
        return self.path / "export"

    @property
    def videos(self) -> Path:
        """Where films are."""
        return self.path / "videos"

    def check_is_new(self) -> None:
        """Raise a UserError if there is something in the folder."""
        if not is_free(self.path):
            advice = f"resume={self} goes on with a run, another folder starts one"
            raise UserError("hydra.run.dir", self, f"exists and is not empty; {advice}")

    def check_is_run(self, key: str) -> None:
        """Raise a UserError about `key` if this is not a run's folder."""
        if not self.path.is_dir() or not any(self.path.iterdir()):  # Hydra makes the folder that it is told
            raise UserError(key, self, "there is no run in this place")
        if not (self.path / "config.yaml").is_file():
            raise UserError(key, self, "is not a run's folder: it has no config.yaml")
        check_links(self.path, key)

    def create(self, config: dict[str, Any], provenance: dict[str, Any]) -> None:
        """Write config.yaml, which makes the folder a run's, and provenance.json."""
        self.write_config(config)
        write_json(self.path / "provenance.json", provenance)

    @contextmanager
    def locked(self, key: str) -> Iterator[None]:
        """While inside, the folder is this process's alone; the lock ends with the process, however that ends.

        Raises:
            UserError: about `key`, if another one has it.
        """
        place = self.path.resolve()
        if place in _held:  # by whom this is called
            yield
            return
        lock = FileLock(place / _LOCK, timeout=0)
        try:
            lock.acquire()
        except Timeout as error:
            raise UserError(key, self, "another process is training in this folder; only one can") from error
        _held.add(place)
        try:
            yield
        finally:
            _held.remove(place)
            (place / _LOCK).unlink(missing_ok=True)
            lock.release()

    def note_resume(self, config: dict[str, Any], step: int, provenance: dict[str, Any], gave_up: str | None) -> None:
        """Take away what the run has come to, as it goes on; remember from where, with what, and its config now.

        Args:
            config: now.
            step: from where.
            provenance: with what.
            gave_up: why episodes that were under way begin anew, if they do.
        """
        (self.path / "summary.json").unlink(missing_ok=True)
        path = self.path / "provenance.json"
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # it was ended before there was one
            record = dict(provenance)
        changed = {key: value for key, value in provenance.items() if value != record.get(key)}
        before, now = dict(leaves(self.read_config())), dict(leaves(config))
        differing = [key for key in {**before, **now} if before.get(key) != now.get(key)]
        config_changes = {key: {"was": before.get(key), "is": now.get(key)} for key in differing}
        resumed = {"step": step, "new_episodes": gave_up, "config": config_changes, **changed}
        record["resumed"] = [*record.get("resumed", []), resumed]
        write_json(path, record)
        self.write_config(config)

    def remove_results(self) -> None:
        """Take away what the run has left so far, to begin it again."""
        (self.path / "metrics.jsonl").unlink(missing_ok=True)
        for folder in (self.checkpoints, self.export, self.videos, self.path / "tensorboard"):
            shutil.rmtree(folder, ignore_errors=True)

    def write_config(self, config: dict[str, Any]) -> None:
        """Write config.yaml."""
        header = _HEADER.format(folder=one_line(str(self.path.absolute())))
        write_text(self.path / "config.yaml", primary_config(config, header))

    @property
    def is_concluded(self) -> bool:
        """Whether there is a summary that does not say that the run was interrupted."""
        summary = self.read_summary()
        return summary is not None and summary["status"] != "interrupted"

    def read_summary(self) -> dict[str, Any] | None:
        """The content of summary.json; None if the run has none yet."""
        path = self.path / "summary.json"
        if not path.is_file():
            return None
        summary: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return summary

    def read_config(self) -> dict[str, Any]:
        """The run's config, as plain nested values."""
        config = OmegaConf.to_container(OmegaConf.load(self.path / "config.yaml"))
        assert isinstance(config, dict)
        return {str(key): value for key, value in config.items() if key not in _FOR_HYDRA}

    def load_config(self) -> Config:
        """The run's config, checked."""
        return validate(Config, self.read_config())


def final_return(summary: Mapping[str, Any] | None) -> float | None:
    """The mean return of a summary's final evaluation, where there is one and it is a finite number."""
    mean = ((summary or {}).get("final_evaluation") or {}).get("mean_return")
    return float(mean) if isinstance(mean, (int, float)) and math.isfinite(mean) else None


def is_free(folder: Path) -> bool:
    """Whether something new can begin in this place: nothing is there, or no more than a killed process's leftovers."""
    if not folder.exists():
        return True
    return folder.is_dir() and all(path.name == _LOCK or path.match(PART) for path in folder.iterdir())


def empty(folder: Path) -> None:
    """Take away all that is in a folder of ours, but for the lock."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != _LOCK:
            path.unlink()


def remove_if_empty(folder: Path) -> None:
    """Take away a folder that was made for something that did not come about."""
    with suppress(OSError):
        folder.rmdir()


def check_links(folder: Path, key: str) -> None:
    """Raise a UserError about `key` if something in a folder is a link to a place outside, where we would write.

    W&B has one of its own, in a folder into which it does not write again.
    """
    place = folder.resolve()
    for path in folder.rglob("*"):
        if path.is_symlink() and not path.match(_LINK_OF_WANDB) and place not in path.resolve().parents:
            problem = f"{path.relative_to(folder)} in it is a link to a place outside; put a copy there instead"
            raise UserError(key, RunFolder(folder), problem)
