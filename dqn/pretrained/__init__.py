"""Policies that come with the project, for who wants to skip training: of each run its config and its export."""

from __future__ import annotations

import shutil
from pathlib import Path

from dqn.errors import UserError, nearest
from dqn.faults import disk_errors_explained
from dqn.run_folder import RunFolder, check_links

_KEPT = Path(__file__).parent
_RUNS = Path("runs")


def pretrained_names() -> list[str]:
    """What there is."""
    return sorted(path.parent.name for path in _KEPT.glob("*/config.yaml"))


def take_out(name: str) -> RunFolder:
    """Copy a policy to where it can be played, filmed and measured, and return that run.

    Raises:
        UserError: there is no such policy, or the place leads elsewhere.
        TrainingError: it cannot be written there.
    """
    if name not in pretrained_names():
        raise UserError("pretrained", name, f"no such policy; {nearest(name, pretrained_names())}")
    folder = RunFolder(_RUNS / "pretrained" / name)
    if not folder.path.resolve().is_relative_to(_RUNS.resolve()):
        raise UserError("pretrained", name, f"{folder} is a link to a place outside of {_RUNS}; remove it")
    check_links(folder.path, "pretrained")
    with disk_errors_explained(folder):
        shutil.copytree(_KEPT / name, folder.path, dirs_exist_ok=True)
    return folder
