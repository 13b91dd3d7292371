"""The grid world's map and dynamics, and the optimum that they allow.

States are numbered in reading order over all cells, walls too: state = row * columns + column.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dqn.errors import UserError

START, GOAL, WALL, HOLE, FREE = "S", "G", "#", "H", "."
ACTION_MEANINGS = ("UP", "RIGHT", "DOWN", "LEFT")
MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))  # (rows, columns), in the order of the actions


def parse_map(text: str) -> npt.NDArray[np.str_]:
    """Text to characters (rows, columns)."""
    rows = [row.strip() for row in text.strip().splitlines()]
    unknown = set("".join(rows)) - {START, GOAL, WALL, HOLE, FREE}
    if unknown:
        raise UserError("env.map", repr(text), f"{min(unknown)!r} is none of S start, G goal, # wall, H hole, . free")
    for number, row in enumerate(rows, start=1):
        if len(row) != len(rows[0]):
            lengths = f"row {number} has {len(row)} cells, row 1 has {len(rows[0])}"
            raise UserError("env.map", repr(text), f"rows must be equally long, but {lengths}")
    letters = "".join(rows)
    if GOAL not in letters:
        raise UserError("env.map", repr(text), "the map needs a goal G")
    if letters.count(START) > 1:
        raise UserError("env.map", repr(text), "the map may have one start S only (env.start=random has many)")
    return np.array([list(row) for row in rows])


class TransitionModel(NamedTuple):
    """Everything that can happen: S states, A actions, 3 outcomes (as intended, slipped to either side).

    Cells that an agent never acts in (goals, holes, walls) lead to themselves, ended, with reward 0.
    """

    probabilities: npt.NDArray[np.float64]  # (3,)
    next_states: npt.NDArray[np.int64]  # (S, A, 3)
    rewards: npt.NDArray[np.float64]  # (S, A, 3)
    terminated: npt.NDArray[np.bool_]  # (S, A, 3)


def transition_model(
    grid: npt.NDArray[np.str_],
    *,
    step_reward: float,
    goal_reward: float,
    hole_reward: float,
    slip_probability: float,
) -> TransitionModel:
    """The dynamics of a grid of characters (rows, columns); see `GridWorld` for the rules and the units."""
    rows, columns = grid.shape
    cells = grid.reshape(-1)
    states = np.arange(cells.size)
    acts = np.isin(cells, (START, FREE))  # where an agent can stand and act

    targets = np.empty((cells.size, len(MOVES)), dtype=np.int64)
    for action, (down, right) in enumerate(MOVES):
        row = np.clip(states // columns + down, 0, rows - 1)
        column = np.clip(states % columns + right, 0, columns - 1)
        target = row * columns + column
        targets[:, action] = np.where(acts & (cells[target] != WALL), target, states)

    clockwise = np.roll(targets, -1, axis=1)
    anticlockwise = np.roll(targets, 1, axis=1)
    next_states = np.stack([targets, clockwise, anticlockwise], axis=-1)
    reached = cells[next_states]
    rewards = np.select([reached == GOAL, reached == HOLE], [goal_reward, hole_reward], step_reward)
    side = slip_probability / 2
    return TransitionModel(
        probabilities=np.array([1.0 - slip_probability, side, side]),
        next_states=next_states,
        rewards=np.where(acts[:, None, None], rewards, 0.0),
        terminated=np.isin(reached, (GOAL, HOLE)) | ~acts[:, None, None],
    )


def value_iteration(
    model: TransitionModel, discount: float, tolerance: float = 1e-10, max_sweeps: int = 1_000_000
) -> npt.NDArray[np.float64]:
    """The optimal action values of the grid without its time limit (Sutton & Barto 2018, section 4.4).

    Args:
        model: the dynamics, e.g. `GridWorld.model`.
        discount: in [0, 1]. With 1 it converges only where no policy can collect rewards without end and,
            if steps cost something, a goal or a hole can be reached from every free cell.
        tolerance: stop once no action value changes by more in one sweep over all states; the values are then
            within tolerance * discount / (1 - discount) of the optimum.
        max_sweeps: give up after so many.

    Returns:
        Q* of shape (num_states, 4); zero in goals, holes and walls.

    Raises:
        ValueError: it has not converged after `max_sweeps`.
    """
    q = np.zeros(model.rewards.shape[:2])
    for _ in range(max_sweeps):
        backed_up = back_up(model, q.max(axis=1), discount)
        change = np.abs(backed_up - q).max()
        q = backed_up
        if change <= tolerance:
            return q
    raise ValueError(f"no optimum within {max_sweeps} sweeps at discount {discount}: the values still change")


def back_up(model: TransitionModel, values: npt.NDArray[np.float64], discount: float) -> npt.NDArray[np.float64]:
    """One sweep of the Bellman optimality equation: state values (S,) to action values (S, A)."""
    outcomes = model.rewards + discount * values[model.next_states]  # (S, A, 3); values are 0 where it ended
    expected: npt.NDArray[np.float64] = outcomes @ model.probabilities
    return expected
