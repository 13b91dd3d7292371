"""Files that are whole or absent: written beside their place, synced and renamed."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dqn.errors import TrainingError


def write_text(path: Path, text: str) -> None:
    """Write a file so that at any moment the old or the new text is there, whole."""
    beside = path.with_name(f".{path.name}.part")
    with beside.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def write_json(path: Path, content: Any) -> None:
    """Write strict JSON (no NaN) with `write_text`."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def sync(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def disk_errors_explained(folder: Path) -> Iterator[None]:
    """Turn a full or unwritable disk under `folder` into a one-line TrainingError."""
    try:
        yield
    except Exception as error:
        # safetensors wraps the system's error in its own, as text.
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error)
        if full:
            raise TrainingError(f"the disk is full: could not write in {folder}; {_whats_safe(folder)}") from error
        if isinstance(error, PermissionError) or getattr(error, "errno", None) == errno.EROFS:
            raise TrainingError(f"not allowed to write: {error.filename or folder}") from error  # type: ignore[attr-defined]
        raise


def _whats_safe(folder: Path) -> str:
    checkpoints = sorted((folder / "checkpoints").glob("step-*"))
    return f"the last checkpoint is {checkpoints[-1].name}" if checkpoints else "no checkpoint had been written"
