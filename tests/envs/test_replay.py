"""Environments that are replayed are, after any step call, where they had been."""

from __future__ import annotations

import numpy as np
import pytest

from dqn.envs.base import StepResult
from dqn.envs.gridworld import GRID_WORLD_ID
from dqn.envs.gymnasium_env import GymnasiumEnvironment
from dqn.envs.replay import ReplayedEnvironment

GRID = {
    "map": "S..\n.#H\n..G",
    "step_reward": -1.0,
    "goal_reward": 10.0,
    "hole_reward": -10.0,
    "slip_probability": 0.2,
    "start": "every",
    "max_steps": 7,
    "observation": "index",
}
STARTS = [0, 1, 2, 3, 6, 7]
SEEDS = [11, 22, 33, 44]


@pytest.fixture
def make(monkeypatch):
    """make(start="every"): four grid worlds, which have a new seed after 20 step calls."""
    monkeypatch.setattr(GymnasiumEnvironment, "calls_per_seed", 20)
    return lambda **changes: ReplayedEnvironment(GymnasiumEnvironment(GRID_WORLD_ID, 4, {**GRID, **changes}))


def play(environment: ReplayedEnvironment, calls: range) -> list[StepResult]:
    """Take random actions, which depend on the number of the step call only."""
    return [environment.step(np.random.default_rng(call).integers(4, size=4)[: environment.num_envs]) for call in calls]


def assert_same(one: list[StepResult], other: list[StepResult]) -> None:
    assert len(one) == len(other)
    for pair in zip(one, other, strict=True):
        for now, then in zip(*pair, strict=True):
            np.testing.assert_array_equal(now, then)


@pytest.mark.parametrize("start", ["every", "random"])
def test_after_any_step_call_it_goes_on_where_it_was(make, start):
    environment = make(start=start)
    environment.reset(SEEDS)
    states, results = [], []
    for call in range(130):
        states.append(environment.state_dict())
        results += play(environment, range(call, call + 1))
    lengths = [[len(of_one) for of_one in state["actions"]] for state in states]
    assert max(map(max, lengths)) < 20 + 8  # a new seed waits for the end of an episode
    assert any(len(set(of_all)) > 1 for of_all in lengths)  # and so comes to each at its own time
    for call, state in enumerate(states):
        again = make(start=start)
        again.load_state_dict(state)
        assert_same(play(again, range(call, min(call + 40, 130))), results[call : call + 40])


def test_starts_come_in_turn_through_all_seeds(make):
    environment = make()
    visited = [[int(start)] for start in environment.reset(SEEDS)]
    for result in play(environment, range(200)):
        for n in np.flatnonzero(result.was_reset):
            visited[n].append(int(result.frames[n]))
    assert environment.state_dict()["reseeds"].min() >= 3
    for n, of_one in enumerate(visited):
        assert of_one == [STARTS[(n + 4 * episode) % len(STARTS)] for episode in range(len(of_one))]


def test_some_of_them_go_on_alone(make):
    environment = make()
    environment.reset(SEEDS)
    play(environment, range(33))
    whole = make()
    whole.load_state_dict(environment.state_dict())
    selected = environment.select([2, 0])
    again = make().select([2, 0])
    again.load_state_dict(selected.state_dict())
    for call in range(33, 120):
        actions = np.random.default_rng(call).integers(4, size=4)
        expected = StepResult(*(array[[2, 0]] for array in whole.step(actions)))
        assert_same([selected.step(actions[[2, 0]])], [expected])
        assert_same([again.step(actions[[2, 0]])], [expected])
    assert selected.state_dict()["reseeds"].tolist() == whole.state_dict()["reseeds"][[2, 0]].tolist()
    assert selected.state_dict()["reseeds"].min() >= 3
