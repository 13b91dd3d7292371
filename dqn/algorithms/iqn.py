"""Implicit quantile networks (Dabney et al. 2018, arXiv 1806.06923, section 3), with Double Q if wanted."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dqn.algorithms.base import Algorithm, Losses, OutputFunction, of_actions
from dqn.algorithms.losses import Huber
from dqn.algorithms.qr_dqn import quantile_losses
from dqn.memory.batch import Batch


@dataclass(frozen=True)
class IQN(Algorithm):
    """Quantiles of the return at fractions drawn anew for each transition, from a network that knows any of them.

    Args:
        huber: the cost of an error.
        num_fractions: N, of the quantiles that learn.
        num_target_fractions: N', of the samples of what they learn.
        num_acting_fractions: K, whose mean chooses the next action.
    """

    huber: Huber
    num_fractions: int
    num_target_fractions: int
    num_acting_fractions: int

    @property
    def num_draws(self) -> int:
        """See `Algorithm`."""
        return self.num_fractions + self.num_target_fractions + self.num_acting_fractions

    def __call__(self, online: OutputFunction, target: OutputFunction, batch: Batch, draws: Tensor) -> Losses:
        """See `Algorithm`; the loss is the quantile Huber loss."""
        sizes = [self.num_fractions, self.num_target_fractions, self.num_acting_fractions]
        fractions, of_target, of_choice = torch.split(draws, sizes, -1)
        quantiles_tm1 = of_actions(online(batch.obs_tm1, fractions).float(), batch.a_tm1)  # (M, B, N)
        with torch.no_grad():
            if self.double:
                quantiles_t, choosing = target(batch.obs_t, of_target), online(batch.obs_t, of_choice)
            else:
                both = target(batch.obs_t, torch.cat([of_target, of_choice], -1))
                quantiles_t, choosing = torch.split(both, sizes[1:], -1)
            next_quantiles = of_actions(quantiles_t.float(), self.readout(choosing.float()).argmax(-1))
            target_tm1 = batch.r_t.unsqueeze(-1) + batch.discount_t.unsqueeze(-1) * next_quantiles  # (M, B, N')
        return quantile_losses(quantiles_tm1, fractions, target_tm1, self.huber)
