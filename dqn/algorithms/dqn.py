"""Deep Q-learning (Mnih et al. 2015, Nature 518, algorithm 1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from dqn.algorithms.losses import TDLoss
from dqn.memory.batch import Batch

# Observations (M, B, *observation) -> Q-values (M, B, A).
QFunction = Callable[[Tensor], Tensor]


class Losses(NamedTuple):
    """What an algorithm makes of a batch."""

    loss: Tensor  # (M, B), with gradient
    td_error: Tensor  # (M, B)
    q: Tensor  # (M, B): of the actions taken


@dataclass(frozen=True)
class DQN:
    """target = r_t + discount_t * max_a Q_target(s_t, a)."""

    td_loss: TDLoss

    def __call__(self, online: QFunction, target: QFunction, batch: Batch) -> Losses:
        """The losses of the online network on a batch; no gradient flows through targets."""
        q_tm1 = online(batch.obs_tm1).float()  # (M, B, A)
        q_a_tm1 = q_tm1.gather(-1, batch.a_tm1.unsqueeze(-1)).squeeze(-1)  # (M, B)
        with torch.no_grad():
            v_t = self.bootstrap(online, target, batch.obs_t).float()
            target_tm1 = batch.r_t + batch.discount_t * v_t
        td_error = target_tm1 - q_a_tm1
        return Losses(self.td_loss(td_error), td_error.detach(), q_a_tm1.detach())

    def bootstrap(self, online: QFunction, target: QFunction, obs_t: Tensor) -> Tensor:
        """The value of the next observations, (M, B)."""
        return target(obs_t).amax(-1)
