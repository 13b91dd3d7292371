"""CartPole that stands still at a step of training, so that a test can do something to the run just there, and another
whose rewards are no numbers.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import gymnasium
from gymnasium.envs.classic_control import CartPoleEnv

AT_GATE, GO = "at_gate", "go"  # files in the folder in which the run was started


class Gated(CartPoleEnv):
    """Its step number GATE_STEP writes the file at_gate and waits for the file go."""

    steps = 0  # of all environments of this process

    def step(self, action: int) -> Any:
        Gated.steps += 1
        if Gated.steps == int(os.environ["GATE_STEP"]):
            Path(AT_GATE).touch()
            while not Path(GO).exists():
                time.sleep(0.01)
        return super().step(action)


gymnasium.register("Gated-v0", entry_point=Gated, max_episode_steps=500)


class Unrewarding(CartPoleEnv):
    """Its rewards are NaN."""

    def step(self, action: int) -> Any:
        observation, _, *rest = super().step(action)
        return observation, float("nan"), *rest


gymnasium.register("Unrewarding-v0", entry_point=Unrewarding, max_episode_steps=500)
