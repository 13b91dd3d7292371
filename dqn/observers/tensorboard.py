"""TensorBoard: the run's curves in `folder`/tensorboard."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dqn.config import TensorboardConfig
from dqn.errors import UserError
from dqn.events import Event
from dqn.observers.event_file import EventFile
from dqn.observers.scalars import Record, ScalarRecords
from dqn.terminal import say


class TensorboardObserver:
    """Writes every number of every event over agent steps; `tensorboard --logdir runs` draws them.

    If they cannot be written during training, that is said once and training goes on.

    Args:
        config: the logger.tensorboard part of the configuration.
        folder: the run's folder.
        clock: seconds on a clock that never goes back.

    Raises:
        UserError: the package tensorboard is not installed.
    """

    def __init__(self, config: TensorboardConfig, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        try:
            import tensorboard  # noqa: F401
        except ImportError as error:
            expectation = "needs the package tensorboard; pip install -e '.[tensorboard]'"
            raise UserError("logger", "tensorboard", expectation) from error
        self._folder = folder / "tensorboard"
        self._flush_seconds = config.flush_seconds
        self._clock = clock
        self._flushed_at_seconds = clock()
        self._purge_step: int | None = None
        self._file: EventFile | None = None
        self._has_failed = False
        self._scalars = ScalarRecords(clock)
        self._last_step = 0

    def on_event(self, event: Event) -> None:
        """Writes the event's numbers at its step: to the file every `flush_seconds`, in order of the steps."""
        self._last_step = event.step
        self._scalars.add(event)
        self._write(self._scalars.due(), flush=self._clock() - self._flushed_at_seconds >= self._flush_seconds)

    def on_run_end(self, summary: Mapping[str, Any], folder: Path) -> None:
        """Nothing: curves are all that goes to TensorBoard."""

    def close(self) -> None:
        """Writes what is pending."""
        self._write(self._scalars.rest(), flush=True)

    def state_dict(self) -> dict[str, Any]:
        """The step of the newest event, and the episodes that wait for a record; the records are in the file."""
        self._write(self._scalars.rest(), flush=True)
        return {"step": self._last_step, **self._scalars.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on in a new event file, which tells TensorBoard to hide what came after `state_dict`."""
        self._purge_step = state["step"] + 1
        self._last_step = state["step"]
        self._scalars.load_state_dict(state)

    def _write(self, records: list[Record], flush: bool) -> None:
        if self._has_failed or (self._file is None and not records):
            return
        try:
            if self._file is None:
                self._file = EventFile(self._folder, self._purge_step)
            for step, numbers in records:
                for name, value in numbers.items():
                    if not isinstance(value, list):
                        self._file.add_scalar(name, value, step)
            if flush:
                self._flushed_at_seconds = self._clock()
                self._file.flush()
        except OSError as error:  # no failure of a tracker is worth a training
            self._has_failed = True
            say(f"TensorBoard: gave up ({error.strerror or error}); metrics.jsonl has everything")
