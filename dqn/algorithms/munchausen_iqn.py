"""Munchausen reinforcement learning with implicit quantiles (Vieillard et al. 2020, arXiv 2007.14430, appendix B.1)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dqn.algorithms.base import Algorithm, Losses, OutputFunction, of_actions
from dqn.algorithms.losses import Huber
from dqn.algorithms.munchausen_dqn import Munchausen
from dqn.algorithms.qr_dqn import quantile_losses
from dqn.memory.batch import Batch


@dataclass(frozen=True)
class MunchausenIQN(Algorithm):
    """`IQN` with Munchausen rewards; the samples of the next return are those of the policy's mixture of actions.

    Args:
        huber: the cost of an error.
        munchausen: policies, and what they add to rewards.
        num_fractions: N, of the quantiles that learn.
        num_target_fractions: N', of the samples of what they learn.
        num_acting_fractions: K, whose mean makes the Q-values of policies.
    """

    huber: Huber
    munchausen: Munchausen
    num_fractions: int
    num_target_fractions: int
    num_acting_fractions: int

    @property
    def network_calls(self) -> int:
        """See `Algorithm`."""
        return 3

    @property
    def num_draws(self) -> int:
        """See `Algorithm`."""
        return self.num_fractions + self.num_target_fractions + 2 * self.num_acting_fractions

    def __call__(self, online: OutputFunction, target: OutputFunction, batch: Batch, draws: Tensor) -> Losses:
        """See `Algorithm`; the loss is the quantile Huber loss."""
        acting = self.num_acting_fractions
        sizes = [self.num_fractions, self.num_target_fractions + acting, acting]
        fractions, of_target, of_bonus = torch.split(draws, sizes, -1)
        quantiles_tm1 = of_actions(online(batch.obs_tm1, fractions).float(), batch.a_tm1)  # (M, B, N)
        with torch.no_grad():
            bonus = self.munchausen.bonus(self.readout(target(batch.obs_tm1, of_bonus).float()), batch.a_tm1)
            quantiles_t, choosing = target(batch.obs_t, of_target).float().tensor_split([self.num_target_fractions], -1)
            log_policy_t = self.munchausen.scaled_log_policy(self.readout(choosing))  # (M, B, A)
            policy_t = self.munchausen.policy(log_policy_t)
            v_t = (policy_t.unsqueeze(-1) * (quantiles_t - log_policy_t.unsqueeze(-1))).sum(2)  # (M, B, N')
            target_tm1 = (batch.r_t + bonus).unsqueeze(-1) + batch.discount_t.unsqueeze(-1) * v_t
        return quantile_losses(quantiles_tm1, fractions, target_tm1, self.huber)
