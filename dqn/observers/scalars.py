"""Events as named numbers over steps, the form in which W&B and TensorBoard draw them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import fmean
from typing import Any

from dqn.events import Episode, Evaluation, Event, Learning
from dqn.observers.pace import Pace

# (step, {name: number}); the returns of an evaluation, all of them, are the only list.
Record = tuple[int, dict[str, float | list[float]]]

_SINGLE_EPISODES_PER_SECOND = 2.0
_BURST_SECONDS = 1.0


class ScalarRecords:
    """Turns events into records for a tracker, to which a record may cost as much as an update to a small network.

    Two things keep that below one or two percent of the time. Records are due in bursts, about one a second: the
    first after a pause costs a tracker ten times what those right behind it do. And episodes wait for the next event
    of another kind; if more than two a second have ended by then, their mean, minimum and maximum go into that event's
    record. metrics.jsonl has each.

    Args:
        clock: seconds on a clock that never goes back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._pace = Pace(clock)
        self._episodes: list[Episode] = []
        self._waiting: list[Record] = []
        self._episodes_at_seconds = 0.0
        self._burst_at_seconds = 0.0

    def add(self, event: Event) -> None:
        """Takes the next event."""
        if isinstance(event, Episode):
            self._episodes.append(event)
            return
        numbers = self._take_episodes()
        if isinstance(event, Learning):
            numbers |= self._learning(event)
        elif isinstance(event, Evaluation):
            numbers |= _evaluation(event)
        if numbers:
            self._waiting.append((event.step, numbers))

    def due(self) -> list[Record]:
        """The records that wait, if the last burst is a second ago; else none."""
        is_due = self._pace.seconds - self._burst_at_seconds >= _BURST_SECONDS
        return self.rest() if is_due else []

    def rest(self) -> list[Record]:
        """The records that wait, in the order of their steps."""
        self._burst_at_seconds = self._pace.seconds
        records, self._waiting = self._waiting, []
        return records

    def state_dict(self) -> dict[str, Any]:
        """The pace, and the episodes that wait for an event; the records have been taken with `rest`."""
        episodes = [[event.step, event.episode_return, event.episode_length] for event in self._episodes]
        return {"episodes": episodes, **self._pace.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from a state of `state_dict`."""
        self._pace.load_state_dict(state)
        self._episodes_at_seconds = self._burst_at_seconds = self._pace.seconds
        self._episodes = [
            Episode(member=0, step=step, episode_return=episode_return, episode_length=length)
            for step, episode_return, length in state["episodes"]
        ]

    def _take_episodes(self) -> dict[str, float | list[float]]:
        """Adds a record for each episode, or returns what sums them up if they are many."""
        episodes, self._episodes = self._episodes, []
        seconds = self._pace.seconds - self._episodes_at_seconds
        self._episodes_at_seconds = self._pace.seconds
        if len(episodes) <= max(1.0, _SINGLE_EPISODES_PER_SECOND * seconds):
            self._waiting += [(episode.step, _episode(episode)) for episode in episodes]
            return {}
        returns = [episode.episode_return for episode in episodes]
        return {
            "train/episode_return": fmean(returns),
            "train/episode_return_min": min(returns),
            "train/episode_return_max": max(returns),
            "train/episode_length": fmean(episode.episode_length for episode in episodes),
        }

    def _learning(self, event: Learning) -> dict[str, float | list[float]]:
        numbers = {name: value for name, value in vars(event).items() if name not in ("member", "step")}
        numbers["steps_per_second"] = self._pace.steps_per_second(event.step)
        return _named("learning", numbers)


def _episode(event: Episode) -> dict[str, float | list[float]]:
    return {"train/episode_return": event.episode_return, "train/episode_length": event.episode_length}


def _evaluation(event: Evaluation) -> dict[str, float | list[float]]:
    numbers = {
        "returns": list(event.returns),
        "mean_return": event.mean_return,
        "min_return": min(event.returns),
        "max_return": max(event.returns),
        "mean_length": fmean(event.lengths),
        "epsilon": event.epsilon,
        "optimal_fraction": fmean(event.optimal) if event.optimal is not None else None,
        "value_change": event.value_change,
        "is_best": float(event.is_best),
    }
    return _named("evaluation", numbers)


def _named(section: str, numbers: Mapping[str, Any]) -> dict[str, float | list[float]]:
    return {f"{section}/{name}": value for name, value in numbers.items() if value is not None}
