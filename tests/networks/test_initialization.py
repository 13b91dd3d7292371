"""Initial weights: their distribution by name, and that they come from the seed alone."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from dqn.networks.initialization import initialize

NAMES = ["torch", "xavier_uniform", "he_uniform", "he_normal", "orthogonal", "uniform_01", "zeros"]
FAN_IN, FAN_OUT = 4 * 5 * 5, 8 * 5 * 5  # of the convolution below


def network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(4, 8, 5), nn.ReLU(), nn.Flatten(), nn.Linear(600, 300), nn.Linear(300, 2, bias=False)
    )


def initialized(name: str, seed: int = 0) -> nn.Sequential:
    module = network()
    for parameter in module.parameters():
        parameter.data.fill_(float("nan"))
    initialize(module, name, seed)
    return module


def assert_uniform(weights: torch.Tensor, low: float, high: float) -> None:
    """Within the bounds, close to them, and with the moments of a uniform distribution."""
    width = high - low
    assert low <= weights.min()
    assert weights.max() <= high
    margin = 10 * width / weights.numel()
    assert weights.min() < low + margin
    assert weights.max() > high - margin
    deviation = width / math.sqrt(12)
    assert weights.mean().item() == pytest.approx((low + high) / 2, abs=4 * deviation / math.sqrt(weights.numel()))
    assert weights.std().item() == pytest.approx(deviation, rel=4 / math.sqrt(weights.numel()))


@pytest.mark.parametrize("name", NAMES)
def test_sets_every_parameter_from_the_seed_alone(name: str) -> None:
    torch.manual_seed(1)
    first = nn.utils.parameters_to_vector(initialized(name, seed=5).parameters())
    torch.manual_seed(2)
    state = torch.get_rng_state()
    module = network()
    assert not torch.equal(torch.get_rng_state(), state)  # as PyTorch itself does on construction
    state = torch.get_rng_state()
    initialize(module, name, 5)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(nn.utils.parameters_to_vector(module.parameters()), first)
    assert torch.isfinite(first).all()
    other = nn.utils.parameters_to_vector(initialized(name, seed=6).parameters())
    assert torch.equal(first, other) == (name == "zeros")


@pytest.mark.parametrize("name", NAMES[1:])
def test_biases_are_zero_by_every_other_name(name: str) -> None:
    module = initialized(name)
    assert (module[0].bias == 0).all()
    assert (module[3].bias == 0).all()


def test_torch_is_uniform_by_fan_in_with_biases_as_pytorch_has_it() -> None:
    module = initialized("torch")
    assert_uniform(module[0].weight, -(FAN_IN**-0.5), FAN_IN**-0.5)
    assert_uniform(module[3].weight, -(600**-0.5), 600**-0.5)
    assert_uniform(module[3].bias, -(600**-0.5), 600**-0.5)
    assert module[0].bias.abs().max() <= FAN_IN**-0.5
    assert module[0].bias.abs().min() > 0


def test_xavier_uniform() -> None:
    module = initialized("xavier_uniform")
    for layer, fans in ((module[0], FAN_IN + FAN_OUT), (module[3], 900)):
        assert_uniform(layer.weight, -math.sqrt(6 / fans), math.sqrt(6 / fans))


def test_he_uniform() -> None:
    module = initialized("he_uniform")
    for layer, fan_in in ((module[0], FAN_IN), (module[3], 600)):
        assert_uniform(layer.weight, -math.sqrt(6 / fan_in), math.sqrt(6 / fan_in))


def test_he_normal() -> None:
    module = initialized("he_normal")
    for layer, fan_in in ((module[0], FAN_IN), (module[3], 600)):
        count = layer.weight.numel()
        assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / fan_in), rel=3 / math.sqrt(count))
        # A normal distribution, not a uniform one: 4.55 % lie beyond two deviations.
        beyond = (layer.weight.abs() > 2 * math.sqrt(2 / fan_in)).double().mean().item()
        assert beyond == pytest.approx(0.0455, abs=4 * math.sqrt(0.0455 / count))


def test_orthogonal() -> None:
    rows = initialized("orthogonal")[0].weight.flatten(1)
    torch.testing.assert_close(rows @ rows.T, torch.eye(8), rtol=0, atol=1e-5)


def test_uniform_01() -> None:
    assert_uniform(initialized("uniform_01")[3].weight, 0.0, 1.0)


def test_zeros() -> None:
    assert all((parameter == 0).all() for parameter in initialized("zeros").parameters())
