from __future__ import annotations

import copy
import hashlib
import json
import logging
import math
import resource
import subprocess
import sys
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from dqn.envs.base import EnvironmentSpec
from dqn.errors import TrainingError, UserError
from dqn.export import export_policy, load_policy, read_policy
from dqn.export import policy as policy_module
from dqn.export.formats import WRITERS
from dqn.export.pt2 import WRITES_BYTES
from dqn.networks.heads import dueling, linear, quantiles_at_fractions, shared_bias
from dqn.networks.implicit import ImplicitQuantiles
from dqn.networks.inputs import ToFloat
from dqn.networks.population import member_network
from dqn.networks.proposed import Proposal, ProposedQuantiles
from dqn.networks.q_network import ACTIVATIONS, impala_cnn, mlp, nature_cnn, nips_cnn, tabular
from dqn.networks.readout import ExpectedValue, MeanOfProposed, MeanQuantile

# Keras 3.15 on PyTorch converts tensors in a way that NumPy 2 calls deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")

PT2 = ("pt2",) if WRITES_BYTES else ()
ALL = ("safetensors", "onnx", *PT2, "h5")
PLAYED = tuple(f".{name}" for name in ALL[1:])
NUM_ACTIONS = 3
ATOMS = torch.linspace(-1, 3, 5)


def make_spec(shape: tuple[int, ...], dtype: str, stack: int = 1, num_states: int | None = None) -> EnvironmentSpec:
    return EnvironmentSpec(
        frame_shape=shape,
        frame_dtype=dtype,
        frame_stack=stack,
        num_states=num_states,
        num_actions=NUM_ACTIONS,
        action_meanings=("NOOP", "FIRE", "LEFT"),
        frames_per_step=4,
        max_episode_steps=None,
        preprocessing={"action_repeat": 4},
    )


VECTOR = make_spec((4,), "float32")
STACKED_VECTOR = make_spec((2, 3), "float32", stack=2)
BYTES = make_spec((6,), "uint8")
DISCRETE = make_spec((), "int64", num_states=11)
ATARI = make_spec((1, 84, 84), "uint8", stack=4)
OBLONG = make_spec((1, 44, 52), "uint8", stack=2)  # mistaken axes would go unnoticed in a square

CASES: dict[str, tuple[EnvironmentSpec, Callable[[EnvironmentSpec], nn.Module]]] = {
    "mlp on vectors": (VECTOR, lambda spec: mlp(spec, [16, 8], "tanh")),
    "mlp on stacked vectors": (STACKED_VECTOR, lambda spec: mlp(spec, [16], "elu")),
    "mlp on bytes": (BYTES, lambda spec: mlp(spec, [16], "sigmoid")),
    "mlp on states": (DISCRETE, lambda spec: mlp(spec, [16], "silu")),
    "mlp on images": (OBLONG, lambda spec: mlp(spec, [16], "relu")),
    "tabular": (DISCRETE, tabular),
    "nips_cnn": (OBLONG, nips_cnn),
    "nature_cnn": (ATARI, nature_cnn),
    "normalized": (VECTOR, lambda spec: mlp(spec, [16, 8], "relu", layer_norm=True)),
    "normalized images": (OBLONG, lambda spec: nips_cnn(spec, dueling, layer_norm=True)),
    "impala_cnn": (OBLONG, lambda spec: impala_cnn(spec, 1, 16, dueling)),
    "normalized impala_cnn": (OBLONG, lambda spec: impala_cnn(spec, 1, 16, dueling, layer_norm=True)),
    "dueling": (VECTOR, lambda spec: mlp(spec, [16, 8], "relu", dueling)),
    "shared bias": (VECTOR, lambda spec: mlp(spec, [16], "relu", shared_bias)),
    "c51": (VECTOR, lambda spec: nn.Sequential(*mlp(spec, [16], "relu", linear, 5), ExpectedValue(ATOMS))),
    "quantiles": (VECTOR, lambda spec: nn.Sequential(*mlp(spec, [16], "relu", shared_bias, 5), MeanQuantile())),
    "dueling c51": (OBLONG, lambda spec: nn.Sequential(*nips_cnn(spec, dueling, 5), ExpectedValue(ATOMS))),
}


