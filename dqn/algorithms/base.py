"""What all algorithms share: which networks they see, what they make of a batch, and how Double Q chooses."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from torch import Tensor, nn

from dqn.algorithms.losses import TDLoss
from dqn.memory.batch import Batch

# Observations (M, B, *observation) -> Q-values (M, B, A).
QFunction = Callable[[Tensor], Tensor]


class OutputFunction(Protocol):
    """What a network says of each action."""

    def __call__(self, observations: Tensor, fractions: Tensor | None = None, /) -> Tensor:
        """Observations (M, B, *observation) to Q-values (M, B, A), or K numbers for each, (M, B, A, K).

        Args:
            observations: as the environment gives them.
            fractions: at which quantiles are wanted of a network of implicit ones, (M, B, K).
        """


class Losses(NamedTuple):
    """What an algorithm makes of a batch."""

    loss: Tensor  # (M, B), with gradient
    td_error: Tensor  # (M, B)
    q: Tensor  # (M, B): of the actions taken
    priority: Tensor  # (M, B): how much there is to learn from each, 0 or more


@dataclass(frozen=True)
class Algorithm(ABC):
    """A batch to losses.

    Args:
        double: whether the online network picks the next action, which the target network values (van Hasselt et al.
            2016, arXiv 1509.06461, section "Double DQN"); if not, the target network does both.
        readout: makes Q-values (..., A) of what a network says of its actions; without parameters.
    """

    double: bool
    readout: nn.Module

    @property
    def network_calls(self) -> int:
        """How often `__call__` applies a network, each time with noise of its own where layers have noise."""
        return 3 if self.double else 2

    @property
    def num_draws(self) -> int:
        """How many random numbers `__call__` needs for each transition."""
        return 0

    @abstractmethod
    def __call__(self, online: OutputFunction, target: OutputFunction, batch: Batch, draws: Tensor) -> Losses:
        """The losses of the online network on a batch; no gradient flows through targets.

        Args:
            online: the network that learns.
            target: the network that targets come from.
            batch: (M, B, ...).
            draws: uniforms (M, B, `num_draws`).
        """

    def next_outputs(self, online: OutputFunction, target: OutputFunction, obs_t: Tensor) -> Tensor:
        """What the target network says of the best next action, (M, B, ...)."""
        outputs_t = target(obs_t).float()
        chooses = online(obs_t).float() if self.double else outputs_t
        return of_actions(outputs_t, self.readout(chooses).argmax(-1))


def td_losses(td_loss: TDLoss, q_tm1: Tensor, target_tm1: Tensor) -> Losses:
    """Of Q-values (M, B), with gradient, that learn targets (M, B)."""
    td_error = target_tm1 - q_tm1
    return Losses(td_loss(td_error), td_error.detach(), q_tm1.detach(), td_error.detach().abs())


def of_actions(outputs: Tensor, actions: Tensor) -> Tensor:
    """Of outputs (M, B, A, ...) those of actions (M, B)."""
    index = actions.view(*actions.shape, *[1] * (outputs.dim() - 2)).expand(-1, -1, 1, *outputs.shape[3:])
    return outputs.gather(2, index).squeeze(2)
