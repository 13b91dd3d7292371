"""An environment that says when its first step was taken: `env.id=dqn.benchmark.clock:FirstStep-v0`."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

FILE = "DQN_BENCHMARK_FIRST_STEP"  # the environment variable with the name of the file to write the time to


class FirstStep(gymnasium.Env[Any, Any]):
    """Nothing ever happens in it."""

    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (4,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, **_: Any) -> tuple[Any, dict[str, Any]]:
        """See Gymnasium."""
        return np.zeros(4, dtype=np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Write the time, the first time."""
        file = Path(os.environ[FILE])
        if not file.exists():
            file.write_text(repr(time.time()), encoding="utf-8")
        return np.zeros(4, dtype=np.float32), 0.0, False, False, {}


gymnasium.register("FirstStep-v0", f"{__name__}:FirstStep", max_episode_steps=10)
