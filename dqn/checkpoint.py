"""Checkpoints: folders `step-<N>`, complete or absent, of tensors in safetensors and everything else in JSON.

What a memory has taken in is written once, in files that later checkpoints share with earlier ones by hard links: each
is whole by itself, a new one costs what is new, and a file goes with the last checkpoint that needs it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from dqn.errors import UserError
from dqn.files import sync, write_json

FORMAT = 5
_TENSORS, _VALUES = "tensors.safetensors", "values.json"
_ASIDE = ".aside"

Recording = Mapping[str, Any]  # see `StreamStorage.recordings`


@dataclass(frozen=True)
class _RecordingFile:
    """A recording of step calls `first` to `end` - 1 in a file."""

    name: str
    first: int
    end: int
    sha256: str


class Checkpoints:
    """The checkpoints of one run, of which each new one goes on from the last.

    Args:
        folder: of the checkpoints.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._last: Path | None = None  # saved or loaded
        self._files: list[_RecordingFile] = []  # of the last one

    @property
    def recorded_calls(self) -> int:
        """Up to which step call the last checkpoint has what the memory took in."""
        return self._files[-1].end if self._files else 0

    def save(
        self, step: int, state: dict[str, Any], keep: int, recordings: Sequence[Recording] = (), oldest_call: int = 0
    ) -> Path:
        """Write `state` as folder/step-<N>; keep the last `keep`, see `prune`.

        Args:
            step: N.
            state: nested dicts and lists of tensors and JSON values.
            keep: how many checkpoints.
            recordings: what the memory took in since `recorded_calls`.
            oldest_call: what it took in before has gone from it.

        Raises:
            OSError, SafetensorError: it cannot be written, or the run's folder is not there; what was there still is.
        """
        place = self.folder / f"step-{step:012d}"
        beside = self.folder / f".{place.name}.part"
        if not self.folder.is_dir():
            self.folder.mkdir()
            sync(self.folder.parent)
        self._remove_leftovers()
        beside.mkdir()
        try:
            files = [file for file in self._files if file.end > oldest_call]
            for file in files:
                assert self._last is not None
                _link(self._last / file.name, beside / file.name)
            files += [_write_recording(beside, recording) for recording in recordings]
            tensors: dict[str, Tensor] = {}
            values = _take_tensors(state, "", tensors)
            save_file(tensors, beside / _TENSORS)
            sync(beside / _TENSORS)
            content = {"recordings": [asdict(file) for file in files], "state": values}
            checksums = {_TENSORS: _sha256(beside / _TENSORS), _VALUES: _sha256_of_values(content)}
            write_json(
                beside / _VALUES, {"format": FORMAT, "step": step, "sha256": checksums, **content}, allow_nan=True
            )
            sync(beside)
            if place.exists():
                place.rename(_aside(place))
            beside.rename(place)
        except BaseException:
            shutil.rmtree(beside, ignore_errors=True)
            raise
        sync(self.folder)
        self._last, self._files = place, files
        for later in [other for other in checkpoints(self.folder) if step_of(other) > step]:
            remove(later)  # damaged: else this run would have gone on from it
        self.prune(keep)
        return place

    def prune(self, keep: int) -> None:
        """Take away all but the last `keep`."""
        for old in checkpoints(self.folder)[:-keep]:
            remove(old)
        self._remove_leftovers()

    def load_last(
        self, run: str, memory: bool = True, latest_step: int | None = None, key: str = "resume"
    ) -> tuple[dict[str, Any], list[Recording], list[str]]:
        """The last checkpoint that is whole, and a line for each later one that is damaged.

        Args:
            run: how messages call the run.
            memory: whether the recordings are wanted.
            latest_step: not one of a later step.
            key: what messages are about.

        Returns:
            The state, the recordings, and the lines.

        Raises:
            UserError: there is none.
        """
        there = [place for place in checkpoints(self.folder) if latest_step is None or step_of(place) <= latest_step]
        if not there:
            raise UserError(key, run, "has no checkpoint to go on from")
        damages: list[str] = []
        for place in reversed(there):
            try:
                state, files, recordings = _load(place, memory)
            except ValueError as damage:
                damages.append(str(damage))
            else:
                self._last, self._files = place, files
                return state, recordings, damages
        advice = "no whole checkpoint is left"
        if memory and _is_whole_without_memory(there[-1]):
            advice += "; checkpoint.memory=false goes on from the last without its memory"
        raise UserError(key, run, f"{'; '.join(damages)}; {advice}")

    def _remove_leftovers(self) -> None:
        """Of processes that were killed while they saved or removed."""
        whole = checkpoints(self.folder)
        for leftover in self.folder.glob(".step-*"):
            if leftover not in whole:
                shutil.rmtree(leftover)


