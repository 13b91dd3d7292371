"""Munchausen reinforcement learning (Vieillard et al. 2020, arXiv 2007.14430): M-DQN."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dqn.algorithms.base import Algorithm, Losses, OutputFunction, of_actions, td_losses
from dqn.algorithms.losses import TDLoss
from dqn.memory.batch import Batch


@dataclass(frozen=True)
class Munchausen:
    """The policy is the softmax of the target network's Q-values, and its log a part of the reward."""

    alpha: Tensor  # (M,): of the log-policy
    temperature: Tensor  # (M,): the paper's tau
    min_log_policy: Tensor  # (M,): below it, the log-policy times the temperature is clipped; the paper's l_0

    def bonus(self, q_tm1: Tensor, a_tm1: Tensor) -> Tensor:
        """What the rewards of actions (M, B) grow by, from the target network's Q-values (M, B, A)."""
        log_policy_tm1 = of_actions(self.scaled_log_policy(q_tm1), a_tm1)
        clipped = log_policy_tm1.clamp(max=0).maximum(self.min_log_policy.unsqueeze(-1))
        return self.alpha.unsqueeze(-1) * clipped

    def scaled_log_policy(self, q: Tensor) -> Tensor:
        """The temperature times the policy's log, (M, B, A), from the advantages (appendix B.1 of the paper)."""
        temperature = self.temperature.view(-1, 1, 1)
        advantages = q - q.amax(-1, keepdim=True)
        return advantages - temperature * (advantages / temperature).logsumexp(-1, keepdim=True)

    def policy(self, scaled_log_policy: Tensor) -> Tensor:
        """The probabilities (M, B, A)."""
        return (scaled_log_policy / self.temperature.view(-1, 1, 1)).exp()


@dataclass(frozen=True)
class MunchausenDQN(Algorithm):
    """The reward grows by the log of the policy, and the next value is the soft one."""

    td_loss: TDLoss
    munchausen: Munchausen

    @property
    def network_calls(self) -> int:
        """See `Algorithm`."""
        return 3

    def __call__(self, online: OutputFunction, target: OutputFunction, batch: Batch, draws: Tensor) -> Losses:
        """See `Algorithm`."""
        q_tm1 = of_actions(online(batch.obs_tm1).float(), batch.a_tm1)  # (M, B)
        with torch.no_grad():
            bonus = self.munchausen.bonus(target(batch.obs_tm1).float(), batch.a_tm1)
            q_t = target(batch.obs_t).float()
            log_policy_t = self.munchausen.scaled_log_policy(q_t)
            v_t = (self.munchausen.policy(log_policy_t) * (q_t - log_policy_t)).sum(-1)
            target_tm1 = batch.r_t + bonus + batch.discount_t * v_t
        return td_losses(self.td_loss, q_tm1, target_tm1)
