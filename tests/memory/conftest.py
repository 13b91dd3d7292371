"""Real games for the memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dqn.envs.atari import AtariEnvironment
from dqn.memory.stream import Experience

Play = Callable[..., tuple[Tensor, list[Experience]]]


@pytest.fixture(scope="session")
def play_breakout() -> Play:
    """play_breakout(members, num_envs, calls): the first frames and what so many step calls of chance brought."""

    def play(members: int, num_envs: int, calls: int, **settings: Any) -> tuple[Tensor, list[Experience]]:
        defaults: dict[str, Any] = {
            "game": "breakout",
            "action_repeat": 4,
            "repeat_action_probability": 0.25,
            "noop_max": 30,
            "fire_on_reset": True,
            "full_action_set": False,
            "terminal_on_life_loss": True,
            "clip_rewards": True,
            "frame_height": 84,
            "frame_width": 84,
            "frame_stack": 4,
            "max_pool": True,
            "max_frames_per_episode": 108_000,
            "num_threads": 1,
        }
        games = members * num_envs
        environment = AtariEnvironment(num_envs=games, **defaults | settings)
        random = np.random.default_rng(0)

        def tensor(array: np.ndarray[Any, Any]) -> Tensor:
            return torch.from_numpy(array.copy()).view(members, num_envs, *array.shape[1:])

        start = tensor(environment.reset(range(games)))
        experiences = []
        for _ in range(calls):
            actions = random.integers(environment.spec.num_actions, size=games)
            result = environment.step(actions)
            brought = (actions, result.rewards, result.terminated, result.was_reset, result.frames)
            experiences.append(Experience(*map(tensor, brought)))
        environment.close()
        return start, experiences

    return play
