"""Losses against closed forms; targets and gradients against a loop over members and transitions in float64."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from dqn.algorithms.base import Algorithm, Losses, OutputFunction
from dqn.algorithms.dqn import DQN
from dqn.algorithms.losses import Huber, SquaredError, TDLoss
from dqn.algorithms.pqn import PQN
from dqn.memory.batch import Batch

Array = npt.NDArray[np.float64]
M, B, D, A = 3, 8, 5, 4

FACTORS, THRESHOLDS = [0.5, 1.0, 2.0], [1.0, 0.3, 2.0]


def values_and_gradients(td_loss: TDLoss, errors: list[list[float]]) -> tuple[list[list[float]], list[list[float]]]:
    td_error = torch.tensor(errors, requires_grad=True)
    loss = td_loss(td_error)
    assert loss.shape == td_error.shape
    (gradient,) = torch.autograd.grad(loss.sum(), td_error)
    return loss.tolist(), gradient.tolist()


def test_squared_error_and_its_gradient() -> None:
    errors = [[-3.0, 0.0, 0.5], [-3.0, 0.0, 0.5]]
    loss, gradient = values_and_gradients(SquaredError(torch.tensor([0.5, 1.0])), errors)
    assert loss == [[4.5, 0.0, 0.125], [9.0, 0.0, 0.25]]
    assert gradient == [[-3.0, 0.0, 0.5], [-6.0, 0.0, 1.0]]


def test_huber_and_its_gradient() -> None:
    """Below, at and beyond the threshold, on both sides; the gradient is the clipped error."""
    errors = [[-3.0, -1.0, -0.5, 0.0, 0.5, 1.0, 3.0]] * 2
    loss, gradient = values_and_gradients(Huber(torch.tensor([1.0, 0.5])), errors)
    assert loss == [[2.5, 0.5, 0.125, 0.0, 0.125, 0.5, 2.5], [1.375, 0.375, 0.125, 0.0, 0.125, 0.375, 1.375]]
    assert gradient == [[-1.0, -1.0, -0.5, 0.0, 0.5, 1.0, 1.0], [-0.5, -0.5, -0.5, 0.0, 0.5, 0.5, 0.5]]


# --- whole algorithms: linear Q-functions, q = weights @ observation ---


class Problem:
    """Random Q-functions (M, A, D) and a batch in which member 1 bootstraps rarely."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator)

        self.online, self.target = normal(M, A, D), normal(M, A, D)
        discount_t = torch.tensor([0.9, 0.99, 0.5]).unsqueeze(-1).repeat(1, B)
        discount_t[0, ::3] = 0.0
        discount_t[1, 1:] = 0.0
        self.batch = Batch(
            obs_tm1=normal(M, B, D),
            a_tm1=torch.randint(A, (M, B), generator=generator),
            r_t=normal(M, B),
            discount_t=discount_t,
            obs_t=normal(M, B, D),
        )

    def learn(self, algorithm: Algorithm, shared: bool = False) -> tuple[Losses, Tensor, Tensor | None]:
        """The losses, and the gradients of the sum of their means for the online and target weights."""
        online = self.online.clone().requires_grad_()
        target = online if shared else self.target.clone().requires_grad_()
        losses = algorithm(q_function(online), q_function(target), self.batch, torch.zeros(M, B, 0))
        losses.loss.mean(1).sum().backward()
        assert online.grad is not None
        return losses, online.grad, target.grad


def q_function(weights: Tensor) -> OutputFunction:
    return lambda observations, fractions=None: torch.einsum("mbd,mad->mba", observations, weights)


def naive_targets(problem: Problem, online: Array, target: Array, double: bool) -> Array:
    targets = np.zeros((M, B))
    batch = problem.batch
    for m in range(M):
        for b in range(B):
            obs_t = batch.obs_t[m, b].double().numpy()
            q_online, q_target = online[m] @ obs_t, target[m] @ obs_t
            value = q_target[q_online.argmax()] if double else q_target.max()
            targets[m, b] = batch.r_t[m, b].item() + batch.discount_t[m, b].item() * value
    return targets


def naive_errors(problem: Problem, online: Array, targets: Array) -> Array:
    errors = np.zeros((M, B))
    for m in range(M):
        for b in range(B):
            q_tm1 = online[m] @ problem.batch.obs_tm1[m, b].double().numpy()
            errors[m, b] = targets[m, b] - q_tm1[problem.batch.a_tm1[m, b].item()]
    return errors


def naive_losses(errors: Array, huber: bool) -> Array:
    losses = np.zeros((M, B))
    for m in range(M):
        for b, error in enumerate(errors[m]):
            if not huber:
                losses[m, b] = FACTORS[m] * error**2
            elif abs(error) <= THRESHOLDS[m]:
                losses[m, b] = error**2 / 2
            else:
                losses[m, b] = THRESHOLDS[m] * (abs(error) - THRESHOLDS[m] / 2)
    return losses


