"""The folders that Hydra makes before anything else is known to be right, taken back where it is not."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

_NOTE = "multirun.yaml"  # Hydra's, of a multirun's command line
_not_there: list[Path] = []  # before Hydra came: the folder it was told and those around it, the innermost first


def expect(folder: Path) -> None:
    """Remember what of a folder's path is not there yet."""
    _not_there[:] = [place for place in (folder, *folder.parents) if not place.exists()]


def take_back() -> None:
    """Remove the expected folders again, but for those in which there is more than Hydra's note of the command."""
    if not _not_there:
        return
    with suppress(OSError):  # of a name that is too long
        if [path.name for path in _not_there[0].glob("*")] == [_NOTE]:
            (_not_there[0] / _NOTE).unlink()
    for place in _not_there:
        with suppress(OSError):  # Hydra had not come so far, or there is something in it
            place.rmdir()
