"""Implicit quantile networks, with Munchausen rewards and without, against loops in float64."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from dqn.algorithms.base import OutputFunction
from dqn.algorithms.iqn import IQN
from dqn.algorithms.losses import Huber
from dqn.algorithms.munchausen_dqn import Munchausen
from dqn.algorithms.munchausen_iqn import MunchausenIQN
from dqn.memory.batch import Batch
from dqn.networks.readout import MeanQuantile

Array = npt.NDArray[np.float64]
M, B, D, A = 2, 9, 3, 4
N, N_TARGET, K = 5, 3, 2  # fractions
THRESHOLDS = [1.0, 0.3]
ALPHAS, TEMPERATURES, LEAST = [0.9, 0.5], [0.1, 0.5], [-0.3, -0.2]
KINDS = ["single", "double", "munchausen"]


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def network(weights: Tensor) -> OutputFunction:
    """Weights (M, 3, A, D): a polynomial of the fraction, of degree two."""

    def outputs(observations: Tensor, fractions: Tensor | None = None, /) -> Tensor:
        assert fractions is not None
        powers = torch.stack([fractions**i for i in range(3)], -1)  # (M, B, K, 3)
        return torch.einsum("mbd,miad,mbki->mbak", observations, weights, powers)

    return outputs


def quantile(weights: Array, observation: Array, fraction: float) -> Array:
    """Of each action, (A,)."""
    return np.asarray(sum(fraction**i * weights[i] @ observation for i in range(3)))


def mean_quantile(weights: Array, observation: Array, fractions: Array) -> Array:
    return np.mean([quantile(weights, observation, f) for f in fractions], axis=0)


class Problem:
    def __init__(self) -> None:
        self.online, self.target = normal(0, M, 3, A, D), normal(1, M, 3, A, D)
        discount_t = torch.tensor([[0.99], [0.5]]).repeat(1, B)
        discount_t[:, ::4] = 0.0
        actions = torch.randint(A, (M, B), generator=torch.Generator().manual_seed(1))
        self.batch = Batch(normal(2, M, B, D), actions, normal(3, M, B), discount_t, normal(4, M, B, D))
        self.draws = torch.rand(M, B, N + N_TARGET + 2 * K, generator=torch.Generator().manual_seed(5))

    def algorithm(self, kind: str) -> IQN | MunchausenIQN:
        huber = Huber(torch.tensor(THRESHOLDS))
        if kind == "munchausen":
            munchausen = Munchausen(torch.tensor(ALPHAS), torch.tensor(TEMPERATURES), torch.tensor(LEAST))
            return MunchausenIQN(False, MeanQuantile(), huber, munchausen, N, N_TARGET, K)
        return IQN(kind == "double", MeanQuantile(), huber, N, N_TARGET, K)

    def targets(self, kind: str) -> list[Array]:
        """Samples of what the quantiles learn, (N_TARGET,) for each transition."""
        found = []
        for m in range(M):
            online, target = self.online[m].double().numpy(), self.target[m].double().numpy()
            for b in range(B):
                obs_tm1, obs_t = (t[m, b].double().numpy() for t in (self.batch.obs_tm1, self.batch.obs_t))
                r, discount, a = float(self.batch.r_t[m, b]), float(self.batch.discount_t[m, b]), self.batch.a_tm1[m, b]
                draws = self.draws[m, b].double().numpy()
                of_target, of_choice, of_bonus = np.split(draws[N:], [N_TARGET, N_TARGET + K])
                samples = np.array([quantile(target, obs_t, f) for f in of_target])  # (N_TARGET, A)
                if kind == "munchausen":
                    tau = TEMPERATURES[m]
                    policy, log_policy = softmax(mean_quantile(target, obs_t, of_choice) / tau)
                    bonus = tau * softmax(mean_quantile(target, obs_tm1, of_bonus) / tau)[1][a]
                    r += ALPHAS[m] * min(max(bonus, LEAST[m]), 0.0)
                    found.append(r + discount * (samples - tau * log_policy) @ policy)
                else:
                    best = mean_quantile(online if kind == "double" else target, obs_t, of_choice).argmax()
                    found.append(r + discount * samples[:, best])
        return found

    def losses(self, weights: Array, targets: list[Array]) -> Array:
        found = np.zeros((M, B))
        for m in range(M):
            for b in range(B):
                obs, a = self.batch.obs_tm1[m, b].double().numpy(), self.batch.a_tm1[m, b]
                for fraction in self.draws[m, b, :N].double().numpy():
                    for sample in targets[m * B + b]:
                        u = sample - quantile(weights[m], obs, fraction)[a]
                        kappa = THRESHOLDS[m]
                        huber = u**2 / 2 if abs(u) <= kappa else kappa * (abs(u) - kappa / 2)
                        found[m, b] += abs(fraction - (u < 0)) * huber / kappa / N_TARGET
        return found


def softmax(x: Array) -> tuple[Array, Array]:
    """With its log."""
    log = x - x.max() - np.log(np.exp(x - x.max()).sum())
    return np.exp(log), log


@pytest.mark.parametrize("kind", KINDS)
def test_losses_and_gradients(kind: str) -> None:
    problem, algorithm = Problem(), Problem().algorithm(kind)
    online, target = problem.online.clone().requires_grad_(), problem.target.clone().requires_grad_()
    draws = problem.draws[..., : algorithm.num_draws]
    assert algorithm.num_draws == N + N_TARGET + (2 * K if kind == "munchausen" else K)
    losses = algorithm(network(online), network(target), problem.batch, draws)
    losses.loss.sum().backward()
    targets, weights = problem.targets(kind), problem.online.double().numpy()
    np.testing.assert_allclose(losses.loss.detach(), problem.losses(weights, targets), rtol=1e-4, atol=1e-5)
    gradient = np.zeros_like(weights)
    for index in np.ndindex(weights.shape):
        step = np.zeros_like(weights)
        step[index] = 1e-6
        gradient[index] = (problem.losses(weights + step, targets) - problem.losses(weights - step, targets)).sum()
    np.testing.assert_allclose(online.grad, gradient / 2e-6, rtol=1e-3, atol=1e-3)
    assert target.grad is None
    for m in range(M):
        for b in range(B):
            obs = problem.batch.obs_tm1[m, b].double().numpy()
            q = mean_quantile(weights[m], obs, problem.draws[m, b, :N].double().numpy())[problem.batch.a_tm1[m, b]]
            td_error = targets[m * B + b].mean() - q
            assert losses.q[m, b].item() == pytest.approx(q, abs=1e-4)
            assert losses.td_error[m, b].item() == pytest.approx(td_error, abs=1e-4)
            assert losses.priority[m, b].item() == pytest.approx(abs(td_error), abs=1e-4)


def test_the_problem_tells_the_kinds_apart() -> None:
    one, two, three = (Problem().targets(kind) for kind in KINDS)
    for left, right in ((one, two), (one, three)):
        assert sum(not np.allclose(a, b) for a, b in zip(left, right, strict=True)) >= 3