def observe(spec: EnvironmentSpec, count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    shape = (count, *spec.observation_shape)
    if spec.num_states is not None:
        return rng.integers(spec.num_states, size=shape)
    if spec.frame_dtype == "uint8":
        return rng.integers(256, size=shape, dtype=np.uint8)
    return rng.normal(size=shape).astype(np.float32)


def make_network(case: str) -> nn.Module:
    """Weights of unit gain, so that Q-values differ between observations by far more than the tolerance."""
    spec, make = CASES[case]
    network = make(spec)
    generator = torch.Generator().manual_seed(1)
    for parameter in network.parameters():
        gain = parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.1
        nn.init.normal_(parameter, std=gain, generator=generator)
    return network


def torch_q_values(network: nn.Module, observations: np.ndarray) -> np.ndarray:
    return network(torch.as_tensor(observations)).detach().numpy()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def export_vector_mlp(folder: Path, formats: tuple[str, ...] = ALL, **changes: object) -> dict[str, object]:
    network = changes.get("network", make_network("mlp on vectors"))
    assert isinstance(network, nn.Module)
    return export_policy(network, VECTOR, observe(VECTOR, 8, seed=0), folder, formats, {"step": changes.get("step", 1)})


@pytest.fixture(scope="module", params=CASES)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    """Every kind of network, exported: (spec, network, folder)."""
    spec, _ = CASES[request.param]
    network = make_network(request.param)
    folder = tmp_path_factory.mktemp("run") / "export"
    export_policy(network, spec, observe(spec, 8, seed=0), folder, ALL, {"run": "a"})
    return spec, network, folder


# First in the file, so that it sees what the libraries say when they are imported, too.
def test_exporting_is_silent(tmp_path, capfd, caplog, recwarn):
    export_vector_mlp(tmp_path)
    for suffix in PLAYED:
        read_policy(tmp_path / f"policy{suffix}")
    assert tuple(capfd.readouterr()) == ("", "")
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert [str(warning.message) for warning in recwarn if "__array__" not in str(warning.message)] == []


# --- round trips --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", PLAYED)
def test_every_file_plays_as_the_network_does(exported, suffix):
    spec, network, folder = exported
    q_values = read_policy(folder / f"policy{suffix}")
    for batch_size in (1, 7):
        observations = observe(spec, batch_size, seed=batch_size)
        q = q_values(observations)
        assert q.dtype == np.float32
        np.testing.assert_allclose(q, torch_q_values(network, observations), rtol=0, atol=2e-5)


@pytest.mark.parametrize("head", [linear, dueling])
@pytest.mark.parametrize(
    ("kind", "readout"), [(ImplicitQuantiles, MeanQuantile()), (ProposedQuantiles, MeanOfProposed())]
)
def test_quantiles_at_fractions_play_as_the_network_does_at_its_own(kind, readout, head, tmp_path):
    at_fractions = quantiles_at_fractions(kind, head, num_cosines=6, num_fractions=5)
    template = mlp(VECTOR, [16, 8], "relu", at_fractions, noise_std=0.5)
    for layer in template.modules():
        if isinstance(layer, Proposal):
            nn.init.normal_(layer.weight)
    network = member_network(template, nn.utils.parameters_to_vector(template.parameters()), readout)
    export_policy(network, VECTOR, observe(VECTOR, 8, seed=0), tmp_path, ALL, {})
    description = json.loads((tmp_path / "policy.json").read_text())
    assert description["skipped"].keys() == {"policy.h5"}
    observations = observe(VECTOR, 7, seed=1)
    expected = readout(template(torch.as_tensor(observations))).detach().numpy()
    for suffix in PLAYED[:-1]:
        np.testing.assert_allclose(read_policy(tmp_path / f"policy{suffix}")(observations), expected, rtol=0, atol=2e-5)


def test_keras_alone_opens_the_h5_file(exported):
    import keras

    spec, network, folder = exported
    model = keras.models.load_model(str(folder / "policy.h5"))

    assert model.input.dtype == spec.frame_dtype
    assert model.input.shape == (None, *spec.observation_shape)
    assert all(type(layer).__module__.startswith("keras.") for layer in model.layers)
    assert not any(isinstance(layer, keras.layers.Lambda) for layer in model.layers)
    for batch_size in (1, 7):
        observations = observe(spec, batch_size, seed=batch_size)
        expected = torch_q_values(network, observations)
        np.testing.assert_allclose(model.predict(observations, verbose=0), expected, rtol=0, atol=2e-5)


def test_safetensors_holds_the_state_dict_and_nothing_else(exported):
    from safetensors.torch import load_file

    _, network, folder = exported
    found, expected = load_file(folder / "policy.safetensors"), network.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_onnx_names_its_input_and_output_and_leaves_the_batch_open(exported):
    import onnx

    spec, _, folder = exported
    model = onnx.load(folder / "policy.onnx", load_external_data=False)
    (inputs,), (outputs,) = model.graph.input, model.graph.output
    shape = inputs.type.tensor_type.shape.dim
    onnx.checker.check_model(model)
    assert (inputs.name, outputs.name) == ("observation", "q_values")
    assert inputs.type.tensor_type.elem_type == onnx.helper.np_dtype_to_tensor_dtype(np.dtype(spec.frame_dtype))
    assert shape[0].dim_param == "batch"
    assert tuple(dim.dim_value for dim in shape[1:]) == spec.observation_shape
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 20)]


