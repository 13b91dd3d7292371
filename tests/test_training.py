"""What is safe of a run, whatever goes wrong around it."""

from __future__ import annotations

import errno
import json
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress

import pytest
import torch

from dqn import run
from dqn.checkpoint import Checkpoints, checkpoints, load_state
from dqn.compose import compose_config
from dqn.errors import TrainingError
from dqn.events import End, Event, Learning

WORDS = [
    *("experiment=cartpole", "logger=none", "trainer.compile=never", "env.num_envs=1", "memory.warmup_steps=50"),
    *("evaluation.every_steps=null", "evaluation.stop.mean_return=null", "evaluation.final_episodes=1"),
    *("evaluation.video=false", "export.formats=[]", "trainer.log_every_steps=50", "checkpoint.every_steps=100"),
    *("memory.capacity_steps=1000", "network.hidden_sizes=[8]", "trainer.batch_size=4"),
]


class Watching:
    """Calls `tell` with each event."""

    def __init__(self, tell: Callable[[Event], None]) -> None:
        self.on_event = tell

    def on_run_end(self, member: int, summary: object) -> None:
        pass


def test_a_checkpoint_is_written_to_its_end_though_training_fails_meanwhile(tmp_path, monkeypatch):
    write, folder, is_locked = Checkpoints.save, tmp_path / "run", []

    def slow(*args: object) -> object:
        time.sleep(1.0)
        is_locked.append((folder / ".lock").exists())
        return write(*args)

    def tell(event: Event) -> None:
        if event.step > 200:
            raise RuntimeError("broken")

    monkeypatch.setattr(Checkpoints, "save", slow)
    with pytest.raises(RuntimeError, match="broken"):
        run.train([compose_config([*WORDS, "checkpoint.every_steps=200"])], [folder], Watching(tell))
    assert [place.name for place in checkpoints(folder / "checkpoints")] == ["step-000000000200"]
    assert is_locked == [True]


def test_an_interrupted_run_has_its_summary_whoever_fails_to_hear_of_its_end(tmp_path):
    def tell(event: Event) -> None:
        if isinstance(event, Learning) and event.step == 150:
            signal.raise_signal(signal.SIGTERM)
        if isinstance(event, End):
            raise RuntimeError("deaf")

    folder = tmp_path / "run"
    with pytest.raises(RuntimeError, match="deaf"):
        run.train([compose_config([*WORDS, "trainer.total_steps=10000"])], [folder], Watching(tell))
    assert json.loads((folder / "summary.json").read_text())["status"] == "interrupted"
    assert sorted(path.name for path in (folder / "checkpoints").iterdir())[-1] == "step-000000000150"


FAILING = [*WORDS, "checkpoint.every_steps=400", "checkpoint.keep=99", "trainer.total_steps=1500"]


@pytest.fixture
def full_at(monkeypatch):
    """full_at(800) fills the disk as the checkpoint of step 800 is to be written; none of these may be written."""

    def fill(*steps: int) -> None:
        write = Checkpoints.save

        def save(self: Checkpoints, step: int, *rest: object) -> object:
            if step in steps:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return write(self, step, *rest)

        monkeypatch.setattr(Checkpoints, "save", save)

    return fill


def test_a_checkpoint_that_could_not_be_written_is_tried_once_more_soon(tmp_path, full_at, capsys):
    run.train([compose_config(FAILING)], [tmp_path / "whole"])
    full_at(800)
    run.train([compose_config(FAILING)], [tmp_path / "run"])
    saved = {name: checkpoints(tmp_path / name / "checkpoints") for name in ("run", "whole")}
    assert [int(place.name[5:]) for place in saved["whole"]] == [400, 800, 1200, 1500]
    assert [int(place.name[5:]) for place in saved["run"]] == [400, 850, 1200, 1500]
    expected = "a checkpoint could not be written ([Errno 28] No space left on device); that of step 850 could\n"
    assert expected in capsys.readouterr().err
    _, recordings, damages = Checkpoints(saved["run"][0].parent).load_last("run", latest_step=850)
    assert ([one["first"] for one in recordings], damages) == ([0, 400], [])
    assert recordings[-1]["flags"].shape[1] == 450
    last = [places[-1] / "tensors.safetensors" for places in saved.values()]
    assert last[0].read_bytes() == last[1].read_bytes()


