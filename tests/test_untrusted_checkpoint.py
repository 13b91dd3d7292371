"""Checkpoints in which somebody else has put pickles or other settings, and made the checksums fit."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dqn import checkpoint, run
from dqn.checkpoint import Checkpoints, checkpoints
from dqn.compose import compose_config
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


SHORT = (
    *("experiment=cartpole", "logger=none", "trainer.compile=never", "trainer.total_steps=40"),
    *(
        "memory.warmup_steps=20",
        "trainer.batch_size=4",
        "evaluation.every_steps=null",
        "evaluation.stop.mean_return=null",
    ),
    *("evaluation.final_episodes=1", "evaluation.video=false", "checkpoint.every_steps=40", "export.formats=[]"),
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    run.train([compose_config(SHORT)], [folder])
    return folder


@pytest.fixture
def folder(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, beside a module `evil` that leaves a mark where it is imported."""
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'mark')!r}, 'w')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "evil", raising=False)
    return Path(shutil.copytree(trained, tmp_path / "run"))


def resumed_with(folder: Path, traits: Any) -> None:
    (place,) = checkpoints(folder / "checkpoints")
    Checkpoints(place.parent).save(checkpoint.step_of(place), {**checkpoint.load_state(place), "traits": traits}, 1)
    run.resume([compose_config([*SHORT, "trainer.total_steps=80"])], [folder])


CUSTOM_LOSS = {"kind": "custom", "_target_": "evil.Loss", "arguments": {}}


@pytest.mark.parametrize(
    "traits",
    [
        {"env.id": "evil:X-v0"},
        {"evaluation.env": {"id": "evil:X-v0"}},
        {"algorithm.loss": CUSTOM_LOSS},
        {"algorithm.discount": 0.9, "logger.wandb": {}},
        {"optimizer.learning_rate": "1e-3"},
        {"optimizer.nothing": 1.0},
        {"nothing.at.all": 1.0},
        {"optimizer.__class__.learning_rate": 1.0},
        {"trainer.total_steps": 1000},
        ["optimizer.learning_rate"],
    ],
    ids=lambda traits: next(iter(traits)),
)
def test_a_checkpoint_changes_nothing_but_numbers_of_traits(folder, traits):
    with pytest.raises(UserError) as error:
        resumed_with(folder, traits)
    problem = f"its last checkpoint is damaged (values.json changes what is no trait, {traits})"
    assert str(error.value) == f"resume={folder}: {problem}"
    assert not (folder.parent / "mark").exists()
    assert not (folder / "error.txt").exists()


def test_a_trait_that_training_has_changed_is_kept(folder):
    resumed_with(folder, {"optimizer.learning_rate": 0.123})
    assert json.loads((folder / "summary.json").read_text())["traits"] == {"optimizer.learning_rate": 0.123}
