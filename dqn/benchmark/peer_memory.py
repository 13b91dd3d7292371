"""What Stable-Baselines3's replay buffer takes per step of an Atari game."""

from __future__ import annotations

import json

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer

_STEPS = 1000


def bytes_per_step() -> float:
    """Of its arrays, for stacks of four frames."""
    frames = spaces.Box(0, 255, (4, 84, 84), np.uint8)
    buffer = ReplayBuffer(_STEPS, frames, spaces.Discrete(4), device="cpu", optimize_memory_usage=False)
    arrays = (buffer.observations, buffer.next_observations, buffer.actions, buffer.rewards, buffer.dones)
    return float(sum(array.nbytes for array in arrays)) / _STEPS


if __name__ == "__main__":
    print(json.dumps({"peer_bytes_per_step": bytes_per_step()}))
