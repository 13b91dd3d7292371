"""One line for all runs of a stack, and one for a whole sweep."""

from __future__ import annotations

import io
import os

import pytest

from dqn.events import End
from dqn.observers.stack_progress import StackProgress
from dqn.sweep.progress import SweepProgress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def lines(stream):
    return stream.getvalue().splitlines()


def test_a_line_every_ten_seconds_and_one_at_the_end(make_config, clock, evaluation, learning):
    settings = make_config("trainer.total_steps=1000").trainer
    out = io.StringIO()
    with StackProgress("cartpole, 4 jobs from 8", 4, settings, True, out, clock) as progress:
        for member in range(4):
            progress.on_event(evaluation(100, member=member, returns=(10.0 * member,)))
        clock.now += 9
        progress.on_event(learning(200, member=0))
        assert lines(out) == []
        clock.now += 1
        progress.on_event(learning(200, member=1))
        progress.on_event(End(member=2, step=200, status="pruned", reason=""))
        progress.on_event(End(member=3, step=200, status="diverged", reason=""))
        clock.now += 15
        progress.on_event(evaluation(300, member=0, returns=(100.0,)))
        progress.on_event(End(member=0, step=300, status="converged", reason=""))
    assert lines(out) == [
        # (one of four has made 100 steps more in 10 s; 800 more take 80 s)
        "cartpole, 4 jobs from 8: step 200/1,000, 4 running, 1:20 left at most, 20 steps/s together, "
        "last evaluations 15.0 on average, 30.0 at best",
        "cartpole, 4 jobs from 8: step 300/1,000, 2 running, 1 diverged, 1 pruned, 1:28 left at most, "
        "20 steps/s together, last evaluations 40.0 on average, 100.0 at best",
        "cartpole, 4 jobs from 8: step 300/1,000, 1 running, 1 converged, 1 diverged, 1 pruned, 1:28 left at most, "
        "20 steps/s together, last evaluations 40.0 on average, 100.0 at best",
    ]


def test_only_on_a_terminal_of_its_own_is_a_line_drawn_over(make_config, clock, learning):
    settings = make_config("trainer.total_steps=1000").trainer
    alone, shared = Terminal(), Terminal()
    for out, draws in ((alone, True), (shared, False)):
        with StackProgress("cartpole", 2, settings, draws, out, clock) as progress:
            progress.on_event(learning(100))
            clock.now += 1
            progress.on_event(learning(200))
    assert "\x1b[" in alone.getvalue()
    assert lines(shared) == ["cartpole: step 200/1,000, 2 running, 0:08 left at most, 100 steps/s together"]


@pytest.mark.parametrize("is_terminal", [False, True])
def test_a_line_that_nobody_sees_any_more_troubles_nobody(make_config, clock, learning, is_terminal):
    settings = make_config("trainer.total_steps=1000").trainer
    seen, by = os.openpty() if is_terminal else os.pipe()
    with os.fdopen(by, "w") as out, StackProgress("cartpole", 2, settings, True, out, clock) as progress:
        progress.on_event(learning(100))
        os.close(seen)
        clock.now += 20
        progress.on_event(learning(200))


def test_a_sweep_counts_what_is_over_and_says_how_long_the_rest_takes(clock):
    progress = SweepProgress(10, ["completed", "converged"], clock)
    clock.now += 30
    progress.add(["completed", "failed", "pruned"])
    assert progress.line() == (
        "sweep: 5 of 10 jobs over, 2 completed, 1 converged, 1 failed, 1 pruned, 5 running or to come, "
        "0:50 left at most"
    )
    progress.add(["diverged"] * 5)
    assert progress.line() == ("sweep: 10 of 10 jobs over, 2 completed, 1 converged, 5 diverged, 1 failed, 1 pruned")


def test_a_title_is_no_markup(make_config, clock, evaluation):
    out = Terminal()
    with StackProgress("[/a] [red]b", 1, make_config().trainer, True, out, clock) as progress:
        clock.now += 1
        progress.on_event(evaluation(100, returns=(1.0,)))
    assert "[/a] [red]b: step 100" in out.getvalue()
