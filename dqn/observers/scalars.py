"""Events as named numbers over steps, the form in which W&B and TensorBoard draw them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import fmean
from typing import Any

from dqn.events import Episode, Evaluation, Event, Learning
from dqn.observers.pace import Pace

Record = tuple[int, dict[str, float]]

_SINGLE_EPISODES_PER_SECOND = 2.0


class ScalarRecords:
    """Turns events into records (step, {name: number}), sparing where episodes are short.

    A tracker takes about as long for a record as a small network for an update. So episodes wait for the next
    learning or evaluation event; if more than two a second have ended by then, one record with their mean,
    minimum and maximum stands for all of them. metrics.jsonl has each.

    Args:
        clock: seconds on a clock that never goes back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._pace = Pace(clock)
        self._episodes: list[Episode] = []
        self._drained_at_seconds = 0.0

    def records(self, event: Event) -> list[Record]:
        """The records that are due now, in the order of their steps."""
        if isinstance(event, Episode):
            self._episodes.append(event)
            return []
        records = self._drain_episodes()
        if isinstance(event, Learning):
            records.append((event.step, self._learning(event)))
        elif isinstance(event, Evaluation):
            records.append((event.step, _evaluation(event)))
        return records

    def state_dict(self) -> dict[str, Any]:
        """The pace, and the episodes that wait."""
        waiting = [
            [episode.step, episode.episode_return, episode.episode_length] for episode in self._episodes
        ]
        return {"episodes": waiting, **self._pace.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from a state of `state_dict`."""
        self._pace.load_state_dict(state)
        self._drained_at_seconds = self._pace.seconds
        self._episodes = [
            Episode(member=0, step=step, episode_return=episode_return, episode_length=length)
            for step, episode_return, length in state["episodes"]
        ]

    def _drain_episodes(self) -> list[Record]:
        episodes, self._episodes = self._episodes, []
        seconds = self._pace.seconds - self._drained_at_seconds
        self._drained_at_seconds = self._pace.seconds
        if len(episodes) <= max(1.0, _SINGLE_EPISODES_PER_SECOND * seconds):
            return [(episode.step, _episode(episode)) for episode in episodes]
        returns = [episode.episode_return for episode in episodes]
        summary = {
            "train/episode_return": fmean(returns),
            "train/episode_return_min": min(returns),
            "train/episode_return_max": max(returns),
            "train/episode_length": fmean(episode.episode_length for episode in episodes),
        }
        return [(episodes[-1].step, summary)]

    def _learning(self, event: Learning) -> dict[str, float]:
        numbers = {name: value for name, value in vars(event).items() if name not in ("member", "step")}
        numbers["steps_per_second"] = self._pace.steps_per_second(event.step)
        return _named("learning", numbers)


def _episode(event: Episode) -> dict[str, float]:
    return {"train/episode_return": event.episode_return, "train/episode_length": event.episode_length}


def _evaluation(event: Evaluation) -> dict[str, float]:
    numbers = {
        "mean_return": fmean(event.returns),
        "min_return": min(event.returns),
        "max_return": max(event.returns),
        "mean_length": fmean(event.lengths),
        "epsilon": event.epsilon,
        "optimal_fraction": fmean(event.optimal) if event.optimal is not None else None,
        "value_change": event.value_change,
        "is_best": float(event.is_best),
    }
    return _named("evaluation", numbers)


def _named(section: str, numbers: Mapping[str, float | None]) -> dict[str, float]:
    return {f"{section}/{name}": value for name, value in numbers.items() if value is not None}
