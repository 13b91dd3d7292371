"""Any environment that is registered with Gymnasium, if its actions are discrete."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from dqn.envs.base import Array, EnvironmentSpec, StepResult
from dqn.envs.selection import Selection
from dqn.errors import EnvironmentRaisedError, UserError, nearest
from dqn.screen import has_display


class GymnasiumEnvironment:
    """N environments of one registered id, stepped in turn; implements `dqn.envs.base.ReseedableEnvironment`.

    Discrete observations arrive as int64 numbers from 0, images (three axes of bytes) channels first, and all
    else that a Box can hold as a float32 vector. Actions count from 0 too, whatever the space's own start.

    Args:
        env_id: the registered id; "module:id" imports the module first.
        num_envs: N.
        kwargs: for the environment's constructor.
        max_steps: time limit in steps in place of the registered one; None keeps that.
        members: of the population that shares the N environments.
        render: whether environment 0 is to be drawn.

    Raises:
        UserError: the id is unknown, what it needs is not installed, it refuses its kwargs, it cannot be
            drawn, or its spaces are not for deep Q-learning.
    """

    calls_per_seed = 1000  # a new generator takes 0.1 ms; what 1000 steps take depends on the environment

    def __init__(
        self,
        env_id: str,
        num_envs: int,
        kwargs: Mapping[str, Any],
        max_steps: int | None = None,
        members: int = 1,
        render: bool = False,
    ) -> None:
        def make(render_mode: str | None) -> Callable[[], gymnasium.Env[Any, Any]]:
            return lambda: _make(env_id, kwargs, max_steps, render_mode)

        if render and not has_display():
            os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # else pygame complains that it finds no screen
        self.num_envs, self._env_id = num_envs, env_id
        render_modes = ["rgb_array" if render else None] + [None] * (num_envs - 1)
        self._vector = SyncVectorEnv([make(mode) for mode in render_modes], autoreset_mode=AutoresetMode.NEXT_STEP)
        action_space, observation_space = (
            self._vector.single_action_space,
            self._vector.single_observation_space,
        )
        num_actions, self._first_action = _discrete_actions(env_id, action_space)
        frame_shape, frame_dtype, self._to_frames = _frames(env_id, observation_space)
        self.spec = EnvironmentSpec(
            frame_shape=frame_shape,
            frame_dtype=frame_dtype,
            frame_stack=1,
            num_states=int(observation_space.n) if isinstance(observation_space, spaces.Discrete) else None,
            num_actions=num_actions,
            action_meanings=_action_meanings(self._vector.envs[0], num_actions),
            frames_per_step=1,
            max_episode_steps=_time_limit(self._vector.envs[0]),
            render_fps=float(self._vector.envs[0].metadata.get("render_fps", 30)),
            knows_optimum=all(
                hasattr(env, "optimal_return") and getattr(env, "is_deterministic", False) for env in self.unwrapped
            ),
        )
        registered = self._vector.envs[0].spec
        self.is_deterministic = registered is None or not registered.nondeterministic
        self._was_ended = np.zeros(num_envs, dtype=np.bool_)
        self._envs_per_member = num_envs // members

    @property
    def unwrapped(self) -> list[gymnasium.Env[Any, Any]]:
        """The environments themselves, for what only their kind can do."""
        return [env.unwrapped for env in self._vector.envs]

    def reset(self, seeds: Sequence[int]) -> Array:
        """Start N new episodes; see `Environment.reset`."""
        everywhere = np.ones(self.num_envs, dtype=np.bool_)
        self._share_starts(everywhere, np.zeros(self.num_envs, dtype=np.int64))
        with self._blamed():
            observations, _ = self._vector.reset(seed=[int(seed) for seed in seeds])
        self._was_ended = np.zeros(self.num_envs, dtype=np.bool_)
        return self._to_frames(observations)

    def begin_anew(self, chosen: Array, seeds: Sequence[int], episodes: Array) -> Array:
        """Start other episodes where chosen; see `ReseedableEnvironment.begin_anew`."""
        self._share_starts(chosen, episodes)
        remaining = iter(seeds)
        all_seeds = [int(next(remaining)) if is_chosen else None for is_chosen in chosen]
        with self._blamed():
            observations, _ = self._vector.reset(seed=all_seeds, options={"reset_mask": chosen})
        self._was_ended = self._was_ended & ~chosen
        return self._to_frames(observations)

    def step(self, actions: Array) -> StepResult:
        """Take actions (N,) int64; see `StepResult`."""
        with self._blamed():
            observations, rewards, terminated, truncated, _ = self._vector.step(actions + self._first_action)
        was_reset, self._was_ended = self._was_ended, terminated | truncated
        return StepResult(
            frames=self._to_frames(observations),
            rewards=rewards.astype(np.float32),
            terminated=terminated,
            truncated=truncated,
            was_reset=was_reset,
            ended=self._was_ended,
            raw_rewards=rewards,
        )

    def render(self) -> Array:
        """The current picture of environment 0, (height, width, 3) uint8."""
        picture = self._vector.envs[0].render()
        assert isinstance(picture, np.ndarray)
        return picture

    def optimal_returns(self) -> Array | None:
        """The best expected return from each environment's current start, (N,), where they can tell it."""
        if not self.spec.knows_optimum:
            return None
        environments: list[Any] = self.unwrapped
        return np.array([env.optimal_return() for env in environments], dtype=np.float64)

    def path_drawing(self) -> tuple[str, Array] | None:
        """See `Environment.path_drawing`: of environments that can draw one."""
        env: Any = self.unwrapped[0]
        drawing: tuple[str, Array] | None = env.path_drawing() if hasattr(env, "path_drawing") else None
        return drawing

    def _share_starts(self, chosen: Array, episodes: Array) -> None:
        """Tell environments that go through their starts together from where on they do so after a seeded reset."""
        count = self._envs_per_member
        for index, env in enumerate(self.unwrapped):
            if chosen[index] and hasattr(env, "share_starts"):
                env.share_starts(index % count, count, int(episodes[index]))

    @contextmanager
    def _blamed(self) -> Iterator[None]:
        """Whatever goes wrong inside is the environment's own."""
        try:
            yield
        except Exception as error:
            what = f"{self._env_id} raised {type(error).__name__}: {_one_line(error)}"
            raise EnvironmentRaisedError(what) from error

    def select(self, chosen: Sequence[int]) -> Selection:
        """See `Environment.select`."""
        return Selection(self, chosen)

    def close(self) -> None:
        """Close the environments."""
        self._vector.close()


