"""Categorical deep Q-learning (Bellemare et al. 2017, arXiv 1707.06887, algorithm 1), with Double Q if wanted."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from dqn.algorithms.base import Algorithm, Losses, OutputFunction, of_actions
from dqn.memory.batch import Batch


@dataclass(frozen=True)
class C51(Algorithm):
    """The return of an action is a distribution over K atoms; outputs are its logits."""

    atoms: Tensor  # (K,), evenly spaced

    def __call__(self, online: OutputFunction, target: OutputFunction, batch: Batch, draws: Tensor) -> Losses:
        """See `Algorithm`; the loss is the cross entropy, the priority the divergence (arXiv 1710.02298)."""
        log_p_tm1 = F.log_softmax(of_actions(online(batch.obs_tm1).float(), batch.a_tm1), -1)  # (M, B, K)
        with torch.no_grad():
            p_t = self.next_outputs(online, target, batch.obs_t).softmax(-1)
            returns = batch.r_t.unsqueeze(-1) + batch.discount_t.unsqueeze(-1) * self.atoms  # (M, B, K)
            target_tm1 = project(returns, p_t, self.atoms)
        loss = -(target_tm1 * log_p_tm1).sum(-1)
        q_tm1 = (log_p_tm1.detach().exp() * self.atoms).sum(-1)
        divergence = loss.detach() - torch.special.entr(target_tm1).sum(-1)
        return Losses(loss, (target_tm1 * self.atoms).sum(-1) - q_tm1, q_tm1, divergence.clamp(min=0))


def project(returns: Tensor, probabilities: Tensor, atoms: Tensor) -> Tensor:
    """The distribution on the atoms (K,) nearest to one on other returns (M, B, K): each gives to its two neighbours.

    What lies beyond the first or the last atom goes to that one.
    """
    spacing = atoms[1] - atoms[0]
    within = returns.clamp(atoms[0], atoms[-1])
    distances = (within.unsqueeze(-2) - atoms.unsqueeze(-1)).abs() / spacing  # (M, B, to, from)
    return ((1 - distances).clamp(min=0) * probabilities.unsqueeze(-2)).sum(-1)
