"""The Q-networks that a config can name: an input layer, a torso, and a head with the outputs of each action."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

from torch import nn

from dqn.envs.base import EnvironmentSpec
from dqn.networks.channel_norm import ChannelNorm
from dqn.networks.heads import Head, linear
from dqn.networks.impala import ImpalaSection
from dqn.networks.inputs import OneHot, ScaleImage, ToFloat
from dqn.networks.noisy import NoisyLinear

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


def mlp(
    spec: EnvironmentSpec,
    hidden_sizes: Sequence[int],
    activation: str,
    head: Head = linear,
    per_action: int = 1,
    noise_std: float | None = None,
    layer_norm: bool = False,
) -> nn.Sequential:
    """A multi-layer perceptron; observations are flattened, discrete ones arrive one-hot.

    The last hidden layer belongs to the head, which may have several of it, with noise if wanted.
    """
    width = spec.num_states or math.prod(spec.observation_shape)
    layers: list[nn.Module] = [input_layer(spec), nn.Flatten()]
    for size in hidden_sizes[:-1]:
        layers += [nn.Linear(width, size), *_norm(layer_norm, size), ACTIVATIONS[activation]()]
        width = size
    stream = partial(_stream, width, hidden_sizes[-1:], ACTIVATIONS[activation], noise_std, layer_norm)
    return nn.Sequential(*layers, *head(stream, spec.num_actions, per_action))


def nips_cnn(
    spec: EnvironmentSpec,
    head: Head = linear,
    per_action: int = 1,
    noise_std: float | None = None,
    layer_norm: bool = False,
) -> nn.Sequential:
    """The network of DQN 2013 (arXiv 1312.5602, section 4.1)."""
    return _cnn(spec, [(16, 8, 4), (32, 4, 2)], 256, head, per_action, noise_std, layer_norm)


def nature_cnn(
    spec: EnvironmentSpec,
    head: Head = linear,
    per_action: int = 1,
    noise_std: float | None = None,
    layer_norm: bool = False,
) -> nn.Sequential:
    """The network of DQN 2015 (Nature 518, Methods, "Model architecture"); no padding."""
    return _cnn(spec, [(32, 8, 4), (64, 4, 2), (64, 3, 1)], 512, head, per_action, noise_std, layer_norm)


def impala_cnn(
    spec: EnvironmentSpec,
    width: int,
    hidden_size: int,
    head: Head = linear,
    per_action: int = 1,
    noise_std: float | None = None,
    layer_norm: bool = False,
) -> nn.Sequential:
    """The residual network of IMPALA (arXiv 1802.01561), `width` times as wide.

    Raises:
        ValueError: observations are no images.
    """
    channels, rows, columns = _image_shape(spec)
    layers: list[nn.Module] = [input_layer(spec)]
    for size in (16 * width, 32 * width, 32 * width):
        layers.append(ImpalaSection(channels, size, rows, columns, layer_norm))
        channels, rows, columns = size, math.ceil(rows / 2), math.ceil(columns / 2)
    stream = partial(_stream, channels * rows * columns, [hidden_size], nn.ReLU, noise_std, layer_norm)
    layers += [*_norm(layer_norm, channels, ChannelNorm), nn.ReLU(), nn.Flatten()]
    return nn.Sequential(*layers, *head(stream, spec.num_actions, per_action))


def tabular(spec: EnvironmentSpec, per_action: int = 1) -> nn.Sequential:
    """The Q-table as a network: one weight per state and output, and nothing else.

    Raises:
        ValueError: observations are not discrete.
    """
    if spec.num_states is None:
        raise ValueError(f"needs discrete states, but observations are {spec.frame_dtype} {spec.observation_shape}")

    def stream(outputs: int) -> list[nn.Module]:
        return [nn.Linear(spec.num_states or 0, outputs, bias=False)]

    return nn.Sequential(OneHot(spec.num_states), *linear(stream, spec.num_actions, per_action))


def _stream(
    width: int,
    hidden_sizes: Sequence[int],
    activation: Callable[[], nn.Module],
    noise_std: float | None,
    layer_norm: bool,
    outputs: int,
) -> list[nn.Module]:
    """See `dqn.networks.heads.Stream`."""
    layer = nn.Linear if noise_std is None else partial(NoisyLinear, std=noise_std)
    layers: list[nn.Module] = []
    for size in hidden_sizes:
        layers += [layer(width, size), *_norm(layer_norm, size), activation()]
        width = size
    return [*layers, layer(width, outputs)]


def _norm(wanted: bool, size: int, kind: type[nn.LayerNorm] = nn.LayerNorm) -> list[nn.Module]:
    return [kind(size)] if wanted else []


def _image_shape(spec: EnvironmentSpec) -> tuple[int, int, int]:
    """Channels, height and width; raises ValueError if observations are no images."""
    if not spec.is_image:
        raise ValueError(f"needs images, but observations are {spec.frame_dtype} {spec.observation_shape}")
    channels, height, width = spec.observation_shape
    return channels, height, width


def _cnn(
    spec: EnvironmentSpec,
    convolutions: Sequence[tuple[int, int, int]],
    hidden_size: int,
    head: Head,
    per_action: int,
    noise_std: float | None,
    layer_norm: bool,
) -> nn.Sequential:
    """Convolutions given as (channels, kernel, stride), each with a ReLU, then one hidden layer.

    Raises:
        ValueError: observations are no images, or too small.
    """
    channels, height, width = _image_shape(spec)
    layers: list[nn.Module] = [input_layer(spec)]
    for out_channels, kernel, stride in convolutions:
        convolution = nn.Conv2d(channels, out_channels, kernel, stride)
        channels = out_channels
        height, width = (height - kernel) // stride + 1, (width - kernel) // stride + 1
        if height < 1 or width < 1:
            raise ValueError(f"needs larger images than {spec.observation_shape}")
        layers += [convolution, *_norm(layer_norm, channels, ChannelNorm), nn.ReLU()]
    stream = partial(_stream, channels * height * width, [hidden_size], nn.ReLU, noise_std, layer_norm)
    return nn.Sequential(*layers, nn.Flatten(), *head(stream, spec.num_actions, per_action))
