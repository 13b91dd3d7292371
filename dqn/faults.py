"""What goes wrong with the machine rather than with the program: each is one line and ends the run."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dqn.errors import TrainingError, first_line

if TYPE_CHECKING:
    from dqn.run_folder import RunFolder

_DISK_ERRORS = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.EIO, errno.ENODEV, errno.ENXIO),  # of a disk that fails or was pulled out
    *(errno.ESTALE, errno.ENOTCONN),  # of a network's disk that has gone
)
# How those who allocate say that they could not: PyTorch on a CPU and a GPU, C++, the loader of shared libraries.
_MEMORY_ERRORS = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "bad alloc",
    "bad_alloc",
    "failed to map segment",
)


@contextmanager
def disk_errors_explained(folder: RunFolder) -> Iterator[None]:
    """Turn a full or unwritable disk under a run's folder, or that the folder has vanished, into a TrainingError."""
    try:
        yield
    except Exception as error:
        number = getattr(error, "errno", None) or _number_in(str(error))
        missing = _missing(folder, error) if number == errno.ENOENT else None
        if missing is not None:
            raise TrainingError(f"{missing} was removed or moved away before the run was over") from error
        if number not in _DISK_ERRORS:
            raise
        problem = "the disk is full" if number in (errno.ENOSPC, errno.EDQUOT) else os.strerror(number)
        raise TrainingError(f"could not write in {folder}: {problem}; {_whats_safe(folder)}") from error


@contextmanager
def memory_errors_explained(folder: RunFolder | None = None, members: int = 1) -> Iterator[None]:
    """Turn memory that could not be had into a one-line TrainingError.

    Args:
        folder: of the run that is trained meanwhile, if one is; of several that are trained together, of one.
        members: how many are trained together.
    """
    try:
        yield
    except Exception as error:
        if not _is_out_of_memory(error):
            raise
        asked = re.search(r"allocate (\d+) bytes", str(error))
        line = f"out of memory ({f'for {int(asked[1]) / 1e9:.2g} GB more' if asked else first_line(error)})"
        if folder is not None:
            keys = ["memory.capacity_steps", "trainer.batch_size", "env.num_envs"]
            keys += ["hydra.launcher.max_members"] * (members > 1)
            line = f"{line}: lower {', '.join(keys[:-1])} or {keys[-1]}; {_whats_safe(folder)}"
        raise TrainingError(line) from error


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    is_one_of_theirs = isinstance(error, (RuntimeError, ImportError))
    return is_one_of_theirs and any(words in str(error).lower() for words in _MEMORY_ERRORS)


def _missing(folder: RunFolder, error: Exception) -> RunFolder | Path | None:
    """What has vanished, if it is a run's: the folder, a file in it, or the same of a run that trained with it."""
    if not folder.path.is_dir():
        return folder
    name = getattr(error, "filename", None)
    path = Path(name) if isinstance(name, str) else None
    if path is None or not path.is_relative_to(folder.path.parent):
        return None
    return path if path.parent.is_dir() else path.parent


def _number_in(text: str) -> int | None:
    """The system's error number in "(os error 28)", as safetensors passes errors on."""
    match = re.search(r"os error (\d+)", text)
    return int(match.group(1)) if match else None


def _whats_safe(folder: RunFolder) -> str:
    try:
        checkpoints = sorted(folder.checkpoints.glob("step-*"))
    except OSError:  # of the same disk
        return "its checkpoints cannot be seen either"
    return f"the last checkpoint is {checkpoints[-1].name}" if checkpoints else "no checkpoint had been written"
