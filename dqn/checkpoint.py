"""Checkpoints: folders `step-<N>`, complete or absent, of tensors in safetensors and everything else in JSON."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from dqn.errors import UserError
from dqn.files import sync, write_json

FORMAT = 2
_TENSORS, _VALUES = "tensors.safetensors", "values.json"


def save(folder: Path, step: int, state: dict[str, Any], keep: int) -> Path:
    """Write `state` (nested dicts and lists of tensors and JSON values) as folder/step-<N>; keep the last `keep`."""
    place = folder / f"step-{step:012d}"
    beside = folder / f".{place.name}.part"
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    try:
        tensors: dict[str, Tensor] = {}
        values = _take_tensors(state, "", tensors)
        save_file(tensors, beside / _TENSORS)
        sync(beside / _TENSORS)
        checksums = {_TENSORS: _sha256(beside / _TENSORS), _VALUES: _sha256_of_values(values)}
        write_json(beside / _VALUES, {"format": FORMAT, "step": step, "sha256": checksums, "state": values})
        sync(beside)
        shutil.rmtree(place, ignore_errors=True)
        beside.rename(place)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    sync(folder)
    for old in checkpoints(folder)[:-keep]:
        shutil.rmtree(old)
    return place


def checkpoints(folder: Path) -> list[Path]:
    """The complete checkpoints in a folder, oldest first."""
    return sorted(folder.glob("step-*"))


def step_of(place: Path) -> int:
    """The agent step at which a checkpoint was saved, by its name."""
    return int(place.name.removeprefix("step-"))


def load_last(folder: Path, run: str) -> tuple[dict[str, Any], list[str]]:
    """The state of the last checkpoint that is whole, and a line for each later one that is damaged.

    Args:
        folder: of the checkpoints.
        run: how messages call the run.

    Raises:
        UserError: there is none.
    """
    there = checkpoints(folder)
    if not there:
        raise UserError("resume", run, "has no checkpoint to go on from")
    damages: list[str] = []
    for place in reversed(there):
        try:
            return load(place), damages
        except ValueError as damage:
            damages.append(str(damage))
    raise UserError("resume", run, "; ".join(damages) + "; no whole checkpoint is left")


def read_values(folder: Path, run: str) -> tuple[dict[str, Any], Path]:
    """The plain values of the last checkpoint, and where it is; tensors are read with `read_tensor`.

    Args:
        folder: of the checkpoints.
        run: how messages call the run.

    Raises:
        UserError: there is none, or it cannot be read.
    """
    there = checkpoints(folder)
    if not there:
        raise UserError("run", run, "has no checkpoint")
    try:
        record = json.loads((there[-1] / _VALUES).read_text(encoding="utf-8"))
        values: dict[str, Any] = record["state"]
    except (OSError, ValueError, KeyError) as error:
        raise UserError("run", run, f"checkpoint {there[-1].name} is damaged ({_VALUES}: {error})") from error
    return values, there[-1]


def read_tensor(place: Path, name: str) -> Tensor:
    """One tensor of a checkpoint, without reading the others: a memory can be large.

    Raises:
        UserError: the checkpoint is damaged.
    """
    try:
        with safe_open(place / _TENSORS, framework="pt") as file:
            tensor: Tensor = file.get_tensor(name)
    except (OSError, SafetensorError) as error:
        raise UserError("run", place.parents[1], f"checkpoint {place.name} is damaged ({error})") from error
    return tensor


def load(place: Path) -> dict[str, Any]:
    """The state that `save` was given.

    Raises:
        ValueError: the checkpoint is damaged or of another format; says which.
    """
    try:
        record = json.loads((place / _VALUES).read_text(encoding="utf-8"))
        found, checksums = record["format"], record["sha256"]
        values_are_whole = _sha256_of_values(record["state"]) == checksums[_VALUES]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"checkpoint {place.name} is damaged ({_VALUES}: {error})") from error
    if found != FORMAT:
        raise ValueError(f"checkpoint {place.name} has format {found}; this version reads {FORMAT}")
    if not values_are_whole:
        raise ValueError(f"checkpoint {place.name} is damaged ({_VALUES} does not match its checksum)")
    try:
        if _sha256(place / _TENSORS) != checksums[_TENSORS]:
            raise ValueError(f"checkpoint {place.name} is damaged ({_TENSORS} does not match its checksum)")
    except OSError as error:
        raise ValueError(f"checkpoint {place.name} is damaged ({_TENSORS}: {error.strerror})") from error
    state: dict[str, Any] = _put_tensors(record["state"], "", load_file(place / _TENSORS))
    return state


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
