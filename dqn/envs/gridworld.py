"""A grid world drawn as text, registered with Gymnasium as `dqn/GridWorld-v0` when this module is imported.

    S..#     S start     G goal, ends the episode
    .#.H     # wall      H hole, ends the episode
    ...G     . free

States are numbered in reading order over all cells, walls too: state = row * columns + column. The very table
through which the environment steps (`TransitionModel`) gives `value_iteration` the optimum.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any, ClassVar, Literal, NamedTuple

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.utils import colorize

from dqn.errors import UserError

GRID_WORLD_ID = "dqn/GridWorld-v0"

START, GOAL, WALL, HOLE, FREE = "S", "G", "#", "H", "."
ACTION_MEANINGS = ("UP", "RIGHT", "DOWN", "LEFT")
_MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))  # (rows, columns), in the order of the actions
_ARROWS = dict(zip(_MOVES, "↑→↓←", strict=True))

_IMAGE_SIZE = 84  # pixels: what the convolutional networks take
_GREYS = {WALL: 0, HOLE: 60, FREE: 120, START: 120, GOAL: 190}
_AGENT_GREY = 255

Observation = npt.NDArray[Any] | np.int64
Picture = npt.NDArray[np.uint8]


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

    targets = np.empty((cells.size, len(_MOVES)), dtype=np.int64)
    for action, (down, right) in enumerate(_MOVES):
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
        backed_up = _back_up(model, q.max(axis=1), discount)
        change = np.abs(backed_up - q).max()
        q = backed_up
        if change <= tolerance:
            return q
    raise ValueError(f"no optimum within {max_sweeps} sweeps at discount {discount}: the values still change")


def _back_up(model: TransitionModel, values: npt.NDArray[np.float64], discount: float) -> npt.NDArray[np.float64]:
    """One sweep of the Bellman optimality equation: state values (S,) to action values (S, A)."""
    outcomes = model.rewards + discount * values[model.next_states]  # (S, A, 3); values are 0 where it ended
    expected: npt.NDArray[np.float64] = outcomes @ model.probabilities
    return expected


class GridWorld(gymnasium.Env[Observation, np.int64]):
    """One agent, four moves (0 up, 1 right, 2 down, 3 left); into a wall or off the map it stays in place.

    Args:
        map: rows of equal length, of the characters S G # H and the full stop.
        step_reward: for every move that does not end the episode.
        goal_reward: for the move onto a goal, in place of the step's.
        hole_reward: for the move into a hole, likewise.
        slip_probability: that a move goes sideways instead, half of it to either side.
        start: "fixed" begins at S; "random" at any free cell (S is one), uniformly; "every" at the free cells
            in turn, in reading order; a seeded reset begins with the first again.
        max_steps: time limit in moves; truncates.
        observation: "index", the state's number; "one_hot", of length num_states; "coordinates", row and
            column, each scaled to [-1, 1]; "image", the map in greys, (1, 84, 84) bytes.
        render_mode: "rgb_array", "ansi" or None.

    Attributes:
        state: where the agent is.
        start_state: where this episode began.
        path: the states of this episode, in order.
        starts: the states in which episodes may begin.
        model: the dynamics.

    Raises:
        UserError: the map is malformed, or no goal can be reached from any start.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array", "ansi"], "render_fps": 4}  # noqa: RUF012

    def __init__(
        self,
        *,
        map: str,
        step_reward: float,
        goal_reward: float,
        hole_reward: float,
        slip_probability: float,
        start: Literal["fixed", "random", "every"],
        max_steps: int,
        observation: Literal["index", "one_hot", "coordinates", "image"],
        render_mode: str | None = None,
    ) -> None:
        self.grid = _parse(map)
        self.rows, self.columns = self.grid.shape
        self.num_states = self.grid.size
        self.model = transition_model(
            self.grid,
            step_reward=step_reward,
            goal_reward=goal_reward,
            hole_reward=hole_reward,
            slip_probability=slip_probability,
        )
        self.slip_probability = slip_probability
        self.is_deterministic = slip_probability == 0.0
        self.max_steps = max_steps
        self.observation = observation
        self.render_mode = render_mode
        self.start = start
        self.starts = self._find_starts(map)
        self.start_state = self.state = self.starts[0]
        self.action_space = spaces.Discrete(len(_MOVES))
        self.observation_space = self._make_observation_space(map)
        self.path = [self.state]
        self._steps = 0
        self._num_resets = 0
        self._first_start, self._start_stride = 0, 1

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Put the agent on its next start; see Gymnasium for `seed`. There are no options."""
        super().reset(seed=seed)
        if seed is not None:
            self._num_resets = 0
        if self.start == "random":
            self.start_state = self.starts[self.np_random.integers(len(self.starts))]
        else:
            turn = self._first_start + self._num_resets * self._start_stride
            self.start_state = self.starts[turn % len(self.starts)]
        self._num_resets += 1
        self._steps = 0
        self.state = self.start_state
        self.path = [self.state]
        return self._observe(), {}

    def step(self, action: np.int64 | int) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Make one move; the reward is the map's, see the class."""
        outcome = self.state, int(action), self._draw_outcome()
        self.state = int(self.model.next_states[outcome])
        self.path.append(self.state)
        self._steps += 1
        terminated = bool(self.model.terminated[outcome])
        truncated = self._steps >= self.max_steps and not terminated
        return self._observe(), float(self.model.rewards[outcome]), terminated, truncated, {}

    def render(self) -> Picture | str | None:
        """The map with its agent: (height, width, 3) bytes, or text with the agent's cell highlighted."""
        if self.render_mode == "rgb_array":
            return draw_path(self, [self.state])
        if self.render_mode == "ansi":
            characters = self.grid.copy().astype(object)
            cell = divmod(self.state, self.columns)
            characters[cell] = colorize(characters[cell], "red", highlight=True)
            return "\n".join("".join(row) for row in characters) + "\n"
        return None

    def path_drawing(self) -> tuple[str, Picture]:
        """This episode's path on the map, as text and as a picture."""
        return path_text(self, self.path), draw_path(self, self.path)

    def get_action_meanings(self) -> list[str]:
        """The names of the actions, in their order."""
        return list(ACTION_MEANINGS)

    def share_starts(self, index: int, count: int) -> None:
        """Be number `index` of `count` environments that go through all starts together, each start once."""
        self._first_start, self._start_stride = index, count

    def optimal_return(self, start: int | None = None) -> float:
        """The best expected undiscounted return from a state, by default from this episode's start.

        The time limit counts: backward induction over `max_steps` moves (Puterman 1994, section 4.5), finite
        for any rewards. Where the best policy ends well within it, `value_iteration` with discount 1 agrees.
        """
        return float(self._optimal_returns[self.start_state if start is None else start])

    @cached_property
    def _optimal_returns(self) -> npt.NDArray[np.float64]:
        values = np.zeros(self.num_states)
        for _ in range(self.max_steps):
            previous, values = values, _back_up(self.model, values, discount=1.0).max(axis=1)
            if np.array_equal(previous, values):
                break  # more time would change nothing
        return values

    def _draw_outcome(self) -> int:
        """Which of the model's three outcomes happens: 0 as intended, 1 and 2 a slip to either side."""
        if self.slip_probability == 0.0:
            return 0
        draw = self.np_random.random()
        if draw >= self.slip_probability:
            return 0
        return 1 if draw < self.slip_probability / 2 else 2

    def _find_starts(self, text: str) -> tuple[int, ...]:
        wanted = (START,) if self.start == "fixed" else (START, FREE)
        starts = tuple(np.flatnonzero(np.isin(self.grid, wanted)).tolist())
        if not starts:
            need = "a start S" if self.start == "fixed" else "a free cell"
            raise UserError("env.map", repr(text), f"env.start={self.start} needs {need} in the map")
        if not self._reaching_goal.intersection(starts):
            raise UserError("env.map", repr(text), "walls and holes keep the goal out of reach of every start")
        return starts

    @cached_property
    def _reaching_goal(self) -> set[int]:
        """The states from which some way leads to a goal."""
        reaching = self.grid.reshape(-1) == GOAL
        while True:
            grown = reaching | reaching[self.model.next_states[..., 0]].any(axis=1)
            if np.array_equal(grown, reaching):
                return set(np.flatnonzero(reaching).tolist())
            reaching = grown

    def _make_observation_space(self, text: str) -> spaces.Space[Any]:
        if self.observation == "index":
            return spaces.Discrete(self.num_states)
        if self.observation == "one_hot":
            return spaces.Box(0.0, 1.0, (self.num_states,), np.float32)
        if self.observation == "coordinates":
            return spaces.Box(-1.0, 1.0, (2,), np.float32)
        if max(self.rows, self.columns) > _IMAGE_SIZE:
            limit = f"env.observation=image shows at most {_IMAGE_SIZE} rows and columns"
            raise UserError("env.map", repr(text), limit)
        return spaces.Box(0, 255, (1, _IMAGE_SIZE, _IMAGE_SIZE), np.uint8)

    def _observe(self) -> Observation:
        cell = divmod(self.state, self.columns)
        observation: Observation
        if self.observation == "index":
            observation = np.int64(self.state)
        elif self.observation == "one_hot":
            observation = (np.arange(self.num_states) == self.state).astype(np.float32)
        elif self.observation == "coordinates":
            last = np.maximum(np.array(self.grid.shape) - 1, 1)  # maps of one row or column divide by 1
            observation = (2 * np.array(cell) / last - 1).astype(np.float32)
        else:
            greys = self._greys.copy()
            greys[cell] = _AGENT_GREY
            pixels = np.arange(_IMAGE_SIZE)
            rows, columns = pixels * self.rows // _IMAGE_SIZE, pixels * self.columns // _IMAGE_SIZE
            observation = greys[None, rows[:, None], columns]  # (1, 84, 84)
        return observation

    @cached_property
    def _greys(self) -> Picture:
        """The map without its agent, one grey per cell, (rows, columns)."""
        return np.array([[_GREYS[kind] for kind in row] for row in self.grid], dtype=np.uint8)


