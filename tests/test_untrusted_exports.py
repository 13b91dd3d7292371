"""Exported policies that somebody else has prepared: each would run code in the library that usually reads it."""

from __future__ import annotations

import base64
import io
import json
import marshal
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from dqn.envs.base import EnvironmentSpec
from dqn.errors import UserError
from dqn.export import export_policy, load_policy, read_policy
from dqn.export.formats import sha256
from dqn.export.pt2 import WRITES_BYTES
from dqn.networks.q_network import mlp

SPEC = EnvironmentSpec((4,), "float32", 1, None, 2, ("LEFT", "RIGHT"), 1, None)
OBSERVATIONS = np.ones((8, 4), dtype=np.float32)
TOUCH = "touch mark"
SYSTEM = {"module": "os", "class_name": "system", "config": {"command": TOUCH}, "registered_name": None}


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (TOUCH,)


needs_pt2 = pytest.mark.skipif(not WRITES_BYTES, reason="needs PyTorch 2.9")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "export"
    export_policy(mlp(SPEC, [8], "relu"), SPEC, OBSERVATIONS, folder, ("safetensors", "onnx", "pt2", "h5"), {})
    return folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def torch_saved(content: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


# --- .pt2 ---------------------------------------------------------------------------------------------------


def rewritten(source: Path, target: Path, change: Callable[[str, bytes], bytes]) -> Path:
    """The archive with every file changed; its name within the archive begins with archive/."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(name.partition("/")[2], old.read(name)))
    return target


def in_program(change: Callable[[dict[str, Any]], None]) -> Callable[[str, bytes], bytes]:
    def changed(name: str, content: bytes) -> bytes:
        if name != "models/model.json":
            return content
        program = json.loads(content)
        change(program)
        return json.dumps(program).encode()

    return changed


def call_system(program: dict[str, Any]) -> None:
    """The first operator becomes a function of the module os."""
    node = program["graph_module"]["graph"]["nodes"][0]
    node.update(target="torch.os.system", outputs=[{"as_int": {"as_name": "done"}}])
    node["inputs"] = [{"name": "command", "arg": {"as_string": TOUCH}, "kind": 1}]


def make_file(program: dict[str, Any]) -> None:
    """The first operator becomes one that writes a file."""
    node = program["graph_module"]["graph"]["nodes"][0]
    node.update(target="torch.ops.aten.from_file.default", outputs=[{"as_tensor": {"name": "done"}}])
    node["inputs"] = [
        {"name": "filename", "arg": {"as_string": "mark"}, "kind": 1},
        {"name": "shared", "arg": {"as_bool": True}, "kind": 1},
        {"name": "size", "arg": {"as_int": 8}, "kind": 1},
    ]


def evaluate_text(program: dict[str, Any]) -> None:
    """A size becomes Python code, as sizes are in these files anyway."""
    sizes = program["graph_module"]["graph"]["tensor_values"]["input"]["sizes"]
    sizes[0]["as_expr"]["expr_str"] = f"__import__('os').system('{TOUCH}')"


def pickled_weight(name: str, content: bytes) -> bytes:
    if name.endswith("model_weights_config.json"):
        config = json.loads(content)
        for entry in config["config"].values():
            entry["use_pickle"] = True
        return json.dumps(config).encode()
    return torch_saved(Evil()) if "data/weights/weight_" in name else content


def pickled_inputs(name: str, content: bytes) -> bytes:
    return torch_saved(Evil()) if name.startswith("data/sample_inputs/") else content


@needs_pt2
@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (in_program(call_system), "the program calls torch.os.system, which no network of this project does"),
        (in_program(make_file), "the program calls torch.ops.aten.from_file.default, which no network of this"),
        (pickled_weight, "weight_0 is a pickle"),
    ],
    ids=["call", "file", "weights"],
)
def test_a_pt2_that_does_more_than_a_network_is_refused(change, problem, exported, here):
    evil = rewritten(exported / "policy.pt2", here / "policy.pt2", change)
    with pytest.raises(UserError) as error:
        read_policy(evil)
    assert str(error.value).startswith(f"{evil}: not a readable .pt2 file: {problem}")
    assert not (here / "mark").exists()


@needs_pt2
@pytest.mark.parametrize("change", [in_program(evaluate_text), pickled_inputs], ids=["text", "inputs"])
def test_of_a_pt2_nothing_is_read_but_its_network(change, exported, here):
    evil = rewritten(exported / "policy.pt2", here / "policy.pt2", change)
    q_values = read_policy(evil)(OBSERVATIONS)
    assert q_values.tolist() == read_policy(exported / "policy.pt2")(OBSERVATIONS).tolist()
    assert not (here / "mark").exists()


def in_format_of_2_7(name: str, content: bytes) -> tuple[str, bytes] | None:
    """A file of an archive as PyTorch wrote it before 2.8."""
    if name == "models/model.json":
        return "serialized_exported_program.json", content
    return ("serialized_state_dict.pt", torch_saved(Evil())) if name.endswith("/weight_0") else None


def in_format_of_2_8(name: str, content: bytes) -> tuple[str, bytes] | None:
    """The same as 2.8 wrote it."""
    if name.endswith("_config.json"):
        return f"archive/{name.rpartition('/')[0]}/model.pt", torch_saved(Evil())
    return f"archive/{name}", content


@needs_pt2
@pytest.mark.parametrize("as_it_was", [in_format_of_2_7, in_format_of_2_8])
def test_older_archives_are_refused_for_their_pickles(as_it_was, exported, here, monkeypatch):
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("a pickle is read"))
    with zipfile.ZipFile(exported / "policy.pt2") as source, zipfile.ZipFile(here / "policy.pt2", "w") as old:
        for name in source.namelist():
            if (file := as_it_was(name.partition("/")[2], source.read(name))) is not None:
                old.writestr(*file)
    with pytest.raises(UserError) as error:
        read_policy(here / "policy.pt2")
    problem = "PyTorch before 2.9 wrote it, with its weights as a pickle; export it again with a newer one, or play"
    assert str(error.value) == f"{here / 'policy.pt2'}: not a readable .pt2 file: {problem} policy.onnx"
    assert not (here / "mark").exists()


@needs_pt2
def test_a_network_that_does_not_fit_is_one_line(exported):
    with pytest.raises(UserError) as error:
        read_policy(exported / "policy.pt2")(np.ones((8, 3), dtype=np.float32))
    assert str(error.value).startswith(f"{exported / 'policy.pt2'}: does not fit observations (8, 3): ")
    assert "\n" not in str(error.value)


# --- .h5 ----------------------------------------------------------------------------------------------------


def lambda_layer() -> dict[str, Any]:
    """What Keras 2 wrote of a function, which Keras runs as soon as it knows its bytecode."""
    code = (lambda x: __import__("os").system("touch mark") or x).__code__
    text = base64.b64encode(marshal.dumps(code)).decode()
    config = {"name": "evil", "function": [text, None, None], "function_type": "lambda", "arguments": {}}
    return {"class_name": "Lambda", "config": config, "name": "evil"}


def in_place_of_activation(described: dict[str, Any]) -> Callable[[list[Any]], None]:
    def change(layers: list[Any]) -> None:
        index = next(i for i, layer in enumerate(layers) if layer["class_name"] == "Activation")
        kept = {"name": layers[index]["name"], "inbound_nodes": layers[index]["inbound_nodes"]}
        layers[index] = {**described, **kept, "config": {**described["config"], "name": kept["name"]}}

    return change


def as_value_of(key: str, value: dict[str, Any]) -> Callable[[list[Any]], None]:
    def change(layers: list[Any]) -> None:
        next(layer for layer in layers if layer["class_name"] == "Dense")["config"][key] = value

    return change


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (in_place_of_activation(lambda_layer()), "Lambda"),
        (as_value_of("activation", SYSTEM), "system"),
        (as_value_of("kernel_initializer", SYSTEM), "system"),
        (as_value_of("kernel_initializer", {"nested": [{"deeper": SYSTEM}]}), "system"),
        (as_value_of("activation", {**SYSTEM, "class_name": "Zeros"}), "Zeros"),  # of another module
        (as_value_of("activation", {"class_name": "Zeros", "config": {}, "registered_name": "x>y"}), "Zeros"),
        (as_value_of("activation", {**SYSTEM, "class_name": "function", "config": "system"}), "function"),
        (as_value_of("activation", {"class_name": "__lambda__", "config": {"value": "x"}}), "__lambda__"),
    ],
    ids=["layer", "activation", "initializer", "nested", "module", "registered", "function", "lambda"],
)
def test_a_h5_of_other_objects_is_refused_before_keras_sees_it(change, name, exported, here, monkeypatch):
    evil = here / "policy.h5"
    evil.write_bytes((exported / "policy.h5").read_bytes())
    with h5py.File(evil, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        change(config["config"]["layers"])
        file.attrs["model_config"] = json.dumps(config)
    monkeypatch.setattr("dqn.export.formats.import_keras", lambda: pytest.fail("Keras is asked"))
    with pytest.raises(UserError) as error:
        read_policy(evil)
    problem = f"it has the object {name}, which no network of this project has"
    assert str(error.value) == f"{evil}: not a readable .h5 file: {problem}"
    assert not (here / "mark").exists()


# --- any format ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [pickle.dumps(Evil()), torch_saved(Evil())], ids=["pickle", "torch"])
@pytest.mark.parametrize("name", ["policy.onnx", "policy.pt2", "policy.h5", "policy.json"])
def test_a_pickle_in_place_of_a_file_is_one_line(name, content, exported, here):
    """With its digest in policy.json, as whoever has changed the file could change that, too."""
    export = here / "export"
    export.mkdir()
    (export / name).write_bytes(content)
    if name != "policy.json":
        with pytest.raises(UserError, match=f"{name}: not a readable") as alone:
            read_policy(export / name)
        assert "\n" not in str(alone.value)
        (export / "policy.json").write_text(json.dumps({"files": {name: {"sha256": sha256(export / name)}}}))
    with pytest.raises(UserError, match=f"{name}: not a readable|holds no exported policy") as error:
        load_policy(export)
    assert "\n" not in str(error.value)
    assert not (here / "mark").exists()


@pytest.mark.parametrize("text", ["[]", "null", '{"files": null}', '{"files": ["policy.onnx"]}', '{"files": {"a": 1}}'])
def test_a_description_that_describes_nothing_is_one_line(text, here):
    (here / "policy.json").write_text(text)
    with pytest.raises(UserError, match="holds no exported policy"):
        load_policy(here)