def test_the_second_failure_in_a_row_ends_the_run_at_once(tmp_path, full_at):
    full_at(800, 850)
    told: list[Event] = []
    problem = "could not write in .*: the disk is full; the last checkpoint is step-000000000400"
    with pytest.raises(TrainingError, match=problem):
        run.train([compose_config(FAILING)], [tmp_path / "run"], Watching(told.append))
    assert told[-1].step == 850


def test_a_failed_checkpoint_does_not_keep_an_interrupted_run_from_its_own(tmp_path, full_at):
    full_at(800)
    folder, sent = tmp_path / "run", []

    def tell(event: Event) -> None:
        if event.step > 800 and not sent:
            sent.append(event.step)
            signal.raise_signal(signal.SIGTERM)

    (summary,) = run.train([compose_config(FAILING)], [folder], Watching(tell))
    assert summary["status"] == json.loads((folder / "summary.json").read_text())["status"] == "interrupted"
    assert 800 < summary["steps"] <= 850
    assert int(checkpoints(folder / "checkpoints")[-1].name[5:]) == summary["steps"]


def test_members_of_which_one_cannot_be_saved_have_a_step_at_which_all_were(tmp_path, monkeypatch):
    """Though each keeps two: the others have two later ones by then."""
    write, folders = Checkpoints.save, [tmp_path / "0", tmp_path / "1"]

    def save(self: Checkpoints, step: int, *rest: object) -> object:
        if step in (800, 850) and self.folder.parent == folders[1]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(self, step, *rest)

    monkeypatch.setattr(Checkpoints, "save", save)
    values = [
        compose_config([*FAILING, "checkpoint.every_steps=200", "checkpoint.keep=2", f"seed={s}"]) for s in (0, 1)
    ]
    with pytest.raises(TrainingError, match="the disk is full"):
        run.train(values, folders)
    first, second = ({place.name for place in checkpoints(folder / "checkpoints")} for folder in folders)
    assert max(first & second) == "step-000000000600"
    monkeypatch.undo()
    run.resume(values, folders)
    assert [len(checkpoints(folder / "checkpoints")) for folder in folders] == [2, 2]


@pytest.mark.parametrize("how", ["a signal as its end is told", "killed after its end"])
def test_a_stack_that_was_to_shrink_does_so_when_it_goes_on(tmp_path, how):
    """Of four members the third to end leaves one alone, from just that step on."""
    words = [*WORDS, "env.num_envs=2", "trainer.total_episodes=30", "trainer.total_steps=3000"]
    words += ["memory.warmup_steps=100", "checkpoint.every_steps=150"]
    values = [compose_config([*words, f"seed={seed}"]) for seed in range(4, 8)]
    ends: list[int] = []
    names = [str(m) for m in range(4)]
    run.train(values, [tmp_path / "whole" / name for name in names], Watching(lambda e: _note_end(e, ends)))
    third, last = ends[2:]
    told: list[int] = []

    class Stopping(Watching):
        def on_run_end(self, member: int, summary: object) -> None:
            if how == "killed after its end" and member == third:
                raise RuntimeError(how)

    def tell(event: Event) -> None:
        _note_end(event, told)
        if how != "killed after its end" and told == ends[:3]:
            told.append(-1)
            signal.raise_signal(signal.SIGTERM)

    folders = [tmp_path / "run" / name for name in names]
    with suppress(RuntimeError):
        run.train(values, folders, Stopping(tell))
    summaries = [folder / "summary.json" for folder in folders]
    unfinished = [
        m for m, one in enumerate(summaries) if not one.exists() or json.loads(one.read_text())["status"] != "completed"
    ]
    assert last in unfinished
    run.resume([values[m] for m in unfinished], [folders[m] for m in unfinished])
    for m in (third, last):
        states = [load_state(checkpoints(tmp_path / name / str(m) / "checkpoints")[-1]) for name in ("whole", "run")]
        assert states[0]["population"]["members"] == states[1]["population"]["members"]
        parameters = [state["trainer"]["learner"]["parameters"] for state in states]
        assert torch.equal(*parameters)


def _note_end(event: Event, ends: list[int]) -> None:
    if isinstance(event, End):
        ends.append(event.member)
