"""Files that are whole or absent: written beside their place, synced and renamed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

PART = ".*.part"  # what a process that is killed leaves of a file


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
