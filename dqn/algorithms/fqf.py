"""Fully parameterized quantile functions (Yang et al. 2019, arXiv 1911.02140, algorithm 1), with Double Q if wanted."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dqn.algorithms.base import Algorithm, Losses, OutputFunction, of_actions
from dqn.algorithms.losses import Huber
from dqn.algorithms.qr_dqn import quantile_huber
from dqn.memory.batch import Batch
from dqn.networks.proposed import Proposed


@dataclass(frozen=True)
class FQF(Algorithm):
    """Quantiles of the return at fractions that the network proposes, and learns to propose.

    Args:
        huber: the cost of an error.
    """

    huber: Huber

    def __call__(self, online: OutputFunction, target: OutputFunction, batch: Batch, draws: Tensor) -> Losses:
        """See `Algorithm`; the loss is the quantile Huber loss, with the gradient of the proposals' besides."""
        taken = Proposed.of(of_actions(online(batch.obs_tm1).float(), batch.a_tm1))
        with torch.no_grad():
            coming = Proposed.of(self.next_outputs(online, target, batch.obs_t))
            target_tm1 = batch.r_t.unsqueeze(-1) + batch.discount_t.unsqueeze(-1) * coming.quantiles  # (M, B, K)
            q_tm1 = taken.mean
            td_error = batch.r_t + batch.discount_t * coming.mean - q_tm1
        # Samples are as likely as their shares are wide (equation 1). Algorithm 1 takes them as equally likely: where
        # shares are not equal that is another return, and Q-values grew beyond all bounds on CartPole.
        fractions = taken.fractions.detach()
        loss = quantile_huber(taken.quantiles, fractions, target_tm1, self.huber, coming.shares)
        return Losses(loss + _gradient_only(_proposal_loss(taken)), td_error, q_tm1, td_error.abs())


def _proposal_loss(taken: Proposed) -> Tensor:
    """What has, for the bounds, the gradient of the distance between the quantile function and its steps, (M, B).

    That is the 1-Wasserstein distance, and its derivative is known where it is not itself (proposition 1).
    """
    between, bounds = taken.quantiles.detach(), taken.at_bounds.detach()
    derivative = 2.0 * bounds - between[..., 1:] - between[..., :-1]
    return (derivative * taken.bounds).sum(-1)


def _gradient_only(loss: Tensor) -> Tensor:
    """Zero, with the gradient of a loss."""
    return loss - loss.detach()
