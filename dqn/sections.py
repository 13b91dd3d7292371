"""Where the time of a run goes, by named sections of the loop."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from dqn.compilation import Compiled

_TRACED_SECTIONS = 50_000  # the trace shows the run's last ones


class Sections:
    """Context managers by name, which do nothing; see `Stopwatch`."""

    _nothing: AbstractContextManager[None] = nullcontext()

    def __call__(self, name: str) -> AbstractContextManager[None]:
        """A context whose time counts for the section of that name."""
        return self._nothing


class Stopwatch(Sections):
    """Adds up the seconds of each section, and remembers when the last ones were.

    On a GPU a section takes as long as giving out its work does.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.calls: dict[str, int] = {}
        self._started = time.perf_counter()
        self._trace: deque[tuple[str, float, float]] = deque(maxlen=_TRACED_SECTIONS)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """See `Sections`; what compiling takes meanwhile counts for "compile"."""
        started, compiling = time.perf_counter(), Compiled.seconds
        yield
        seconds = time.perf_counter() - started
        self._trace.append((name, started - self._started, seconds))
        if Compiled.seconds > compiling:
            self._add("compile", Compiled.seconds - compiling)
            seconds -= Compiled.seconds - compiling
        self._add(name, seconds)

    def shares(self) -> dict[str, float]:
        """The seconds of each section since the start, largest first; "rest" is what lies between them."""
        rest = time.perf_counter() - self._started - sum(self.seconds.values())
        return dict(sorted({**self.seconds, "rest": rest}.items(), key=lambda item: -item[1]))

    def write_trace(self, path: Path) -> None:
        """Write the last sections in the trace event format, which https://ui.perfetto.dev opens."""
        events = [
            {"name": name, "ph": "X", "ts": 1e6 * start, "dur": 1e6 * seconds, "pid": 0, "tid": 0}
            for name, start, seconds in self._trace
        ]
        path.write_text(json.dumps({"traceEvents": events, "displayTimeUnit": "ms"}), encoding="utf-8")

    def _add(self, name: str, seconds: float) -> None:
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds
        self.calls[name] = self.calls.get(name, 0) + 1
