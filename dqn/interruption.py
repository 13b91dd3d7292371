"""Ctrl-C, SIGTERM and SIGHUP: the first lets the step call at hand finish, the second is the usual abrupt end."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Protocol


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


@contextmanager
def terminable() -> Iterator[None]:
    """While inside, SIGTERM raises KeyboardInterrupt, as SIGINT does."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def interruptible(loop: Interruptible) -> Iterator[None]:
    """While inside, the first SIGINT, SIGTERM or SIGHUP asks `loop` to stop."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers
        return
    signals = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in signals}

    def ask_to_stop(number: int, frame: FrameType | None) -> None:
        loop.interrupted = True
        for each in signals:
            signal.signal(each, before[each])
        if loop.is_preparing:
            raise KeyboardInterrupt

    for number in signals:
        signal.signal(number, ask_to_stop)
    try:
        yield
    finally:
        for number in signals:
            signal.signal(number, before[number])
