"""Checkpoints are complete or absent, and what comes out is what went in."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from dqn import checkpoint, files
from dqn.checkpoint import FORMAT, Checkpoints
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
    Checkpoints(tmp_path).save(5, state(5), keep=2)
    loaded, recordings, damages = Checkpoints(tmp_path).load_last("run")
    assert (recordings, damages) == ([], [])
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
        Checkpoints(tmp_path).save(step, state(step), keep=2)
    assert [place.name for place in checkpoint.checkpoints(tmp_path)] == ["step-000000000300", "step-000000004000"]


def test_a_failed_write_leaves_what_was_there(tmp_path, monkeypatch):
    Checkpoints(tmp_path).save(1, state(1), keep=2)

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    for part in ("save_file", "write_json", "sync"):
        with monkeypatch.context() as patch:
            patch.setattr(checkpoint, part, fail)
            with pytest.raises(OSError, match="No space"):
                Checkpoints(tmp_path).save(2, state(2), keep=2)
        assert [path.name for path in tmp_path.iterdir()] == ["step-000000000001"]
        assert Checkpoints(tmp_path).load_last("run")[0]["steps"] == 1


def test_what_is_synced_when(tmp_path, monkeypatch):
    """Before a checkpoint has its name, all in it; and then each folder that has something new."""
    synced, sync, folder = [], checkpoint.sync, tmp_path / "checkpoints"

    def note(path: Path) -> None:
        assert (path.name == "checkpoints") == (folder / "step-000000000001").exists()
        synced.append(path.name)
        sync(path)

    monkeypatch.setattr(checkpoint, "sync", note)
    monkeypatch.setattr(files, "sync", note)
    Checkpoints(folder).save(1, state(1), keep=2)
    beside = ".step-000000000001.part"
    assert synced == [tmp_path.name, "tensors.safetensors", beside, beside, "checkpoints"]
    synced.clear()
    (folder / "step-000000000001").rename(tmp_path / "aside")
    files.write_text(tmp_path / "summary.json", "{}")
    assert synced == [tmp_path.name]


def test_leftovers_of_a_killed_write_do_not_count(tmp_path):
    (tmp_path / ".step-000000000002.part").mkdir()
    with pytest.raises(UserError, match="has no checkpoint"):
        Checkpoints(tmp_path).load_last("run")
    Checkpoints(tmp_path).save(2, state(2), keep=2)
    assert Checkpoints(tmp_path).load_last("run")[0]["steps"] == 2


@pytest.mark.parametrize("file", ["tensors.safetensors", "values.json"])
def test_damage_is_named_and_the_one_before_used(tmp_path, file):
    for step in (1, 2):
        place = Checkpoints(tmp_path).save(step, state(step), keep=2)
    content = bytearray((place / file).read_bytes())
    content[len(content) // 2] ^= 0xFF
    (place / file).write_bytes(bytes(content))
    loaded, _, damages = Checkpoints(tmp_path).load_last("run")
    assert loaded["steps"] == 1
    assert len(damages) == 1
    assert "step-000000000002 is damaged" in damages[0]


def test_a_value_that_was_changed_is_damage(tmp_path):
    place = Checkpoints(tmp_path).save(1, state(1), keep=1)
    text = (place / "values.json").read_text()
    (place / "values.json").write_text(text.replace('"steps": 1', '"steps": 2'))
    with pytest.raises(UserError, match="does not match its checksum"):
        Checkpoints(tmp_path).load_last("run")


def test_another_format_is_refused(tmp_path):
    place = Checkpoints(tmp_path).save(1, state(1), keep=1)
    record = json.loads((place / "values.json").read_text())
    (place / "values.json").write_text(json.dumps({**record, "format": 99}))
    with pytest.raises(UserError, match=f"has format 99; this version reads {FORMAT}"):
        Checkpoints(tmp_path).load_last("run")


def test_the_state_alone(tmp_path):
    Checkpoints(tmp_path).save(3, state(3), keep=1)
    (place,) = checkpoint.checkpoints(tmp_path)
    values = checkpoint.load_state(place)
    assert values["steps"] == 3
    torch.testing.assert_close(values["nested"]["weights"], torch.full((2, 3), 3.0))


# --- what a memory took in ---


def recording(first: int, end: int) -> dict:
    calls = torch.arange(first, end)
    ring = torch.zeros(1000, 3, dtype=torch.uint8)
    ring[first:end, 0] = calls.to(torch.uint8)
    return {"first": first, "frames.0": ring[first:end], "flags": calls.unsqueeze(0), "rewards": calls / 2}


def assert_has(recordings: list, bounds: list[tuple[int, int]]) -> None:
    assert [one["first"] for one in recordings] == [first for first, _ in bounds]
    for one, (first, end) in zip(recordings, bounds, strict=True):
        expected = recording(first, end)
        assert one.keys() == expected.keys()
        assert all(torch.equal(one[name], tensor) for name, tensor in expected.items() if name != "first")


def test_a_recording_is_written_once_and_kept_as_long_as_it_is_needed(tmp_path):
    saved = Checkpoints(tmp_path)
    assert saved.recorded_calls == 0
    saved.save(10, state(10), 2, [recording(0, 10)])
    first_file = tmp_path / "step-000000000010" / "calls-000000000000-000000000010.safetensors"
    inode = first_file.stat().st_ino
    saved.save(20, state(20), 2, [recording(10, 15), recording(15, 20)])
    assert saved.recorded_calls == 20
    again = tmp_path / "step-000000000020" / first_file.name
    assert (again.stat().st_ino, again.stat().st_nlink) == (inode, 2)
    assert_has(Checkpoints(tmp_path).load_last("run")[1], [(0, 10), (10, 15), (15, 20)])

    resumed = Checkpoints(tmp_path)
    resumed.load_last("run")
    assert resumed.recorded_calls == 20
    resumed.save(30, state(30), 2, [recording(20, 30)], oldest_call=10)
    assert not first_file.exists()
    assert again.stat().st_nlink == 1, "the checkpoint before still needs it"
    assert_has(Checkpoints(tmp_path).load_last("run")[1], [(10, 15), (15, 20), (20, 30)])
    resumed.save(40, state(40), 2, [recording(30, 40)], oldest_call=14)
    assert not again.exists()
    assert_has(Checkpoints(tmp_path).load_last("run")[1], [(10, 15), (15, 20), (20, 30), (30, 40)])
    assert Checkpoints(tmp_path).load_last("run", memory=False)[1] == []


def test_a_damaged_recording_is_named_and_the_checkpoint_before_used(tmp_path):
    saved = Checkpoints(tmp_path)
    saved.save(10, state(10), 2, [recording(0, 10)])
    place = saved.save(20, state(20), 2, [recording(10, 20)])
    file = place / "calls-000000000010-000000000020.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    resumed = Checkpoints(tmp_path)
    loaded, recordings, (damage,) = resumed.load_last("run")
    assert damage == f"checkpoint step-000000000020 is damaged ({file.name} does not match its checksum)"
    assert loaded["steps"] == 10
    assert_has(recordings, [(0, 10)])
    resumed.save(20, state(20), 2, [recording(10, 20)])
    assert_has(Checkpoints(tmp_path).load_last("run")[1], [(0, 10), (10, 20)])


def test_a_recording_outside_of_the_checkpoint_is_damage(tmp_path):
    place = Checkpoints(tmp_path).save(10, state(10), 2, [recording(0, 10)])
    record = json.loads((place / "values.json").read_text())
    record["recordings"][0]["name"] = "../../secret"
    content = {name: record[name] for name in ("recordings", "state")}
    record["sha256"]["values.json"] = checkpoint._sha256_of_values(content)
    (place / "values.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match=r"values\.json names the file \.\./\.\./secret"):
        Checkpoints(tmp_path).load_last("run")


def test_without_hard_links_files_are_copied(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", refuse)
    saved = Checkpoints(tmp_path)
    saved.save(10, state(10), 1, [recording(0, 10)])
    saved.save(20, state(20), 1, [recording(10, 20)])
    assert_has(Checkpoints(tmp_path).load_last("run")[1], [(0, 10), (10, 20)])


def test_a_run_whose_folder_has_gone_gets_no_new_one(tmp_path):
    saved = Checkpoints(tmp_path / "run" / "checkpoints")
    (tmp_path / "run").mkdir()
    saved.save(10, state(10), 2, [recording(0, 10)])
    shutil.rmtree(tmp_path / "run")
    with pytest.raises(FileNotFoundError):
        saved.save(20, state(20), 2, [recording(10, 20)])
    assert not (tmp_path / "run").exists()
