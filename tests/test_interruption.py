"""What signals do to something that can be interrupted."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import suppress

import pytest

from dqn.interruption import interruptible, terminable

INT, TERM, HUP = signal.SIGINT, signal.SIGTERM, signal.SIGHUP


class Loop:
    interrupted = False
    is_preparing = False


@pytest.fixture
def passed_on() -> Iterator[list[int]]:
    """The signals that were left to whoever handled them before."""
    numbers: list[int] = []
    before = {number: signal.signal(number, lambda number, _: numbers.append(number)) for number in (INT, TERM, HUP)}
    yield numbers
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("first", [INT, TERM, HUP])
def test_the_second_signal_is_as_usual_but_for_a_hangup(first, passed_on):
    loop = Loop()
    with interruptible(loop):
        signal.raise_signal(first)
        assert (loop.interrupted, passed_on) == (True, [])
        signal.raise_signal(HUP)
        assert passed_on == []
        signal.raise_signal(INT)
        signal.raise_signal(TERM)
        assert passed_on == [INT, TERM]
    signal.raise_signal(HUP)
    assert passed_on == [INT, TERM, HUP]


@pytest.mark.parametrize("second", [INT, TERM])
def test_the_second_signal_is_as_usual_in_what_is_terminable_too(second, passed_on):
    loop = Loop()
    with terminable(), interruptible(loop):
        signal.raise_signal(TERM)
        signal.raise_signal(second)
    assert (loop.interrupted, passed_on) == (True, [second])


@pytest.mark.parametrize("ignored", [INT, TERM, HUP])
def test_what_is_ignored_stays_so(ignored, passed_on):
    signal.signal(ignored, signal.SIG_IGN)
    loop = Loop()
    with terminable(), interruptible(loop):
        signal.raise_signal(ignored)
        assert not loop.interrupted
        assert signal.getsignal(ignored) is signal.SIG_IGN
    assert signal.getsignal(ignored) is signal.SIG_IGN


@pytest.mark.parametrize("number", [INT, TERM, HUP])
def test_an_interrupt_that_was_lost_is_remembered(number, passed_on):
    first, second, third = Loop(), Loop(), Loop()
    with terminable():
        with interruptible(first):
            assert not first.interrupted
        with suppress(KeyboardInterrupt):
            signal.raise_signal(number)
        with interruptible(second):
            assert second.interrupted
    with terminable(), interruptible(third):
        assert not third.interrupted


@pytest.mark.parametrize("number", [INT, TERM, HUP])
def test_what_is_terminable_ends_as_by_ctrl_c(number, passed_on):
    with terminable():
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
        signal.raise_signal(HUP)
    assert passed_on == []
    signal.raise_signal(number)
    assert passed_on == [number]


def test_a_signal_while_something_prepares_ends_that(passed_on):
    loop = Loop()
    loop.is_preparing = True
    with interruptible(loop), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(INT)
    assert loop.interrupted
