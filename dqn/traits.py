"""What the members of a population may differ in, in the form in which the parts use it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from torch import Tensor

from dqn.agent import Plan
from dqn.algorithms.base import Algorithm
from dqn.envs.base import Array
from dqn.optim import Optimizer
from dqn.target import TargetRule


@dataclass
class Traits:
    """The traits of M members; their tensors are the very ones that learner, memory and agent compute with."""

    seeds: tuple[int, ...]
    warmup_steps: Array  # (M,) int64
    trace_decay: Tensor | None  # (M,), of a rollout: lambda
    discount: Tensor  # (M,)
    max_gradient_norm: Tensor  # (M,), inf for none
    algorithm: Algorithm
    optimizer: Optimizer
    target_rule: TargetRule
    plan: Plan

    def take_over(self, other: Traits) -> None:
        """Become like `other`, of as many members; seeds and warm-up, which only a beginning knows, stay.

        The tensors keep their places, on which compiled code and CUDA graphs rely. The target rule is another object.
        """
        for place, value in zip(_tensors(self), _tensors(other), strict=True):
            place.copy_(value)
        self.target_rule = other.target_rule


def _tensors(part: Any) -> Iterator[Tensor]:
    """All tensors in nested dataclasses, in the order of their fields."""
    if isinstance(part, Tensor):
        yield part
    elif is_dataclass(part):
        for field in fields(part):
            yield from _tensors(getattr(part, field.name))
