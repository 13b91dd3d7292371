"""What the commands say on the terminal: on standard error, so that results can be piped; tables on standard output.

Text comes from configs, paths and other people's files: it is shown as it is, and cannot command the terminal.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

_SHOWN = "\n\N{NO-BREAK SPACE}"


def printable(text: str) -> str:
    r"""The text with what a terminal does not show, but may obey, written as in Python: \x1b for Escape."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one in _SHOWN else ascii(one)[1:-1] for one in text)


def one_line(text: str) -> str:
    """The text as `printable` has it, with line breaks written likewise."""
    return printable(text).replace("\n", "\\n")


def say(line: str) -> None:
    """One line for the user."""
    print(one_line(line), file=sys.stderr, flush=True)


def make_console(**options: Any) -> Console:
    """A console of rich's that takes no text for its markup and prints all of it as `printable` has it."""
    from rich.console import Console, RenderableType
    from rich.segment import Segment
    from rich.text import Text

    class PlainText(Console):
        def render_str(self, text: str, **options: Any) -> Text:
            return super().render_str(printable(text), **options)  # before a table measures it

        def render(self, renderable: RenderableType, *rest: Any, **named: Any) -> Iterable[Segment]:
            for segment in super().render(renderable, *rest, **named):
                yield segment if segment.control else Segment(printable(segment.text), segment.style)

    return PlainText(markup=False, emoji=False, **options)
