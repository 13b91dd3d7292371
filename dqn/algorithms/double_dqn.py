"""Double Q-learning with deep networks (van Hasselt et al. 2016, arXiv 1509.06461, section "Double DQN")."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from dqn.algorithms.dqn import DQN, QFunction


@dataclass(frozen=True)
class DoubleDQN(DQN):
    """target = r_t + discount_t * Q_target(s_t, argmax_a Q_online(s_t, a))."""

    def bootstrap(self, online: QFunction, target: QFunction, obs_t: Tensor) -> Tensor:
        """The online network picks the action, the target network values it."""
        a_t = online(obs_t).argmax(-1, keepdim=True)
        return target(obs_t).gather(-1, a_t).squeeze(-1)
