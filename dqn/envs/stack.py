"""The observations that are current: stacks of the last frames."""

from __future__ import annotations

import torch
from torch import Tensor

from dqn.envs.base import EnvironmentSpec


class ObservationStack:
    """The last frames of M x E environments as observations; zeros before an episode's start.

    Args:
        spec: of the environment.
        members: M.
        num_envs: E.
        device: where the observations are wanted.
    """

    def __init__(self, spec: EnvironmentSpec, members: int, num_envs: int, device: torch.device) -> None:
        shape = (members, num_envs, *spec.observation_shape)
        self.observations = torch.zeros(shape, dtype=getattr(torch, spec.frame_dtype), device=device)

    def start(self, frames: Tensor) -> None:
        """All environments begin an episode with frames (M, E, *frame)."""
        self.push(frames, torch.ones(frames.shape[:2], dtype=torch.bool, device=frames.device))

    def push(self, frames: Tensor, was_reset: Tensor) -> None:
        """Frames (M, E, *frame) arrive; where was_reset (M, E) they are the first of an episode."""
        self.observations = pushed(self.observations, frames, was_reset)


def pushed(observations: Tensor, frames: Tensor, was_reset: Tensor) -> Tensor:
    """Observations (M, E, *observation) after frames (M, E, *frame), which begin an episode where was_reset (M, E)."""
    if observations.shape == frames.shape:
        return frames
    past = observations[:, :, frames.shape[2] :]
    past = past.masked_fill(was_reset.view(*was_reset.shape, *[1] * (past.dim() - 2)), 0)
    return torch.cat([past, frames], dim=2)
