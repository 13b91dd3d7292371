"""Where the multirun of this process leaves its runs: Hydra hands nothing back to who called it."""

from __future__ import annotations

from pathlib import Path

folder: Path | None = None  # None where nobody keeps a record: Hydra's own launchers without a search


def begin(sweep: Path) -> None:
    """Remember where the multirun will leave its runs, before anything is written."""
    global folder
    folder = sweep
