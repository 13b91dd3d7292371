"""Plays a policy.pt2 as data: its operators must be on a list, and its tensors are bytes.

PyTorch's own reader is for files that one trusts. It unpickles, evaluates text of the file as Python, and calls any
function that the file names.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

# Before, weights were a pickle, which nobody should have to read.
WRITES_BYTES = torch.__version__ >= "2.9"
# What the layers of `dqn.networks` become, in any supported PyTorch.
_OPERATORS = frozenset(
    f"torch.ops.aten.{name}"
    for name in (
        "_to_copy.default", "add.Tensor", "cat.default", "clone.default", "contiguous.default", "conv2d.default",
        "cos.default", "cumsum.default", "detach.default", "div.Tensor", "elu.default", "eq.Tensor", "expand.default",
        "flatten.using_ints", "layer_norm.default", "linear.default", "max_pool2d.default", "mean.dim", "mul.Tensor",
        "pad.default", "permute.default", "relu.default", "reshape.default", "sigmoid.default", "silu.default",
        "slice.Tensor", "softmax.int", "sub.Tensor", "sum.dim_IntList", "sym_size.int", "tanh.default", "to.dtype",
        "transpose.int", "unflatten.int", "unsqueeze.default", "view.default",
    )
)  # fmt: skip
_CHECKS = frozenset({"torch.ops.aten._assert_tensor_metadata.default"})  # which the operators do not need
# By the numbers of PyTorch's schema.
_DTYPES = {
    1: torch.uint8, 2: torch.int8, 3: torch.int16, 4: torch.int32, 5: torch.int64, 6: torch.float16, 7: torch.float32,
    8: torch.float64, 12: torch.bool, 13: torch.bfloat16,
}  # fmt: skip
_PLAIN = ("as_int", "as_ints", "as_float", "as_floats", "as_bool", "as_bools", "as_string")
_KINDS = {"parameter": "parameter_name", "buffer": "buffer_name", "tensor_constant": "tensor_constant_name"}


@dataclass(frozen=True)
class _Name:
    """Stands for a value that an earlier step has given."""

    name: str


@dataclass(frozen=True)
class _Step:
    """One call of an operator."""

    operator: Callable[..., Any]
    arguments: dict[str, Any]
    result: str


def read_program(path: Path) -> Callable[[Tensor], Tensor]:
    """The program in a file of `torch.export.save`: a function of one tensor to one tensor, on the CPU.

    Raises:
        ValueError: the program does something that no Q-network of this project does.
        Exception: the file is damaged; which one depends on where.
    """
    with zipfile.ZipFile(path) as archive:
        tensors = _tensors(archive, "weights") | _tensors(archive, "constants")
        program = json.loads(_read(archive, "models/model.json"))
    graph, signature = program["graph_module"]["graph"], program["graph_module"]["signature"]
    known: dict[str, Tensor] = {}
    inputs: list[str] = []
    for spec in signature["input_specs"]:
        ((kind, entry),) = spec.items()
        if kind == "user_input":
            inputs.append(entry["arg"]["as_tensor"]["name"])
        elif kind in _KINDS:
            known[entry["arg"]["name"]] = tensors[entry[_KINDS[kind]]]
        else:
            raise ValueError(f"the program has an input of the kind {kind}")
    (observations,) = inputs
    (output,) = graph["outputs"]
    output = output["as_tensor"]["name"]
    steps = [_step(node) for node in graph["nodes"] if node["target"] not in _CHECKS]

    def run(batch: Tensor) -> Tensor:
        values: dict[str, Any] = {**known, observations: batch}
        for step in steps:
            arguments = {name: _filled_in(value, values) for name, value in step.arguments.items()}
            values[step.result] = step.operator(**arguments)
        q: Tensor = values[output]
        return q

    return run


def _step(node: Mapping[str, Any]) -> _Step:
    target = node["target"]
    if target not in _OPERATORS:
        raise ValueError(f"the program calls {target}, which no network of this project does")
    name, overload = target.removeprefix("torch.ops.aten.").split(".")
    (output,) = node["outputs"]
    ((_, result),) = output.items()
    arguments = {one["name"]: _argument(one["arg"]) for one in node["inputs"]}
    return _Step(getattr(getattr(torch.ops.aten, name), overload), arguments, result.get("name") or result["as_name"])


def _argument(described: Mapping[str, Any]) -> Any:
    """The value that is written in the file, or the name of one that is computed."""
    ((kind, value),) = described.items()
    if kind in _PLAIN:
        return value
    if kind in ("as_tensor", "as_name"):
        return _Name(value["name"] if kind == "as_tensor" else value)
    if kind == "as_scalar_type":
        return _DTYPES[value]
    if kind == "as_none":
        return None
    if kind == "as_tensors":
        return [_Name(one["name"]) for one in value]
    if kind == "as_sym_int":
        return _argument(value)
    if kind == "as_sym_ints":
        return [_argument(one) for one in value]
    raise ValueError(f"the program has an argument of the kind {kind}")


def _filled_in(value: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(value, _Name):
        return values[value.name]
    return [_filled_in(one, values) for one in value] if isinstance(value, list) else value


def _tensors(archive: zipfile.ZipFile, folder: str) -> dict[str, Tensor]:
    """The weights or the constants by name."""
    described = f"data/{folder}/model_{folder}_config.json"
    before = (f"data/{folder}/model.pt", "serialized_exported_program.json")
    if not _has(archive, described) and any(_has(archive, name) for name in before):
        advice = "export it again with a newer one, or play policy.onnx"
        raise ValueError(f"PyTorch before 2.9 wrote it, with its weights as a pickle; {advice}")
    entries = json.loads(_read(archive, described))["config"]
    return {name: _tensor(archive, folder, entry) for name, entry in entries.items()}


def _tensor(archive: zipfile.ZipFile, folder: str, entry: Mapping[str, Any]) -> Tensor:
    if entry["use_pickle"]:
        raise ValueError(f"{entry['path_name']} is a pickle")
    meta = entry["tensor_meta"]
    sizes, strides = ([one["as_int"] for one in meta[key]] for key in ("sizes", "strides"))
    content = bytearray(_read(archive, f"data/{folder}/{entry['path_name']}"))
    return torch.frombuffer(content, dtype=_DTYPES[meta["dtype"]]).as_strided(
        sizes, strides, meta["storage_offset"]["as_int"]
    )


def _read(archive: zipfile.ZipFile, ending: str) -> bytes:
    """The file whose path within the archive ends so."""
    for name in _named(archive, ending):
        return archive.read(name)
    raise ValueError(f"the archive has no {ending}")


def _has(archive: zipfile.ZipFile, ending: str) -> bool:
    return any(True for _ in _named(archive, ending))


def _named(archive: zipfile.ZipFile, ending: str) -> Iterator[str]:
    return (name for name in archive.namelist() if name == ending or name.endswith(f"/{ending}"))
