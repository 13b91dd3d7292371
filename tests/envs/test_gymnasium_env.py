from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from dqn.envs.base import EnvironmentSpec
from dqn.envs.gridworld import GRID_WORLD_ID
from dqn.envs.gymnasium_env import GymnasiumEnvironment
from dqn.errors import UserError

GRID = {
    "map": "S..\n.#H\n..G",
    "step_reward": -1.0,
    "goal_reward": 10.0,
    "hole_reward": -10.0,
    "slip_probability": 0.0,
    "start": "every",
    "max_steps": 30,
    "observation": "index",
}
SPACES: dict[str, spaces.Space[Any]] = {
    "discrete": spaces.Discrete(4, start=5),
    "vector": spaces.Box(-1.0, 1.0, (3,), np.float64),
    "matrix": spaces.Box(-1.0, 1.0, (2, 3), np.float32),
    "scalar": spaces.Box(-1.0, 1.0, (), np.float32),
    "bytes": spaces.Box(0, 255, (128,), np.uint8),
    "hwc": spaces.Box(0, 255, (6, 5, 3), np.uint8),
    "grey_hwc": spaces.Box(0, 255, (6, 5, 1), np.uint8),
    "chw": spaces.Box(0, 255, (3, 6, 5), np.uint8),
    "dict": spaces.Dict({"x": spaces.Discrete(2)}),
}


class Recorder(gymnasium.Env[Any, Any]):
    """Observations of a chosen space, drawn from the seed; every observation and action is kept."""

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012

    def __init__(self, space: str, action_space: spaces.Space[Any] | None = None) -> None:
        self.observation_space = SPACES[space]
        self.action_space = action_space or spaces.Discrete(3, start=-1)
        self.seen: list[Any] = []
        self.actions: list[int] = []

    def _observe(self) -> Any:
        self.observation_space.seed(int(self.np_random.integers(2**31)))
        self.seen.append(self.observation_space.sample())
        return self.seen[-1]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.actions.append(int(action))
        return self._observe(), 0.0, False, False, {}


@pytest.fixture(autouse=True)
def _recorder() -> Iterator[None]:
    gymnasium.register(id="test/Recorder-v0", entry_point=Recorder, max_episode_steps=77)
    yield
    del gymnasium.registry["test/Recorder-v0"]


def test_whole_streams_match_lone_environments_that_are_reset_by_hand() -> None:
    """CartPole under random actions: frames, rewards, flags and seeds, through some hundred episodes."""
    env = GymnasiumEnvironment("CartPole-v1", 3, {}, max_steps=25)
    lone = [gymnasium.make("CartPole-v1", max_episode_steps=25) for _ in range(3)]
    frames = env.reset([7, 8, 9])
    assert frames.dtype == np.float32
    assert np.array_equal(frames, [lone[i].reset(seed=7 + i)[0] for i in range(3)])
    draw = np.random.default_rng(0)
    was_ended = [False] * 3
    kinds = set()
    for _ in range(1000):
        actions = draw.integers(2, size=3)
        result = env.step(actions)
        for i in range(3):
            expected = (lone[i].reset()[0], 0.0, False, False) if was_ended[i] else lone[i].step(actions[i])[:4]
            assert np.array_equal(result.frames[i], expected[0])
            assert result.rewards[i] == result.raw_rewards[i] == expected[1]
            assert (result.terminated[i], result.truncated[i]) == expected[2:]
            assert result.was_reset[i] == was_ended[i]
            was_ended[i] = bool(expected[2] or expected[3])
            assert result.ended[i] == was_ended[i]
            kinds.add(expected[2:])
    assert {(False, False), (True, False), (False, True)} <= kinds
    assert result.rewards.dtype == np.float32
    assert result.raw_rewards.dtype == np.float64


def test_results_are_fresh_arrays() -> None:
    env = GymnasiumEnvironment("CartPole-v1", 2, {})
    env.reset([0, 1])
    results = [env.step(np.array([0, 1])) for _ in range(30)]
    copies = [[part.copy() for part in result] for result in results]
    env.step(np.array([1, 0]))
    for result, kept in zip(results, copies, strict=True):
        assert all(np.array_equal(part, copy) for part, copy in zip(result, kept, strict=True))
    assert len({result.frames.tobytes() for result in results}) == 30


def test_reset_begins_anew_even_after_an_episodes_end() -> None:
    env = GymnasiumEnvironment("CartPole-v1", 1, {}, max_steps=1)
    first = env.reset([3])
    assert env.step(np.array([0])).ended[0]
    assert np.array_equal(env.reset([3]), first)
    assert not env.step(np.array([0])).was_reset[0]


