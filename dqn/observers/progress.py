"""How training is getting on, on stderr: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any, TextIO

from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar as Bar
from rich.table import Table
from rich.text import Text

from dqn.events import End, Episode, Evaluation, Event, Learning
from dqn.terminal import make_console, one_line, unfailing

_REDRAW_SECONDS = 0.25  # a redraw takes 2 ms, which is then under 1 % of the time
_LINE_SECONDS = 10.0
_SPEED_WINDOW_SECONDS = 30.0
_LAST_EPISODES = 20


class Progress:
    """The newest numbers of a run, and its speed over the last half minute."""

    def __init__(self, total_steps: int | None, total_episodes: int | None, frames_per_step: int) -> None:
        self.total_steps, self.total_episodes = total_steps, total_episodes
        self.frames_per_step = frames_per_step
        self.step = 0
        self.episodes = 0
        self.returns: deque[float] = deque(maxlen=_LAST_EPISODES)
        self.learning: Learning | None = None
        self.evaluation: Evaluation | None = None
        self.end: End | None = None
        self._samples: deque[tuple[float, int, float]] = deque()  # (seconds, step, fraction)

    def update(self, event: Event) -> None:
        """Takes an event."""
        self.step = max(self.step, event.step)
        if isinstance(event, Episode):
            self.episodes += 1
            self.returns.append(event.episode_return)
        elif isinstance(event, Learning):
            self.learning = event
        elif isinstance(event, Evaluation):
            self.evaluation = event
        elif isinstance(event, End):
            self.end = event

    def sample(self, seconds: float) -> None:
        """Notes where the run is at a reading of the clock, for the speed."""
        self._samples.append((seconds, self.step, self.fraction))
        while len(self._samples) > 1 and seconds - self._samples[1][0] >= _SPEED_WINDOW_SECONDS:
            self._samples.popleft()

    @property
    def fraction(self) -> float:
        """How much of the training is done, by the length that will be reached first."""
        by_steps = self.step / self.total_steps if self.total_steps else 0.0
        by_episodes = self.episodes / self.total_episodes if self.total_episodes else 0.0
        return min(max(by_steps, by_episodes), 1.0)

    @property
    def steps_per_second(self) -> float | None:
        """Agent steps per second; None before there are two samples."""
        return self._per_second(1)

    @property
    def seconds_left(self) -> float | None:
        """At the speed of the last half minute; None while that is unknown."""
        fraction_per_second = self._per_second(2)
        return (1.0 - self.fraction) / fraction_per_second if fraction_per_second else None

    def numbers(self) -> list[tuple[str, str]]:
        """(label, value) of what there is to tell besides step and speed."""
        numbers = [("frames", f"{self.step * self.frames_per_step:,}")]
        if self.learning is not None:
            for name in ("epsilon", "temperature", "loss"):
                value = getattr(self.learning, name)
                if value is not None:
                    numbers.append((name, f"{value:.3g}"))
        if self.returns:
            numbers.append(("return", f"{fmean(self.returns):.1f} (last {len(self.returns)})"))
        if self.evaluation is not None:
            numbers.append(("evaluation", f"{self.evaluation.mean_return:.1f}"))
        return numbers

    def _per_second(self, index: int) -> float | None:
        if not self._samples:
            return None
        first, last = self._samples[0], self._samples[-1]
        seconds = last[0] - first[0]
        return (last[index] - first[index]) / seconds if seconds > 0 else None


class ProgressBar:
    """Shows a run's progress for as long as it trains.

    Events are cheap: a redraw comes four times a second at most, and only with an event, so that no thread
    competes with training.

    Args:
        total_steps, total_episodes: the training's length; with both, it ends at whichever comes first.
        frames_per_step: frames of the environment per agent step.
        title: the run's name.
        stream: where to; stderr if None.
        clock: seconds on a clock that never goes back.
    """

    def __init__(
        self,
        total_steps: int | None,
        total_episodes: int | None,
        frames_per_step: int,
        title: str,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._progress = Progress(total_steps, total_episodes, frames_per_step)
        self._title = title
        self._stream = unfailing(stream if stream is not None else sys.stderr)
        self._clock = clock
        self._live: Live | None = None
        # Not rich's own test, which environment variables such as FORCE_COLOR overrule.
        self._is_terminal = self._stream.isatty()
        self._period_seconds = _REDRAW_SECONDS if self._is_terminal else _LINE_SECONDS
        self._shown_at_seconds = clock()
        self._progress.sample(self._shown_at_seconds)

    def on_event(self, event: Event) -> None:
        """Takes an event; shows it if it is important or the last one was shown a while ago."""
        self._progress.update(event)
        important = isinstance(event, (Evaluation, End))
        if important or self._clock() - self._shown_at_seconds >= self._period_seconds:
            self._show(event)

    def on_run_end(self, summary: Mapping[str, Any], folder: Path) -> None:
        """Nothing: the result is a table of its own (`dqn.observers.result_table`)."""

    def close(self) -> None:
        """Gives the terminal back."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def state_dict(self) -> dict[str, Any]:
        """Step, and the episodes so far with the last returns."""
        progress = self._progress
        return {"step": progress.step, "episodes": progress.episodes, "returns": list(progress.returns)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from a state of `state_dict`; the speed is measured anew."""
        old = self._progress
        self._progress = Progress(old.total_steps, old.total_episodes, old.frames_per_step)
        self._progress.step, self._progress.episodes = state["step"], state["episodes"]
        self._progress.returns.extend(state["returns"])
        self._progress.sample(self._clock())

    def _show(self, event: Event) -> None:
        self._shown_at_seconds = self._clock()
        self._progress.sample(self._shown_at_seconds)
        if self._is_terminal:
            self._draw()
        else:
            print(one_line(_line(self._title, self._progress, event)), file=self._stream, flush=True)

    def _draw(self) -> None:
        picture = _picture(self._title, self._progress)
        if self._live is not None:
            self._live.update(picture, refresh=True)
            return
        # From here on, whatever is printed to the terminal comes above the bar instead of through it.
        redirect_stdout = sys.stdout.isatty()
        console = make_console(file=self._stream)
        self._live = Live(picture, console=console, auto_refresh=False, redirect_stdout=redirect_stdout)
        self._live.start(refresh=True)


def _picture(title: str, progress: Progress) -> Group:
    bar = Table.grid(expand=True, padding=(0, 1))
    bar.add_column(no_wrap=True)
    bar.add_column(ratio=1)
    bar.add_column(no_wrap=True, justify="right")
    text = f"{_position(progress)}  {_speed(progress)}  {_outlook(progress)}"
    bar.add_row(Text(title, style="bold"), Bar(total=1.0, completed=progress.fraction), text)
    # No-break spaces: a narrow terminal breaks between the numbers, not between a label and its number.
    details = Text()
    for label, value in progress.numbers():
        details.append(f"{label}\N{NO-BREAK SPACE}", style="dim")
        details.append(value.replace(" ", "\N{NO-BREAK SPACE}") + "  ")
    return Group(bar, details)


def _line(title: str, progress: Progress, event: Event) -> str:
    if isinstance(event, Evaluation):
        best = ", the best so far" if event.is_best else ""
        what = f"mean return {event.mean_return:.1f} over {len(event.returns)} episodes"
        return f"{title}: evaluation at step {event.step:,}: {what}{best}"
    if isinstance(event, End):
        return f"{title}: {event.status} at step {event.step:,}" + (f": {event.reason}" if event.reason else "")
    numbers = ", ".join(f"{label} {value}" for label, value in progress.numbers())
    return f"{title}: {_position(progress)}, {_speed(progress)}, {_outlook(progress)}, {numbers}"


def _position(progress: Progress) -> str:
    if progress.total_steps is None:
        return f"episode {progress.episodes:,}/{progress.total_episodes:,}  step {progress.step:,}"
    return f"step {progress.step:,}/{progress.total_steps:,}"


def _speed(progress: Progress) -> str:
    speed = progress.steps_per_second
    return "- steps/s" if speed is None else f"{speed:,.0f} steps/s"


def _outlook(progress: Progress) -> str:
    if progress.end is not None:
        return progress.end.status
    left = progress.seconds_left
    return "-:-- left" if left is None else f"{duration(left)} left"


def duration(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss."""
    minutes, whole_seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{whole_seconds:02}" if hours else f"{minutes}:{whole_seconds:02}"
