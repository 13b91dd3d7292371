"""The update step of a population."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dqn.algorithms.base import Algorithm, Losses
from dqn.compilation import is_tracing
from dqn.memory.batch import Batch
from dqn.networks.population import Population
from dqn.optim import Optimizer, clip_by_norm
from dqn.target import TargetRule


class UpdateMetrics(NamedTuple):
    """What one update says of itself, each (M,)."""

    loss: Tensor
    mean_q: Tensor
    td_error: Tensor  # mean absolute
    gradient_norm: Tensor  # before clipping


class Learner:
    """Online and target parameters of M members, and how a batch changes them.

    Args:
        template: the single-member network.
        parameters: initial, (M, P); taken over, not copied.
        algorithm: batch to losses.
        optimizer: gradients to steps.
        target_rule: how the target parameters follow; may be replaced by another of its kind.
        max_gradient_norm: (M,), inf for none.
        precision: of the forward passes; bfloat16 is autocast.
    """

    def __init__(
        self,
        template: nn.Module,
        parameters: Tensor,
        algorithm: Algorithm,
        optimizer: Optimizer,
        target_rule: TargetRule,
        max_gradient_norm: Tensor,
        precision: torch.dtype = torch.float32,
    ) -> None:
        self.template = template
        self.parameters = parameters
        self.target_parameters = parameters if target_rule.shares_online else parameters.clone()
        self.online = Population(template, self.parameters)
        self.target = Population(template, self.target_parameters)
        self._algorithm = algorithm
        self.readout = algorithm.readout
        self._optimizer = optimizer
        self.target_rule = target_rule
        self._max_gradient_norm = max_gradient_norm
        self._precision = precision
        self._optimizer_state = optimizer.init(parameters)

    @torch.no_grad()
    def q_values(self, observations: Tensor) -> Tensor:
        """Q-values of the online networks: (M, N, *observation) -> (M, N, A) float32."""
        with self._autocast():
            q: Tensor = self.readout(self.online(observations).float())
        return q

    def update(
        self, batch: Batch, learning_rate: Tensor, active: Tensor | None = None, weights: Tensor | None = None
    ) -> tuple[UpdateMetrics, Tensor]:
        """One gradient step of each member on its own batch.

        Args:
            batch: (M, B, ...).
            learning_rate: (M,).
            active: (M,) bool: the members that learn now; None for all.
            weights: of the losses, (M, B); None for 1.

        Returns:
            What is to be told, and the priorities of the transitions (M, B).
        """
        losses, gradients = self._differentiate(batch, weights)
        norms = gradients.norm(dim=1)
        gradients = clip_by_norm(gradients, norms, self._max_gradient_norm)
        state = [self.parameters, *self._optimizer_state.values()]
        before = None if active is None else [tensor.clone() for tensor in state]
        self._optimizer.update_(self.parameters, gradients, self._optimizer_state, learning_rate)
        if active is not None and before is not None:
            for tensor, old in zip(state, before, strict=True):
                keep = active.view(-1, *[1] * (tensor.dim() - 1))
                tensor.copy_(torch.where(keep, tensor, old))
        metrics = UpdateMetrics(
            loss=losses.loss.mean(1),
            mean_q=losses.q.mean(1),
            td_error=losses.td_error.abs().mean(1),
            gradient_norm=norms,
        )
        return metrics, losses.priority

    def _differentiate(self, batch: Batch, weights: Tensor | None) -> tuple[Losses, Tensor]:
        """What the algorithm makes of a batch, and each member's gradient (M, P) of its mean loss."""
        if is_tracing():

            def total(parameters: Tensor) -> tuple[Tensor, Losses]:
                with self._autocast():
                    losses = self._algorithm(partial(self.online.apply, parameters), self.target, batch)
                losses = _weighted(losses, weights)
                return losses.loss.mean(1).sum(), losses

            gradients, losses = torch.func.grad(total, has_aux=True)(self.parameters)
            return losses, gradients
        with self._autocast():
            losses = self._algorithm(self.online, self.target, batch)
        losses = _weighted(losses, weights)
        gradients = self.online.gradients(losses.loss.mean(1))
        return losses._replace(loss=losses.loss.detach()), gradients

    def _autocast(self) -> AbstractContextManager[object]:
        if self._precision == torch.float32:
            return nullcontext()
        return torch.autocast(self.parameters.device.type, dtype=self._precision)

    def update_target(self, steps_before: int, steps_after: int) -> None:
        """Let the target parameters follow after the agent steps (steps_before, steps_after]."""
        self.target_rule.update_(self.target_parameters, self.parameters, steps_before, steps_after)

    def state_dict(self) -> dict[str, Tensor]:
        """Parameters, target parameters and the optimizer's state."""
        state = {f"optimizer.{name}": tensor for name, tensor in self._optimizer_state.items()}
        if not self.target_rule.shares_online:
            state["target_parameters"] = self.target_parameters
        return {"parameters": self.parameters, **state}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take over what `state_dict` gave."""
        for name, tensor in self.state_dict().items():
            tensor.copy_(state[name])


def _weighted(losses: Losses, weights: Tensor | None) -> Losses:
    return losses if weights is None else losses._replace(loss=weights * losses.loss)
