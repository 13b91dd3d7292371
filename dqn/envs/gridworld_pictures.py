"""The grid world drawn: a path on its map, as text and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt

from dqn.envs.gridworld_model import GOAL, HOLE, MOVES, START, WALL

if TYPE_CHECKING:
    from dqn.envs.gridworld import GridWorld

Picture = npt.NDArray[np.uint8]
_ARROWS = dict(zip(MOVES, "↑→↓←", strict=True))


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
