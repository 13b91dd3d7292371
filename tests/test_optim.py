"""Each optimizer, for three members with constants of their own, against torch.optim or the published formula."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from dqn.optim import SGD, Adam, CenteredRMSProp, Optimizer, RAdam, RMSProp, clip_by_norm

MEMBERS, WIDTH, STEPS = 3, 7, 50
LEARNING_RATES = [1e-3, 2e-2, 0.3]

Reference = Callable[[list[Tensor], int], torch.optim.Optimizer]


def trait(*values: float, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.tensor(values, dtype=dtype)


def gradients(dtype: torch.dtype) -> Tensor:
    """Of sizes from 1e-3 to 1e3, with a coordinate that has none and one that has one seldom."""
    generator = torch.Generator().manual_seed(0)
    size = torch.logspace(-3, 3, WIDTH, dtype=torch.float64)
    drawn = torch.randn(STEPS, MEMBERS, WIDTH, generator=generator, dtype=torch.float64) * size
    drawn[:, :, 0] = 0.0
    drawn[::2, :, 1] = 0.0
    return drawn.to(dtype)


def initial_parameters(dtype: torch.dtype) -> Tensor:
    return torch.linspace(-1, 1, MEMBERS * WIDTH, dtype=torch.float64).view(MEMBERS, WIDTH).to(dtype)


def run(optimizer: Optimizer, dtype: torch.dtype) -> Tensor:
    """The parameters after each step, (STEPS, M, P)."""
    parameters, path = initial_parameters(dtype), []
    state = optimizer.init(parameters)
    for step, gradient in enumerate(gradients(dtype)):
        # The learning rate follows a schedule.
        optimizer.update_(parameters, gradient, state, trait(*LEARNING_RATES, dtype=dtype) / (1 + step // 20))
        path.append(parameters.clone())
    return torch.stack(path)


def run_reference(make: Reference, dtype: torch.dtype) -> Tensor:
    """The same by one torch.optim optimizer per member."""
    members = []
    for m in range(MEMBERS):
        parameters, path = initial_parameters(dtype)[m].requires_grad_(), []
        optimizer = make([parameters], m)
        for step, gradient in enumerate(gradients(dtype)[:, m]):
            optimizer.param_groups[0]["lr"] = LEARNING_RATES[m] / (1 + step // 20)
            parameters.grad = gradient.clone()
            optimizer.step()
            path.append(parameters.detach().clone())
        members.append(torch.stack(path))
    return torch.stack(members, dim=1)


BETA1, BETA2, EPSILON = [0.9, 0.0, 0.5], [0.999, 0.9, 0.95], [1e-8, 1e-3, 1.0]
DECAY, MOMENTUM = [0.99, 0.9, 0.5], [0.0, 0.9, 0.5]

CASES: dict[str, tuple[Callable[[torch.dtype], Optimizer], Reference]] = {
    "adam": (
        lambda t: Adam(trait(*BETA1, dtype=t), trait(*BETA2, dtype=t), trait(*EPSILON, dtype=t)),
        lambda p, m: torch.optim.Adam(p, betas=(BETA1[m], BETA2[m]), eps=EPSILON[m]),
    ),
    "radam": (
        lambda t: RAdam(trait(*BETA1, dtype=t), trait(*BETA2, dtype=t), trait(*EPSILON, dtype=t)),
        lambda p, m: torch.optim.RAdam(p, betas=(BETA1[m], BETA2[m]), eps=EPSILON[m]),
    ),
    "rmsprop": (
        lambda t: RMSProp(trait(*DECAY, dtype=t), trait(*EPSILON, dtype=t)),
        lambda p, m: torch.optim.RMSprop(p, alpha=DECAY[m], eps=EPSILON[m]),
    ),
    "sgd": (
        lambda t: SGD(trait(*MOMENTUM, dtype=t)),
        lambda p, m: torch.optim.SGD(p, lr=1.0, momentum=MOMENTUM[m]),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_agrees_with_torch(name: str) -> None:
    make, reference = CASES[name]
    dtype = torch.float64
    torch.testing.assert_close(run(make(dtype), dtype), run_reference(reference, dtype), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("name", CASES)
def test_single_precision_costs_only_rounding(name: str) -> None:
    make, _ = CASES[name]
    exact = run(make(torch.float64), torch.float64) - initial_parameters(torch.float64)
    rounded = run(make(torch.float32), torch.float32).double() - initial_parameters(torch.float64)
    torch.testing.assert_close(rounded, exact, rtol=1e-4, atol=1e-5)


def test_centered_rmsprop_is_the_published_formula() -> None:
    """g <- decay g + (1 - decay) d; n <- decay n + (1 - decay) d^2; w <- w - lr d / sqrt(n - g^2 + epsilon)."""
    dtype, epsilon = torch.float64, [0.01, 1e-5, 1.0]
    path = run(CenteredRMSProp(trait(*DECAY), trait(*epsilon)), dtype).numpy()
    for m in range(MEMBERS):
        w = initial_parameters(dtype)[m].numpy().copy()
        g, n = np.zeros(WIDTH), np.zeros(WIDTH)
        for step, d in enumerate(gradients(dtype)[:, m].numpy()):
            g = DECAY[m] * g + (1 - DECAY[m]) * d
            n = DECAY[m] * n + (1 - DECAY[m]) * d**2
            w -= LEARNING_RATES[m] / (1 + step // 20) * d / np.sqrt(n - g**2 + epsilon[m])
            np.testing.assert_allclose(path[step, m], w, rtol=1e-10, atol=1e-13)


def test_centered_rmsprop_survives_a_variance_that_rounds_below_zero() -> None:
    """A gradient that never changes: n - g^2 tends to 0, and the step to lr d / sqrt(epsilon)."""
    optimizer = CenteredRMSProp(trait(0.5, dtype=torch.float32), trait(1e-12, dtype=torch.float32))
    parameters, gradient = torch.zeros(1, 1000), torch.linspace(0.1, 100, 1000).unsqueeze(0)
    state = optimizer.init(parameters)
    for _ in range(60):
        before = parameters.clone()
        optimizer.update_(parameters, gradient, state, torch.ones(1))
    assert torch.isfinite(parameters).all()
    step = (before - parameters) * 1e-6 / gradient
    assert step.max() <= 1.001
    assert step.median() > 0.5


def test_the_published_epsilon_follows_from_a_sum_to_a_mean_over_the_batch() -> None:
    """Steps of the sum's gradient with 0.01 are those of the mean's with 0.01 / 32^2."""
    of_sum, of_mean = torch.zeros(1, WIDTH).double(), torch.zeros(1, WIDTH).double()
    for parameters, factor, epsilon in ((of_sum, 32.0, 0.01), (of_mean, 1.0, 9.765625e-6)):
        optimizer = CenteredRMSProp(trait(0.95), trait(epsilon))
        state = optimizer.init(parameters)
        for gradient in gradients(torch.float64)[:, :1]:
            optimizer.update_(parameters, factor * gradient, state, trait(2.5e-4))
    torch.testing.assert_close(of_mean, of_sum, rtol=1e-10, atol=0)


@pytest.mark.parametrize("optimizer", [make(torch.float32) for make, _ in CASES.values()], ids=list(CASES))
def test_state_is_zeros_of_its_own_and_changes_in_place(optimizer: Optimizer) -> None:
    parameters = initial_parameters(torch.float32)
    first, second = optimizer.init(parameters), optimizer.init(parameters)
    tensors = dict(first)
    optimizer.update_(parameters, torch.ones_like(parameters), first, torch.ones(MEMBERS))
    for name, tensor in tensors.items():
        assert first[name] is tensor
        assert tensor.shape[0] == MEMBERS
        assert (tensor != 0).all()
        assert (second[name] == 0).all()


# --- clipping ---


def test_clips_each_member_to_its_own_norm() -> None:
    gradients = torch.tensor([[3.0, 4.0], [3.0, 4.0], [3.0, 4.0], [0.3, 0.4], [0.0, 0.0]])
    clipped = clip_by_norm(gradients, gradients.norm(dim=1), torch.tensor([1.0, 5.0, 2.5, 1.0, 1.0]))
    expected = torch.tensor([[0.6, 0.8], [3.0, 4.0], [1.5, 2.0], [0.3, 0.4], [0.0, 0.0]])
    torch.testing.assert_close(clipped, expected)


def test_an_infinite_norm_never_clips() -> None:
    gradients = torch.tensor([[1e18, -3e17], [0.1, 0.7], [0.0, 0.0], [1e-42, 0.0]])
    clipped = clip_by_norm(gradients, gradients.norm(dim=1), torch.full((4,), float("inf")))
    assert torch.equal(clipped, gradients)
