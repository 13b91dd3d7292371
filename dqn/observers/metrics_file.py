"""metrics.jsonl: everything that happened, one JSON object per line; always written."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dqn.errors import TrainingError
from dqn.events import End, Evaluation, Event, Learning, Pause
from dqn.files import strict
from dqn.observers.pace import Pace

_MOST_PENDING_LINES = 1000
_encode = json.JSONEncoder(allow_nan=False).encode


class MetricsFile:
    """Writes a run's events to `folder`/metrics.jsonl, which any tool can read line by line.

    Each line has kind, step (agent steps), frames, seconds (of training; a resumed run counts on) and the
    event's own fields; learning lines have steps_per_second too, evaluation lines mean_return. A number that
    is not finite becomes null, so that the file is strict JSON.

    Args:
        folder: the run's folder, which exists.
        frames_per_step: frames of the environment per agent step.
        clock: seconds on a clock that never goes back; it counts from the construction on.

    Raises:
        OSError: the file cannot be written (a full disk) or is no longer in its place, in any method.
    """

    def __init__(self, folder: Path, frames_per_step: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = folder / "metrics.jsonl"
        self._frames_per_step = frames_per_step
        self._pace = Pace(clock)
        self._pending: list[str] = []
        # Unbuffered: lines wait in _pending, so that what is in the file always ends with a whole line.
        self._file = self.path.open("ab", buffering=0)

    @property
    def seconds(self) -> float:
        """Seconds of training so far, those before a resume included."""
        return self._pace.seconds

    def on_event(self, event: Event) -> None:
        """Adds the event's line; those of learning, an evaluation and the end reach the file at once."""
        if isinstance(event, Pause):
            return
        self._pending.append(_encode(self._record(event)) + "\n")
        if isinstance(event, (Learning, Evaluation, End)) or len(self._pending) >= _MOST_PENDING_LINES:
            self._flush()

    def on_run_end(self, summary: Mapping[str, Any], folder: Path) -> None:
        """Nothing: summary.json has it all."""

    def close(self) -> None:
        """Writes what is pending and closes the file."""
        try:
            self._flush()
        finally:
            self._file.close()

    def state_dict(self) -> dict[str, Any]:
        """The file's length in bytes, all of them safe on the disk, and the seconds of training."""
        self._flush()
        self._check_is_there()
        os.fsync(self._file.fileno())
        return {"bytes": self._size, **self._pace.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Drops the lines that were written after `state_dict`: the resumed run writes them again.

        Raises:
            TrainingError: the file is shorter than it was.
        """
        if self._size < state["bytes"]:
            raise TrainingError(
                f"cannot resume: {self.path} has {self._size} bytes, its checkpoint knows {state['bytes']}"
            )
        self._file.truncate(state["bytes"])
        self._pace.load_state_dict(state)

    def _check_is_there(self) -> None:
        """A file that was removed would still take lines, and the next checkpoint would make half a folder anew."""
        self.path.stat()

    @property
    def _size(self) -> int:
        return os.fstat(self._file.fileno()).st_size

    def _record(self, event: Event) -> dict[str, Any]:
        record = record_of(event, self._frames_per_step)
        head = {name: record[name] for name in ("kind", "step", "frames")}
        head["seconds"] = round(self._pace.seconds, 3)
        if isinstance(event, Learning):
            head["steps_per_second"] = strict(self._pace.steps_per_second(event.step))
        return {**head, **record}

    def _flush(self) -> None:
        # Emptied first: after a failed write, close() must not fail once more on the same lines.
        data, self._pending = memoryview("".join(self._pending).encode()), []
        if data:
            self._check_is_there()
        while data:
            data = data[self._file.write(data) :]


OF_THE_CLOCK = ("seconds", "steps_per_second")  # what another run of the same config has otherwise


def record_of(event: Event, frames_per_step: int) -> dict[str, Any]:
    """What is written of an event, but for the time."""
    record = {"kind": event.kind, "step": event.step, "frames": event.step * frames_per_step}
    if isinstance(event, Evaluation):
        record["mean_return"] = strict(event.mean_return)
    return {**record, **{name: strict(value) for name, value in vars(event).items() if name != "member"}}
