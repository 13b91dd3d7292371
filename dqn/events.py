"""What the training loop tells the outside world: plain records, in the order in which things happened.

The loop yields events and knows nothing of files, logs or clocks; observers (`dqn.observers`) write, draw and
upload. `step` counts agent steps of one member (decisions, summed over its environments).
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import ClassVar


@dataclass(frozen=True)
class Event:
    """Something that happened to one member of the population at one of its steps."""

    kind: ClassVar[str]
    member: int
    step: int


@dataclass(frozen=True)
class Episode(Event):
    """A full game ended in training: its undiscounted, unclipped return and its length in agent steps."""

    kind: ClassVar[str] = "episode"
    episode_return: float
    episode_length: int


@dataclass(frozen=True)
class Learning(Event):
    """Means over the updates since the last such event; rates and epsilon as they stand now.

    `epsilon` is None for policies without one; `temperature` likewise. The means are None before learning starts.
    """

    kind: ClassVar[str] = "learning"
    updates: int
    loss: float | None
    mean_q: float | None
    td_error: float | None
    gradient_norm: float | None
    epsilon: float | None
    temperature: float | None
    learning_rate: float


@dataclass(frozen=True)
class Evaluation(Event):
    """Whole episodes played by the current network with the evaluation policy.

    `optimal` says for each episode whether its return is the best that its start allows (None where the
    environment does not know); `value_change` is the largest change of a Q-value on the states seen at the
    first evaluation since the evaluation before (None at the first).
    """

    kind: ClassVar[str] = "evaluation"
    returns: tuple[float, ...]
    lengths: tuple[int, ...]
    epsilon: float
    optimal: tuple[bool, ...] | None
    value_change: float | None
    is_best: bool

    @property
    def mean_return(self) -> float:
        """Of the episodes."""
        return fmean(self.returns)


@dataclass(frozen=True)
class Pause(Event):
    """The state of the run is consistent: now is the time to save it. One for all members (member is -1)."""

    kind: ClassVar[str] = "pause"


@dataclass(frozen=True)
class End(Event):
    """The member's training is over: `status` is completed, converged, interrupted, pruned or diverged."""

    kind: ClassVar[str] = "end"
    status: str
    reason: str