def checkpoints(folder: Path) -> list[Path]:
    """The complete checkpoints in a folder, oldest first.

    One may lie aside, of a process that was killed as it saved the same step again.
    """
    aside = {step_of(place): place for place in folder.glob(f".step-*{_ASIDE}")}
    found = aside | {step_of(place): place for place in folder.glob("step-*")}
    return [found[step] for step in sorted(found)]


def step_of(place: Path) -> int:
    """The agent step at which a checkpoint was saved, by its name."""
    return int(place.name.removesuffix(_ASIDE).rpartition("-")[2])


def load_state(place: Path) -> dict[str, Any]:
    """The state in one checkpoint, without what the memory took in.

    Raises:
        UserError: the checkpoint is damaged.
    """
    try:
        return _load(place, memory=False)[0]
    except ValueError as damage:
        raise UserError("run", place.parents[1], str(damage)) from damage


def _load(place: Path, memory: bool) -> tuple[dict[str, Any], list[_RecordingFile], list[Recording]]:
    """The state that `save` was given, and what there is of the memory, still on the disk.

    Raises:
        ValueError: the checkpoint is damaged or of another format; says which.
    """
    try:
        record = json.loads((place / _VALUES).read_text(encoding="utf-8"))
        found, checksums = record["format"], record["sha256"]
        if found != FORMAT:
            raise ValueError(f"checkpoint {place.name} has format {found}; this version reads {FORMAT}")
        content = {name: record[name] for name in ("recordings", "state")}
        values_are_whole = _sha256_of_values(content) == checksums[_VALUES]
        files = [_RecordingFile(**file) for file in record["recordings"]] if memory else []
        expected = {_TENSORS: checksums[_TENSORS], **{file.name: file.sha256 for file in files}}
    except (OSError, KeyError, TypeError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"checkpoint {place.name} is damaged ({_VALUES}: {error})") from error
    if not values_are_whole:
        raise ValueError(f"checkpoint {place.name} is damaged ({_VALUES} does not match its checksum)")
    for name, checksum in expected.items():
        if Path(name).name != name:
            raise ValueError(f"checkpoint {place.name} is damaged ({_VALUES} names the file {name})")
        try:
            if _sha256(place / name) != checksum:
                raise ValueError(f"checkpoint {place.name} is damaged ({name} does not match its checksum)")
        except OSError as error:
            raise ValueError(f"checkpoint {place.name} is damaged ({name}: {error.strerror})") from error
    try:
        state: dict[str, Any] = _put_tensors(record["state"], "", load_file(place / _TENSORS))
        return state, files, [{"first": file.first, **load_file(place / file.name)} for file in files]
    except (SafetensorError, KeyError) as error:
        raise ValueError(f"checkpoint {place.name} is damaged ({error})") from error


def _write_recording(folder: Path, recording: Recording) -> _RecordingFile:
    tensors = {name: tensor.contiguous() for name, tensor in recording.items() if isinstance(tensor, Tensor)}
    first = int(recording["first"])
    end = first + tensors["flags"].shape[1]
    path = folder / f"calls-{first:012d}-{end:012d}.safetensors"
    save_file(tensors, path)
    sync(path)
    return _RecordingFile(path.name, first, end, _sha256(path))


def remove(place: Path) -> None:
    """Take away a checkpoint; it is whole until it is gone."""
    shutil.rmtree(place.rename(place.with_name(f".{place.name.lstrip('.')}.removed")))


def _aside(place: Path) -> Path:
    """Where a checkpoint is while another takes its place."""
    return place.with_name(f".{place.name}{_ASIDE}")


def _is_whole_without_memory(place: Path) -> bool:
    try:
        _load(place, memory=False)
    except ValueError:
        return False
    return True


def _link(source: Path, target: Path) -> None:
    """A second name for a file; where the file system knows no such thing, a copy."""
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copyfile(source, target)
        sync(target)


def _take_tensors(state: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    """The state with a mark in place of each tensor; the tensors by their path."""
    if isinstance(state, Tensor):
        tensors[path] = state.detach().contiguous()
        return {"tensor": path}
    if isinstance(state, dict):
        return {key: _take_tensors(value, f"{path}/{key}" if path else key, tensors) for key, value in state.items()}
    if isinstance(state, list):
        return [_take_tensors(value, f"{path}/{index}", tensors) for index, value in enumerate(state)]
    return state


def _put_tensors(state: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(state, dict):
        if state == {"tensor": path}:
            return tensors[path]
        return {key: _put_tensors(value, f"{path}/{key}" if path else key, tensors) for key, value in state.items()}
    if isinstance(state, list):
        return [_put_tensors(value, f"{path}/{index}", tensors) for index, value in enumerate(state)]
    return state


def _sha256_of_values(values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()  # hashlib.file_digest needs Python 3.11
    with path.open("rb") as file:
        while chunk := file.read(1 << 22):
            digest.update(chunk)
    return digest.hexdigest()
