"""A file of events, as TensorBoard reads it."""

from __future__ import annotations

import io
import itertools
import os
import socket
import time
from pathlib import Path
from typing import Any

_numbers = itertools.count()  # files that one process begins within a second have names of their own


class EventFile:
    """Scalars over steps; they wait in memory for `flush`.

    The package's own writer has a thread for that, which meets a full disk with a traceback on the terminal.

    Args:
        folder: where the file is to be; made if absent, but not its parents.
        purge_step: what earlier files of the folder have from this step on is hidden.

    Raises:
        ImportError: the package tensorboard is not installed.
        OSError: the file cannot be written, or is no longer there; `flush` too.
    """

    def __init__(self, folder: Path, purge_step: int | None = None) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._new_event, self._new_summary = Event, Summary
        self._pending = io.BytesIO()
        self._writer = RecordWriter(self._pending)
        folder.mkdir(exist_ok=True)
        place = f"{int(time.time()):010}.{socket.gethostname()}.{os.getpid()}.{next(_numbers)}"
        self._path = folder / f"events.out.tfevents.{place}"
        self._path.touch(exist_ok=False)
        self._add(file_version="brain.Event:2")
        if purge_step is not None:
            self._add(step=purge_step, session_log=SessionLog(status=SessionLog.START))
        self.flush()

    def add_scalar(self, name: str, value: float, step: int) -> None:
        """Add a point of the curve `name`."""
        self._add(step=step, summary=self._new_summary(value=[{"tag": name, "simple_value": value}]))

    def flush(self) -> None:
        """Write what waits."""
        with self._path.open("r+b") as file:  # made anew it would lack its head
            file.seek(0, os.SEEK_END)
            file.write(self._pending.getvalue())
        self._pending.seek(0)
        self._pending.truncate()

    def _add(self, **fields: Any) -> None:
        self._writer.write(self._new_event(wall_time=time.time(), **fields).SerializeToString())