def test_policy_json_describes_the_files(exported):
    spec, network, folder = exported
    description = json.loads((folder / "policy.json").read_text())

    assert description["observation"] == {"shape": list(spec.observation_shape), "dtype": spec.frame_dtype}
    assert description["num_states"] == spec.num_states
    assert description["num_actions"] == NUM_ACTIONS
    assert description["action_meanings"] == ["NOOP", "FIRE", "LEFT"]
    assert description["preprocessing"] == {"action_repeat": 4}
    assert description["network"]["layers"] == [str(layer) for layer in network]
    assert description["network"]["parameters"] == sum(math.prod(p.shape) for p in network.parameters())
    assert description["extra"] == {"run": "a"}
    assert description["skipped"] == {}
    assert set(description["files"]) | {"policy.json"} == set(contents(folder))
    for name, entry in description["files"].items():
        data = (folder / name).read_bytes()
        assert entry["sha256"] == hashlib.sha256(data).hexdigest()
        assert entry["bytes"] == len(data)
        assert 0 <= entry["largest_q_value_difference"] <= 1e-5


def test_the_largest_difference_is_the_one_between_file_and_network(tmp_path, monkeypatch):
    network = make_network("mlp on vectors")
    shifted = copy.deepcopy(network)
    with torch.no_grad():
        shifted[-1].bias[1] += 5e-5
    write = WRITERS[".onnx"]
    monkeypatch.setitem(WRITERS, ".onnx", lambda _, observations, path: write(shifted, observations, path))

    description = export_vector_mlp(tmp_path / "export", ("onnx",), network=network)

    assert description["files"]["policy.onnx"]["largest_q_value_difference"] == pytest.approx(5e-5, rel=0.02)


def test_the_network_is_not_changed(tmp_path):
    network = make_network("mlp on vectors").train()
    before = copy.deepcopy(network.state_dict())
    export_vector_mlp(tmp_path / "export", ("safetensors", "onnx"), network=network)
    assert network.training
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


def test_a_format_that_is_named_twice_is_written_once(tmp_path):
    written = export_vector_mlp(tmp_path / "export", ("safetensors", "onnx", "safetensors"))
    assert list(written["files"]) == ["policy.safetensors", "policy.onnx"]


def test_every_activation_has_its_keras_counterpart(tmp_path):
    for name in ACTIVATIONS:
        export_vector_mlp(tmp_path / name, ("h5",), network=mlp(VECTOR, [8], name))


# --- failures leave the earlier export as it was ------------------------------------------------------------


