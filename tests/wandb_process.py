"""Finds the process that the package wandb starts, so that a test can do something to it."""

from __future__ import annotations

from pathlib import Path

import pytest


def wandb_process(parent: int) -> int:
    """The number of the one that the process `parent` has started."""
    if not Path("/proc").is_dir():
        pytest.skip("needs /proc")
    for place in Path("/proc").glob("[0-9]*"):
        try:
            name, _, fields = (place / "stat").read_text().partition("(")[2].rpartition(")")
        except OSError:  # it has just ended
            continue
        state, its_parent = fields.split()[:2]
        if name.startswith("wandb-core") and int(its_parent) == parent and state != "Z":
            return int(place.name)
    raise AssertionError("W&B has no process")
