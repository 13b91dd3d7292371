from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from dqn.events import Episode, Evaluation, Learning


class Clock:
    """A clock that stands still until told to go on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def episode() -> Callable[..., Episode]:
    def make(step: int, episode_return: float, episode_length: int = 10) -> Episode:
        return Episode(member=0, step=step, episode_return=episode_return, episode_length=episode_length)

    return make


@pytest.fixture
def learning() -> Callable[..., Learning]:
    event = Learning(
        member=0,
        step=0,
        updates=7,
        loss=0.25,
        mean_q=2.0,
        td_error=0.5,
        gradient_norm=4.0,
        epsilon=0.125,
        temperature=None,
        learning_rate=0.001,
    )

    def make(step: int, **changes: Any) -> Learning:
        return replace(event, step=step, **changes)

    return make


@pytest.fixture
def evaluation() -> Callable[..., Evaluation]:
    event = Evaluation(
        member=0,
        step=0,
        returns=(10.0, 30.0),
        lengths=(5, 8),
        epsilon=0.05,
        optimal=(True, False),
        value_change=None,
        is_best=True,
    )

    def make(step: int, **changes: Any) -> Evaluation:
        return replace(event, step=step, **changes)

    return make
