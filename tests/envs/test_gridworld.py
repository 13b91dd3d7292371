from __future__ import annotations

import importlib
from collections import deque
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import dqn.envs.gridworld
from dqn.envs.gridworld import GRID_WORLD_ID, GridWorld
from dqn.envs.gridworld_model import value_iteration
from dqn.envs.gridworld_pictures import draw_path, path_text
from dqn.errors import UserError

UP, RIGHT, DOWN, LEFT = range(4)
SMALL = """
S.#
.H.
..G
"""
MAZE = """
S..#....
.#.#.##.
.#...#..
.#####.#
....H...
.##.##.H
.#....#.
...H...G
"""
FROZEN_LAKE = """
S...
.H.H
...H
H..G
"""


def make(map: str = SMALL, **settings: Any) -> GridWorld:
    defaults: dict[str, Any] = {
        "step_reward": -0.04,
        "goal_reward": 1.0,
        "hole_reward": -1.0,
        "slip_probability": 0.0,
        "start": "fixed",
        "max_steps": 100,
        "observation": "index",
    }
    return GridWorld(map=map, **defaults | settings)


def naive_step(rows: list[str], cell: tuple[int, int], action: int) -> tuple[tuple[int, int], str]:
    """The rules once more, in a few plain lines: where a move leads, and what stands there."""
    row, column = cell
    row, column = {UP: (row - 1, column), RIGHT: (row, column + 1), DOWN: (row + 1, column)}.get(
        action, (row, column - 1)
    )
    inside = 0 <= row < len(rows) and 0 <= column < len(rows[0])
    if not inside or rows[row][column] == "#":
        row, column = cell
    return (row, column), rows[row][column]


def moves_to_goal(rows: list[str]) -> dict[tuple[int, int], int]:
    """Breadth-first search backwards from the goals, around holes."""
    free = [(r, c) for r, row in enumerate(rows) for c, kind in enumerate(row) if kind in "S."]
    distance = {(r, c): 0 for r, row in enumerate(rows) for c, kind in enumerate(row) if kind == "G"}
    queue = deque(distance)
    while queue:
        target = queue.popleft()
        for cell in free:
            if cell not in distance and any(naive_step(rows, cell, a)[0] == target for a in range(4)):
                distance[cell] = distance[target] + 1
                queue.append(cell)
    return distance


# --- rules --------------------------------------------------------------------------------------------------


def test_a_walk_by_hand() -> None:
    env = make()
    state, _ = env.reset(seed=0)
    walk = [
        (UP, 0),
        (LEFT, 0),
        (RIGHT, 1),
        (RIGHT, 1),
        (LEFT, 0),
        (DOWN, 3),
        (DOWN, 6),
        (DOWN, 6),
        (RIGHT, 7),
    ]
    assert state == 0
    for action, expected in walk:
        state, reward, terminated, truncated, _ = env.step(action)
        assert (state, reward, terminated, truncated) == (expected, -0.04, False, False)
    state, reward, terminated, truncated, _ = env.step(RIGHT)
    assert (state, reward, terminated, truncated) == (8, 1.0, True, False)


def test_a_hole_ends_the_episode_with_its_own_reward() -> None:
    env = make()
    env.reset(seed=0)
    env.step(RIGHT)
    assert env.step(DOWN)[:4] == (4, -1.0, True, False)


def test_random_walks_match_the_rules_move_by_move() -> None:
    rows = MAZE.split()
    env = make(MAZE, start="random", max_steps=40)
    draw = np.random.default_rng(0)
    ends = set()
    state, _ = env.reset(seed=1)
    for _ in range(200):
        cell, moves = divmod(int(state), 8), 0
        assert rows[cell[0]][cell[1]] in "S."
        while True:
            action = int(draw.integers(4))
            state, reward, terminated, truncated, _ = env.step(action)
            cell, kind = naive_step(rows, cell, action)
            moves += 1
            assert divmod(int(state), 8) == cell
            assert reward == {"G": 1.0, "H": -1.0}.get(kind, -0.04)
            assert terminated == (kind in "GH")
            assert truncated == (moves == 40 and kind not in "GH")
            if terminated or truncated:
                ends.add((kind in "GH", truncated))
                break
        state, _ = env.reset()
    assert ends == {(True, False), (False, True)}


