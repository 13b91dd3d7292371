"""What is safe of a run, whatever goes wrong around it."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable

import pytest

from dqn import run
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