@contextmanager
def earlier_export_survives(folder: Path):
    export_vector_mlp(folder, ("safetensors", "onnx"))
    before = contents(folder)
    yield
    assert contents(folder) == before
    assert list(folder.parent.iterdir()) == [folder]


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_wrong_weight_is_caught(tmp_path, monkeypatch, suffix):
    write = WRITERS[suffix]

    def write_wrong(network: nn.Module, observations: torch.Tensor, path: Path) -> None:
        wrong = copy.deepcopy(network)
        with torch.no_grad():
            wrong[-1].bias[0] += 1e-3
        write(wrong, observations, path)

    with earlier_export_survives(tmp_path / "export"):
        monkeypatch.setitem(WRITERS, suffix, write_wrong)
        with pytest.raises(TrainingError, match=rf"policy{suffix} differs from its network by 0\.001"):
            export_vector_mlp(tmp_path / "export", ("safetensors", suffix[1:]), step=2)


@pytest.mark.skipif(not WRITES_BYTES, reason="needs PyTorch 2.9")
def test_a_batch_size_written_down_with_the_network_is_caught(tmp_path, monkeypatch):
    def write_static(network: nn.Module, observations: torch.Tensor, path: Path) -> None:
        torch.export.save(torch.export.export(network, (observations,)), path)

    with earlier_export_survives(tmp_path / "export"):
        monkeypatch.setitem(WRITERS, ".pt2", write_static)
        with pytest.raises(TrainingError, match=r"policy\.pt2 could not be exported"):
            export_vector_mlp(tmp_path / "export", ("safetensors", "pt2"), step=2)


@pytest.mark.parametrize("name", ALL)
def test_a_network_of_nan_is_not_exported(tmp_path, name):
    network = make_network("mlp on vectors")
    nn.init.constant_(network[-1].bias, math.nan)
    with pytest.raises(TrainingError, match=rf"policy\.{name} differs from its network by nan"):
        export_vector_mlp(tmp_path / "export", (name,), network=network)
    assert list(tmp_path.iterdir()) == []


@contextmanager
def largest_file(num_bytes: int):
    """Writing past so many bytes fails, as it would on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("name", ALL)
def test_a_full_disk_is_one_line(tmp_path, name):
    network = mlp(VECTOR, [256, 256], "relu")  # 270 kB
    with earlier_export_survives(tmp_path / "export"):
        with (
            largest_file(100_000),
            pytest.raises(TrainingError, match=rf"policy\.{name} could not be") as raised,
        ):
            export_vector_mlp(tmp_path / "export", (name,), network=network)
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("network", "named"),
    [
        (nn.Sequential(ToFloat(), nn.GroupNorm(1, 4), nn.Linear(4, NUM_ACTIONS)), "GroupNorm"),
        (nn.Sequential(ToFloat(), nn.Conv2d(1, 2, 3, padding=1)), r"Conv2d\(1, 2, .*padding=\(1, 1\)"),
        (nn.Linear(4, NUM_ACTIONS), "not Linear"),
    ],
)
def test_a_layer_unknown_to_the_keras_conversion_is_named(tmp_path, network, named):
    with earlier_export_survives(tmp_path / "export"), pytest.raises(TrainingError, match=named):
        export_policy(network, VECTOR, np.zeros((8, 1, 4, 4), np.float32), tmp_path / "export", ("h5",), {})


def test_what_a_killed_export_left_is_cleared(tmp_path):
    left = tmp_path / ".export.unfinished"
    left.mkdir()
    (left / "policy.onnx").write_text("half")
    export_vector_mlp(tmp_path / "export", ("safetensors",))
    assert list(tmp_path.iterdir()) == [tmp_path / "export"]


def test_a_file_that_the_new_export_lacks_goes_and_strangers_stay(tmp_path):
    export_vector_mlp(tmp_path, ("safetensors", "onnx"))
    (tmp_path / "notes.txt").write_text("mine")
    export_vector_mlp(tmp_path, ("safetensors",))
    assert set(contents(tmp_path)) == {"policy.safetensors", "policy.json", "notes.txt"}


# --- PyTorch before 2.9 puts pickles into a .pt2 ------------------------------------------------------------


def test_without_a_format_of_bytes_the_pt2_file_is_skipped_and_says_why(tmp_path, monkeypatch):
    monkeypatch.setattr("dqn.export.pt2.WRITES_BYTES", False)
    description = export_vector_mlp(tmp_path, ("onnx", "pt2"))
    reason = "would have its weights as a pickle: needs PyTorch 2.9, then python scripts/export.py run=<folder>"
    assert description["skipped"] == {"policy.pt2": reason}
    assert contents(tmp_path).keys() == {"policy.onnx", "policy.json"}


# --- Keras is an extra --------------------------------------------------------------------------------------


def test_without_keras_the_h5_file_is_skipped_and_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr(policy_module, "has_keras", lambda: False)
    description = export_vector_mlp(tmp_path, ("safetensors", "h5"))
    assert description["skipped"]["policy.h5"] == (
        'needs Keras: pip install -e ".[keras]", then python scripts/export.py run=<folder>'
    )
    assert description == json.loads((tmp_path / "policy.json").read_text())
    assert set(contents(tmp_path)) == {"policy.safetensors", "policy.json"}
    assert export_vector_mlp(tmp_path, ("safetensors",))["skipped"] == {}


def test_keras_is_imported_for_h5_alone(tmp_path):
    script = """