def test_the_time_limit_truncates_unless_the_last_move_ends_the_episode() -> None:
    env = make("SG", max_steps=2)
    env.reset(seed=0)
    assert env.step(LEFT)[2:4] == (False, False)
    assert env.step(RIGHT)[2:4] == (True, False)
    env.reset()
    env.step(LEFT)
    assert env.step(LEFT)[2:4] == (False, True)
    env.reset()
    assert env.step(LEFT)[2:4] == (False, False), "a reset starts the clock anew"


@pytest.mark.parametrize(("slip", "action"), [(0.3, UP), (0.3, RIGHT), (1.0, DOWN), (0.0, LEFT)])
def test_slips_go_to_either_side_half_of_the_time(slip: float, action: int) -> None:
    env = make("G..\n.S.\n...", slip_probability=slip)
    env.reset(seed=3)
    moves = {UP: 1, RIGHT: 5, DOWN: 7, LEFT: 3}
    counts = dict.fromkeys(moves.values(), 0)
    draws = 20_000
    for _ in range(draws):
        env.reset()
        counts[int(env.step(action)[0])] += 1
    expected = {moves[action]: 1 - slip, moves[(action + 1) % 4]: slip / 2, moves[(action - 1) % 4]: slip / 2}
    for cell, count in counts.items():
        probability = expected.get(cell, 0.0)
        deviation = (probability * (1 - probability) / draws) ** 0.5
        assert abs(count / draws - probability) <= 4 * deviation


@pytest.mark.parametrize("observation", ["index", "one_hot", "coordinates", "image"])
def test_gymnasiums_own_checks_pass(observation: str) -> None:
    kwargs = make_kwargs(observation=observation, slip_probability=0.2, start="random")
    env = gymnasium.make(GRID_WORLD_ID, render_mode="rgb_array", **kwargs)
    check_env(env.unwrapped, skip_render_check=True)
    assert env.unwrapped.get_action_meanings() == ["UP", "RIGHT", "DOWN", "LEFT"]  # type: ignore[attr-defined]


def make_kwargs(**settings: Any) -> dict[str, Any]:
    return {
        "map": MAZE,
        "step_reward": -0.04,
        "goal_reward": 1.0,
        "hole_reward": -1.0,
        "start": "fixed",
        "max_steps": 100,
        **settings,
    }


def test_importing_twice_registers_once() -> None:
    spec, module = gymnasium.spec(GRID_WORLD_ID), dqn.envs.gridworld
    before = dict(vars(module))
    importlib.reload(module)
    vars(module).update(before)  # other tests have the classes of before
    assert gymnasium.spec(GRID_WORLD_ID) is spec


# --- starts -------------------------------------------------------------------------------------------------


def test_every_start_comes_in_turn_and_anew_after_a_seeded_reset() -> None:
    env = make(start="every")
    expected = [0, 1, 3, 5, 6, 7]
    assert env.starts == tuple(expected)
    for seed in (0, 1):
        visited = [env.reset(seed=seed)[0]] + [env.reset()[0] for _ in range(8)]
        assert visited == expected + expected[:3]


def test_environments_share_the_starts() -> None:
    visited = []
    for index in range(4):
        env = make(start="every")
        env.share_starts(index, 4)
        visited += [int(env.reset(seed=9)[0]), int(env.reset()[0])]
    assert visited == [0, 6, 1, 7, 3, 0, 5, 1]
    env.share_starts(3, 4, episodes=1)
    assert int(env.reset(seed=9)[0]) == 1


def test_random_starts_are_uniform_and_follow_the_seed() -> None:
    env = make(start="random")

    def starts(seed: int, count: int) -> list[int]:
        return [int(env.reset(seed=seed)[0])] + [int(env.reset()[0]) for _ in range(count - 1)]

    states, counts = np.unique(starts(5, 6000), return_counts=True)
    assert states.tolist() == [0, 1, 3, 5, 6, 7]
    assert np.abs(counts - 1000).max() < 4 * (6000 * 1 / 6 * 5 / 6) ** 0.5
    assert starts(5, 50) == starts(5, 50)
    assert starts(5, 50) != starts(6, 50)


# --- observations -------------------------------------------------------------------------------------------


