"""Where members of one population go on together after they were killed."""

from __future__ import annotations

from pathlib import Path

import pytest

from dqn.sweep.jobs import Job, back_to_common_checkpoint


def jobs(folder: Path, *steps: list[int]) -> list[Job]:
    for number, of_one in enumerate(steps):
        for step in of_one:
            (folder / str(number) / "checkpoints" / f"step-{step:012d}").mkdir(parents=True)
    return [Job(number, (), {}, folder / str(number)) for number in range(len(steps))]


@pytest.mark.parametrize(
    ("steps", "common", "left"),
    [
        ([[100, 200], [100, 200]], 200, [[100, 200], [100, 200]]),
        ([[100, 200], [100]], 100, [[100], [100]]),  # killed between two
        ([[100], []], None, [[], []]),  # likewise, the first time
        ([[], []], None, [[], []]),
        ([[200, 300], []], None, [[200, 300], []]),  # something else has happened to the second
        ([[100, 200], [300]], None, [[100, 200], [300]]),
    ],
)
def test_back_to_the_common_checkpoint(steps, common, left, tmp_path):
    together = jobs(tmp_path, *steps)
    assert back_to_common_checkpoint(together) == common
    names = [sorted(path.name for path in (job.folder / "checkpoints").glob("*")) for job in together]
    assert names == [[f"step-{step:012d}" for step in of_one] for of_one in left]