# --- spaces -------------------------------------------------------------------------------------------------


def stream(
    space: str,
) -> tuple[EnvironmentSpec, list[np.ndarray[Any, Any]], list[list[Any]], list[list[int]]]:
    env = GymnasiumEnvironment("test/Recorder-v0", 2, {"space": space})
    frames = [env.reset([1, 2])] + [env.step(np.array([0, 2])).frames for _ in range(5)]
    recorders: list[Any] = env.unwrapped
    return env.spec, frames, [one.seen for one in recorders], [one.actions for one in recorders]


def test_discrete_observations_and_actions_count_from_zero() -> None:
    spec, frames, seen, actions = stream("discrete")
    assert (spec.frame_shape, spec.frame_dtype, spec.num_states, spec.num_actions) == ((), "int64", 4, 3)
    assert frames[0].dtype == np.int64
    assert np.array_equal(np.stack(frames, axis=1), np.array(seen) - 5)
    assert actions == [[-1] * 5, [1] * 5]


@pytest.mark.parametrize(("space", "size"), [("vector", 3), ("matrix", 6), ("scalar", 1), ("bytes", 128)])
def test_boxes_become_float_vectors(space: str, size: int) -> None:
    spec, frames, seen, _ = stream(space)
    assert (spec.frame_shape, spec.frame_dtype, spec.num_states) == ((size,), "float32", None)
    assert not spec.is_image
    assert frames[0].dtype == np.float32
    expected = np.array(seen).reshape(2, 6, size).astype(np.float32)
    assert np.array_equal(np.stack(frames, axis=1), expected)


@pytest.mark.parametrize(
    ("space", "shape", "axes"),
    [
        ("hwc", (3, 6, 5), (0, 1, 4, 2, 3)),
        ("grey_hwc", (1, 6, 5), (0, 1, 4, 2, 3)),
        ("chw", (3, 6, 5), (0, 1, 2, 3, 4)),
    ],
)
def test_images_come_channels_first(space: str, shape: tuple[int, ...], axes: tuple[int, ...]) -> None:
    spec, frames, seen, _ = stream(space)
    assert (spec.frame_shape, spec.frame_dtype) == (shape, "uint8")
    assert spec.is_image
    assert all(frame.dtype == np.uint8 and frame.flags.c_contiguous for frame in frames)
    assert np.array_equal(np.stack(frames, axis=1), np.array(seen).transpose(axes))


def test_what_cannot_be_learned_from() -> None:
    for kwargs, complaint in [
        ({"space": "dict"}, r"has observations Dict\('x': Discrete\(2\)\)"),
        (
            {"space": "vector", "action_space": spaces.MultiBinary(2)},
            r"has actions MultiBinary\(2\); deep Q-learning",
        ),
    ]:
        with pytest.raises(UserError, match=complaint) as caught:
            GymnasiumEnvironment("test/Recorder-v0", 1, kwargs)
        assert caught.value.key == "env.id"
    with pytest.raises(UserError) as caught:
        GymnasiumEnvironment("Pendulum-v1", 1, {})
    assert str(caught.value) == (
        "env.id=Pendulum-v1: has continuous actions Box(-2.0, 2.0, (1,), float32); "
        "deep Q-learning needs a Discrete action space"
    )


# --- what is made -------------------------------------------------------------------------------------------


def test_time_limits() -> None:
    assert GymnasiumEnvironment("CartPole-v1", 1, {}).spec.max_episode_steps == 500
    assert GymnasiumEnvironment("CartPole-v1", 1, {}, max_steps=9).spec.max_episode_steps == 9
    assert GymnasiumEnvironment("CliffWalking-v1", 1, {}).spec.max_episode_steps is None
    assert GymnasiumEnvironment(GRID_WORLD_ID, 1, GRID).spec.max_episode_steps == 30
    assert GymnasiumEnvironment(GRID_WORLD_ID, 1, GRID, max_steps=5).spec.max_episode_steps == 5
    assert GymnasiumEnvironment(GRID_WORLD_ID, 1, GRID, max_steps=50).spec.max_episode_steps == 30


def test_kwargs_reach_the_environment() -> None:
    env = GymnasiumEnvironment("FrozenLake-v1", 1, {"is_slippery": False, "map_name": "8x8"})
    assert env.spec.num_states == 64
    assert env.reset([0]).tolist() == [0]
    assert [env.step(np.array([2])).frames.tolist() for _ in range(3)] == [[1], [2], [3]]


def test_action_meanings() -> None:
    assert GymnasiumEnvironment(GRID_WORLD_ID, 1, GRID).spec.action_meanings == (
        "UP",
        "RIGHT",
        "DOWN",
        "LEFT",
    )
    assert GymnasiumEnvironment("Acrobot-v1", 1, {}).spec.action_meanings == ("0", "1", "2")


