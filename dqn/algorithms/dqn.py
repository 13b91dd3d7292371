"""Deep Q-learning (Mnih et al. 2015, Nature 518, algorithm 1), with Double Q if wanted."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dqn.algorithms.base import Algorithm, Losses, OutputFunction, of_actions, td_losses
from dqn.algorithms.losses import TDLoss
from dqn.memory.batch import Batch


@dataclass(frozen=True)
class DQN(Algorithm):
    """target = r_t + discount_t * max_a Q_target(s_t, a)."""

    td_loss: TDLoss

    def __call__(self, online: OutputFunction, target: OutputFunction, batch: Batch, draws: Tensor) -> Losses:
        """See `Algorithm`."""
        q_tm1 = of_actions(online(batch.obs_tm1).float(), batch.a_tm1)  # (M, B)
        with torch.no_grad():
            target_tm1 = batch.r_t + batch.discount_t * self.next_outputs(online, target, batch.obs_t)
        return td_losses(self.td_loss, q_tm1, target_tm1)
