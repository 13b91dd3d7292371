"""A Q-network as a Keras 3 model of built-in layers: `keras.models.load_model` needs no code of ours."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from dqn.errors import TrainingError
from dqn.networks.channel_norm import ChannelNorm
from dqn.networks.heads import Dueling, SharedBias
from dqn.networks.impala import ImpalaSection, Residual
from dqn.networks.inputs import OneHot, ScaleImage, ToFloat
from dqn.networks.readout import ExpectedValue, MeanQuantile

_ACTIVATIONS: dict[type[nn.Module], str] = {
    nn.ReLU: "relu",
    nn.Tanh: "tanh",
    nn.ELU: "elu",
    nn.SiLU: "silu",
    nn.Sigmoid: "sigmoid",
}
# What a file of `keras_model` names; Keras would import others by the names of their modules, or run their bytecode.
_SAVED = frozenset(
    {
        "Functional", "InputLayer", "Rescaling", "CategoryEncoding", "Permute", "Flatten", "Activation", "Dense",
        "Conv2D", "GlorotUniform", "Zeros", "DTypePolicy", "__keras_tensor__", "Reshape", "Softmax", "Concatenate",
        "MaxPooling2D", "Add", "LayerNormalization", "Ones",
    }
)  # fmt: skip


def has_keras() -> bool:
    """Whether Keras, and h5py for its .h5 files, are installed; imports neither."""
    return all(importlib.util.find_spec(package) is not None for package in ("keras", "h5py"))


def import_keras() -> Any:
    """Keras, on PyTorch unless the user chose another backend: that one is always here.

    Raises:
        ImportError: it is not installed.
    """
    os.environ.setdefault("KERAS_BACKEND", "torch")
    import keras

    return keras


def check_layers(path: Path) -> None:
    """Raise a ValueError unless a .h5 file is made of the layers that `keras_model` uses.

    Keras's own safe mode does not do: it knows no .h5 files before Keras 3.11.3.
    """
    import h5py

    with h5py.File(path) as file:
        config = json.loads(file.attrs["model_config"])
    for described in _objects(config):
        module, name = described.get("module"), described["class_name"]
        known = name in _SAVED and (module is None or str(module).partition(".")[0] == "keras")
        if not known or described.get("registered_name"):
            raise ValueError(f"it has the object {name}, which no network of this project has")


def _objects(node: Any) -> Iterator[dict[str, Any]]:
    """Every object that Keras would make of a config, in whatever it is nested."""
    if isinstance(node, dict) and "class_name" in node:
        yield node
    for inner in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from _objects(inner)


def keras_model(network: nn.Module, observation_shape: tuple[int, ...], observation_dtype: str) -> Any:
    """Rebuild a network, weights included, as a `keras.Model`.

    Args:
        network: an `nn.Sequential` on the CPU of the layers that `dqn.networks.q_network` uses.
        observation_shape: of one raw observation, images as (channels, height, width).
        observation_dtype: of raw observations: "uint8", "float32" or "int64".

    Returns:
        The model: raw observations (N, *observation_shape) -> Q-values (N, num_actions) float32.

    Raises:
        TrainingError: the network has a layer that has no Keras counterpart here.
    """
    if not isinstance(network, nn.Sequential):
        raise TrainingError(f"policy.h5: only nn.Sequential can be converted, not {type(network).__name__}")
    keras = import_keras()
    inputs = keras.Input(observation_shape, dtype=observation_dtype, name="observation")
    return keras.Model(inputs, _apply(network, inputs))


def _apply(network: nn.Sequential, inputs: Any) -> Any:
    """What the layers make of Keras's symbolic inputs."""
    keras, outputs = import_keras(), inputs
    # Convolutions run channels-last: TensorFlow has no others on a CPU. Before images are flattened they
    # return to PyTorch's order, so that the dense weights behind fit as they are.
    channels_last = False
    for layer in network:
        if isinstance(layer, nn.Conv2d | ImpalaSection) and not channels_last:
            outputs, channels_last = keras.layers.Permute((2, 3, 1))(outputs), True
        elif isinstance(layer, nn.Flatten) and channels_last:
            outputs, channels_last = keras.layers.Permute((3, 1, 2))(outputs), False
        if type(layer) in _COMPOSED:
            outputs = _COMPOSED[type(layer)](layer, outputs)
            continue
        converted = _convert(layer)
        outputs = converted(outputs)
        converted.set_weights(_weights(layer))
    return outputs


def _impala_section(layer: ImpalaSection, images: Any) -> Any:
    layers = import_keras().layers
    outputs = layers.MaxPooling2D(3, 2, padding="same")(_same_convolution(layer.convolution, images))
    for block in layer.residuals:
        assert isinstance(block, Residual)
        inner = outputs
        for norm, convolution in zip(block.norms, (block.first, block.second), strict=True):
            normalized = _layer_norm(norm, inner) if isinstance(norm, ChannelNorm) else inner
            inner = _same_convolution(convolution, layers.Activation("relu")(normalized))
        outputs = layers.Add()([outputs, inner])
    return outputs


