"""Where the multirun of this process leaves its runs: Hydra hands nothing back to who called it."""

from __future__ import annotations

from pathlib import Path

folder: Path | None = None  # None where nobody keeps a record: Hydra's own launchers without a search
_not_there: list[Path] = []  # before the multirun: the folder and those around it, the innermost first


def begin(sweep: Path) -> None:
    """Remember where the multirun will leave its runs, before anything is written."""
    global folder, _not_there
    folder, _not_there = sweep, [place for place in (sweep, *sweep.parents) if not place.exists()]


def take_back() -> None:
    """Remove a new sweep's folder if nothing is there yet but Hydra's note of the command."""
    if not _not_there or [path.name for path in _not_there[0].glob("*")] != ["multirun.yaml"]:
        return
    (_not_there[0] / "multirun.yaml").unlink()
    for place in _not_there:
        place.rmdir()
