"""Where the time of a run goes, by named sections of the loop."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext


class Sections:
    """Context managers by name; does nothing unless it is a `Stopwatch`."""

    _nothing: AbstractContextManager[None] = nullcontext()

    def __call__(self, name: str) -> AbstractContextManager[None]:
        """A context whose time counts for the section of that name."""
        return self._nothing


class Stopwatch(Sections):
    """Adds up the seconds of each section; on a GPU it waits for the work that the section gave out."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """See `Sections`."""
        started = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started
