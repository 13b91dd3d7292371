from __future__ import annotations

import io
import json
import os

import pytest

from dqn.events import End
from dqn.observers.progress import Progress, ProgressBar, duration


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_plain_lines_come_every_ten_seconds_and_at_evaluations(clock, episode, learning, evaluation):
    out = io.StringIO()
    bar = ProgressBar(10_000, None, 4, "breakout", out, clock)
    for step in range(100, 2001, 100):  # 100 steps a second for 20 seconds
        clock.now += 1.0
        bar.on_event(learning(step) if step % 200 else episode(step, step / 10))
    bar.on_event(evaluation(2000))
    clock.now += 9.0
    bar.on_event(learning(2900))
    bar.on_event(End(member=0, step=2900, status="converged", reason="mean return 20"))
    bar.close()
    assert out.getvalue().splitlines() == [
        "breakout: step 1,000/10,000, 100 steps/s, 1:30 left, frames 4,000, epsilon 0.125, loss 0.25, "
        "return 60.0 (last 5)",
        "breakout: step 2,000/10,000, 100 steps/s, 1:20 left, frames 8,000, epsilon 0.125, loss 0.25, "
        "return 110.0 (last 10)",
        "breakout: evaluation at step 2,000: mean return 20.0 over 2 episodes, the best so far",
        "breakout: converged at step 2,900: mean return 20",
    ]


def test_the_bar_shows_the_numbers_and_gives_the_terminal_back(clock, episode, learning, evaluation, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm")
    out = Terminal()
    bar = ProgressBar(10_000, None, 4, "breakout", out, clock)
    bar.on_event(learning(0))
    assert out.getvalue() == ""  # nothing is drawn, and no cursor hidden, before there is something to show
    clock.now += 50.0
    bar.on_event(learning(2_500))
    bar.on_event(episode(2_600, 12.0))
    bar.on_event(evaluation(2_600, is_best=False))
    bar.close()
    text = out.getvalue().replace("\N{NO-BREAK SPACE}", " ")
    for part in (
        "step 2,600/10,000",
        "52 steps/s",
        "2:22 left",
        "10,400",
        "0.125",
        "0.25",
        "12.0 (last 1)",
        "20.0",
    ):
        assert part in text
    hide, show = "\x1b[?25l", "\x1b[?25h"
    assert text.count(hide) == text.count(show) == 1
    assert text.rindex(show) > text.rindex("20.0")
    bar.close()


def test_redraws_are_few(clock, learning):
    out = Terminal()
    bar = ProgressBar(10_000, None, 1, "cartpole", out, clock)
    for step in range(1000):  # over ten seconds
        clock.now += 0.01
        bar.on_event(learning(step))
    bar.close()
    assert 30 <= out.getvalue().count("steps/s") <= 45


@pytest.mark.parametrize("is_terminal", [False, True])
def test_a_bar_that_nobody_sees_any_more_troubles_nobody(clock, evaluation, learning, is_terminal):
    seen, by = os.openpty() if is_terminal else os.pipe()
    with os.fdopen(by, "w") as out:
        bar = ProgressBar(10_000, None, 1, "cartpole", out, clock)
        bar.on_event(evaluation(100))
        os.close(seen)
        clock.now += 20.0
        bar.on_event(learning(200))
        bar.on_event(End(member=0, step=200, status="interrupted", reason="stopped by a signal"))
        bar.close()


def test_speed_is_that_of_the_last_half_minute(clock, learning):
    progress = Progress(100_000, None, 1)
    for step in [*range(0, 60_000, 1000), *range(60_000, 66_000, 100)]:  # 1000 steps/s, then 100
        clock.now += 1.0
        progress.update(learning(step))
        progress.sample(clock())
    assert progress.steps_per_second == 100.0
    assert progress.seconds_left == pytest.approx((100_000 - 65_900) / 100)


@pytest.mark.parametrize(
    ("total_steps", "total_episodes", "fraction"),
    [(1000, None, 0.2), (None, 8, 0.5), (1000, 8, 0.5), (250, 8, 0.8), (100, None, 1.0)],
)
def test_the_length_that_is_reached_first_counts(episode, total_steps, total_episodes, fraction):
    progress = Progress(total_steps, total_episodes, 1)
    for number in range(1, 5):
        progress.update(episode(50 * number, 0.0))
    assert progress.fraction == fraction


def test_a_resumed_run_keeps_its_episodes_and_measures_its_speed_anew(clock, episode, learning):
    bar = ProgressBar(None, 50, 1, "blog", io.StringIO(), clock)
    for number in range(1, 26):
        bar.on_event(episode(100 * number, float(number)))
    state = json.loads(json.dumps(bar.state_dict()))
    clock.now += 1000.0
    out = io.StringIO()
    resumed = ProgressBar(None, 50, 1, "blog", out, clock)
    resumed.load_state_dict(state)
    for number in range(26, 31):
        clock.now += 2.0
        resumed.on_event(episode(100 * number, float(number)))
    assert out.getvalue() == (
        "blog: episode 30/50  step 3,000, 50 steps/s, 0:40 left, frames 3,000, return 20.5 (last 20)\n"
    )


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (59.6, "1:00"), (754.0, "12:34"), (36_001.0, "10:00:01")])
def test_duration(seconds, text):
    assert duration(seconds) == text
