"""Errors that are the user's to mend: each is one clear line on the terminal, never a traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Bad input: the key that is at fault, what was given, and what would be right. Exits with status 2."""

    def __init__(self, key: str, value: object, expectation: str) -> None:
        given = f"{shortened(key)}={'null' if value is None else shortened(str(value))}: "
        super().__init__(f"{given if key else ''}{expectation}")
        self.key, self.value, self.expectation = key, value, expectation


class TrainingError(Exception):
    """A run that had to stop (a NaN loss, a full disk): step and cause in one line. Exits with status 1."""


class EnvironmentRaisedError(TrainingError):
    """An environment that somebody else has written raised an exception, which is this one's cause."""


def first_line(error: BaseException) -> str:
    """What an error says, short enough for one line on the terminal."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def shortened(text: str, longest: int = 200) -> str:
    """A text for a message, without the end of what is too long to read."""
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def nearest(name: str, valid: Iterable[str]) -> str:
    """A hint that ends an error message: the valid name closest to `name`, or all of them if none is close."""
    names = sorted(valid)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]}?"
    return f"choose one of {', '.join(names)}" if len(names) <= 12 else f"{len(names)} are valid, e.g. {names[0]}"
