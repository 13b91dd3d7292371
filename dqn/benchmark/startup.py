"""How long `scripts/train.py` takes to its help, and to its first environment step."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from dqn.benchmark.clock import FILE
from dqn.compose import CONF
from dqn.errors import TrainingError

_TRAIN = CONF.parent / "scripts" / "train.py"
# The default run with another environment, and with little to do after its first step.
_FIRST_STEP = (
    "env=gymnasium",
    "env.id=dqn.benchmark.clock:FirstStep-v0",
    "trainer.total_steps=64",
    "trainer.batch_size=1",
    "memory.warmup_steps=0",
    "memory.replacement=true",
    "evaluation.every_steps=null",
    "evaluation.stop.mean_return=null",
    "evaluation.final_episodes=1",
    "evaluation.video=false",
    "export.formats=[]",
    "logger.wandb.mode=offline",  # as it is where nobody is logged in; a benchmark uploads nothing
)


def help_seconds(times: int) -> float:
    """The median of `--help`, from start to end."""
    seconds = []
    for _ in range(times):
        started = time.time()
        _train(["--help"])
        seconds.append(time.time() - started)
    return statistics.median(seconds)


def first_step_seconds(times: int) -> float:
    """The median time from the start of the process to the first environment step of the default run."""
    seconds = []
    for _ in range(times):
        with tempfile.TemporaryDirectory() as folder:
            stamp = Path(folder) / "first_step"
            started = time.time()
            _train([*_FIRST_STEP, f"hydra.run.dir={folder}/run"], {FILE: str(stamp)})
            seconds.append(float(stamp.read_text(encoding="utf-8")) - started)
    return statistics.median(seconds)


def _train(words: list[str], environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(
        [sys.executable, str(_TRAIN), *words], capture_output=True, text=True, env={**os.environ, **(environment or {})}
    )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        raise TrainingError(f"scripts/train.py ended with status {done.returncode}: {last}")
