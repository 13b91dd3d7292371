"""What is safe of a run, whatever goes wrong around it."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable

import pytest

from dqn import run
from dqn.checkpoint import Checkpoints, checkpoints
from dqn.compose import compose_config
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
