"""Text from anywhere is shown, and does nothing."""

from __future__ import annotations

import io

import pytest
from rich.table import Table
from rich.text import Text

from dqn.errors import UserError
from dqn.terminal import make_console, one_line, printable, say


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


def test_long_keys_and_values_are_cut():
    message = str(UserError("k" * 1000, "v" * 1000, "is wrong"))
    assert message == f"{'k' * 197}...={'v' * 197}...: is wrong"
    assert str(UserError("key", None, "is wrong")) == "key=null: is wrong"
