"""How runs that train together are getting on: one line for all, on stderr."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from statistics import fmean
from typing import Any, TextIO

from rich.status import Status
from rich.text import Text

from dqn.config import TrainerConfig
from dqn.events import End, Evaluation, Event
from dqn.observers.progress import duration
from dqn.terminal import make_console, one_line, unfailing

_REDRAW_SECONDS = 0.25
_LINE_SECONDS = 10.0


class StackProgress:
    """Shows the runs of a stack for as long as they train; implements `dqn.observers.base.Watcher`.

    On a terminal of its own one line is drawn over and over, elsewhere a line is printed every ten seconds.

    Args:
        title: of the stack.
        members: how many runs.
        settings: of the trainer, for the length.
        draws: whether the line may be drawn over and over, where there is a terminal.
        stream: where to; stderr if None.
        clock: seconds on a clock that never goes back.
    """

    def __init__(
        self,
        title: str,
        members: int,
        settings: TrainerConfig,
        draws: bool,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._title, self._members, self._settings, self._clock = title, members, settings, clock
        self._stream = unfailing(stream if stream is not None else sys.stderr)
        self._ends: Counter[str] = Counter()
        self._steps = dict.fromkeys(range(members), 0)
        self._first_steps: int | None = None
        self._scores: dict[int, float] = {}
        self._started = self._shown = clock()
        self._status: Status | None = None
        self._period_seconds = _LINE_SECONDS
        if draws and self._stream.isatty():
            self._period_seconds = _REDRAW_SECONDS
            self._status = Status(Text(title), console=make_console(file=self._stream), refresh_per_second=4)

    def __enter__(self) -> StackProgress:
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status is not None:
            self._status.stop()
        print(one_line(self.line()), file=self._stream, flush=True)

    def on_event(self, event: Event) -> None:
        """Takes an event of one of the members."""
        if self._first_steps is None:
            self._first_steps = event.step * self._members  # after a resume the others stand there too
            self._steps = dict.fromkeys(self._steps, event.step)
        self._steps[event.member] = event.step
        if isinstance(event, Evaluation):
            self._scores[event.member] = event.mean_return
        elif isinstance(event, End):
            self._ends[event.status] += 1
        if self._clock() - self._shown >= self._period_seconds:
            self._shown = self._clock()
            if self._status is not None:
                self._status.update(Text(self.line()))
            else:
                print(one_line(self.line()), file=self._stream, flush=True)

    def on_run_end(self, member: int, summary: Mapping[str, Any]) -> None:
        """Nothing: its End has been counted."""

    def line(self) -> str:
        """How all are getting on, in one line."""
        seconds = self._clock() - self._started
        made = sum(self._steps.values()) - (self._first_steps or 0)
        furthest = max(self._steps.values())
        running = self._members - sum(self._ends.values())
        total = self._settings.total_steps
        parts = [f"step {furthest:,}" + (f"/{total:,}" if total else "")]
        parts += [f"{running} running"] if running else []
        parts += [f"{count} {status}" for status, count in sorted(self._ends.items())]
        if total and running and furthest > (self._first_steps or 0) / self._members:
            done_here = furthest - (self._first_steps or 0) / self._members
            parts.append(f"{duration(seconds / done_here * (total - furthest))} left at most")
        if seconds > 0:
            parts.append(f"{made / seconds:,.0f} steps/s together")
        if self._scores:
            scores = self._scores.values()
            parts.append(f"last evaluations {fmean(scores):.1f} on average, {max(scores):.1f} at best")
        return f"{self._title}: {', '.join(parts)}"