def test_one_hot_and_coordinates() -> None:
    one_hot, coordinates = make(observation="one_hot"), make("S..G\n....\n....", observation="coordinates")
    assert np.array_equal(one_hot.reset(seed=0)[0], np.eye(9, dtype=np.float32)[0])
    assert np.array_equal(one_hot.step(DOWN)[0], np.eye(9, dtype=np.float32)[3])
    assert coordinates.reset(seed=0)[0].tolist() == [-1.0, -1.0]
    assert coordinates.step(DOWN)[0].tolist() == [0.0, -1.0]
    assert coordinates.step(RIGHT)[0] == pytest.approx([0.0, -1 / 3])
    assert make("SG", observation="coordinates").reset(seed=0)[0].tolist() == [-1.0, -1.0]


def test_images_show_every_cell_and_the_agent() -> None:
    env = make("SG.\n.H#", observation="image")
    image, _ = env.reset(seed=0)
    assert image.shape == (1, 84, 84)
    cells = [image[0, r : r + 42, c : c + 28] for r in (0, 42) for c in (0, 28, 56)]
    agent, goal, free, start, hole, wall = greys = [int(cell[0, 0]) for cell in cells]
    assert all((cell == grey).all() for cell, grey in zip(cells, greys, strict=True))
    assert free == start
    assert len({agent, goal, free, hole, wall}) == 5
    moved = env.step(DOWN)[0]
    assert moved[0, 83, 0] == agent
    assert moved[0, 0, 0] == start


def test_images_of_different_states_differ_even_where_cells_do_not_divide_evenly() -> None:
    env = make("\n".join(["S" + "." * 12, *["." * 13] * 4, "." * 12 + "G"]), start="every", observation="image")
    images = {env.reset(seed=0)[0].tobytes()} | {env.reset()[0].tobytes() for _ in env.starts[1:]}
    assert len(images) == len(env.starts)


# --- optimum ------------------------------------------------------------------------------------------------


def test_without_slip_the_optimum_is_the_shortest_way() -> None:
    rows = MAZE.split()
    env = make(MAZE, start="every")
    q = value_iteration(env.model, discount=0.9)
    for (row, column), moves in moves_to_goal(rows).items():
        state = row * 8 + column
        if moves == 0:
            assert (q[state] == 0).all()
            continue
        assert env.optimal_return(state) == pytest.approx(1.0 - 0.04 * (moves - 1))
        discounted = 0.9 ** (moves - 1) - 0.04 * (1 - 0.9 ** (moves - 1)) / (1 - 0.9)
        assert q[state].max() == pytest.approx(discounted, abs=1e-9)


def test_action_values_by_hand() -> None:
    q = value_iteration(make("S.G", step_reward=-1.0, goal_reward=10.0).model, discount=0.5)
    assert q == pytest.approx(np.array([[1.0, 4.0, 1.0, 1.0], [4.0, 10.0, 4.0, 1.0], [0.0, 0.0, 0.0, 0.0]]))


def frozen_lake() -> tuple[GridWorld, dict[int, dict[int, list[tuple[float, int, float, bool]]]]]:
    """Gymnasium's FrozenLake drawn as a grid world, and Gymnasium's own table of its dynamics."""
    ours = make(FROZEN_LAKE, step_reward=0.0, hole_reward=0.0, slip_probability=2 / 3)
    return ours, gymnasium.make("FrozenLake-v1").unwrapped.P  # type: ignore[attr-defined]


@pytest.mark.parametrize(("discount", "sweeps"), [(0.95, 600), (1.0, 5000)])
def test_slippery_action_values_match_frozen_lakes(discount: float, sweeps: int) -> None:
    env, dynamics = frozen_lake()
    theirs = np.zeros((16, 4))
    for _ in range(sweeps):
        values = theirs.max(axis=1)
        for state in range(16):
            for action in range(4):
                theirs[state, action] = sum(
                    probability * (reward + discount * values[following] * (not ended))
                    for probability, following, reward, ended in dynamics[state][action]
                )
    left, down, right, up = range(4)
    assert value_iteration(env.model, discount) == pytest.approx(theirs[:, [up, right, down, left]], abs=1e-7)


def test_the_optimal_return_counts_the_time_limit() -> None:
    env, _ = frozen_lake()
    env.reset(seed=0)
    # 0.744 is what FrozenLake's best policy reaches in its 100 steps; without a limit it would be 14/17.
    assert env.optimal_return() == pytest.approx(0.744, abs=5e-4)
    assert value_iteration(env.model, discount=1.0, tolerance=1e-14)[0].max() == pytest.approx(14 / 17)
    assert make("S...G", max_steps=3).optimal_return() == pytest.approx(-0.12)
    assert make("S...G", max_steps=4).optimal_return() == pytest.approx(0.88)


