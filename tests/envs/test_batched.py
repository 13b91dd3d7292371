"""Batched environments against Gymnasium's own, seed for seed and step for step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from torch import Tensor

from dqn.compilation import Compiled, _trace, can_compile
from dqn.envs.base import Array, StepResult
from dqn.envs.batched.acrobot import Acrobot
from dqn.envs.batched.cartpole import CartPole
from dqn.envs.batched.environment import BatchedEnvironment
from dqn.envs.batched.factory import make_batched
from dqn.envs.batched.mountain_car import MountainCar
from dqn.envs.gridworld import GRID_WORLD_ID
from dqn.envs.gymnasium_env import GymnasiumEnvironment
from dqn.errors import UserError
from dqn.experiment import make_environment
from dqn.playback import _draw_path
from dqn.run_folder import RunFolder

CPU = torch.device("cpu")
GRID: dict[str, Any] = {
    "map": "S.#.\n..H.\n.#..\n...G",
    "step_reward": -0.04,
    "goal_reward": 1.0,
    "hole_reward": -1.0,
    "slip_probability": 0.0,
    "start": "every",
    "max_steps": 9,
    "observation": "index",
}
Policy = Callable[[Array, np.random.Generator], Array]


def at_random(num_actions: int) -> Policy:
    return lambda frames, draw: draw.integers(num_actions, size=len(frames))


def pumping(column: int) -> Policy:
    """Push the way that frame[column] moves, which gains energy; a quarter of the time at random."""

    def act(frames: Array, draw: np.random.Generator) -> Array:
        wild = draw.random(len(frames)) < 0.25
        return np.where(wild, draw.integers(3, size=len(frames)), np.where(frames[:, column] < 0, 0, 2))

    return act


def pair(
    env_id: str, kwargs: dict[str, Any], max_steps: int | None, num_envs: int = 4, members: int = 2
) -> tuple[GymnasiumEnvironment, BatchedEnvironment]:
    theirs = GymnasiumEnvironment(env_id, num_envs, kwargs, max_steps, members)
    return theirs, make_batched(env_id, num_envs, kwargs, max_steps, members, CPU)


def assert_same(ours: StepResult, theirs: StepResult, tolerance: float) -> None:
    np.testing.assert_allclose(ours.frames, theirs.frames, rtol=tolerance, atol=tolerance)
    # Gymnasium's TimeLimit says of an episode that terminates at its last step that it was truncated, too.
    for name, expected in theirs._replace(truncated=theirs.truncated & ~theirs.terminated)._asdict().items():
        mine = getattr(ours, name)
        assert mine.dtype == expected.dtype, name
        assert mine.shape == expected.shape, name
        if name != "frames":
            assert np.array_equal(mine, expected), name


# (id, kwargs, time limit, policy, tolerance). One function of the same numbers may come out a rounding apart (a
# sine of numpy and of torch), which float32 frames show now and then. Falling poles and swinging links multiply such a
# difference, an acrobot with much energy by about 10 in 2 s, so its episodes are short here.
CASES = [
    ("CartPole-v1", {}, 25, at_random(2), 1e-6),
    ("CartPole-v0", {"sutton_barto_reward": True}, None, at_random(2), 1e-6),
    ("MountainCar-v0", {}, None, pumping(1), 1e-6),
    ("MountainCar-v0", {"goal_velocity": 0.03}, 150, pumping(1), 1e-6),
    ("Acrobot-v1", {}, 100, pumping(5), 1e-6),
    (GRID_WORLD_ID, GRID, None, at_random(4), 0.0),
    (GRID_WORLD_ID, GRID | {"start": "random", "observation": "one_hot"}, None, at_random(4), 0.0),
    (GRID_WORLD_ID, GRID | {"start": "fixed", "observation": "coordinates"}, 5, at_random(4), 0.0),
    (GRID_WORLD_ID, GRID | {"observation": "image"}, None, at_random(4), 0.0),
]
NAMES = [
    "cartpole",
    "cartpole_v0",
    "mountain_car",
    "fast_mountain_car",
    "acrobot",
    "index",
    "one_hot",
    "cells",
    "image",
]


@pytest.mark.parametrize(("env_id", "kwargs", "max_steps", "policy", "tolerance"), CASES, ids=NAMES)
def test_whole_streams_are_gymnasiums(
    env_id: str, kwargs: dict[str, Any], max_steps: int | None, policy: Policy, tolerance: float
) -> None:
    theirs, ours = pair(env_id, kwargs, max_steps)
    assert ours.spec == theirs.spec
    seeds = [3, 14, 15, 92]
    frames = theirs.reset(seeds)
    first = ours.reset(seeds)
    assert first.dtype == frames.dtype
    np.testing.assert_allclose(first, frames, atol=tolerance, rtol=tolerance)
    draw, endings = np.random.default_rng(0), set()
    for _ in range(2000):
        actions = policy(frames, draw)
        expected = theirs.step(actions)
        assert_same(ours.step(actions), expected, tolerance)
        frames = expected.frames
        endings |= set(zip(expected.terminated.tolist(), expected.truncated.tolist(), strict=True))
        if theirs.spec.knows_optimum:
            assert np.array_equal(ours.optimal_returns(), theirs.optimal_returns())
    assert (True, False) in endings, "no episode was terminated"
    assert (False, True) in endings or env_id == "CartPole-v0", "no episode was truncated"
    ours.reset([5] * 4)
    assert_same(ours.step(actions), (theirs.reset([5] * 4), theirs.step(actions))[1], tolerance)


@pytest.mark.parametrize(
    ("env_id", "dynamics", "largest"),
    [
        ("CartPole-v1", CartPole(), [2.5, 3.0, 0.25, 3.0]),
        ("MountainCar-v0", MountainCar(), [1.2, 0.07]),
        ("Acrobot-v1", Acrobot(), [np.pi, np.pi, 4 * np.pi, 9 * np.pi]),
    ],
    ids=["cartpole", "mountain_car", "acrobot"],
)
def test_each_step_is_gymnasiums_to_the_last_digits(env_id: str, dynamics: Any, largest: list[float]) -> None:
    """From states all over the space, also where no episode of the streams above came; no difference can grow."""
    env: Any = gymnasium.make(env_id).unwrapped
    draw = np.random.default_rng(1)
    states = draw.uniform(-1, 1, size=(3000, len(largest))) * largest
    if env_id == "MountainCar-v0":
        states[:, 0] = states[:, 0] * 0.75 - 0.3  # from -1.2 to 0.6
    actions = draw.integers(env.action_space.n, size=3000)
    results = []
    for state, action in zip(states, actions, strict=True):
        env.reset()
        env.state = state
        frame, reward, terminated, _, _ = env.step(action)
        results.append((np.array(env.state), frame, reward, terminated))
    next_states, frames, rewards, terminated = (np.array(column) for column in zip(*results, strict=True))
    assert 50 < terminated.sum() < 2950
    new, given, over = dynamics.step(torch.from_numpy(states), torch.from_numpy(actions), torch.zeros(3000))
    np.testing.assert_allclose(new.numpy(), next_states, rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(dynamics.observe(new).numpy(), frames, rtol=1e-6, atol=1e-7)
    assert np.array_equal(given.numpy(), rewards)
    assert np.array_equal(over.numpy(), terminated)


def test_slips_have_their_probability_and_repeat_with_the_seed() -> None:
    """On an open plain every outcome shows where the move went."""
    plain = GRID | {"map": "\n".join(["...........S..........."] + ["." * 23] * 10 + ["." * 22 + "G"])}
    plain |= {"slip_probability": 0.3, "start": "fixed", "max_steps": 3, "observation": "coordinates"}
    env = make_batched(GRID_WORLD_ID, 200, plain, None, 1, CPU)
    assert env.optimal_returns() is None

    def moves() -> tuple[Array, Array]:
        frames = [env.reset(range(200))]
        kept = []
        for _ in range(300):
            result = env.step(np.full(200, 2))
            frames.append(result.frames)
            kept.append(~result.was_reset)
        steps = np.diff(np.stack(frames), axis=0)[np.stack(kept)]
        return steps[:, 0] > 0, np.sign(steps[:, 1])

    down, sideways = moves()
    count = len(down)
    deviation = (0.15 * 0.85 / count) ** 0.5
    assert np.array_equal(down, sideways == 0)
    assert abs((sideways > 0).mean() - 0.15) < 4 * deviation
    assert abs((sideways < 0).mean() - 0.15) < 4 * deviation
    assert all(np.array_equal(*both) for both in zip(moves(), (down, sideways), strict=True))


# --- a stream that is interrupted goes on as if it had not been ------------------------------------------------

INTERRUPTIBLE = [
    ("CartPole-v1", {}, 20),
    (GRID_WORLD_ID, GRID | {"slip_probability": 0.4}, None),
    (GRID_WORLD_ID, GRID | {"start": "random"}, None),
]


def play(env: BatchedEnvironment, steps: range, columns: list[int]) -> list[Array]:
    """Results of steps under fixed actions, of the environments that were columns of the six at first, as one array."""
    actions = np.random.default_rng(2).integers(2, size=(steps.stop, 6))[:, columns]
    results = [env.step(actions[step]) for step in steps]
    return [np.stack(parts) for parts in zip(*results, strict=True)]


@pytest.mark.parametrize(("env_id", "kwargs", "max_steps"), INTERRUPTIBLE, ids=["cartpole", "slips", "random_starts"])
def test_a_loaded_state_goes_on_in_mid_episode(env_id: str, kwargs: dict[str, Any], max_steps: int | None) -> None:
    env, other = (make_batched(env_id, 6, kwargs, max_steps, 3, CPU) for _ in range(2))
    env.reset(range(6))
    play(env, range(1500), list(range(6)))  # far enough for the tables to be filled anew
    state = env.state_dict()
    kept = {name: value.clone() for name, value in state.items() if isinstance(value, Tensor)}
    expected = play(env, range(1500, 3000), list(range(6)))
    assert all(torch.equal(state[name], value) for name, value in kept.items()), "a state is a copy"
    other.reset([8] * 6)
    play(other, range(7), list(range(6)))
    other.load_state_dict(state)
    for part, same in zip(play(other, range(1500, 3000), list(range(6))), expected, strict=True):
        assert np.array_equal(part, same)


@pytest.mark.parametrize(("env_id", "kwargs", "max_steps"), INTERRUPTIBLE, ids=["cartpole", "slips", "random_starts"])
def test_selected_members_play_on(env_id: str, kwargs: dict[str, Any], max_steps: int | None) -> None:
    env = make_batched(env_id, 6, kwargs, max_steps, 3, CPU)
    env.reset(range(6))
    play(env, range(33), list(range(6)))
    columns = [4, 5, 0, 1]
    chosen = env.select([4, 5, 0, 1])
    expected = play(env, range(33, 1500), list(range(6)))
    assert chosen.num_envs == 4
    for part, of_all in zip(play(chosen, range(33, 1500), columns), expected, strict=True):
        assert np.array_equal(part, of_all[:, columns])
    again = chosen.select([2, 3])
    for part, of_two in zip(
        play(again, range(1500, 1600), [0, 1]), play(chosen, range(1500, 1600), columns), strict=True
    ):
        assert np.array_equal(part, of_two[:, 2:])


@pytest.mark.parametrize(("env_id", "kwargs", "max_steps"), [*INTERRUPTIBLE, ("CartPole-v1", {}, 1)])
def test_small_tables_are_refilled_without_a_trace(env_id: str, kwargs: dict[str, Any], max_steps: int | None) -> None:
    """With a time limit of one step every second call is a reset: no table could be used up faster."""
    large = make_batched(env_id, 6, kwargs, max_steps, 3, CPU)
    small = BatchedEnvironment(large._dynamics, large.spec, 6, 3, max_calls=7)
    large.reset(range(6))
    small.reset(range(6))
    expected = play(large, range(1, 200), list(range(6)))
    actions = np.random.default_rng(2).integers(2, size=(200, 6))
    results: list[Any] = []
    lengths = np.random.default_rng(3)
    while len(results) < 199:
        calls = int(lengths.integers(1, 8))
        small.prepare(calls)
        for _ in range(min(calls, 199 - len(results))):
            results.append(small.step_tensors(torch.from_numpy(actions[len(results) + 1])))
    for part, of_large in zip(zip(*results, strict=True), expected, strict=True):
        assert np.array_equal(torch.stack(part).numpy(), of_large)
    with pytest.raises(ValueError, match="8 step calls, but the tables hold enough for 7"):
        small.prepare(8)


def test_a_members_episodes_do_not_depend_on_the_other_members() -> None:
    lone = make_batched(GRID_WORLD_ID, 2, GRID | {"slip_probability": 0.4}, None, 1, CPU)
    crowd = make_batched(GRID_WORLD_ID, 6, GRID | {"slip_probability": 0.4}, None, 3, CPU)
    assert np.array_equal(lone.reset([3, 4]), crowd.reset(range(1, 7))[2:4])
    for part, of_crowd in zip(play(lone, range(300), [2, 3]), play(crowd, range(300), list(range(6))), strict=True):
        assert np.array_equal(part, of_crowd[:, 2:4])


# --- one function of tensors ------------------------------------------------------------------------------------


def packed(env: BatchedEnvironment) -> Callable[[Tensor], Tensor]:
    """`step_tensors` with its results in one tensor (N, columns)."""
    return lambda actions: torch.cat(
        [part.to(torch.float64).view(env.num_envs, -1) for part in env.step_tensors(actions)], dim=1
    )


def streams(step: Callable[[Tensor], Tensor], env: BatchedEnvironment) -> Iterator[Tensor]:
    env.reset(range(6))
    actions = torch.from_numpy(np.random.default_rng(4).integers(2, size=(400, 6)))
    for i in range(400):
        if i % 100 == 0:
            env.prepare(100)
        yield step(actions[i]).clone()


@pytest.mark.skipif(not can_compile(), reason="there is no C++ compiler")
def test_compiled_environments_step_the_same(tmp_path: Any, monkeypatch: Any, capfd: Any) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    plain = make_batched("CartPole-v1", 6, {}, 20, 1, CPU)
    other = BatchedEnvironment(CartPole(), plain.spec, 6, max_calls=150)  # refilled in between
    compiled = Compiled(packed(other), "stepping")
    for ours, theirs in zip(streams(compiled, other), streams(packed(plain), plain), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    assert "uncompiled" not in capfd.readouterr().err


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_every_environment_can_be_traced(case: tuple[Any, ...]) -> None:
    """What `Compiled` begins with; it also fails where an operation looks at a value."""
    env_id, kwargs, max_steps, *_ = case
    kwargs = kwargs | {"slip_probability": 0.2} if env_id == GRID_WORLD_ID else kwargs
    env, twin = (make_batched(env_id, 6, kwargs, max_steps, 1, CPU) for _ in range(2))
    env.reset(range(6))
    env.prepare(400)
    graph, state = _trace(packed(env), [torch.zeros(6, dtype=torch.int64)])
    expected = streams(packed(twin), twin)
    for ours, theirs in zip(streams(lambda actions: graph(*state, actions), env), expected, strict=True):
        assert torch.equal(ours, theirs)


# --- chosen by config -------------------------------------------------------------------------------------------


def test_the_config_chooses_the_backend_and_films_are_gymnasiums(make_config: Any) -> None:
    for env in ("env=cartpole", "env=gridworld"):
        config = make_config("experiment=gridworld_dqn", env, "env.backend=torch").env
        assert isinstance(make_environment(config, 2, 1), BatchedEnvironment)
        drawn = make_environment(config, 2, 1, render=True)
        assert isinstance(drawn, GymnasiumEnvironment)
        drawn.reset([0] * drawn.num_envs)
        assert drawn.render().dtype == np.uint8
        config = make_config("experiment=gridworld_dqn", env, "env.backend=gymnasium").env
        assert isinstance(make_environment(config, 2, 1), GymnasiumEnvironment)


def test_paths_are_drawn_whatever_the_backend(make_config: Any, tmp_path: Any, capsys: Any) -> None:
    for backend in ("gymnasium", "torch"):
        config = make_config("experiment=gridworld_dqn", f"env.backend={backend}", "env.max_steps=3")
        (tmp_path / backend).mkdir()
        _draw_path(RunFolder(tmp_path / backend), config, lambda observations: torch.zeros(1, 1, 4))
    pictures = [(tmp_path / backend / "path.png").read_bytes() for backend in ("gymnasium", "torch")]
    assert pictures[0] == pictures[1]


@pytest.mark.parametrize(
    ("overrides", "key", "complaint"),
    [
        (
            ["env.id=FrozenLake-v1"],
            "env.backend",
            "FrozenLake-v1 has no torch form, only CartPole-v0, CartPole-v1, Acr",
        ),
        (
            ["+env.kwargs.render_mode=rgb_array"],
            "env.backend",
            "the torch form of CartPole-v1 has no env.kwargs.render",
        ),
        (["+env.kwargs.gravity=1"], "env.kwargs", "unexpected keyword argument 'gravity'$"),
        (["+env.kwargs.sutton_barto_reward=much"], "env.kwargs.sutton_barto_reward", "must be true or false"),
        (["env.id=CartPole-v7"], "env.id", "did you mean CartPole-v1"),
    ],
)
def test_what_has_no_torch_form(make_config: Any, overrides: list[str], key: str, complaint: str) -> None:
    config = make_config("experiment=cartpole", "env.backend=torch", *overrides)
    with pytest.raises(UserError, match=complaint) as caught:
        make_environment(config.env, 1, 1)
    assert caught.value.key == key
    assert "\n" not in str(caught.value)
