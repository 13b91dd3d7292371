"""What the commands say on the terminal: on standard error, so that results can be piped."""

from __future__ import annotations

import sys


def say(line: str) -> None:
    """One line for the user."""
    print(line, file=sys.stderr, flush=True)