def test_grid_worlds_share_their_starts_and_know_their_optima() -> None:
    env = GymnasiumEnvironment(GRID_WORLD_ID, 2, GRID)
    starts, optima = [env.reset([0, 0])], [env.optimal_returns()]
    while len(starts) < 3:
        result = env.step(np.array([1, 1]))
        if result.was_reset.all():
            starts.append(result.frames)
            optima.append(env.optimal_returns())
        while not result.ended.all() and not result.was_reset.all():
            result = env.step(np.array([0, 0]))
    assert np.concatenate(starts).tolist() == [0, 1, 2, 3, 6, 7]
    assert np.array(optima).ravel().tolist() == [7.0, 6.0, 5.0, 8.0, 9.0, 10.0]
    assert GymnasiumEnvironment("CartPole-v1", 2, {}).optimal_returns() is None


def test_render_shows_environment_0() -> None:
    env = GymnasiumEnvironment(GRID_WORLD_ID, 2, {**GRID, "start": "fixed"}, render=True)
    env.reset([0, 1])
    before = env.render()
    assert before.shape == (192, 192, 3)
    assert before.dtype == np.uint8
    env.step(np.array([0, 1]))
    assert np.array_equal(env.render(), before), "environment 0 bumped into the edge, only 1 moved"
    env.step(np.array([1, 0]))
    assert not np.array_equal(env.render(), before)


@pytest.mark.parametrize(
    ("env_id", "hint"),
    [
        ("CartPol-v1", "did you mean CartPole-v1"),
        ("CartPole-v9", "did you mean CartPole-v1"),
        ("Taxi-v1", "did you mean Taxi-v"),
        ("nowhere/CartPole-v1", "did you mean CartPole-v1"),
        ("no_such_module:CartPole-v1", "No module named 'no_such_module'"),
        ("not an id", "Malformed environment ID"),
    ],
)
def test_unknown_ids(env_id: str, hint: str) -> None:
    with pytest.raises(UserError, match=hint) as caught:
        GymnasiumEnvironment(env_id, 1, {})
    assert caught.value.key == "env.id"
    assert "\n" not in str(caught.value)


def test_a_missing_dependency_is_named() -> None:
    def needs_more() -> gymnasium.Env[Any, Any]:
        raise gymnasium.error.DependencyNotInstalled("Box2D is not installed,\n   run `pip install box2d`")

    gymnasium.register(id="test/NeedsMore-v0", entry_point=needs_more)
    with pytest.raises(UserError) as caught:
        GymnasiumEnvironment("test/NeedsMore-v0", 1, {})
    assert str(caught.value) == "env.id=test/NeedsMore-v0: Box2D is not installed, run `pip install box2d`"
    del gymnasium.registry["test/NeedsMore-v0"]


@pytest.mark.parametrize(
    ("env_id", "kwargs", "complaint"),
    [
        ("CartPole-v1", {"gravity": 1}, "unexpected keyword argument 'gravity'$"),
        (
            "CartPole-v1",
            {"max_episode_steps": 3},
            "multiple values for keyword argument 'max_episode_steps'$",
        ),
        ("FrozenLake-v1", {"map_name": "9x9"}, "KeyError: '9x9'$"),
        ("test/Recorder-v0", {}, "missing 1 required positional argument: 'space'$"),
    ],
)
def test_kwargs_that_an_environment_refuses(env_id: str, kwargs: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint) as caught:
        GymnasiumEnvironment(env_id, 1, kwargs)
    assert caught.value.key == "env.kwargs"


def test_a_bad_map_keeps_its_own_message() -> None:
    with pytest.raises(UserError, match="needs a goal") as caught:
        GymnasiumEnvironment(GRID_WORLD_ID, 1, {**GRID, "map": "S.."})
    assert caught.value.key == "env.map"


@pytest.mark.filterwarnings("ignore:.*render_mode")
def test_an_environment_without_pictures() -> None:
    class Blind(Recorder):
        def __init__(self, render_mode: str | None = None) -> None:
            super().__init__("vector")

    gymnasium.register(id="test/Blind-v0", entry_point=Blind)
    GymnasiumEnvironment("test/Blind-v0", 1, {})
    with pytest.raises(UserError, match="cannot be drawn"):
        GymnasiumEnvironment("test/Blind-v0", 1, {}, render=True)
    del gymnasium.registry["test/Blind-v0"]


def test_an_old_version_is_made_without_advice() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert GymnasiumEnvironment("CartPole-v0", 1, {}).spec.max_episode_steps == 200