def finite_differences(function: Callable[[Array], float], at: Array) -> Array:
    gradient = np.zeros_like(at)
    for index in np.ndindex(at.shape):
        step = np.zeros_like(at)
        step[index] = 1e-6
        gradient[index] = (function(at + step) - function(at - step)) / 2e-6
    return gradient


def td_loss(huber: bool) -> TDLoss:
    return Huber(torch.tensor(THRESHOLDS)) if huber else SquaredError(torch.tensor(FACTORS))


@pytest.mark.parametrize("huber", [False, True], ids=["mse", "huber"])
@pytest.mark.parametrize("double", [False, True], ids=["dqn", "double_dqn"])
@pytest.mark.parametrize("shared", [False, True], ids=["target_network", "no_target_network"])
def test_losses_and_gradients(double: bool, huber: bool, shared: bool) -> None:
    """Also without a target network are the targets constants: the finite differences hold them fixed."""
    problem = Problem()
    online = problem.online.double().numpy()
    target = online if shared else problem.target.double().numpy()
    targets = naive_targets(problem, online, target, double)

    def loss(weights: Array) -> float:
        return float(naive_losses(naive_errors(problem, weights, targets), huber).mean(1).sum())

    losses, gradient, target_gradient = problem.learn(DQN(double, nn.Identity(), td_loss(huber)), shared)
    errors = naive_errors(problem, online, targets)
    np.testing.assert_allclose(losses.td_error, errors, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(losses.q, targets - errors, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(losses.loss.detach(), naive_losses(errors, huber), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(gradient, finite_differences(loss, online), rtol=1e-4, atol=1e-5)
    assert not losses.td_error.requires_grad
    assert not losses.q.requires_grad
    assert shared or target_gradient is None
    if huber:  # both branches were taken
        assert 0 < (abs(errors) > np.array(THRESHOLDS)[:, None]).sum() < M * B


@pytest.mark.parametrize("huber", [False, True], ids=["mse", "huber"])
def test_losses_and_gradients_of_returns(huber: bool) -> None:
    """PQN: the rewards are the targets, whatever comes next."""
    problem = Problem()
    online, targets = problem.online.double().numpy(), problem.batch.r_t.double().numpy()

    def loss(weights: Array) -> float:
        return float(naive_losses(naive_errors(problem, weights, targets), huber).mean(1).sum())

    algorithm = PQN(False, nn.Identity(), td_loss(huber))
    losses, gradient, target_gradient = problem.learn(algorithm)
    errors = naive_errors(problem, online, targets)
    np.testing.assert_allclose(losses.td_error, errors, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(losses.q, targets - errors, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(losses.priority, abs(errors), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(losses.loss.detach(), naive_losses(errors, huber), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(gradient, finite_differences(loss, online), rtol=1e-4, atol=1e-5)
    assert target_gradient is None
    assert not losses.td_error.requires_grad
    assert not losses.q.requires_grad
    if huber:
        assert 0 < (abs(errors) > np.array(THRESHOLDS)[:, None]).sum() < M * B


def test_returns_are_learned_by_one_call_of_one_network() -> None:
    problem, seen = Problem(), []
    online = q_function(problem.online)

    def watched(observations: Tensor, fractions: Tensor | None = None, /) -> Tensor:
        seen.append(observations)
        return online(observations)

    def never(observations: Tensor, fractions: Tensor | None = None, /) -> Tensor:
        raise AssertionError("there is no target network")

    algorithm = PQN(False, nn.Identity(), td_loss(huber=False))
    algorithm(watched, never, problem.batch, torch.zeros(M, B, 0))
    assert algorithm.network_calls == 1
    assert len(seen) == 1
    assert torch.equal(seen[0], problem.batch.obs_tm1)


def test_the_problem_tells_the_algorithms_apart() -> None:
    problem = Problem()
    online, target = problem.online.double().numpy(), problem.target.double().numpy()
    single, double = (naive_targets(problem, online, target, double) for double in (False, True))
    assert (double <= single).all()
    assert (double < single).sum() > M * B // 4


@pytest.mark.parametrize("double", [False, True])
def test_a_terminal_transition_is_worth_its_reward_whatever_comes_next(double: bool) -> None:
    problem = Problem()
    batch = problem.batch._replace(discount_t=torch.zeros(M, B))
    other = batch._replace(obs_t=1000 * torch.ones(M, B, D))
    for each in (batch, other):
        problem.batch = each
        losses, _, _ = problem.learn(DQN(double, nn.Identity(), td_loss(huber=False)))
        torch.testing.assert_close(losses.td_error + losses.q, batch.r_t)


def test_half_precision_values_become_targets_and_losses_in_single() -> None:
    problem = Problem()
    online, target = q_function(problem.online), q_function(problem.target)
    losses = DQN(False, nn.Identity(), td_loss(huber=True))(
        lambda obs, fractions=None: online(obs).bfloat16(),
        lambda obs, fractions=None: target(obs).bfloat16(),
        problem.batch,
        torch.zeros(M, B, 0),
    )
    assert {tensor.dtype for tensor in losses} == {torch.float32}
