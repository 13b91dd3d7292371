"""What environments bring to a memory, at random."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dqn.envs.base import EnvironmentSpec
from dqn.memory.stream import Experience


def make_spec(kind: str = "vector", stack: int = 1, num_actions: int = 4) -> EnvironmentSpec:
    shape, dtype = {
        "image": ((1, 3, 2), "uint8"),
        "rgb": ((3, 2, 2), "uint8"),
        "vector": ((2,), "float32"),
        "discrete": ((), "int64"),
    }[kind]
    return EnvironmentSpec(
        frame_shape=shape,
        frame_dtype=dtype,
        frame_stack=stack,
        num_states=50 if kind == "discrete" else None,
        num_actions=num_actions,
        action_meanings=tuple(str(a) for a in range(num_actions)),
        frames_per_step=1,
        max_episode_steps=None,
    )


class RandomStream:
    """Step calls of M x E environments, each on its own, with everything that can happen to an episode."""

    def __init__(self, spec: EnvironmentSpec, members: int, num_envs: int, seed: int) -> None:
        self.spec, self.shape = spec, (members, num_envs)
        self.rng = np.random.default_rng(seed)
        self.must_reset = np.zeros(self.shape, dtype=bool)

    def frames(self) -> Tensor:
        shape = (*self.shape, *self.spec.frame_shape)
        if self.spec.frame_dtype == "float32":
            return torch.from_numpy(self.rng.normal(size=shape).astype(np.float32))
        # Never 0: that would look like the time before an episode's start.
        return torch.from_numpy(self.rng.integers(1, 50, shape).astype(self.spec.frame_dtype))

    def step(self) -> Experience:
        was_reset = self.must_reset
        chance = self.rng.random(self.shape)
        terminated, truncated = ~was_reset & (chance < 0.2), ~was_reset & (chance > 0.85)
        life_lost = terminated & (chance < 0.08)  # learning sees a terminal, but the game goes on
        self.must_reset = (terminated & ~life_lost) | truncated
        return Experience(
            actions=torch.from_numpy(self.rng.integers(0, self.spec.num_actions, self.shape)),
            rewards=torch.from_numpy(self.rng.normal(size=self.shape).astype(np.float32)),
            terminated=torch.from_numpy(terminated),
            was_reset=torch.from_numpy(was_reset),
            frames=self.frames(),
        )
