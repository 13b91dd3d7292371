"""Distributional algorithms against loops over members, transitions and atoms or quantiles, in float64."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from dqn.algorithms.base import Algorithm, OutputFunction
from dqn.algorithms.c51 import C51, project
from dqn.algorithms.losses import Huber
from dqn.algorithms.qr_dqn import QRDQN
from dqn.memory.batch import Batch
from dqn.networks.readout import ExpectedValue, MeanQuantile

Array = npt.NDArray[np.float64]
M, B, D, A, K = 2, 6, 3, 4, 5
ATOMS = [-2.0, -1.0, 0.0, 1.0, 2.0]
THRESHOLDS = [1.0, 0.3]
NO_DRAWS = torch.zeros(M, B, 0)


class Problem:
    """Random linear functions to outputs (A, K), and a batch whose returns reach beyond the atoms on both sides."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(3)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator)

        self.online, self.target = normal(M, A, K, D), normal(M, A, K, D)
        r_t = 1.5 * normal(M, B)
        r_t[0, 0], r_t[0, 1] = 5.0, -5.0
        discount_t = torch.tensor([0.9, 0.5]).unsqueeze(-1).repeat(1, B)
        discount_t[:, 0::3] = 0.0
        self.batch = Batch(
            obs_tm1=normal(M, B, D),
            a_tm1=torch.randint(A, (M, B), generator=generator),
            r_t=r_t,
            discount_t=discount_t,
            obs_t=normal(M, B, D),
        )

    def rows(self) -> list[tuple[int, int, Array, int, float, float, Array]]:
        """Each transition with its member and place: m, b, obs_tm1, a_tm1, r_t, discount_t, obs_t."""
        batch = self.batch
        return [
            (
                *(m, b, batch.obs_tm1[m, b].double().numpy(), int(batch.a_tm1[m, b])),
                *(float(batch.r_t[m, b]), float(batch.discount_t[m, b]), batch.obs_t[m, b].double().numpy()),
            )
            for m in range(M)
            for b in range(B)
        ]


def outputs_of(weights: Tensor) -> OutputFunction:
    return lambda observations, fractions=None: torch.einsum("mbd,makd->mbak", observations, weights)


def softmax(x: Array) -> Array:
    e = np.exp(x - x.max(-1, keepdims=True))
    return np.asarray(e / e.sum(-1, keepdims=True))


def best_action(choosing: Array, kind: str) -> int:
    """By outputs (A, K)."""
    q = softmax(choosing) @ np.array(ATOMS) if kind == "c51" else choosing.mean(-1)
    return int(q.argmax())


def naive_projection(returns: Array, probabilities: Array) -> Array:
    """Algorithm 1 of the paper."""
    projected = np.zeros(K)
    for value, p in zip(returns, probabilities, strict=True):
        b = (min(max(value, ATOMS[0]), ATOMS[-1]) - ATOMS[0]) / 1.0
        lower, upper = int(np.floor(b)), int(np.ceil(b))
        if lower == upper:
            projected[lower] += p
        else:
            projected[lower] += p * (upper - b)
            projected[upper] += p * (b - lower)
    return projected


def naive_targets(problem: Problem, kind: str, double: bool) -> list[Array]:
    """Of each transition the distribution on the atoms, or the sampled returns."""
    online, target = problem.online.double().numpy(), problem.target.double().numpy()
    targets = []
    for m, _, _, _, r, discount, obs_t in problem.rows():
        next_outputs = target[m] @ obs_t
        a = best_action(online[m] @ obs_t if double else next_outputs, kind)
        if kind == "c51":
            targets.append(naive_projection(r + discount * np.array(ATOMS), softmax(next_outputs[a])))
        else:
            targets.append(r + discount * next_outputs[a])
    return targets