def _same_convolution(layer: nn.Conv2d, images: Any) -> Any:
    """One that keeps height and width."""
    convolution = import_keras().layers.Conv2D(layer.out_channels, layer.kernel_size, padding="same")
    outputs = convolution(images)
    convolution.set_weights(_weights(layer))
    return outputs


def _layer_norm(layer: nn.LayerNorm, inputs: Any) -> Any:
    normalization = import_keras().layers.LayerNormalization(epsilon=layer.eps)
    outputs = normalization(inputs)
    normalization.set_weights([p.detach().numpy() for p in (layer.weight, layer.bias)])
    return outputs


def _expected_value(layer: ExpectedValue, logits: Any) -> Any:
    return _weighted(layer.atoms.numpy(), import_keras().layers.Softmax()(logits))


def _mean_quantile(layer: MeanQuantile, quantiles: Any) -> Any:
    count = quantiles.shape[-1]
    return _weighted(np.full(count, 1 / count, dtype=np.float32), quantiles)


def _weighted(weights: npt.NDArray[np.float32], inputs: Any) -> Any:
    """The weighted sums over the last axis."""
    return import_keras().layers.Reshape(inputs.shape[1:-1])(_fixed(weights[:, None], inputs))


def _shared_bias(layer: SharedBias, inputs: Any) -> Any:
    width = inputs.shape[-1]
    bias = np.broadcast_to(layer.bias.detach().numpy(), (width,))
    return _fixed(np.eye(width, dtype=np.float32), inputs, bias)


def _dueling(layer: Dueling, features: Any) -> Any:
    """Value and advantages side by side, and one more layer that combines them: the formula is linear."""
    layers = import_keras().layers
    value, advantage = _apply(layer.value, features), _apply(layer.advantage, features)
    per_action = value.shape[-1]
    num_actions = advantage.shape[1]
    over_mean = np.eye(num_actions) - 1 / num_actions
    kernel = np.concatenate(
        [np.kron(np.ones((1, num_actions)), np.eye(per_action)), np.kron(over_mean, np.eye(per_action))]
    )
    combined = _fixed(kernel.astype(np.float32), layers.Concatenate()([value, layers.Flatten()(advantage)]))
    return layers.Reshape(advantage.shape[1:])(combined)


def _fixed(kernel: npt.NDArray[np.float32], inputs: Any, bias: npt.NDArray[np.float32] | None = None) -> Any:
    """A dense layer with these weights."""
    dense = import_keras().layers.Dense(kernel.shape[1], use_bias=bias is not None)
    outputs = dense(inputs)
    dense.set_weights([kernel] if bias is None else [kernel, bias])
    return outputs


_COMPOSED: dict[type[nn.Module], Callable[[Any, Any], Any]] = {
    ExpectedValue: _expected_value,
    MeanQuantile: _mean_quantile,
    SharedBias: _shared_bias,
    Dueling: _dueling,
    ImpalaSection: _impala_section,
    nn.LayerNorm: _layer_norm,
    ChannelNorm: _layer_norm,
}


def _convert(layer: nn.Module) -> Any:
    """The Keras layer that computes the same, its weights yet to be set."""
    layers = import_keras().layers
    if type(layer) in _ACTIVATIONS:
        return layers.Activation(_ACTIVATIONS[type(layer)])
    match layer:
        case ScaleImage():
            return layers.Rescaling(1.0 / 255.0)
        case ToFloat():
            return layers.Rescaling(1.0)
        case OneHot():
            return layers.CategoryEncoding(layer.num_states, output_mode="one_hot")
        case nn.Unflatten():
            return layers.Reshape(layer.unflattened_size)
        case nn.Flatten():
            return layers.Flatten(data_format="channels_last")
        case nn.Linear():
            return layers.Dense(layer.out_features, use_bias=layer.bias is not None)
        case nn.Conv2d(padding=(0, 0), dilation=(1, 1), groups=1):
            return layers.Conv2D(
                layer.out_channels,
                layer.kernel_size,
                strides=layer.stride,
                use_bias=layer.bias is not None,
                data_format="channels_last",
            )
    raise TrainingError(f"policy.h5: no Keras counterpart is known for the layer {layer}")


def _weights(layer: nn.Module) -> list[Any]:
    """The layer's kernel and bias as arrays in the order of Keras's axes."""
    # Dense: (out, in) -> (in, out); Conv2D: (out, in, height, width) -> (height, width, in, out).
    axes = {2: (1, 0), 4: (2, 3, 1, 0)}
    arrays = [parameter.detach().numpy() for parameter in layer.parameters(recurse=False)]
    return [array.transpose(axes.get(array.ndim, (0,))) for array in arrays]
