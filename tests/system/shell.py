"""What the tests of the scripts share."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# A whole run in little time, whatever the preset's own settings are.
SHORT = [
    "env.num_envs=1",
    "trainer.total_steps=300",
    "trainer.learn_every_steps=2",
    "trainer.updates_per_learn=1",
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
