"""Munchausen DQN against loops in float64; the log-policy is clipped in some transitions and in others not."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from dqn.algorithms.base import OutputFunction
from dqn.algorithms.losses import SquaredError
from dqn.algorithms.munchausen_dqn import Munchausen, MunchausenDQN
from dqn.memory.batch import Batch

Array = npt.NDArray[np.float64]
M, B, D, A = 2, 12, 3, 4
ALPHAS, TEMPERATURES, LEAST = [0.9, 0.5], [0.03, 0.5], [-1.0, -0.7]


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def q_function(weights: Tensor) -> OutputFunction:
    return lambda observations, fractions=None: torch.einsum("mbd,mad->mba", observations, weights)


def log_softmax(x: Array) -> Array:
    return np.asarray(x - x.max() - np.log(np.exp(x - x.max()).sum()))


def naive_target(m: int, q_tm1: Array, a: int, r: float, discount: float, q_t: Array) -> tuple[float, float]:
    """Equation 2 of the paper; also the log-policy before it is clipped."""
    tau = TEMPERATURES[m]
    scaled = tau * log_softmax(q_tm1 / tau)[a]
    log_policy = log_softmax(q_t / tau)
    soft_value = sum(np.exp(log_policy[b]) * (q_t[b] - tau * log_policy[b]) for b in range(A))
    return r + ALPHAS[m] * min(max(scaled, LEAST[m]), 0.0) + discount * soft_value, scaled


def test_losses_and_gradients() -> None:
    online, target = normal(M, A, D).requires_grad_(), (2 * normal(M, A, D + 0)).requires_grad_()
    discount_t = torch.tensor([[0.99], [0.9]]).repeat(1, B)
    discount_t[:, ::4] = 0.0
    actions = torch.randint(A, (M, B), generator=torch.Generator().manual_seed(1))
    batch = Batch(normal(M, B, D), actions, normal(M, B), discount_t, normal(M, B, D) + 0.5)
    algorithm = MunchausenDQN(
        False,
        nn.Identity(),
        SquaredError(torch.tensor([0.5, 0.5])),
        Munchausen(torch.tensor(ALPHAS), torch.tensor(TEMPERATURES), torch.tensor(LEAST)),
    )
    losses = algorithm(q_function(online), q_function(target), batch, torch.zeros(M, B, 0))
    losses.loss.sum().backward()
    assert target.grad is None
    gradient, clipped = np.zeros((M, A, D)), 0
    for m in range(M):
        for b in range(B):
            obs_tm1, obs_t = (tensor[m, b].double().numpy() for tensor in (batch.obs_tm1, batch.obs_t))
            weights = target[m].detach().double().numpy()
            a = int(actions[m, b])
            expected, scaled = naive_target(
                m, weights @ obs_tm1, a, float(batch.r_t[m, b]), float(discount_t[m, b]), weights @ obs_t
            )
            q = float(online[m].detach().double().numpy()[a] @ obs_tm1)
            clipped += scaled < LEAST[m]
            assert losses.q[m, b].item() == pytest.approx(q, abs=1e-5)
            assert losses.td_error[m, b].item() == pytest.approx(expected - q, abs=1e-4)
            gradient[m, a] -= (expected - q) * obs_tm1
    assert 0 < clipped < M * B
    assert online.grad is not None
    np.testing.assert_allclose(online.grad, gradient, rtol=1e-4, atol=1e-4)


def test_a_policy_that_is_all_but_certain_gives_no_infinities() -> None:
    """At a small temperature, far apart Q-values: the paper's numerically stable form."""
    weights = torch.tensor([[[1e4], [0.0]]])
    munchausen = Munchausen(torch.ones(1), torch.full((1,), 1e-3), -torch.ones(1))
    algorithm = MunchausenDQN(False, nn.Identity(), SquaredError(torch.ones(1)), munchausen)
    ones = torch.ones(1, 2, 1)
    batch = Batch(ones, torch.tensor([[0, 1]]), torch.zeros(1, 2), torch.full((1, 2), 0.5), ones)
    losses = algorithm(q_function(weights), q_function(weights), batch, torch.zeros(1, 2, 0))
    torch.testing.assert_close(losses.td_error, torch.tensor([[0.5e4 - 1e4, 0.5e4 - 1.0]]))
