from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from dqn.errors import TrainingError
from dqn.faults import disk_errors_explained, memory_errors_explained
from dqn.run_folder import RunFolder

TOO_MUCH = 2**60  # bytes, more than any address space has
ADVICE = "lower memory.capacity_steps, trainer.batch_size or env.num_envs"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "sweep" / "run"
    path.mkdir(parents=True)
    return RunFolder(path)


@pytest.mark.parametrize(
    ("allocate", "what"),
    [
        (lambda: torch.empty(TOO_MUCH, dtype=torch.uint8), "for 1.2e+09 GB more"),
        (lambda: bytearray(TOO_MUCH), "MemoryError"),
        (lambda: np.empty(TOO_MUCH, np.uint8), "Unable to allocate 1.00 EiB for an array"),
    ],
    ids=["PyTorch", "Python", "NumPy"],
)
def test_memory_that_cannot_be_had_is_one_line(folder, allocate, what):
    with pytest.raises(TrainingError) as alone, memory_errors_explained():
        allocate()
    assert str(alone.value).startswith(f"out of memory ({what}")
    assert "lower" not in str(alone.value)
    (folder.checkpoints / "step-000000000300").mkdir(parents=True)
    with pytest.raises(TrainingError) as in_training, memory_errors_explained(folder):
        allocate()
    assert str(in_training.value).endswith(f"): {ADVICE}; the last checkpoint is step-000000000300")


@pytest.mark.parametrize("error", [RuntimeError("a bug"), OSError(errno.ENOENT, "x"), ValueError("out of memory")])
def test_other_errors_stay_what_they_are(folder, error):
    with pytest.raises(type(error)) as raised, memory_errors_explained(folder), disk_errors_explained(folder):
        raise error
    assert raised.value is error


@pytest.mark.parametrize("name", ["EIO", "ENODEV", "ENXIO", "ESTALE", "ENOTCONN", "EROFS"])
def test_a_disk_that_fails_or_has_gone_is_one_line(folder, name, monkeypatch):
    number = getattr(errno, name)
    (folder.checkpoints / "step-000000000300").mkdir(parents=True)
    with pytest.raises(TrainingError) as raised, disk_errors_explained(folder):
        raise OSError(number, os.strerror(number), str(folder.path / "metrics.jsonl"))
    line = f"could not write in sweep/run: {os.strerror(number)}; "
    assert str(raised.value) == f"{line}the last checkpoint is step-000000000300"

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "glob", fail)
    with pytest.raises(TrainingError) as unseen, disk_errors_explained(folder):
        fail()
    assert str(unseen.value) == f"{line}its checkpoints cannot be seen either"


def test_a_file_that_vanished_is_named(folder):
    missing = folder.path / "metrics.jsonl"
    with pytest.raises(TrainingError) as raised, disk_errors_explained(folder):
        missing.stat()
    assert str(raised.value) == f"{missing} was removed or moved away before the run was over"


def test_of_runs_that_train_together_the_one_that_vanished_is_named(folder, tmp_path):
    other = tmp_path / "sweep" / "other"
    with pytest.raises(TrainingError) as raised, disk_errors_explained(folder):
        (other / "metrics.jsonl").stat()
    assert str(raised.value) == f"{other} was removed or moved away before the run was over"


def test_a_file_of_somebody_else_is_not_explained(folder, tmp_path):
    with pytest.raises(FileNotFoundError), disk_errors_explained(folder):
        (tmp_path / "rom.bin").stat()
