"""Text from anywhere is shown, and does nothing."""

from __future__ import annotations

import errno
import io
import os
import sys

import pytest
from rich.table import Table
from rich.text import Text

from dqn.errors import UserError
from dqn.terminal import make_console, one_line, printable, say, unfailing


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, with ümlauts and 日本", "plain, with ümlauts and 日本"),
        ("two\nlines", "two\nlines"),
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("back\rover\x08", r"back\rover\x08"),
        ("\x9b31m", r"\x9b31m"),  # the same as Escape and a bracket
        ("right to left: \u202eabc", r"right to left: \u202eabc"),
        ("half a character: \ud800", r"half a character: \ud800"),
        ("\N{NO-BREAK SPACE}", "\N{NO-BREAK SPACE}"),
    ],
)
def test_what_is_not_shown_is_written_out(text, shown):
    assert printable(text) == shown
    assert one_line(text) == shown.replace("\n", r"\n")


def test_a_message_is_one_line(capsys):
    say("error: a=b\n\x1b[2Jerror: all is well")
    assert capsys.readouterr().err == "error: a=b\\n\\x1b[2Jerror: all is well\n"


@pytest.mark.parametrize("color_system", [None, "truecolor"])
def test_tables_take_no_orders_from_their_text(color_system):
    out = io.StringIO()
    console = make_console(file=out, width=80, force_terminal=color_system is not None, color_system=color_system)
    nasty = "[red]a[/red] [/b] [link=x]y[/link] :smile: \x1b[2J"
    table = Table.grid()
    table.add_row(nasty, Text("styled \x1b[2J", style="bold"))
    console.print(table)
    console.print(nasty, highlight=False)
    shown = out.getvalue()
    assert shown.count(r"[red]a[/red] [/b] [link=x]y[/link] :smile: \x1b[2J") == 2
    assert "styled" in shown
    assert "\x1b[2J" not in shown
    assert ("\x1b[1m" in shown) == (color_system is not None)  # rich's own


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a b é 😀", "a b é 😀"),
        ("a\nb\r\tc", r"a\nb\r\tc"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("\u2028\u202e\udcff", r"\u2028\u202e\udcff"),
    ],
)
def test_what_is_said_is_one_line(text, shown, capsys):
    say(text)
    assert capsys.readouterr().err == f"{shown}\n"


def no_reader() -> int:
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def closed_terminal() -> int:
    master, slave = os.openpty()
    os.close(master)
    return slave


@pytest.mark.parametrize(("opened", "number"), [(no_reader, errno.EPIPE), (closed_terminal, errno.EIO)])
def test_what_nobody_can_read_is_said_in_vain(opened, number, monkeypatch):
    with os.fdopen(opened(), "w") as stream:
        with pytest.raises(OSError, match=os.strerror(number)):
            os.write(stream.fileno(), b"text")
        monkeypatch.setattr(sys, "stderr", stream)
        say("error: all is well")
        console = make_console(file=unfailing(stream))
        console.print("text")
        os.write(stream.fileno(), b"text")  # which goes nowhere, as what is left in the buffer does at the end


def test_what_cannot_be_written_for_a_while_is_only_missed():
    class Full(io.StringIO):
        def flush(self) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    stream = Full()
    print("text", file=unfailing(stream), flush=True)
    assert stream.getvalue() == "text\n"


def test_streams_that_are_closed_are_written_to_in_vain():
    closed = io.StringIO()
    closed.close()
    for stream in (None, closed):
        print("text", file=unfailing(stream), flush=True)
    make_console(file=unfailing(None)).print("text")


def test_long_keys_and_values_are_cut():
    message = str(UserError("k" * 1000, "v" * 1000, "is wrong"))
    assert message == f"{'k' * 197}...={'v' * 197}...: is wrong"
    assert str(UserError("key", None, "is wrong")) == "key=null: is wrong"
