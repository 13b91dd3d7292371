"""Checkpoints are complete or absent, and what comes out is what went in."""

from __future__ import annotations

import json

import pytest
import torch

from dqn import checkpoint
from dqn.errors import UserError


def state(step: int) -> dict:
    ring = torch.arange(24, dtype=torch.uint8).view(2, 3, 4)
    return {
        "steps": step,
        "names": ["a", None, 1.5],
        "nested": {"weights": torch.full((2, 3), float(step)), "part of a ring": ring[:, :, :2], "empty": {}},
        "count": torch.tensor(7),
    }


def test_round_trip(tmp_path):
    checkpoint.save(tmp_path, 5, state(5), keep=2)
    loaded, damages = checkpoint.load_last(tmp_path, "run")
    assert damages == []
    expected = state(5)
    nested = expected.pop("nested")
    loaded_nested = loaded.pop("nested")
    assert loaded_nested.pop("empty") == nested.pop("empty")
    for name, tensor in nested.items():
        torch.testing.assert_close(loaded_nested[name], tensor, rtol=0, atol=0)
    assert loaded.pop("count") == expected.pop("count")
    assert loaded == expected


def test_the_last_ones_are_kept(tmp_path):
    for step in (1, 20, 300, 4000):
        checkpoint.save(tmp_path, step, state(step), keep=2)
    assert [place.name for place in checkpoint.checkpoints(tmp_path)] == ["step-000000000300", "step-000000004000"]


def test_a_failed_write_leaves_what_was_there(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, 1, state(1), keep=2)

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    for part in ("save_file", "write_json", "sync"):
        with monkeypatch.context() as patch:
            patch.setattr(checkpoint, part, fail)
            with pytest.raises(OSError, match="No space"):
                checkpoint.save(tmp_path, 2, state(2), keep=2)
        assert [path.name for path in tmp_path.iterdir() if not path.name.startswith("step-000000000002")] == [
            "step-000000000001"
        ]
        assert checkpoint.load_last(tmp_path, "run")[0]["steps"] == 1 or part == "sync"


def test_leftovers_of_a_killed_write_do_not_count(tmp_path):
    (tmp_path / ".step-000000000002.part").mkdir()
    with pytest.raises(UserError, match="has no checkpoint"):
        checkpoint.load_last(tmp_path, "run")
    checkpoint.save(tmp_path, 2, state(2), keep=2)
    assert checkpoint.load_last(tmp_path, "run")[0]["steps"] == 2


@pytest.mark.parametrize("file", ["tensors.safetensors", "values.json"])
def test_damage_is_named_and_the_one_before_used(tmp_path, file):
    for step in (1, 2):
        place = checkpoint.save(tmp_path, step, state(step), keep=2)
    content = bytearray((place / file).read_bytes())
    content[len(content) // 2] ^= 0xFF
    (place / file).write_bytes(bytes(content))
    loaded, damages = checkpoint.load_last(tmp_path, "run")
    assert loaded["steps"] == 1
    assert len(damages) == 1
    assert "step-000000000002 is damaged" in damages[0]


def test_a_value_that_was_changed_is_damage(tmp_path):
    place = checkpoint.save(tmp_path, 1, state(1), keep=1)
    text = (place / "values.json").read_text()
    (place / "values.json").write_text(text.replace('"steps": 1', '"steps": 2'))
    with pytest.raises(UserError, match="does not match its checksum"):
        checkpoint.load_last(tmp_path, "run")


def test_another_format_is_refused(tmp_path):
    place = checkpoint.save(tmp_path, 1, state(1), keep=1)
    record = json.loads((place / "values.json").read_text())
    (place / "values.json").write_text(json.dumps({**record, "format": 99}))
    with pytest.raises(UserError, match="has format 99; this version reads 2"):
        checkpoint.load_last(tmp_path, "run")


def test_one_tensor_without_the_others(tmp_path):
    checkpoint.save(tmp_path, 3, state(3), keep=1)
    values, place = checkpoint.read_values(tmp_path, "run")
    assert values["steps"] == 3
    torch.testing.assert_close(checkpoint.read_tensor(place, "nested/weights"), torch.full((2, 3), 3.0))
