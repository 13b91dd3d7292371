"""Ctrl-C, SIGTERM and SIGHUP: the first lets the step call at hand finish, the second is the usual abrupt end.

Only a second SIGHUP does nothing: a terminal that is closed sends one, and so does the shell in it. What a process was
started to ignore, as by nohup, it goes on ignoring.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol


class Interruptible(Protocol):
    """Something that looks at `interrupted` often and stops by itself.

    While it `is_preparing` it cannot look, and a KeyboardInterrupt does no harm.
    """

    interrupted: bool

    @property
    def is_preparing(self) -> bool:
        """Whether the first signal, too, is to raise KeyboardInterrupt."""


class PlayInterruptedError(Exception):
    """Episodes that were being played to measure or film a policy were broken off."""


Handlers = dict[int, Any]

_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
_HANGUP = getattr(signal, "SIGHUP", None)


class _Asked:
    """Whether a signal has come, and how signals were handled before."""

    to_stop = False
    before: Handlers


_asked: list[_Asked] = []  # by each `terminable` that is entered, the outermost first


@contextmanager
def terminable() -> Iterator[None]:
    """While inside, SIGTERM and SIGHUP raise KeyboardInterrupt, as SIGINT does.

    Where that is lost, as in what Python calls as it frees an object, the next `interruptible` inside stops at once.
    """
    asked = _Asked()

    def end(before: Handlers) -> None:
        asked.to_stop = True
        _let_the_next_be_abrupt(before)
        raise KeyboardInterrupt

    with _handled(end) as asked.before:
        _asked.append(asked)
        try:
            yield
        finally:
            _asked.remove(asked)


@contextmanager
def interruptible(loop: Interruptible) -> Iterator[None]:
    """While inside, the first SIGINT, SIGTERM or SIGHUP asks `loop` to stop."""

    def ask_to_stop(before: Handlers) -> None:
        loop.interrupted = True
        _let_the_next_be_abrupt(before)
        if loop.is_preparing:
            raise KeyboardInterrupt

    with _handled(ask_to_stop):
        if any(asked.to_stop for asked in _asked):
            loop.interrupted = True
        yield


@contextmanager
def _handled(handler: Callable[[Handlers], None]) -> Iterator[Handlers]:
    """While inside, the signals that nobody said are to be ignored are handled so.

    Args:
        handler: is given what is yielded.

    Yields:
        How they were handled before, and will be again.
    """
    if threading.current_thread() is not threading.main_thread():
        yield {}  # only the main thread may set handlers
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    before = {number: of_it for number, of_it in before.items() if of_it not in (signal.SIG_IGN, None)}
    try:
        for number in before:
            signal.signal(number, lambda number, frame: handler(before))
        yield before
    finally:
        _restore(before)


def _restore(before: Handlers) -> None:
    for number, handler in before.items():
        signal.signal(number, handler)


def _let_the_next_be_abrupt(before: Handlers) -> None:
    """As if nobody had ever handled any, but for SIGHUP."""
    _restore(before)
    for asked in reversed(_asked):
        _restore(asked.before)
    if _HANGUP in before:
        signal.signal(_HANGUP, signal.SIG_IGN)
