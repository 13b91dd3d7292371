"""When the members of a population learn, and by which random numbers."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from dqn.config import TrainerConfig
from dqn.envs.base import Array
from dqn.randomness import Stream
from dqn.traits import Traits


def crossed(period: int | None, before: int, after: int) -> int:
    """How many multiples of `period` lie in (before, after]; none of no period."""
    return 0 if period is None else after // period - before // period


class UpdatePlan:
    """How many updates each member makes after a step call, and the draws of each.

    Attributes:
        learn_from: the agent step at which each member begins, (M,).

    Args:
        settings: of the trainer.
        traits: of the members.
        num_envs: of each member, which all take a step in a step call.
        num_draws: of an update.
        device: where the draws are wanted.
    """

    def __init__(
        self, settings: TrainerConfig, traits: Traits, num_envs: int, num_draws: int, device: torch.device
    ) -> None:
        self._every_steps, self._at_once = settings.learn_every_steps, settings.updates_per_learn
        self._num_envs = num_envs
        self.learn_from = traits.warmup_steps.copy()
        times_per_call = num_envs if self._every_steps is None else math.ceil(num_envs / self._every_steps)
        self._most_per_call = times_per_call * self._at_once
        self._draws = Stream(traits.seeds, "sampling", (num_draws,), device)

    def due(self, steps: int, ended: Array, finished: Array) -> Array:
        """How many updates each member makes after the step call that ended at agent step `steps`, (M,).

        Args:
            steps: of each member.
            ended: where an episode has ended, (M, E) bool.
            finished: members that learn no more, (M,) bool.
        """
        if self._every_steps is None:
            counts: Array = ended.sum(1) * self._at_once
        else:
            counts = np.full(len(finished), self.in_call(steps))
        counts[finished | (steps < self.learn_from)] = 0
        return counts

    def in_call(self, steps: int) -> int:
        """How many updates a member that has begun to learn makes after that step call, if steps decide about it."""
        return crossed(self._every_steps, steps - self._num_envs, steps) * self._at_once

    def have_begun(self, steps: int, finished: Array) -> bool:
        """Whether at agent step `steps` no member still waits to learn, but for the finished ones (M,)."""
        return bool(steps >= self.learn_from[~finished].max())

    def foreseeable_calls(self, steps: int, stop_at: int, finished: Array) -> int:
        """For how many step calls from `steps` to `stop_at` either all members learn or none, whatever happens."""
        if self._every_steps is None:
            return 0
        learn_from, soon = self.learn_from[~finished], steps + self._num_envs
        if soon < learn_from.min():
            stop_at = min(stop_at, int(learn_from.min()) - self._num_envs)
        elif soon < learn_from.max():
            return 0
        return math.ceil((stop_at - steps) / self._num_envs)

    def draws(self, call: int, updates: int) -> list[Tensor]:
        """Uniforms (M, `num_draws`) for each of the updates after a step call."""
        first = call * self._most_per_call
        return [self._draws.at(first + k) for k in range(updates)]
