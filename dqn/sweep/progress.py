"""How a sweep of several groups is getting on."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence

from dqn.observers.progress import duration


class SweepProgress:
    """Counts the jobs that are over, and how long the others may take.

    Args:
        jobs: of the whole sweep.
        over: how those ended that were over before it went on.
        clock: seconds on a clock that never goes back.
    """

    def __init__(self, jobs: int, over: Sequence[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._jobs, self._clock, self._started = jobs, clock, clock()
        self._statuses = Counter(over)
        self._over_before = len(over)

    def add(self, statuses: Sequence[str]) -> None:
        """Some more are over."""
        self._statuses.update(statuses)

    def line(self) -> str:
        """How the sweep is getting on, in one line."""
        over = self._statuses.total()
        parts = [f"{over} of {self._jobs} jobs over"]
        parts += [f"{count} {status}" for status, count in sorted(self._statuses.items())]
        if over < self._jobs:
            parts.append(f"{self._jobs - over} running or to come")
            seconds_each = (self._clock() - self._started) / (over - self._over_before)
            # Where several groups train at a time, the next are nearer to their end than this supposes.
            parts.append(f"{duration(seconds_each * (self._jobs - over))} left at most")
        return f"sweep: {', '.join(parts)}"
