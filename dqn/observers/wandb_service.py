"""The process behind the package wandb, which can die or hang: nothing waits for it without end."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import suppress
from typing import TypeVar

Result = TypeVar("Result")

_LAST_SECONDS = 5.0  # for a process that has failed to come to its end


class WandbHangsError(Exception):
    """The process behind the package has not answered in time."""


class WandbService:
    """Speaks to that process, of which there is one for all runs of ours, and ends it at exit.

    Args:
        patience_seconds: how long to wait for an answer. A process that is well takes milliseconds, on a crowded
            machine seconds.
    """

    def __init__(self, patience_seconds: float = 30.0) -> None:
        self._patience_seconds = patience_seconds
        self._hang: WandbHangsError | None = None
        self._failures: set[str] = set()

    def ask(self, work: Callable[[], Result], network_seconds: float = 0.0) -> Result:
        """The result of `work()`, which calls the package wherever that may wait for its process.

        Args:
            work: is done by a thread of its own. If it takes too long, nobody waits for that thread.
            network_seconds: how long the process itself may wait for the server meanwhile.

        Raises:
            WandbHangsError: it was not done in time, or something before it was not.
        """
        if self._hang is not None:  # one run has waited; not every member of a population must
            raise self._hang
        return self._within(self._patience_seconds + network_seconds, work)

    def has_failed(self, why: str) -> bool:
        """Take note of a failure; returns whether it is the first: a process that dies is told of in several ways."""
        is_first = not self._failures
        self._failures.add(why)
        return is_first

    def replace_if_failed(self) -> None:
        """End a process that has failed, so that the next run begins with another."""
        if not self._is_well:
            self._end()

    def end_at_exit(self) -> None:
        """End the process before the package's own hook does: that one waits for ever and prints what it raises."""
        atexit.unregister(self._exit)
        atexit.register(self._exit)  # after the package's, so called before it

    @property
    def _is_well(self) -> bool:
        return self._hang is None and not self._failures

    def _end(self) -> None:
        import wandb

        seconds = self._patience_seconds if self._is_well else _LAST_SECONDS
        with suppress(Exception, SystemExit):  # the package passes on with SystemExit that its process ended badly
            self._within(seconds, wandb.teardown)
        self._hang, self._failures = None, set()

    def _exit(self) -> None:
        with suppress(KeyboardInterrupt):
            self._end()

    def _within(self, seconds: float, work: Callable[[], Result]) -> Result:
        future: Future[Result] = Future()

        def do() -> None:
            try:
                future.set_result(work())
            except BaseException as error:
                future.set_exception(error)

        threading.Thread(target=do, name="W&B", daemon=True).start()
        try:
            wait([future], timeout=seconds)
        except KeyboardInterrupt:  # who will not wait now will not wait at the exit either
            self._hang = WandbHangsError("stopped by a signal before its process had answered")
            raise
        if not future.done():
            self._hang = WandbHangsError(f"no answer from its process in {seconds:g} s")
            raise self._hang
        return future.result()
