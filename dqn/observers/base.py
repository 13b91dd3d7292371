"""What the training loop's events are handed to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from dqn.events import Event


class Observer(Protocol):
    """Writes, draws or uploads what happens to one run; each run has a set of its own.

    Observers are told of everything and change nothing: what a run learns is the same with any of them.
    """

    def on_event(self, event: Event) -> None:
        """Takes one event of this run; called in the order of the steps, and often, so it has to be cheap."""

    def on_run_end(self, summary: Mapping[str, Any], folder: Path) -> None:
        """Takes the content of summary.json, after the export and the final evaluation."""

    def close(self) -> None:
        """Ends the observer: always called, after an error too."""

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run must know, as JSON values."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from where `state_dict` was called; before the first event."""


class Watcher(Protocol):
    """Shows how a population is getting on; knows its runs by the numbers of the members."""

    def on_event(self, event: Event) -> None:
        """Takes an event of one of the members."""

    def on_run_end(self, member: int, summary: Mapping[str, Any]) -> None:
        """Takes the content of a member's summary.json."""
