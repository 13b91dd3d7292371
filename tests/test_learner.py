"""The update step of linear Q-functions against a loop over members and transitions in float64."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from dqn.algorithms.dqn import DQN
from dqn.algorithms.losses import SquaredError
from dqn.learner import Learner
from dqn.memory.batch import Batch
from dqn.optim import SGD
from dqn.target import PeriodicTarget

Array = npt.NDArray[np.float64]
M, B, D, A = 3, 5, 4, 2
RATES, LARGEST_NORMS, ACTIVE = [0.1, 0.3, 0.2], [float("inf"), 0.2, float("inf")], [True, True, False]


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def read(parameters: Array) -> tuple[Array, Array]:
    """Weights and biases of one member."""
    return parameters[: A * D].reshape(A, D), parameters[A * D :]


def naive_gradient(online: Array, target: Array, batch: Batch, m: int, weights: Array) -> tuple[Array, Array]:
    """Of the mean of the weighted losses td^2 / 2 of one member; and the losses."""
    gradient, losses = np.zeros_like(online), np.zeros(B)
    of_weights, of_biases = read(gradient)
    for b in range(B):
        (w, c), (w_target, c_target) = read(online), read(target)
        obs_tm1, obs_t = batch.obs_tm1[m, b].double().numpy(), batch.obs_t[m, b].double().numpy()
        a = int(batch.a_tm1[m, b])
        value = (w_target @ obs_t + c_target).max()
        td = float(batch.r_t[m, b]) + float(batch.discount_t[m, b]) * value - (w[a] @ obs_tm1 + c[a])
        losses[b] = weights[b] * td**2 / 2
        of_weights[a] -= weights[b] * td * obs_tm1 / B
        of_biases[a] -= weights[b] * td / B
    return gradient, losses


@pytest.mark.parametrize("weighted", [False, True])
def test_a_step_goes_down_the_mean_of_the_weighted_losses(weighted: bool) -> None:
    """One member's gradient is clipped, and one does not learn now."""
    template, parameters, ones = nn.Linear(D, A), normal(0, M, A * D + A), torch.ones(M)
    algorithm = DQN(False, nn.Identity(), SquaredError(0.5 * ones))
    rule = PeriodicTarget((10**9,) * M, ones)
    learner = Learner(template, parameters, algorithm, SGD(0.0 * ones), rule, torch.tensor(LARGEST_NORMS))
    learner.target_parameters.copy_(normal(1, M, A * D + A))
    target = learner.target_parameters.clone()
    weights = normal(2, M, B).abs() if weighted else None
    for k in range(3):
        actions = torch.randint(A, (M, B), generator=torch.Generator().manual_seed(k))
        discounts = torch.full((M, B), 0.9)
        batch = Batch(normal(10 + k, M, B, D), actions, normal(20 + k, M, B), discounts, normal(30 + k, M, B, D))
        before = parameters.double().numpy().copy()
        metrics, _ = learner.update(batch, torch.tensor(RATES), torch.tensor(ACTIVE), weights)
        for m in range(M):
            of_one = np.ones(B) if weights is None else weights[m].double().numpy()
            gradient, losses = naive_gradient(before[m], target[m].double().numpy(), batch, m, of_one)
            norm = np.linalg.norm(gradient)
            assert metrics.loss[m].item() == pytest.approx(losses.mean(), rel=1e-5)
            assert metrics.gradient_norm[m].item() == pytest.approx(norm, rel=1e-5)
            assert m != 1 or norm > 2 * LARGEST_NORMS[1]
            step = RATES[m] * gradient * min(1.0, LARGEST_NORMS[m] / norm) * ACTIVE[m]
            np.testing.assert_allclose(parameters[m].double().numpy(), before[m] - step, rtol=1e-5, atol=1e-6)
    assert torch.equal(learner.target_parameters, target)
    assert torch.equal(parameters[2], normal(0, M, A * D + A)[2])
