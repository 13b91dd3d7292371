"""TensorBoard: the run's curves in `folder`/tensorboard."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dqn.config import TensorboardConfig
from dqn.errors import UserError
from dqn.events import Event
from dqn.observers.scalars import Record, ScalarRecords


class TensorboardObserver:
    """Writes every number of every event over agent steps; `tensorboard --logdir runs` draws them.

    Args:
        config: the logger.tensorboard part of the configuration.
        folder: the run's folder.
        clock: seconds on a clock that never goes back.

    Raises:
        UserError: the package tensorboard is not installed.
    """

    def __init__(self, config: TensorboardConfig, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            expectation = "needs the package tensorboard; pip install -e '.[tensorboard]'"
            raise UserError("logger", "tensorboard", expectation) from error
        self._new_writer: Callable[..., Any] = SummaryWriter
        self._options = {"log_dir": str(folder / "tensorboard"), "flush_secs": config.flush_seconds}
        self._writer: Any = None
        self._scalars = ScalarRecords(clock)
        self._last_step = 0

    def on_event(self, event: Event) -> None:
        """Writes the event's numbers at its step, within about a second."""
        if self._writer is None:
            self._writer = self._new_writer(**self._options)
        self._last_step = event.step
        self._scalars.add(event)
        self._write(self._scalars.due())

    def on_run_end(self, summary: Mapping[str, Any], folder: Path) -> None:
        """Nothing: curves are all that goes to TensorBoard."""

    def close(self) -> None:
        """Writes what is pending and closes the event file."""
        if self._writer is not None:
            self._write(self._scalars.rest())
            self._writer.close()

    def state_dict(self) -> dict[str, Any]:
        """The step of the newest event, and the episodes that wait for a record."""
        self._write(self._scalars.rest())
        return {"step": self._last_step, **self._scalars.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on in a new event file, which tells TensorBoard to hide what came after `state_dict`."""
        self._options["purge_step"] = state["step"] + 1
        self._last_step = state["step"]
        self._scalars.load_state_dict(state)

    def _write(self, records: list[Record]) -> None:
        for step, numbers in records:
            for name, value in numbers.items():
                if not isinstance(value, list):
                    self._writer.add_scalar(name, value, step)
