"""Files that are whole or absent: written beside their place, synced and renamed."""

from __future__ import annotations

import json
import math
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
    sync(path.parent)


def write_json(path: Path, content: Any, allow_nan: bool = False) -> None:
    """Write JSON with `write_text`: strict, or with NaN and infinities in Python's way."""
    write_text(path, json.dumps(content, indent=2, allow_nan=allow_nan) + "\n")


def strict(value: Any) -> Any:
    """A value of JSON with None in the place of numbers that are not finite, which strict JSON has no word for."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (list, tuple)):
        return [strict(item) for item in value]
    if isinstance(value, dict):
        return {key: strict(item) for key, item in value.items()}
    return value


def sync(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