def test_the_optimal_return_is_of_this_episodes_start() -> None:
    env = make("S...G", start="every")
    optima = []
    for episode in range(4):
        env.reset(seed=0 if episode == 0 else None)
        optima.append(env.optimal_return())
        env.step(RIGHT)
        assert env.optimal_return() == optima[-1]
    assert optima == pytest.approx([0.88, 0.92, 0.96, 1.0])


def test_no_optimum_is_an_error() -> None:
    cut_off = make("S.G\n###\n...", start="fixed")
    with pytest.raises(ValueError, match="values still change"):
        value_iteration(cut_off.model, discount=1.0, max_sweeps=500)
    endless = make("SG", step_reward=1.0)
    with pytest.raises(ValueError, match="values still change"):
        value_iteration(endless.model, discount=1.0, max_sweeps=500)
    assert endless.optimal_return() == 100.0, "wait 99 moves, then enter"


# --- maps ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("map", "settings", "complaint"),
    [
        ("S..", {}, "needs a goal"),
        ("", {}, "needs a goal"),
        ("..G", {}, "needs a start S"),
        ("#G", {"start": "random"}, "needs a free cell"),
        ("S.X\n..G", {}, "'X' is none of"),
        ("S..\n.G", {}, "row 2 has 2 cells, row 1 has 3"),
        ("S.S\n..G", {}, "one start S only"),
        ("S#G", {}, "out of reach"),
        ("SHG", {}, "out of reach"),
        ("S" + "." * 84 + "G", {"observation": "image"}, "at most 84"),
    ],
)
def test_malformed_maps(map: str, settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint) as caught:
        make(map, **settings)
    assert caught.value.key == "env.map"
    assert "\n" not in str(caught.value)


def test_random_starts_may_include_hopeless_ones() -> None:
    env = make("S#G.", start="random")
    assert env.starts == (0, 3)
    assert env.optimal_return(0) == pytest.approx(-4.0), "100 moves that lead nowhere"


# --- pictures -----------------------------------------------------------------------------------------------


def test_path_as_text() -> None:
    env = make(MAZE)
    path = [0, 0, 8, 16, 24, 32, 33, 34, 35, 43, 51, 52, 53, 61, 62, 63]
    assert path_text(env, path).split("\n") == [
        "↓..#....",
        "↓#.#.##.",
        "↓#...#..",
        "↓#####.#",
        "→→→↓H...",
        ".##↓##.H",
        ".#.→→↓#.",
        "...H.→→G",
    ]
    assert path_text(env, [2, 1, 0, 8]).split("\n")[:2] == ["↓←←#....", "@#.#.##."]
    assert path_text(env, [26, 18]).split("\n")[2:4] == [".#@..#..", ".#↑###.#"]
    assert path_text(env, []) == MAZE.strip()


def test_pictures() -> None:
    env = make("S.G\n.H#")
    env.render_mode = "rgb_array"
    env.reset(seed=0)
    picture = env.render()
    assert isinstance(picture, np.ndarray)
    assert picture.shape == (128, 192, 3)
    assert picture.dtype == np.uint8
    cells = [picture[r : r + 64, c : c + 64] for r in (0, 64) for c in (0, 64, 128)]
    assert np.array_equal(cells[1], cells[3]), "both free"
    assert len({cell.tobytes() for cell in cells}) == 5
    env.step(DOWN)
    moved = env.render()
    assert not np.array_equal(moved[:64, :64], cells[0])
    assert not np.array_equal(moved[64:, :64], cells[3])
    assert np.array_equal(moved[:, 64:], picture[:, 64:])


def test_a_drawn_path_touches_its_own_cells_only() -> None:
    env = make("S.G\n.H#")
    path, end = draw_path(env, [0, 1]), draw_path(env, [1])
    assert np.array_equal(path[64:], end[64:])
    assert not np.array_equal(path[:64, :64], end[:64, :64])
    assert np.array_equal(path[:, 128:], end[:, 128:])


def test_large_maps_stay_printable() -> None:
    env = make("\n".join(["S" + "." * 49, *["." * 50] * 48, "." * 49 + "G"]))
    assert draw_path(env, []).shape == (800, 800, 3)


def test_text_rendering_marks_the_agent() -> None:
    env = make()
    env.render_mode = "ansi"
    env.reset(seed=0)
    env.step(DOWN)
    assert env.render() == "S.#\n\x1b[41m.\x1b[0mH.\n..G\n"
