"""Quantile regression (Dabney et al. 2018, arXiv 1710.10044, algorithm 1), with Double Q if wanted."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dqn.algorithms.base import Algorithm, Losses, OutputFunction, of_actions
from dqn.algorithms.losses import Huber
from dqn.memory.batch import Batch


@dataclass(frozen=True)
class QRDQN(Algorithm):
    """The return of an action is K equally likely values: its quantiles at (2i - 1) / 2K."""

    huber: Huber

    def __call__(self, online: OutputFunction, target: OutputFunction, batch: Batch, draws: Tensor) -> Losses:
        """See `Algorithm`; the loss is the quantile Huber loss."""
        quantiles_tm1 = of_actions(online(batch.obs_tm1).float(), batch.a_tm1)  # (M, B, K)
        with torch.no_grad():
            next_quantiles = self.next_outputs(online, target, batch.obs_t)
            target_tm1 = batch.r_t.unsqueeze(-1) + batch.discount_t.unsqueeze(-1) * next_quantiles
        count = quantiles_tm1.shape[-1]
        fractions = (torch.arange(count, device=quantiles_tm1.device) + 0.5) / count
        return quantile_losses(quantiles_tm1, fractions, target_tm1, self.huber)


def quantile_losses(quantiles_tm1: Tensor, fractions: Tensor, target_tm1: Tensor, huber: Huber) -> Losses:
    """Of quantiles that learn samples, see `quantile_huber`; the errors are those of the means."""
    loss = quantile_huber(quantiles_tm1, fractions, target_tm1, huber)
    q_tm1 = quantiles_tm1.detach().mean(-1)
    td_error = target_tm1.mean(-1) - q_tm1
    return Losses(loss, td_error, q_tm1, td_error.abs())


def quantile_huber(
    quantiles: Tensor, fractions: Tensor, targets: Tensor, huber: Huber, probabilities: Tensor | None = None
) -> Tensor:
    """Summed over the quantiles, averaged over the targets (equation 10 and algorithm 1 of the paper).

    The cost is divided by its threshold as in IQN's equation 3 (arXiv 1806.06923): of a threshold of 1 nothing changes.

    Args:
        quantiles: predicted, (M, B, K).
        fractions: which ones they are, (K,) or (M, B, K).
        targets: samples of what they are quantiles of, (M, B, K').
        huber: the cost of an error, which is divided by its threshold.
        probabilities: of the samples, (M, B, K'); None where they are equally likely.

    Returns:
        (M, B).
    """
    error = targets.unsqueeze(-2) - quantiles.unsqueeze(-1)  # (M, B, K, K')
    weight = (fractions.unsqueeze(-1) - (error.detach() < 0).float()).abs()
    cost = huber(error.flatten(1)).view_as(error) / huber.threshold.view(-1, 1, 1, 1)
    of_samples = (weight * cost).sum(-2)  # (M, B, K')
    return of_samples.mean(-1) if probabilities is None else (probabilities * of_samples).sum(-1)
