"""Fully parameterized quantile functions against loops in float64, and against the distance that proposals lessen."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from dqn.algorithms.fqf import FQF
from dqn.algorithms.losses import Huber
from dqn.learner import Learner
from dqn.memory.batch import Batch
from dqn.networks.initialization import initialize
from dqn.networks.proposed import Proposed, ProposedQuantiles
from dqn.networks.readout import MeanOfProposed
from dqn.optim import Adam
from dqn.target import NoTarget

Array = npt.NDArray[np.float64]
M, B, A, K = 2, 7, 3, 4
WIDTH, COSINES = 5, 6
THRESHOLDS = [1.0, 0.3]


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def outputs(seed: int) -> Tensor:
    """What a network might say: quantiles (M, B, A, 2K - 1), then bounds (M, B, A, K - 1) that all actions share."""
    bounds = normal(seed + 50, M, B, 1, K).softmax(-1).cumsum(-1)[..., :-1]
    return torch.cat([normal(seed, M, B, A, 2 * K - 1), bounds.expand(-1, -1, A, -1)], -1)


def read(one: Array) -> tuple[Array, Array, Array, Array]:
    """Outputs (3K - 2,) to quantiles, quantiles at bounds, middles and widths of the shares."""
    edges = np.concatenate([[0.0], one[2 * K - 1 :], [1.0]])
    return one[:K], one[K : 2 * K - 1], (edges[:-1] + edges[1:]) / 2, edges[1:] - edges[:-1]


@pytest.mark.parametrize("double", [False, True])
def test_losses_and_gradients(double: bool) -> None:
    taken, coming, chooses = outputs(0).float().requires_grad_(), outputs(1).float(), outputs(2).float()
    actions = torch.randint(A, (M, B), generator=torch.Generator().manual_seed(1))
    discount_t = torch.tensor([[0.99], [0.5]]).repeat(1, B)
    discount_t[:, ::3] = 0.0
    rewards = normal(3, M, B).float()
    batch = Batch(torch.zeros(M, B, 1), actions, rewards, discount_t, torch.ones(M, B, 1))
    algorithm = FQF(double, MeanOfProposed(), Huber(torch.tensor(THRESHOLDS)))
    losses = algorithm(
        lambda obs, fractions=None, /: chooses if obs[0, 0, 0] else taken,
        lambda *_: coming,
        batch,
        torch.zeros(M, B, 0),
    )
    losses.loss.sum().backward()
    assert taken.grad is not None
    expected = np.zeros(taken.shape)
    for m, b in np.ndindex(M, B):
        a = int(actions[m, b])
        says_t = [coming[m, b, i].double().numpy() for i in range(A)]
        judges = [chooses[m, b, i].double().numpy() for i in range(A)] if double else says_t
        best = int(np.argmax([(read(one)[0] * read(one)[3]).sum() for one in judges]))
        samples, _, _, widths_t = read(says_t[best])
        quantiles, at_bounds, middles, widths = read(taken[m, b, a].detach().double().numpy())
        r, discount, kappa = float(rewards[m, b]), float(discount_t[m, b]), THRESHOLDS[m]
        loss = 0.0
        for i in range(K):
            for sample, probability in zip(samples, widths_t, strict=True):
                u = r + discount * sample - quantiles[i]
                weight = abs(middles[i] - (u < 0)) / kappa * probability
                loss += weight * (u**2 / 2 if abs(u) <= kappa else kappa * (abs(u) - kappa / 2))
                expected[m, b, a, i] -= weight * np.clip(u, -kappa, kappa)
        for i in range(K - 1):
            expected[m, b, a, 2 * K - 1 + i] = 2 * at_bounds[i] - quantiles[i] - quantiles[i + 1]
        q, target = (quantiles * widths).sum(), r + discount * (samples * widths_t).sum()
        assert losses.loss[m, b].item() == pytest.approx(loss, abs=1e-5)
        assert losses.q[m, b].item() == pytest.approx(q, abs=1e-5)
        assert losses.td_error[m, b].item() == pytest.approx(target - q, abs=1e-5)
        assert losses.priority[m, b].item() == pytest.approx(abs(target - q), abs=1e-5)
    np.testing.assert_allclose(taken.grad, expected, atol=1e-5)


def head() -> ProposedQuantiles:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(WIDTH, 8), nn.Tanh(), nn.Linear(8, A))
    module = ProposedQuantiles(WIDTH, COSINES, K, layers).double()
    nn.init.normal_(module.proposal.weight)
    nn.init.normal_(module.proposal.bias)
    return module


def quantile(module: ProposedQuantiles, feature: Tensor, fraction: float) -> Tensor:
    """Of each action, (A,), as equation 4 of IQN has it."""
    cosines = torch.tensor([np.cos(np.pi * i * fraction) for i in range(COSINES)], dtype=torch.float64)
    layer = module.embedding.layer[0]
    embedded = torch.relu(layer.weight @ cosines + layer.bias)
    said: Tensor = module.head(feature * embedded)
    return said


def test_the_head_says_quantiles_where_it_proposes() -> None:
    module, features = head(), normal(4, B, WIDTH)
    said = Proposed.of(module(features).detach())
    for b in range(B):
        shares = (module.proposal.weight @ features[b] + module.proposal.bias).softmax(-1).detach()
        edges = np.concatenate([[0.0], np.cumsum(shares.numpy())])
        for a in range(A):
            np.testing.assert_allclose(said.shares[b, a], shares, atol=1e-6)
            np.testing.assert_allclose(said.bounds[b, a], edges[1:-1], atol=1e-6)
        for k in range(K):
            expected = quantile(module, features[b], (edges[k] + edges[k + 1]) / 2).detach()
            np.testing.assert_allclose(said.quantiles[b, :, k], expected, atol=1e-5)
            if k:
                expected = quantile(module, features[b], edges[k]).detach()
                np.testing.assert_allclose(said.at_bounds[b, :, k - 1], expected, atol=1e-5)
        np.testing.assert_allclose(said.mean[b], (said.quantiles[b] * shares).sum(-1), atol=1e-6)


@pytest.mark.parametrize("name", ["torch", "orthogonal"])
def test_shares_are_equal_in_the_beginning(name: str) -> None:
    module = head()
    initialize(module, name, seed=1)
    said = Proposed.of(module(normal(4, B, WIDTH)))
    np.testing.assert_allclose(said.shares.detach(), 1 / K, atol=1e-6)
    assert said.quantiles.std() > 0


def test_each_loss_changes_its_own_weights() -> None:
    module, features = head(), normal(4, B, WIDTH).requires_grad_()
    said = Proposed.of(module(features))
    own, inputs = set(module.proposal.parameters()), [features, *module.parameters()]
    for part, is_reached in (("bounds", own), ("quantiles", set(inputs) - own), ("at_bounds", set())):
        gradients = torch.autograd.grad(getattr(said, part).square().sum(), inputs, retain_graph=True)
        for tensor, gradient in zip(inputs, gradients, strict=True):
            assert gradient.any() == (tensor in is_reached)


def test_proposals_lessen_the_distance_between_the_quantile_function_and_its_steps() -> None:
    """Their gradient is that of the 1-Wasserstein distance, here of an increasing function by quadrature."""

    def inverse(fractions: Array) -> Array:
        return fractions**3 + 0.5 * fractions

    def distance(bounds: Array) -> float:
        edges, total = np.concatenate([[0.0], bounds, [1.0]]), 0.0
        for low, high in itertools.pairwise(edges):
            # Between the kinks, where the midpoint rule is exact enough.
            for start, end in ((low, (low + high) / 2), ((low + high) / 2, high)):
                points = start + (np.arange(2000) + 0.5) / 2000 * (end - start)
                total += float(np.abs(inverse(points) - inverse(np.array((low + high) / 2))).mean() * (end - start))
        return total

    bounds = np.array([0.15, 0.5, 0.7])
    edges = np.concatenate([[0.0], bounds, [1.0]])
    said = np.concatenate([inverse((edges[:-1] + edges[1:]) / 2), inverse(bounds), bounds])
    taken = torch.tensor(said).expand(1, 1, 1, -1).clone().requires_grad_()
    batch = Batch(torch.zeros(1, 1, 1), torch.zeros(1, 1, dtype=torch.int64), torch.zeros(1, 1), torch.zeros(1, 1),
                  torch.zeros(1, 1, 1))  # fmt: skip
    algorithm = FQF(False, MeanOfProposed(), Huber(torch.tensor([1.0])))
    losses = algorithm(lambda *_: taken, lambda *_: taken.detach(), batch, torch.zeros(1, 1, 0))
    (gradient,) = torch.autograd.grad(losses.loss.sum(), [taken])
    for i in range(K - 1):
        step = np.zeros(K - 1)
        step[i] = 1e-5
        expected = (distance(bounds + step) - distance(bounds - step)) / 2e-5
        assert gradient[0, 0, 0, 2 * K - 1 + i].item() == pytest.approx(expected, abs=1e-4)


def test_parameters_may_take_shares_of_the_optimizers_steps() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(2, A))
    rates = torch.tensor([0.0, 0.25, 1.0] * A)

    class Sum(FQF):
        def __call__(self, online, target, batch, draws):  # type: ignore[no-untyped-def]
            losses = super().__call__(lambda *_: coming, lambda *_: coming, batch, draws)
            return losses._replace(loss=online(batch.obs_tm1).sum(-1))

    coming = outputs(0).float()[:1]
    batch = Batch(torch.ones(1, B, 2), torch.zeros(1, B, dtype=torch.int64), torch.zeros(1, B), torch.zeros(1, B),
                  torch.ones(1, B, 2))  # fmt: skip
    one = torch.tensor([1.0])
    steps = []
    for relative in (None, rates):
        learner = Learner(
            network, torch.zeros(1, 9), Sum(False, MeanOfProposed(), Huber(one)),
            Adam(0.9 * one, 0.999 * one, 1e-8 * one), NoTarget(), one * torch.inf, relative_rates=relative,
        )  # fmt: skip
        learner.update(batch, one)
        steps.append(learner.parameters.clone())
    assert steps[0].abs().min() > 0.9
    torch.testing.assert_close(steps[1], rates * steps[0])