import sys, pathlib, numpy
from dqn.envs.base import EnvironmentSpec
from dqn.export import export_policy, load_policy
from dqn.networks.q_network import mlp
spec = EnvironmentSpec((4,), "float32", 1, None, 2, ("LEFT", "RIGHT"), 1, None)
folder, observations = pathlib.Path(sys.argv[1]), numpy.zeros((8, 4), numpy.float32)
export_policy(mlp(spec, [8], "relu"), spec, observations, folder, ("safetensors", "onnx"), {})
load_policy(folder)(observations)
assert "keras" not in sys.modules
"""
    command = [sys.executable, "-c", script, str(tmp_path / "export")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# --- reading ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("formats", "played"),
    [(ALL, "policy.onnx"), *((("h5", one), "policy.pt2") for one in PT2), (("h5",), "policy.h5")],
)
def test_load_policy_plays_the_quickest_file_of_the_export(tmp_path, formats, played):
    network = make_network("mlp on vectors")
    export_vector_mlp(tmp_path, formats, network=network)
    for path in tmp_path.glob("policy.*"):
        if path.name not in (played, "policy.json"):
            path.unlink()
    observations = observe(VECTOR, 5, seed=3)
    expected = torch_q_values(network, observations)
    np.testing.assert_allclose(load_policy(tmp_path)(observations), expected, rtol=0, atol=1e-5)


def test_load_policy_refuses_what_is_not_a_whole_export(tmp_path):
    with pytest.raises(UserError, match="holds no exported policy"):
        load_policy(tmp_path)
    export_vector_mlp(tmp_path, ("safetensors",))
    with pytest.raises(UserError, match=r"holds none of \.onnx"):
        load_policy(tmp_path)
    export_vector_mlp(tmp_path, ("onnx",))
    (tmp_path / "policy.onnx").write_bytes((tmp_path / "policy.onnx").read_bytes()[:-1])
    with pytest.raises(UserError, match=r"policy\.onnx: missing, or not the file that policy\.json describes"):
        load_policy(tmp_path)
    (tmp_path / "policy.onnx").unlink()
    with pytest.raises(UserError, match=r"policy\.onnx: missing"):
        load_policy(tmp_path)


@pytest.mark.parametrize("suffix", [".onnx", ".pt2", ".h5"])
def test_read_policy_refuses_missing_and_damaged_files_in_one_line(tmp_path, suffix):
    path = tmp_path / f"policy{suffix}"
    with pytest.raises(UserError, match="no such file"):
        read_policy(path)
    path.write_bytes(b"damaged")
    with pytest.raises(UserError, match=f"not a readable {suffix} file") as raised:
        read_policy(path)
    assert "\n" not in str(raised.value)


def test_read_policy_names_the_formats_that_it_plays(tmp_path):
    with pytest.raises(UserError, match=r"only \.onnx, \.pt2, \.h5 files can be played"):
        read_policy(tmp_path / "policy.safetensors")
