"""The scripts as a user calls them: in a shell, in a folder of one's own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

Shell = Callable[..., "subprocess.CompletedProcess[str]"]

# A whole run in little time.
SHORT = [
    "trainer.total_steps=300",
    "memory.warmup_steps=100",
    "evaluation.every_steps=200",
    "evaluation.episodes=2",
    "evaluation.final_episodes=3",
    "checkpoint.every_steps=200",
    "evaluation.video=false",
    "export.formats=[safetensors]",
    "logger=none",
]


def environment() -> dict[str, str]:
    """The user's environment without an account of W&B."""
    return {key: value for key, value in os.environ.items() if not key.startswith("WANDB")} | {
        "CUDA_VISIBLE_DEVICES": ""
    }


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """shell("train", "seed=1") runs scripts/train.py in an empty folder."""

    def call(script: str, *words: str, **kwargs: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / "scripts" / f"{script}.py"), *words]
        options = {"cwd": tmp_path, "env": environment(), "timeout": 300, **kwargs}
        return subprocess.run(command, capture_output=True, text=True, check=False, **options)

    return call
