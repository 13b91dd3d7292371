"""lineage.jsonl in a sweep's folder: with what each member began, and whose copy it became when."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from dqn.files import write_text

LINEAGE = "lineage.jsonl"


@dataclass(frozen=True)
class Birth:
    """A member's beginning, or its replacement by a copy.

    Attributes:
        step: agent steps of the member.
        member: its number.
        parent: of whom it is a copy from here on; None at the beginning.
        score: the mean return of its last evaluation before; None at the beginning.
        parent_score: the parent's.
        before: the member's own values until then, by config key; None at the beginning.
        values: from here on.
    """

    step: int
    member: int
    parent: int | None
    score: float | None
    parent_score: float | None
    before: Mapping[str, float] | None
    values: Mapping[str, float]


def read_lineage(folder: Path) -> list[Birth]:
    """The births in a sweep's folder, in their order; a line that is being written is left out."""
    lines = (folder / LINEAGE).read_text(encoding="utf-8").splitlines(keepends=True)
    return [Birth(**json.loads(line)) for line in lines if line.endswith("\n")]


def add_births(folder: Path, step: int, births: Sequence[Birth]) -> None:
    """Write the births of an agent step at the end of the file, safely on the disk.

    What is there of this step already was written by a process that was killed before it saved: this takes its place.
    """
    before = read_lineage(folder) if (folder / LINEAGE).exists() else []
    write_text(folder / LINEAGE, _text([*(birth for birth in before if birth.step < step), *births]))


def forget_births(folder: Path, after_step: int) -> None:
    """Take out what happened after an agent step, to which a sweep goes back."""
    write_text(folder / LINEAGE, _text([birth for birth in read_lineage(folder) if birth.step <= after_step]))


def _text(births: Sequence[Birth]) -> str:
    return "".join(json.dumps(asdict(birth), allow_nan=False) + "\n" for birth in births)