def _make(
    env_id: str, kwargs: Mapping[str, Any], max_steps: int | None, render_mode: str | None
) -> gymnasium.Env[Any, Any]:
    try:
        with warnings.catch_warnings():
            # An old version (CartPole-v0) was asked for on purpose.
            warnings.filterwarnings("ignore", message=".*is out of date")
            env = gymnasium.make(
                env_id,
                max_episode_steps=max_steps,
                disable_env_checker=True,
                **({"render_mode": render_mode} if render_mode else {}),
                **kwargs,
            )
    except (gymnasium.error.UnregisteredEnv, gymnasium.error.DeprecatedEnv) as error:
        hint = nearest(env_id, gymnasium.registry)
        raise UserError("env.id", env_id, f"no such environment is registered; {hint}") from error
    except (gymnasium.error.Error, ImportError) as error:
        raise UserError("env.id", env_id, _one_line(error)) from error
    except UserError:
        raise
    except Exception as error:
        cause = error.__cause__ or error  # Gymnasium wraps a TypeError in a longer one
        refusal = f"{env_id} cannot be made so: {type(cause).__name__}: {_one_line(cause)}"
        raise UserError("env.kwargs", dict(kwargs), refusal) from error
    if render_mode and render_mode not in env.metadata.get("render_modes", ()):
        raise UserError("env.id", env_id, f"cannot be drawn: it has no render mode {render_mode}")
    return env


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _discrete_actions(env_id: str, space: spaces.Space[Any]) -> tuple[int, int]:
    """How many actions there are, and the space's number for the first."""
    if isinstance(space, spaces.Discrete):
        return int(space.n), int(space.start)
    kind = "continuous actions" if isinstance(space, spaces.Box) else "actions"
    raise UserError("env.id", env_id, f"has {kind} {space}; deep Q-learning needs a Discrete action space")


def _frames(env_id: str, space: spaces.Space[Any]) -> tuple[tuple[int, ...], str, Callable[[Array], Array]]:
    """Shape and dtype of a frame, and what turns observations (N, ...) into frames: always a fresh array."""
    if isinstance(space, spaces.Discrete):
        first = int(space.start)
        return (), "int64", lambda observations: observations.astype(np.int64) - first
    if not isinstance(space, spaces.Box):
        raise UserError("env.id", env_id, f"has observations {space}; only Box and Discrete can be learned from")
    if space.dtype == np.uint8 and len(space.shape) == 3:
        if space.shape[0] < space.shape[2]:  # fewer than pixels: the channels come first already
            return space.shape, "uint8", np.array
        channels_first = (0, 3, 1, 2)
        height, width, channels = space.shape
        return (channels, height, width), "uint8", lambda images: images.transpose(channels_first).copy()
    size = int(np.prod(space.shape))
    return (size,), "float32", lambda observations: observations.reshape(-1, size).astype(np.float32)


def _action_meanings(env: gymnasium.Env[Any, Any], num_actions: int) -> tuple[str, ...]:
    if hasattr(env.unwrapped, "get_action_meanings"):
        return tuple(env.unwrapped.get_action_meanings())
    return tuple(str(action) for action in range(num_actions))


def _time_limit(env: gymnasium.Env[Any, Any]) -> int | None:
    """In steps: the registered or chosen limit or the environment's own `max_steps`, whichever is first."""
    registered = env.spec.max_episode_steps if env.spec else None
    limits = [limit for limit in (registered, getattr(env.unwrapped, "max_steps", None)) if limit is not None]
    return min(limits, default=None)
