"""Policies that come with the project, for who wants to skip training: of each run its config and its export."""

from __future__ import annotations

import shutil
from pathlib import Path

from dqn.errors import UserError, nearest

_KEPT = Path(__file__).parent
PLAYED_IN = Path("runs/pretrained")


def names() -> list[str]:
    """What there is."""
    return sorted(path.parent.name for path in _KEPT.glob("*/config.yaml"))


def take_out(name: str) -> Path:
    """Copy a policy to where it can be played, filmed and measured, and return that run's folder.

    Raises:
        UserError: there is no such policy.
    """
    if name not in names():
        raise UserError("pretrained", name, f"no such policy; {nearest(name, names())}")
    folder = PLAYED_IN / name
    shutil.copytree(_KEPT / name, folder, dirs_exist_ok=True)
    return folder
