"""The wall-clock of training and its speed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any


class Pace:
    """Seconds of training, and agent steps per second from one reading to the next.

    Both go on after a resume as if the pause had not been.

    Args:
        clock: seconds on a clock that never goes back. It starts to count here.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._origin = clock()
        self._last_step = 0
        self._last_seconds = 0.0

    @property
    def seconds(self) -> float:
        """Seconds of training so far, those before a resume included."""
        return self._clock() - self._origin

    def steps_per_second(self, step: int) -> float | None:
        """The mean speed since the last call (or the start); None if no time has passed."""
        steps, seconds = step - self._last_step, self.seconds - self._last_seconds
        self._last_step, self._last_seconds = step, self.seconds
        return steps / seconds if seconds > 0 else None

    def state_dict(self) -> dict[str, Any]:
        """Seconds so far, and where the last reading was."""
        return {"seconds": self.seconds, "last_step": self._last_step, "last_seconds": self._last_seconds}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from a state of `state_dict`."""
        self._origin = self._clock() - state["seconds"]
        self._last_step, self._last_seconds = state["last_step"], state["last_seconds"]
