"""Where the time goes: sections add up, and the trace is one that viewers read."""

from __future__ import annotations

import itertools
import json
import time

import pytest

from dqn.compilation import Compiled
from dqn.sections import Sections, Stopwatch


def test_sections_without_a_stopwatch_do_nothing():
    with Sections()("act"):
        pass


def test_a_stopwatch_adds_up_and_the_rest_is_what_lies_between():
    watch = Stopwatch()
    for _ in range(3):
        with watch("act"):
            time.sleep(0.01)
    time.sleep(0.05)
    shares = watch.shares()
    assert 0.03 <= shares["act"] < 0.045
    assert 0.05 <= shares["rest"] < 0.1
    assert list(shares) == ["rest", "act"]
    assert watch.calls == {"act": 3}


def test_compiling_counts_apart(monkeypatch):
    watch = Stopwatch()
    with watch("act"):
        time.sleep(0.03)
        monkeypatch.setattr(Compiled, "seconds", Compiled.seconds + 0.02)
    assert watch.seconds["compile"] == pytest.approx(0.02)
    assert 0.01 <= watch.seconds["act"] < 0.02


def test_the_trace_holds_each_section_with_its_start_and_length(tmp_path):
    watch = Stopwatch()
    for name in ("act", "learn", "act"):
        with watch(name):
            time.sleep(0.002)
    watch.write_trace(tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert [event["name"] for event in events] == ["act", "learn", "act"]
    assert all(event["ph"] == "X" and event["dur"] >= 2000 for event in events)
    for one, following in itertools.pairwise(events):
        assert one["ts"] + one["dur"] <= following["ts"]
