"""What the tests of the scripts share."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# A whole run in little time, whatever the preset's own settings are.
SHORT = [
    "env.num_envs=1",
    "trainer.total_steps=300",
    "trainer.learn_every_steps=2",
    "trainer.updates_per_learn=1",
    "trainer.compile=never",
    "memory.warmup_steps=100",
    "evaluation.every_steps=200",
    "evaluation.episodes=2",
    "evaluation.final_episodes=3",
    "evaluation.num_envs=2",
    "checkpoint.every_steps=200",
    "evaluation.video=false",
    "export.formats=[safetensors]",
    "logger=none",
]


def environment() -> dict[str, str]:
    """The user's environment without an account of W&B."""
    without_account = {key: value for key, value in os.environ.items() if not key.startswith("WANDB")}
    return without_account | {"CUDA_VISIBLE_DEVICES": ""}


def interrupted(words: Sequence[str], folder: Path, once_written: Path) -> subprocess.CompletedProcess[str]:
    """scripts/train.py with these words, in this folder, which gets a Ctrl-C once there is something in a file."""
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "scripts" / "train.py"), *words],
        cwd=folder,
        env=environment(),
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not (once_written.exists() and once_written.stat().st_size > 0) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=120)
    return subprocess.CompletedProcess(words, process.returncode, stdout, stderr)
