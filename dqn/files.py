"""Files that are whole or absent: written beside their place, synced and renamed."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dqn.errors import TrainingError

if TYPE_CHECKING:
    from dqn.run_folder import RunFolder


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


# What goes wrong with a place to write, rather than with the program.
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)


@contextmanager
def disk_errors_explained(folder: RunFolder) -> Iterator[None]:
    """Turn a full or unwritable disk under a run's folder into a one-line TrainingError."""
    try:
        yield
    except Exception as error:
        number = getattr(error, "errno", None) or _number_in(str(error))
        if number not in _DISK_ERRORS:
            raise
        problem = "the disk is full" if number in (errno.ENOSPC, errno.EDQUOT) else os.strerror(number)
        raise TrainingError(f"could not write in {folder}: {problem}; {_whats_safe(folder)}") from error


def _number_in(text: str) -> int | None:
    """The system's error number in "(os error 28)", as safetensors passes errors on."""
    match = re.search(r"os error (\d+)", text)
    return int(match.group(1)) if match else None


def _whats_safe(folder: RunFolder) -> str:
    checkpoints = sorted(folder.checkpoints.glob("step-*"))
    return f"the last checkpoint is {checkpoints[-1].name}" if checkpoints else "no checkpoint had been written"
