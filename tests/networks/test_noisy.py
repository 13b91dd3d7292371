"""Noisy layers and implicit quantiles against the formulas of their papers, alone and in populations."""

from __future__ import annotations

import math
from contextlib import nullcontext

import pytest
import torch
from scipy import stats
from torch import Tensor, nn
from torch.nn import functional as F

from dqn.compilation import _traced
from dqn.envs.base import EnvironmentSpec
from dqn.networks.heads import Head, dueling, linear, quantiles_at_fractions, shared_bias
from dqn.networks.implicit import ImplicitQuantiles
from dqn.networks.initialization import initialize
from dqn.networks.noisy import NoisyLinear, noise_of
from dqn.networks.population import Population, flatten_parameters, member_network
from dqn.networks.q_network import mlp, nips_cnn
from dqn.networks.readout import MeanQuantile

CPU = torch.device("cpu")
VECTOR = EnvironmentSpec((4,), "float32", 1, None, 3, ("a", "b", "c"), 1, None)
IMAGE = EnvironmentSpec((2, 36, 36), "uint8", 1, None, 3, ("a", "b", "c"), 1, None)


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# --- noise ---


def test_noise_is_the_root_of_the_size_of_normal_numbers() -> None:
    uniforms = torch.rand(100_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    noise = noise_of(uniforms)
    assert noise.dtype == torch.float32
    assert stats.kstest((noise.double().sign() * noise.double().square()).numpy(), "norm").pvalue > 0.01
    ends = noise_of(torch.tensor([0.0, 0.5, 1.0 - 2.0**-53], dtype=torch.float64))
    assert torch.isfinite(ends).all()
    assert ends[1] == 0.0


@pytest.mark.parametrize("bias", [True, False])
def test_a_noisy_layer_is_a_linear_one_with_factorised_noise_on_its_parameters(bias: bool) -> None:
    layer = NoisyLinear(5, 3, 0.5, bias)
    assert layer.weight_std.unique().tolist() == pytest.approx([0.5 / math.sqrt(5)])
    nn.init.uniform_(layer.weight_std)
    layer.noise = normal(0, 8)
    inputs = normal(1, 7, 5)
    epsilon_in, epsilon_out = layer.noise[:5], layer.noise[5:]
    weight = layer.weight + layer.weight_std * torch.outer(epsilon_out, epsilon_in)
    offset = None if layer.bias is None or layer.bias_std is None else layer.bias + layer.bias_std * epsilon_out
    assert (offset is not None) == bias
    torch.testing.assert_close(layer(inputs), F.linear(inputs, weight, offset))
    torch.testing.assert_close(layer.mean()(inputs), F.linear(inputs, layer.weight, layer.bias))


@pytest.mark.parametrize("initialization", ["torch", "xavier_uniform"])
def test_initialization_sets_means_as_of_any_layer_and_deviations_by_their_width(initialization: str) -> None:
    noisy, plain = mlp(VECTOR, [9, 4], "relu", noise_std=0.1), mlp(VECTOR, [9, 4], "relu")
    for network in (noisy, plain):
        initialize(network, initialization, 3)
    stds = {name: p for name, p in noisy.named_parameters() if name.endswith("_std")}
    for name, parameter in plain.named_parameters():
        assert torch.equal(noisy.get_parameter(name), parameter)
    assert len(stds) == 4  # the last hidden layer and the output; the first hidden layer belongs to the torso
    for name, std in stds.items():
        width = noisy.get_parameter(name.replace("bias_std", "weight_std")).shape[1]
        assert std.unique().tolist() == pytest.approx([0.1 / math.sqrt(width)])


# --- implicit quantiles ---


def test_quantiles_are_the_heads_at_features_times_the_embedding_of_fractions() -> None:
    """Equations 3 and 4 of arXiv 1806.06923, one observation and one fraction at a time."""
    head = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    module = ImplicitQuantiles(6, num_cosines=4, num_fractions=3, head=head)
    features = normal(0, 2, 6)
    (embedding, _) = module.embedding.layer

    def by_hand(feature: Tensor, fraction: float) -> Tensor:
        cosines = torch.tensor([math.cos(math.pi * i * fraction) for i in range(4)])
        return head(feature * F.relu(embedding(cosines)))

    own = module(features)
    assert own.shape == (2, 3, 3)
    for n in range(2):
        for k, fraction in enumerate([1 / 6, 3 / 6, 5 / 6]):
            torch.testing.assert_close(own[n, :, k], by_hand(features[n], fraction))
    torch.testing.assert_close(module.settled()(features), own)
    fractions = torch.tensor([[0.1, 0.9], [0.3, 0.31]])
    module.fractions = fractions
    for n in range(2):
        for k in range(2):
            torch.testing.assert_close(module(features)[n, :, k], by_hand(features[n], float(fractions[n, k])))


# --- populations ---

HEADS: dict[str, Head] = {
    "linear": linear,
    "dueling": dueling,
    "shared_bias": shared_bias,
    "quantiles": quantiles_at_fractions(ImplicitQuantiles, dueling, 5, 4),
}


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("image", [False, True])
@pytest.mark.parametrize("head", HEADS)
def test_members_see_noise_and_fractions_of_their_own(head: str, image: bool, members: int, traced: bool) -> None:
    spec = IMAGE if image else VECTOR

    def make() -> nn.Sequential:
        return nips_cnn(spec, HEADS[head], 1, 0.5) if image else mlp(spec, [7, 6], "relu", HEADS[head], 1, 0.5)

    networks = [make() for _ in range(members)]
    for seed, network in enumerate(networks):
        initialize(network, "torch", seed)
    parameters = flatten_parameters(networks, CPU)
    population = Population(make(), parameters)
    observations = normal(0, members, 5, *spec.observation_shape)
    if image:
        observations = (observations * 40 + 128).to(torch.uint8)
    noise = normal(1, members, population.noise_size)
    has_fractions = head == "quantiles"
    fractions = torch.rand(members, 5, 4, generator=torch.Generator().manual_seed(2)) if has_fractions else None
    with _traced() if traced else nullcontext():
        found = population(observations, noise, fractions)
    quiet = population(observations)
    assert not torch.allclose(found, quiet, atol=1e-3)
    for m, network in enumerate(networks):
        torch.testing.assert_close(quiet[m], network(observations[m]), rtol=1e-4, atol=1e-5)
        alone = member_network(make(), parameters[m], MeanQuantile() if has_fractions else None)
        assert not any(isinstance(layer, NoisyLinear | ImplicitQuantiles) for layer in alone.modules())
        expected = network(observations[m])
        torch.testing.assert_close(alone(observations[m]), expected.mean(-1) if has_fractions else expected)
        begin = 0
        for layer in network.modules():
            if isinstance(layer, NoisyLinear):
                layer.noise = noise[m, begin : begin + len(layer.noise)]
                begin += len(layer.noise)
            if isinstance(layer, ImplicitQuantiles) and fractions is not None:
                layer.fractions = fractions[m]
        assert begin == population.noise_size
        torch.testing.assert_close(found[m], network(observations[m]), rtol=1e-4, atol=1e-5)
