"""Heads against what their papers say, and the parameters that they have."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dqn.envs.base import EnvironmentSpec
from dqn.networks.heads import Dueling, Head, dueling, linear, shared_bias
from dqn.networks.initialization import initialize
from dqn.networks.q_network import mlp, nature_cnn

A = 3


def spec(*shape: int, dtype: str = "float32") -> EnvironmentSpec:
    return EnvironmentSpec(shape, dtype, 1, None, A, ("a", "b", "c"), 1, None)


@pytest.mark.parametrize("per_action", [1, 5])
@pytest.mark.parametrize("head", [linear, shared_bias, dueling])
@pytest.mark.parametrize("hidden_sizes", [[], [8], [8, 6]])
def test_shapes(hidden_sizes: list[int], head: Head, per_action: int) -> None:
    network = mlp(spec(4), hidden_sizes, "relu", head, per_action)
    assert network(torch.zeros(2, 4)).shape == ((2, A) if per_action == 1 else (2, A, per_action))


@pytest.mark.parametrize("per_action", [1, 5])
def test_dueling_is_value_plus_advantage_over_the_mean(per_action: int) -> None:
    network = mlp(spec(4), [8, 6], "tanh", dueling, per_action)
    initialize(network, "torch", seed=1)
    observations = torch.randn(7, 4, generator=torch.Generator().manual_seed(0))
    outputs = network(observations).view(7, A, per_action)
    *torso, head = network
    assert isinstance(head, Dueling)
    features = nn.Sequential(*torso)(observations)
    value, advantage = head.value(features), head.advantage(features).view(7, A, per_action)
    for a in range(A):
        expected = value + advantage[:, a] - (advantage[:, 0] + advantage[:, 1] + advantage[:, 2]) / A
        torch.testing.assert_close(outputs[:, a], expected)
    torch.testing.assert_close(outputs.mean(1), value)


def test_a_dueling_head_may_send_on_less_of_its_gradient() -> None:
    features = torch.randn(7, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    found = []
    for scale in (1.0, 0.25):
        torch.manual_seed(0)
        (head,) = dueling(lambda outputs: [nn.Linear(4, outputs)], A, 1, scale)
        outputs = head(features)
        found.append((outputs, *torch.autograd.grad(outputs.square().sum(), [features, *head.parameters()])))
    whole, scaled = found
    torch.testing.assert_close(scaled[1], 0.25 * whole[1])
    for one, other in zip(whole[:1] + whole[2:], scaled[:1] + scaled[2:], strict=True):
        torch.testing.assert_close(one, other)


def test_each_stream_of_a_dueling_network_has_the_hidden_layer() -> None:
    """As in the paper: 512 units for the value, and 512 for the advantages."""
    network = nature_cnn(spec(4, 84, 84, dtype="uint8"), dueling)
    sizes = [(layer.in_features, layer.out_features) for layer in network.modules() if isinstance(layer, nn.Linear)]
    assert sizes == [(3136, 512), (512, 1), (3136, 512), (512, A)]


@pytest.mark.parametrize("per_action", [1, 5])
def test_a_shared_bias_adds_the_same_to_all_actions(per_action: int) -> None:
    network = mlp(spec(4), [8], "relu", shared_bias, per_action)
    before = network(torch.ones(1, 4))
    network[-1].bias.data += 2.0
    torch.testing.assert_close(network(torch.ones(1, 4)), before + 2.0)
    biases = [layer.bias is not None for layer in network.modules() if isinstance(layer, nn.Linear)]
    assert biases == [True, False]
    assert network[-1].bias.numel() == per_action
