"""What the commands say on the terminal: on standard error, so that results can be piped."""

from __future__ import annotations

import sys


def say(line: str) -> None:
    """One line for the user; what would break or colour it is shown as an escape."""
    print(one_line(line), file=sys.stderr, flush=True)


def one_line(text: str) -> str:
    """A text with the characters that are not to be printed as they stand in source code."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