def naive_loss(problem: Problem, kind: str, weights: Array, targets: list[Array]) -> Array:
    losses = np.zeros((M, B))
    for (m, b, obs_tm1, a, _, _, _), target in zip(problem.rows(), targets, strict=True):
        outputs = (weights[m] @ obs_tm1)[a]
        if kind == "c51":
            losses[m, b] = -(target * np.log(softmax(outputs))).sum()
            continue
        kappa = THRESHOLDS[m]
        for i in range(K):
            for sample in target:
                u = sample - outputs[i]
                huber = u**2 / 2 if abs(u) <= kappa else kappa * (abs(u) - kappa / 2)
                losses[m, b] += abs((2 * i + 1) / (2 * K) - (u < 0)) * huber / kappa / K
    return losses


def algorithm(kind: str, double: bool) -> Algorithm:
    if kind == "c51":
        atoms = torch.tensor(ATOMS)
        return C51(double, ExpectedValue(atoms), atoms)
    return QRDQN(double, MeanQuantile(), Huber(torch.tensor(THRESHOLDS)))


@pytest.mark.parametrize("double", [False, True], ids=["single", "double"])
@pytest.mark.parametrize("kind", ["c51", "qr_dqn"])
def test_losses_and_gradients(kind: str, double: bool) -> None:
    problem = Problem()
    online, target = problem.online.clone().requires_grad_(), problem.target.clone().requires_grad_()
    losses = algorithm(kind, double)(outputs_of(online), outputs_of(target), problem.batch, NO_DRAWS)
    losses.loss.sum().backward()
    targets = naive_targets(problem, kind, double)
    weights = problem.online.double().numpy()
    np.testing.assert_allclose(losses.loss.detach(), naive_loss(problem, kind, weights, targets), rtol=1e-5, atol=1e-5)
    gradient = np.zeros_like(weights)
    for index in np.ndindex(weights.shape):
        step = np.zeros_like(weights)
        step[index] = 1e-6
        up, down = (naive_loss(problem, kind, weights + s, targets).sum() for s in (step, -step))
        gradient[index] = (up - down) / 2e-6
    np.testing.assert_allclose(online.grad, gradient, rtol=1e-4, atol=1e-4)
    assert target.grad is None
    for (m, b, obs_tm1, a, _, _, _), of_one in zip(problem.rows(), targets, strict=True):
        outputs = (weights[m] @ obs_tm1)[a]
        q = softmax(outputs) @ np.array(ATOMS) if kind == "c51" else outputs.mean()
        value = of_one @ np.array(ATOMS) if kind == "c51" else of_one.mean()
        assert losses.q[m, b].item() == pytest.approx(q, abs=1e-5)
        assert losses.td_error[m, b].item() == pytest.approx(value - q, abs=1e-5)
        if kind == "c51":
            divergence = sum(p * np.log(p / softmax(outputs)[k]) for k, p in enumerate(of_one) if p > 0)
        assert losses.priority[m, b].item() == pytest.approx(
            divergence if kind == "c51" else abs(value - q), rel=1e-4, abs=1e-5
        )


@pytest.mark.parametrize("kind", ["c51", "qr_dqn"])
def test_the_problem_tells_single_from_double(kind: str) -> None:
    single, double = (naive_targets(Problem(), kind, double) for double in (False, True))
    assert sum(not np.allclose(one, other) for one, other in zip(single, double, strict=True)) >= 3


@pytest.mark.parametrize(
    ("returns", "expected"),
    [
        ([-9.0, -2.0, 0.0, 2.0, 9.0], [0.4, 0.0, 0.2, 0.0, 0.4]),  # at the ends and beyond
        ([-1.75, -0.5, 0.25, 0.5, 1.9], [0.15, 0.15, 0.35, 0.17, 0.18]),
        ([1.0] * 5, [0.0, 0.0, 0.0, 1.0, 0.0]),
    ],
)
def test_projection(returns: list[float], expected: list[float]) -> None:
    probabilities = torch.full((1, 1, K), 0.2)
    projected = project(torch.tensor(returns).view(1, 1, K), probabilities, torch.tensor(ATOMS))[0, 0]
    np.testing.assert_allclose(projected, naive_projection(np.array(returns), np.full(K, 0.2)), atol=1e-6)
    torch.testing.assert_close(projected, torch.tensor(expected), atol=1e-6, rtol=0)
    assert projected.sum().item() == pytest.approx(1)