def _parse(text: str) -> npt.NDArray[np.str_]:
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


# --- pictures -----------------------------------------------------------------------------------------------


def path_text(env: GridWorld, states: Sequence[int]) -> str:
    """The map as plain text: an arrow in each cell that the path leaves, @ where it is cut off.

    Args:
        env: the grid world.
        states: the states of one episode in order, first to last.
    """
    characters = env.grid.copy()
    for state, next_state in pairwise(states):
        if state != next_state:
            characters[divmod(state, env.columns)] = _ARROWS[_move(env, state, next_state)]
    if states:
        end = divmod(states[-1], env.columns)
        if env.grid[end] not in (GOAL, HOLE):
            characters[end] = "@"
    return "\n".join("".join(row) for row in characters)


def draw_path(env: GridWorld, states: Sequence[int]) -> Picture:
    """The map as a picture, (height, width, 3) bytes: the path as a line of arrows, the agent at its end.

    Args:
        env: the grid world.
        states: the states of one episode in order, first to last.
    """
    canvas = _Canvas(env)
    canvas.draw_path(states)
    if states:
        canvas.draw_agent(states[-1])
    return canvas.picture()


def _move(env: GridWorld, state: int, next_state: int) -> tuple[int, int]:
    (row, column), (next_row, next_column) = divmod(state, env.columns), divmod(next_state, env.columns)
    return next_row - row, next_column - column


