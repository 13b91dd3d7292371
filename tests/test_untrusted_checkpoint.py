"""Checkpoints in which somebody else has put pickles; whoever can do that can also make the checksums fit."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import SafetensorError

from dqn import checkpoint
from dqn.errors import UserError


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch mark",)


def by_torch() -> bytes:
    file = io.BytesIO()
    torch.save({"weights": Evil()}, file)
    return file.getvalue()


def by_numpy() -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([Evil()], dtype=object), allow_pickle=True)
    return file.getvalue()


PICKLES = {"pickle": pickle.dumps(Evil()), "text": pickle.dumps(Evil(), protocol=0), "torch": by_torch()}


def save(folder: Path) -> list[Path]:
    """A checkpoint with a memory; returns its files."""
    state = {"trainer": {"memory": {"frames": torch.zeros(6, dtype=torch.uint8)}, "weights": torch.ones(3), "step": 7}}
    place = checkpoint.save(folder, 7, state, keep=2)
    return sorted(path for path in place.rglob("*") if path.is_file())


@pytest.mark.parametrize("content", [*PICKLES.values(), by_numpy()], ids=[*PICKLES, "numpy"])
def test_no_file_of_a_checkpoint_is_unpickled(content, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number in range(len(save(tmp_path / "some"))):
        folder = tmp_path / str(number)
        files = save(folder)
        before = hashlib.sha256(files[number].read_bytes()).hexdigest().encode()
        files[number].write_bytes(content)
        for other in files:  # the checksum, wherever it stands
            if other != files[number]:
                fitting = hashlib.sha256(content).hexdigest().encode()
                other.write_bytes(other.read_bytes().replace(before, fitting))
        with pytest.raises((UserError, SafetensorError)) as error:
            checkpoint.load_last(folder, "run")
        assert "\n" not in str(error.value)
        assert not (tmp_path / "mark").exists(), files[number]
