"""The Q-networks that a config can name: an input layer, a torso, and a linear head with one output per action."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import nn

from dqn.envs.base import EnvironmentSpec
from dqn.networks.inputs import OneHot, ScaleImage, ToFloat

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "elu": nn.ELU,
    "silu": nn.SiLU,
    "sigmoid": nn.Sigmoid,
}


def input_layer(spec: EnvironmentSpec) -> nn.Module:
    """The layer that turns this environment's raw observations into floats."""
    if spec.num_states is not None:
        return OneHot(spec.num_states)
    return ScaleImage() if spec.is_image else ToFloat()


def mlp(spec: EnvironmentSpec, hidden_sizes: Sequence[int], activation: str) -> nn.Sequential:
    """A multi-layer perceptron; observations are flattened, discrete ones arrive one-hot."""
    width = spec.num_states or math.prod(spec.observation_shape)
    layers: list[nn.Module] = [input_layer(spec), nn.Flatten()]
    for size in hidden_sizes:
        layers += [nn.Linear(width, size), ACTIVATIONS[activation]()]
        width = size
    return nn.Sequential(*layers, nn.Linear(width, spec.num_actions))


def nips_cnn(spec: EnvironmentSpec) -> nn.Sequential:
    """The network of DQN 2013 (arXiv 1312.5602, section 4.1)."""
    return _cnn(spec, convolutions=[(16, 8, 4), (32, 4, 2)], hidden_size=256)


def nature_cnn(spec: EnvironmentSpec) -> nn.Sequential:
    """The network of DQN 2015 (Nature 518, Methods, "Model architecture"); no padding."""
    return _cnn(spec, convolutions=[(32, 8, 4), (64, 4, 2), (64, 3, 1)], hidden_size=512)


def tabular(spec: EnvironmentSpec) -> nn.Sequential:
    """The Q-table as a network: one weight per state and action, and nothing else.

    Raises:
        ValueError: observations are not discrete.
    """
    if spec.num_states is None:
        raise ValueError(f"needs discrete states, but observations are {spec.frame_dtype} {spec.observation_shape}")
    return nn.Sequential(OneHot(spec.num_states), nn.Linear(spec.num_states, spec.num_actions, bias=False))


def _cnn(spec: EnvironmentSpec, convolutions: Sequence[tuple[int, int, int]], hidden_size: int) -> nn.Sequential:
    """Convolutions given as (channels, kernel, stride), each with a ReLU, then one hidden layer.

    Raises:
        ValueError: observations are no images, or too small.
    """
    if not spec.is_image:
        raise ValueError(f"needs images, but observations are {spec.frame_dtype} {spec.observation_shape}")
    channels, height, width = spec.observation_shape
    layers: list[nn.Module] = [input_layer(spec)]
    for out_channels, kernel, stride in convolutions:
        layers += [nn.Conv2d(channels, out_channels, kernel, stride), nn.ReLU()]
        channels = out_channels
        height, width = (height - kernel) // stride + 1, (width - kernel) // stride + 1
        if height < 1 or width < 1:
            raise ValueError(f"needs larger images than {spec.observation_shape}")
    hidden = nn.Linear(channels * height * width, hidden_size)
    return nn.Sequential(*layers, nn.Flatten(), hidden, nn.ReLU(), nn.Linear(hidden_size, spec.num_actions))