class _Canvas:
    """A picture of a grid world, drawn enlarged and averaged down at the end, for smooth edges."""

    BACKGROUND = (250, 250, 247)
    LINE = (222, 222, 216)
    FILLS: ClassVar = {WALL: (69, 78, 92), START: (208, 226, 246), GOAL: (190, 229, 190)}
    HOLE = (34, 38, 46)
    FLAG = (34, 139, 64)
    PATH = (52, 116, 196)
    AGENT, AGENT_RIM = (238, 120, 32), (150, 66, 8)
    ENLARGEMENT = 4

    def __init__(self, env: GridWorld) -> None:
        from PIL import Image, ImageDraw  # here, because only pictures need it

        # At most 960 pixels where the map allows; sides are multiples of 8, as video encoders like them.
        self.cell = min(64, max(8, 960 // max(env.rows, env.columns) // 8 * 8)) * self.ENLARGEMENT
        self.env = env
        self.image = Image.new("RGB", (env.columns * self.cell, env.rows * self.cell), self.BACKGROUND)
        self.pen = ImageDraw.Draw(self.image)
        for state in range(env.num_states):
            self._draw_cell(state)

    def draw_path(self, states: Sequence[int]) -> None:
        """A line through the cells' centres, with an arrowhead on each border that it crosses."""
        moves = [(state, next_state) for state, next_state in pairwise(states) if state != next_state]
        for state, next_state in moves:
            self.pen.line([self._at(state), self._at(next_state)], self.PATH, self.cell // 12)
            self.pen.ellipse(self._box(next_state, inset=0.5 - 1 / 24), self.PATH)  # rounds the corner
            down, right = _move(self.env, state, next_state)
            tip = self._at(state, 0.62 * down, 0.62 * right)
            wings = [self._at(state, 0.4 * down + side * right, 0.4 * right + side * down) for side in (-0.13, 0.13)]
            self.pen.polygon([tip, *wings], self.PATH)

    def draw_agent(self, state: int) -> None:
        """A disc in its cell."""
        self.pen.ellipse(self._box(state, inset=0.26), self.AGENT, self.AGENT_RIM, self.cell // 24)

    def picture(self) -> Picture:
        """(height, width, 3) bytes."""
        return np.asarray(self.image.reduce(self.ENLARGEMENT))

    def _draw_cell(self, state: int) -> None:
        kind = self.env.grid[divmod(state, self.env.columns)]
        line = self.FILLS[WALL] if kind == WALL else self.LINE
        self.pen.rectangle(self._box(state), self.FILLS.get(kind, self.BACKGROUND), line, self.cell // 40)
        if kind == HOLE:
            self.pen.ellipse(self._box(state, inset=0.16), self.HOLE)
        elif kind == START:
            self.pen.ellipse(self._box(state, inset=0.36), outline=self.PATH, width=self.cell // 20)
        elif kind == GOAL:
            pole = [self._at(state, -0.32, -0.18), self._at(state, 0.34, -0.18)]
            cloth = [
                self._at(state, -0.32, -0.18),
                self._at(state, -0.14, 0.26),
                self._at(state, 0.04, -0.18),
            ]
            self.pen.line(pole, self.FLAG, self.cell // 16)
            self.pen.polygon(cloth, self.FLAG)

    def _at(self, state: int, down: float = 0.0, right: float = 0.0) -> tuple[float, float]:
        """(x, y) of a cell's centre, moved down and right by so many cells."""
        row, column = divmod(state, self.env.columns)
        return (column + 0.5 + right) * self.cell, (row + 0.5 + down) * self.cell

    def _box(self, state: int, inset: float = 0.0) -> list[tuple[float, float]]:
        """A cell's top left and bottom right, both moved inwards by `inset` cells."""
        left, top = self._at(state, inset - 0.5, inset - 0.5)
        right, bottom = self._at(state, 0.5 - inset, 0.5 - inset)
        return [(left, top), (right - 1, bottom - 1)]


if GRID_WORLD_ID not in gymnasium.registry:
    gymnasium.register(id=GRID_WORLD_ID, entry_point=f"{__name__}:{GridWorld.__name__}")
