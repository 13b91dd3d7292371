"""What the commands say on the terminal: on standard error, so that results can be piped; tables on standard output.

Text comes from configs, paths and other people's files: it is shown as it is, and cannot command the terminal.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TextIO, cast

if TYPE_CHECKING:
    from rich.console import Console

_SHOWN = "\n\N{NO-BREAK SPACE}"
_GONE = (errno.EPIPE, errno.EIO)  # of a pipe that nobody reads any more, of a terminal that was closed


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
    print(one_line(line), file=unfailing(sys.stderr), flush=True)


def unfailing(stream: TextIO | None) -> TextIO:
    """The stream, into which one writes in vain once it cannot be written: no training ends for want of a reader.

    None is one that was closed before the process began.
    """
    return cast("TextIO", _Unfailing(io.StringIO() if stream is None else stream))


class _Unfailing:
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with self._in_vain():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._in_vain():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @contextmanager
    def _in_vain(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in _GONE:
                self._write_nowhere()
        except ValueError:  # it was closed since
            pass

    def _write_nowhere(self) -> None:
        """From now on; else what is left in the buffer would fail once more as the process ends, and be its status."""
        with suppress(OSError):  # it is no file of the system's
            nowhere = os.open(os.devnull, os.O_WRONLY)
            try:
                os.dup2(nowhere, self._stream.fileno())
            finally:
                os.close(nowhere)


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
