"""What is written while training goes on is what was there when that began."""

from __future__ import annotations

import copy
import threading
import time

import pytest
from states import assert_same_state

from dqn import run
from dqn.checkpoint import Checkpoints, checkpoints
from dqn.compose import compose_config
from dqn.config import Config
from dqn.experiment import build_trainer
from dqn.saving import BackgroundWriter
from dqn.training import Training
from dqn.validation import validate


def test_what_goes_wrong_is_raised_to_who_waits():
    writer = BackgroundWriter()

    def fail() -> None:
        raise OSError(28, "No space left on device")

    writer.start(fail, None)
    with pytest.raises(OSError, match="No space left"):
        writer.wait()
    writer.wait()  # once is enough


def test_it_is_waited_for_only_where_it_would_be_too_late():
    writer, go_on, done = BackgroundWriter(), threading.Event(), []

    def write() -> None:
        go_on.wait()
        done.append(True)

    writer.start(write, deadline_step=100)
    writer.wait_before(99)
    assert writer.is_busy
    threading.Timer(0.1, go_on.set).start()
    writer.wait_before(100)
    assert (writer.is_busy, done) == (False, [True])


@pytest.mark.parametrize("num_envs", [1, 7])
@pytest.mark.parametrize("copied", [0, 2**26], ids=["views", "copies"])
def test_a_memory_that_training_fills_meanwhile(tmp_path, monkeypatch, num_envs, copied):
    """Of a ring that is overwritten again and again while a slow disk takes in what was in it."""
    monkeypatch.setattr("dqn.saving._COPIED_BYTES", copied)
    write, save, expected, seconds = Checkpoints.save, Training.save, {}, []

    def slow(*args: object) -> object:
        time.sleep(0.2)
        return write(*args)

    def timed(training: Training) -> None:
        trainer = training._trainer
        expected[trainer.steps] = copy.deepcopy(trainer.state_dict()["memory"])
        started = time.monotonic()
        save(training)
        seconds.append(time.monotonic() - started)

    monkeypatch.setattr(Checkpoints, "save", slow)
    monkeypatch.setattr(Training, "save", timed)
    words = ["experiment=cartpole", "logger=none", "trainer.compile=never", "evaluation.every_steps=null"]
    words += ["evaluation.stop.mean_return=null", "evaluation.final_episodes=1", "evaluation.video=false"]
    words += [f"env.num_envs={num_envs}", "memory.capacity_steps=105", "memory.warmup_steps=70", "export.formats=[]"]
    words += [
        "trainer.total_steps=1400",
        "trainer.log_every_steps=15",
        "checkpoint.every_steps=70",
        "checkpoint.keep=99",
    ]
    values = compose_config(words)
    run.train([values], [tmp_path / "run"])
    assert min(seconds[1:-1]) < 0.2, "it never went on while the disk was busy"
    places = checkpoints(tmp_path / "run" / "checkpoints")
    assert len(places) == 20
    for place in places:
        saved = Checkpoints(place.parent)
        state, recordings, _ = saved.load_last("run", latest_step=int(place.name[5:]))
        memory = build_trainer([validate(Config, values)]).parts.memory
        memory.load_state_dict({**state["trainer"]["memory"], "recordings": [recordings]})
        assert_same_state(memory.state_dict(), expected[state["trainer"]["steps"]])
