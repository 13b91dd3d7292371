"""The update step of a population."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dqn.algorithms.base import Algorithm, Losses, OutputFunction
from dqn.augmentation import shifted
from dqn.compilation import is_tracing
from dqn.memory.batch import Batch
from dqn.networks.noisy import noise_of
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
        acting_fractions: at how many random fractions quantiles are taken to act, of networks of implicit ones.
        random_shift_pixels: by how many pixels at most the images of a batch are shifted.
        relative_rates: of the steps that the optimizer makes with each parameter, (P,), what is taken; None for all.
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
        acting_fractions: int = 0,
        random_shift_pixels: int = 0,
        relative_rates: Tensor | None = None,
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
        self._acting_fractions = acting_fractions
        self._random_shift_pixels = random_shift_pixels
        self._relative_rates = relative_rates
        self._optimizer_state = optimizer.init(parameters)

    @property
    def draws_to_act(self) -> int:
        """How many random numbers the networks need to choose actions, beside what the policy draws."""
        return self.online.noise_size + self._acting_fractions

    def draws_to_update(self, batch_size: int) -> int:
        """How many random numbers an update needs, beside those that chose its batch."""
        of_each = self._algorithm.num_draws + (4 if self._random_shift_pixels else 0)
        return self._algorithm.network_calls * self.online.noise_size + batch_size * of_each

    @torch.no_grad()
    def q_values(self, observations: Tensor, draws: Tensor | None = None) -> Tensor:
        """Q-values of the online networks.

        Args:
            observations: (M, N, *observation).
            draws: uniforms (M, `draws_to_act`) float64; None for networks without noise, at their own fractions.

        Returns:
            (M, N, A) float32.
        """
        noise, fractions = None, None
        if draws is not None and self.online.noise_size:
            noise = noise_of(draws[:, : self.online.noise_size])
        if draws is not None and self._acting_fractions:
            fractions = draws[:, self.online.noise_size :].to(torch.float32)
        with self._autocast():
            q: Tensor = self.readout(self.online(observations, noise, fractions).float())
        return q

    def update(
        self,
        batch: Batch,
        learning_rate: Tensor,
        active: Tensor | None = None,
        weights: Tensor | None = None,
        draws: Tensor | None = None,
    ) -> tuple[UpdateMetrics, Tensor]:
        """One gradient step of each member on its own batch.

        Args:
            batch: (M, B, ...).
            learning_rate: (M,).
            active: (M,) bool: the members that learn now; None for all.
            weights: of the losses, (M, B); None for 1.
            draws: uniforms (M, `draws_to_update`) float64; None where none are needed.

        Returns:
            What is to be told, and the priorities of the transitions (M, B).
        """
        draws = batch.r_t[:, :0] if draws is None else draws
        if self._random_shift_pixels:
            size = 4 * batch.r_t.shape[1]
            batch = shifted(batch, draws[:, :size], self._random_shift_pixels)
            draws = draws[:, size:]
        losses, gradients = self._differentiate(batch, draws, weights)
        norms = (gradients if self._relative_rates is None else gradients * self._relative_rates).norm(dim=1)
        gradients = clip_by_norm(gradients, norms, self._max_gradient_norm)
        state = [self.parameters, *self._optimizer_state.values()]
        before = None if active is None else [tensor.clone() for tensor in state]
        self._optimize(gradients, learning_rate)
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

    def _optimize(self, gradients: Tensor, learning_rate: Tensor) -> None:
        rates = self._relative_rates
        start = None if rates is None else self.parameters.clone()
        self._optimizer.update_(self.parameters, gradients, self._optimizer_state, learning_rate)
        if rates is not None and start is not None:
            self.parameters.copy_(torch.lerp(start, self.parameters, rates))

    def _differentiate(self, batch: Batch, draws: Tensor, weights: Tensor | None) -> tuple[Losses, Tensor]:
        """What the algorithm makes of a batch, and each member's gradient (M, P) of its mean loss."""
        noise_size, calls = self.online.noise_size, self._algorithm.network_calls
        noise_draws, own_draws = draws[:, : calls * noise_size], draws[:, calls * noise_size :]
        own_draws = own_draws.reshape(*batch.r_t.shape, self._algorithm.num_draws).to(torch.float32)
        noises = torch.split(noise_of(noise_draws), noise_size, dim=1) if noise_size else ()

        def losses_of(online: Callable[..., Tensor]) -> Losses:
            in_turn = iter(noises) if noise_size else None
            with self._autocast():
                networks = _with_noise(online, in_turn), _with_noise(self.target, in_turn)
                losses = self._algorithm(*networks, batch, own_draws)
            return losses if weights is None else losses._replace(loss=weights * losses.loss)

        if is_tracing():

            def total(parameters: Tensor) -> tuple[Tensor, Losses]:
                losses = losses_of(partial(self.online.apply, parameters))
                return losses.loss.mean(1).sum(), losses

            gradients, losses = torch.func.grad(total, has_aux=True)(self.parameters)
            return losses, gradients
        losses = losses_of(self.online)
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


def _with_noise(network: Callable[..., Tensor], noises: Iterator[Tensor] | None) -> OutputFunction:
    """A network that takes the next noise with each call, if it has noise."""

    def outputs(observations: Tensor, fractions: Tensor | None = None, /) -> Tensor:
        return network(observations, None if noises is None else next(noises), fractions)

    return outputs
