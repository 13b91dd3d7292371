"""From an environment's registered id to its batched form."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch

from dqn.envs.batched.acrobot import Acrobot
from dqn.envs.batched.cartpole import CartPole
from dqn.envs.batched.dynamics import Dynamics
from dqn.envs.batched.environment import BatchedEnvironment
from dqn.envs.batched.gridworld import BatchedGridWorld
from dqn.envs.batched.mountain_car import MountainCar
from dqn.envs.gridworld import GRID_WORLD_ID, GridWorld
from dqn.envs.gymnasium_env import GymnasiumEnvironment
from dqn.errors import UserError
from dqn.validation import validate

# CartPole's versions differ in their registered time limit alone.
_CLASSIC_CONTROL: dict[str, type[CartPole] | type[Acrobot] | type[MountainCar]] = {
    "CartPole-v0": CartPole,
    "CartPole-v1": CartPole,
    "Acrobot-v1": Acrobot,
    "MountainCar-v0": MountainCar,
}


def make_batched(
    env_id: str, num_envs: int, kwargs: Mapping[str, Any], max_steps: int | None, members: int, device: torch.device
) -> BatchedEnvironment:
    """What `GymnasiumEnvironment` makes of the same arguments, as one function of tensors on a device.

    Raises:
        UserError: the environment has no such form, or not with these kwargs, or Gymnasium refuses them.
    """
    template = GymnasiumEnvironment(env_id, 1, kwargs, max_steps)  # knows the spec, and what is wrong with kwargs
    try:
        dynamics = _dynamics(env_id, kwargs, template, device)
    finally:
        template.close()
    return BatchedEnvironment(dynamics, template.spec, num_envs, members, device)


def _dynamics(env_id: str, kwargs: Mapping[str, Any], template: GymnasiumEnvironment, device: torch.device) -> Dynamics:
    world = template.unwrapped[0]
    if isinstance(world, GridWorld):
        return BatchedGridWorld(world, device)
    if env_id not in _CLASSIC_CONTROL:
        known = ", ".join([*_CLASSIC_CONTROL, GRID_WORLD_ID])
        raise UserError("env.backend", "torch", f"{env_id} has no torch form, only {known} have; use gymnasium")
    kind = _CLASSIC_CONTROL[env_id]
    unknown = sorted(set(kwargs) - {field.name for field in dataclasses.fields(kind)})
    if unknown:
        known = ", ".join([*_CLASSIC_CONTROL, GRID_WORLD_ID])
        refusal = f"the torch form of {env_id} has no env.kwargs.{unknown[0]}; use gymnasium (torch forms: {known})"
        raise UserError("env.backend", "torch", refusal)
    return validate(kind, kwargs, prefix="env.kwargs")
