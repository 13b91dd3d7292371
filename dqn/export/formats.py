"""The file formats of an exported policy: how each is written, and how it is played again.

None but safetensors, which holds weights alone, needs this project's network code to be played.
"""

from __future__ import annotations

import copy
import hashlib
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dqn.errors import UserError, first_line
from dqn.export.keras_model import check_layers, import_keras, keras_model
from dqn.export.pt2 import read_program

# Raw observations (N, *observation_shape) -> Q-values (N, num_actions) float32.
Policy = Callable[[npt.NDArray[Any]], npt.NDArray[np.float32]]

ONNX_OPSET = 20  # the newest that the exporter below writes, in every supported PyTorch


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporters' deprecation notes and advice off the terminal."""
    disabled_before = logging.root.manager.disable
    logging.disable(max(disabled_before, logging.WARNING))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled_before)


# --- writing: the network in evaluation mode on the CPU, observations (N >= 2, *observation_shape) ---


def _write_safetensors(network: nn.Module, observations: Tensor, path: Path) -> None:
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, path)


def _write_onnx(network: nn.Module, observations: Tensor, path: Path) -> None:
    # dynamo=False traces: 0.4 s for the Nature CNN, one file, no other package, the same from PyTorch 2.6 on
    # (deprecated since 2.9). The newer exporter takes 4 s and is chatty. Tracing follows no branches; these
    # networks have none.
    with _quiet():
        torch.onnx.export(
            network,
            (observations,),
            str(path),
            input_names=["observation"],
            output_names=["q_values"],
            dynamic_axes={"observation": {0: "batch"}, "q_values": {0: "batch"}},
            opset_version=ONNX_OPSET,
            dynamo=False,
        )


def _write_pt2(network: nn.Module, observations: Tensor, path: Path) -> None:
    with _quiet():
        batch = torch.export.Dim("batch")
        program = torch.export.export(network, (observations,), dynamic_shapes=({0: batch},), strict=False)
        # By way of memory: PyTorch's own file writer aborts the whole process on a full disk.
        archive = io.BytesIO()
        torch.export.save(program, archive)
    path.write_bytes(archive.getvalue())


def _write_h5(network: nn.Module, observations: Tensor, path: Path) -> None:
    shape, dtype = tuple(observations.shape[1:]), str(observations.dtype).removeprefix("torch.")
    with _quiet(), import_keras().device("cpu"):
        keras_model(network, shape, dtype).save(str(path))


WRITERS: dict[str, Callable[[nn.Module, Tensor, Path], None]] = {
    ".safetensors": _write_safetensors,
    ".onnx": _write_onnx,
    ".pt2": _write_pt2,
    ".h5": _write_h5,
}


# --- playing ----------------------------------------------------------------------------------------------


def module_policy(module: Callable[[Tensor], Tensor]) -> Policy:
    """A PyTorch module on the CPU as a policy."""

    def q_values(observations: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        with torch.no_grad():
            q = module(torch.tensor(observations))
        return q.numpy()

    return q_values


def _read_safetensors(path: Path, network: nn.Module) -> Policy:
    clone = copy.deepcopy(network)
    for tensor in clone.state_dict().values():
        tensor.zero_()  # so that every weight must come from the file
    clone.load_state_dict(load_file(path))
    return module_policy(clone)


def _read_onnx(path: Path) -> Policy:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # A process's first session decides it for the thread that makes it, where training goes on: see `dqn.machine`.
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def q_values(observations: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        (q,) = session.run(["q_values"], {"observation": observations})
        return np.asarray(q)

    return q_values


def _read_pt2(path: Path) -> Policy:
    return module_policy(read_program(path))


def _read_own_pt2(path: Path) -> Policy:
    """As PyTorch itself reads it: only of a file that was written just now, as it runs what a file says."""
    with _quiet():
        return module_policy(torch.export.load(path).module())


def _read_h5(path: Path) -> Policy:
    check_layers(path)
    keras = import_keras()
    with _quiet(), keras.device("cpu"):
        model = keras.models.load_model(str(path), compile=False)

    def q_values(observations: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        with keras.device("cpu"):
            return np.asarray(keras.ops.convert_to_numpy(model(observations, training=False)))

    return q_values


# By what is quickest to load and to run.
_READERS: dict[str, Callable[[Path], Policy]] = {".onnx": _read_onnx, ".pt2": _read_pt2, ".h5": _read_h5}


def read_policy(path: Path) -> Policy:
    """Open one exported file, by its suffix: .onnx, .pt2 or .h5. Nothing in it is run that is not a layer's arithmetic.

    Returns:
        A function of raw observations (N, *observation_shape), of the dtype that policy.json names, to
        Q-values (N, num_actions) float32. It runs on the CPU, and raises a UserError where it does not fit them.

    Raises:
        UserError: there is no such file, it is not one of these formats, it is damaged, or it holds anything but a
            network.
    """
    if path.suffix not in _READERS:
        raise _unusable(path, f"only {', '.join(_READERS)} files can be played")
    if not path.is_file():
        raise _unusable(path, "no such file")
    try:
        policy = _READERS[path.suffix](path)
    except ImportError as error:
        raise _unusable(path, f'needs {error.name}: pip install -e ".[keras]"') from error
    except Exception as error:  # each library has its own for a damaged file
        raise _unusable(path, f"not a readable {path.suffix} file: {first_line(error)}") from error

    def q_values(observations: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        try:
            return policy(observations)
        except Exception as error:  # likewise, for what does not fit together
            raise _unusable(path, f"does not fit observations {observations.shape}: {first_line(error)}") from error

    return q_values


def open_written(path: Path, network: nn.Module) -> Policy:
    """Open a file that was written just now, also the weights alone: those are played by a copy of `network`."""
    if path.suffix == ".safetensors":
        return _read_safetensors(path, network)
    return _read_own_pt2(path) if path.suffix == ".pt2" else read_policy(path)


def load_policy(folder: Path) -> Policy:
    """Open an export: policy.onnx, or the next best of what was exported. See `read_policy`.

    Raises:
        UserError: the folder holds no export that can be played, or its files are not those that policy.json
            describes.
    """
    try:
        files = json.loads((folder / "policy.json").read_text())["files"]
        digests = {name: file["sha256"] for name, file in files.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _unusable(folder, "holds no exported policy") from error
    names = [f"policy{suffix}" for suffix in _READERS if f"policy{suffix}" in digests]
    if not names:
        raise _unusable(folder, f"holds none of {', '.join(_READERS)}, only those can be played")
    path = folder / names[0]
    if not path.is_file() or sha256(path) != digests[path.name]:
        raise _unusable(path, "missing, or not the file that policy.json describes; export it again")
    return read_policy(path)


def _unusable(path: Path, reason: str) -> UserError:
    return UserError("", path, f"{path}: {reason}")


def sha256(path: Path) -> str:
    """The file's SHA-256, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
