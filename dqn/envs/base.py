"""What every vector environment of this project looks like to the trainer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy.typing as npt
from torch import Tensor

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class EnvironmentSpec:
    """What networks, memory and export need to know of an environment.

    A frame is what one step call newly observes and what the memory stores; an observation is what the network
    sees. With `frame_stack` k > 1 an observation is the last k frames, concatenated along their first axis, oldest
    first, zeros before the episode's start. Frames are uint8 images of shape (channels, height, width), float32
    vectors, or int64 scalars where the observation space is Discrete (`num_states` is then its size). `render_fps` is
    the rate of agent steps that looks natural; `knows_optimum` says whether `Environment.optimal_returns` answers.
    """

    frame_shape: tuple[int, ...]
    frame_dtype: str
    frame_stack: int
    num_states: int | None
    num_actions: int
    action_meanings: tuple[str, ...]
    frames_per_step: int
    max_episode_steps: int | None
    render_fps: float = 30.0
    knows_optimum: bool = False
    preprocessing: dict[str, Any] = field(default_factory=dict)

    @property
    def observation_shape(self) -> tuple[int, ...]:
        """The shape of one observation, without batch axes."""
        if self.frame_stack == 1:
            return self.frame_shape
        return (self.frame_stack * self.frame_shape[0], *self.frame_shape[1:])

    @property
    def is_image(self) -> bool:
        """Whether observations are (channels, height, width) images of bytes."""
        return self.frame_dtype == "uint8" and len(self.frame_shape) == 3


class StepResult(NamedTuple):
    """What one step call of N environments brings, arrays of shape (N, ...).

    Environments reset themselves at the step call after an episode's end (next-step autoreset): that call ignores
    the action, and its frame is the new episode's first.
    """

    frames: Array  # (N, *frame_shape)
    rewards: Array  # (N,) float32: what learning sees, clipped where so configured
    terminated: Array  # (N,) bool: bootstrapping stops here; true at a lost life where so configured
    truncated: Array  # (N,) bool: the episode was cut, bootstrapping goes on
    was_reset: Array  # (N,) bool: this call was the autoreset, no transition
    ended: Array  # (N,) bool: the full game is over, by termination or truncation
    raw_rewards: Array  # (N,) float64: the game's own rewards


class StepTensors(NamedTuple):
    """`StepResult` as tensors on the environments' device."""

    frames: Tensor
    rewards: Tensor
    terminated: Tensor
    truncated: Tensor
    was_reset: Tensor
    ended: Tensor
    raw_rewards: Tensor


class Environment(Protocol):
    """N environments stepped together."""

    spec: EnvironmentSpec
    num_envs: int

    def reset(self, seeds: Sequence[int]) -> Array:
        """Start N new episodes, each environment seeded with its own seed; returns frames (N, *frame_shape)."""

    def step(self, actions: Array) -> StepResult:
        """Take actions (N,) int64."""

    def render(self) -> Array:
        """The current screen of environment 0, (height, width, 3) uint8; needs `render=True` when it was made."""

    def optimal_returns(self) -> Array | None:
        """The best expected return from each environment's current start, (N,) float64, where it is known."""

    def path_drawing(self) -> tuple[str, Array] | None:
        """Environment 0's path in this episode on its map, as text and as a picture; None where there is no map."""

    def select(self, chosen: Sequence[int]) -> Environment:
        """Environments of these numbers, which go on with their episodes; this object is not to be used any more."""

    def close(self) -> None:
        """Free what the environments hold."""


class StatefulEnvironment(Environment, Protocol):
    """N environments that a resumed run can go on with in mid-episode."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that they will do depends on: tensors (N, ...), lists of N, and what is the same for all."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken.

        Raises:
            NotReplayableError: they cannot; `reset` begins new episodes.
        """

    def select(self, chosen: Sequence[int]) -> StatefulEnvironment:
        """See `Environment.select`."""


class ReseedableEnvironment(Environment, Protocol):
    """N environments that do the same again after the same seed and actions.

    Attributes:
        is_deterministic: whether they claim so.
        calls_per_seed: after how many step calls a new seed costs next to nothing.
    """

    is_deterministic: bool
    calls_per_seed: int

    def begin_anew(self, chosen: Array, seeds: Sequence[int], episodes: Array) -> Array:
        """Start other episodes in place of those under way.

        Args:
            chosen: where, (N,) bool.
            seeds: of those chosen, one each.
            episodes: how many of each environment this comes after, (N,), for those that begin each one elsewhere.

        Returns:
            The newest frames of all, (N, *frame_shape).
        """

    def select(self, chosen: Sequence[int]) -> ReseedableEnvironment:
        """See `Environment.select`."""


class NotReplayableError(Exception):
    """Environments cannot be brought back to where they were; says why."""


@runtime_checkable
class TensorEnvironment(StatefulEnvironment, Protocol):
    """N environments whose step is a function of tensors, which can be compiled together with what surrounds it."""

    def prepare(self, calls: int) -> None:
        """Make sure that the next `calls` calls of `step_tensors` find the random numbers that they need."""

    def step_tensors(self, actions: Tensor) -> StepTensors:
        """Take actions (N,) int64, after `prepare`; can be compiled or captured in a CUDA graph."""
