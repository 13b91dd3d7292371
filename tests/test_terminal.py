from __future__ import annotations

import pytest

from dqn.errors import UserError
from dqn.terminal import say


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
