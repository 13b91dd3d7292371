"""A grid world drawn as text, registered with Gymnasium as `dqn/GridWorld-v0` when this module is imported.

    S..#     S start     G goal, ends the episode
    .#.H     # wall      H hole, ends the episode
    ...G     . free

The very table through which the environment steps (`TransitionModel`) gives `value_iteration` the optimum.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, Literal

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.utils import colorize

from dqn.envs.gridworld_model import (
    ACTION_MEANINGS,
    FREE,
    GOAL,
    HOLE,
    MOVES,
    START,
    WALL,
    back_up,
    parse_map,
    transition_model,
)
from dqn.envs.gridworld_pictures import Picture, draw_path, path_text
from dqn.errors import UserError

GRID_WORLD_ID = "dqn/GridWorld-v0"

_IMAGE_SIZE = 84  # pixels: what the convolutional networks take
_GREYS = {WALL: 0, HOLE: 60, FREE: 120, START: 120, GOAL: 190}
_AGENT_GREY = 255

Observation = npt.NDArray[Any] | np.int64


class GridWorld(gymnasium.Env[Observation, np.int64]):
    """One agent, four moves (0 up, 1 right, 2 down, 3 left); into a wall or off the map it stays in place.

    Args:
        map: rows of equal length, of the characters S G # H and the full stop.
        step_reward: for every move that does not end the episode.
        goal_reward: for the move onto a goal, in place of the step's.
        hole_reward: for the move into a hole, likewise.
        slip_probability: that a move goes sideways instead, half of it to either side.
        start: "fixed" begins at S; "random" at any free cell (S is one), uniformly; "every" at the free cells
            in turn, in reading order; a seeded reset begins with the first again, or as `share_starts` says.
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
        self.grid = parse_map(map)
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
        self.action_space = spaces.Discrete(len(MOVES))
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
        return self.observation_of(self.state), {}

    def step(self, action: np.int64 | int) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Make one move; the reward is the map's, see the class."""
        outcome = self.state, int(action), self._draw_outcome()
        self.state = int(self.model.next_states[outcome])
        self.path.append(self.state)
        self._steps += 1
        terminated = bool(self.model.terminated[outcome])
        truncated = self._steps >= self.max_steps and not terminated
        return self.observation_of(self.state), float(self.model.rewards[outcome]), terminated, truncated, {}

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

    def observation_of(self, state: int) -> Observation:
        """What is observed in a state, as `observation` says."""
        cell = divmod(state, self.columns)
        observation: Observation
        if self.observation == "index":
            observation = np.int64(state)
        elif self.observation == "one_hot":
            observation = (np.arange(self.num_states) == state).astype(np.float32)
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

    def share_starts(self, index: int, count: int, episodes: int = 0) -> None:
        """Be number `index` of `count` environments that go through all starts together, each start once.

        The next seeded reset begins where it is the turn of this one after so many episodes.
        """
        self._first_start, self._start_stride = index + episodes * count, count

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
            previous, values = values, back_up(self.model, values, discount=1.0).max(axis=1)
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

    @cached_property
    def _greys(self) -> Picture:
        """The map without its agent, one grey per cell, (rows, columns)."""
        return np.array([[_GREYS[kind] for kind in row] for row in self.grid], dtype=np.uint8)


if GRID_WORLD_ID not in gymnasium.registry:
    gymnasium.register(id=GRID_WORLD_ID, entry_point=f"{__name__}:{GridWorld.__name__}")
