"""Parallelised Q-learning (Gallici et al. 2025, arXiv 2407.04811, algorithm 1)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from dqn.algorithms.base import Algorithm, Losses, OutputFunction, of_actions, td_losses
from dqn.algorithms.losses import TDLoss
from dqn.memory.batch import Batch


@dataclass(frozen=True)
class PQN(Algorithm):
    """The target is the return that the memory has made: no network is asked again."""

    td_loss: TDLoss

    @property
    def network_calls(self) -> int:
        """See `Algorithm`."""
        return 1

    def __call__(self, online: OutputFunction, target: OutputFunction, batch: Batch, draws: Tensor) -> Losses:
        """See `Algorithm`."""
        q_tm1 = of_actions(online(batch.obs_tm1).float(), batch.a_tm1)  # (M, B)
        return td_losses(self.td_loss, q_tm1, batch.r_t)
