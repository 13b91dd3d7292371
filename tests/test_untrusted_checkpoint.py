"""Checkpoints in which somebody else has put pickles; whoever can do that can also make the checksums fit."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dqn import checkpoint
from dqn.checkpoint import Checkpoints
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
    state = {"trainer": {"weights": torch.ones(3), "step": 7}}
    recording = {"first": 0, "frames.0": torch.zeros(6, dtype=torch.uint8), "flags": torch.zeros(1, 6)}
    folder.mkdir()
    place = Checkpoints(folder).save(7, state, 2, [recording])
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
                if other.suffix == ".json":
                    record = json.loads(other.read_text())
                    own = {name: record[name] for name in ("recordings", "state")}
                    record["sha256"]["values.json"] = checkpoint._sha256_of_values(own)
                    other.write_text(json.dumps(record))
        with pytest.raises(UserError, match="is damaged") as error:
            Checkpoints(folder).load_last("run")
        assert "checksum" not in str(error.value)
        assert "\n" not in str(error.value)
        assert not (tmp_path / "mark").exists(), files[number]
