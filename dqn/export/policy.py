"""The export of a policy: all its files and their description, checked against the network, or none."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from dqn.envs.base import EnvironmentSpec
from dqn.errors import TrainingError, first_line
from dqn.export import pt2
from dqn.export.formats import WRITERS, Policy, module_policy, open_written, sha256
from dqn.export.keras_model import has_keras
from dqn.files import sync
from dqn.networks.implicit import AtFractions
from dqn.networks.proposed import ProposedQuantiles

TOLERANCE = 1e-4  # of Q-values, relative to the largest where that exceeds 1
_WITHOUT_KERAS = 'needs Keras: pip install -e ".[keras]", then python scripts/export.py run=<folder>'
_WITH_PICKLE = "would have its weights as a pickle: needs PyTorch 2.9, then python scripts/export.py run=<folder>"
_NO_LAYERS = "Keras has no built-in layers for quantiles at fractions; policy.onnx needs no code of ours either"


def export_policy(
    network: nn.Module,
    spec: EnvironmentSpec,
    observations: npt.NDArray[Any],
    folder: Path,
    formats: Sequence[str],
    extra: dict[str, Any],
) -> dict[str, Any]:
    """Write a network as policy.<format> for each format, and policy.json, which describes them.

    Each file is read back and run on `observations` before any of them takes its place in `folder`: a failed
    export leaves an earlier one as it was. policy.json comes last and holds each file's digest; a file of an
    earlier export that this one does not have is removed.

    Args:
        network: maps raw observations (N, *spec.observation_shape) of dtype spec.frame_dtype to Q-values
            (N, spec.num_actions) float32. On any device; it is not changed.
        spec: of the environment that it was trained on.
        observations: real ones to compare on, N >= 8 of them.
        folder: where to; made if need be.
        formats: of "safetensors", "onnx", "pt2" and "h5"; the last is skipped where Keras is not installed, or has no
            layers for the network, "pt2" with PyTorch before 2.9.
        extra: what else policy.json should hold, under `extra`: the run's name, the step, ...

    Returns:
        What policy.json says.

    Raises:
        TrainingError: a file could not be written or read back, or its Q-values are not the network's.
    """
    network = copy.deepcopy(network).cpu().eval()
    skipped = _skipped(network, formats)
    names = [name for name in (f"policy.{suffix}" for suffix in dict.fromkeys(formats)) if name not in skipped]
    with _staging(folder) as staging:
        description = {
            **_describe(network, spec),
            "files": {name: _write_checked(network, observations, staging / name) for name in names},
            "skipped": skipped,
            "extra": extra,
        }
        text = json.dumps(description, indent=2, allow_nan=False)
        (staging / "policy.json").write_text(text + "\n")
        _publish(staging, folder, [*names, "policy.json"])
    return description


def _skipped(network: nn.Module, formats: Sequence[str]) -> dict[str, str]:
    """The files that cannot be written, each with the reason."""
    skipped = {}
    if "pt2" in formats and not pt2.WRITES_BYTES:
        skipped["policy.pt2"] = _WITH_PICKLE
    if "h5" in formats and any(isinstance(layer, AtFractions | ProposedQuantiles) for layer in network.modules()):
        skipped["policy.h5"] = _NO_LAYERS
    elif "h5" in formats and not has_keras():
        skipped["policy.h5"] = _WITHOUT_KERAS
    return skipped


def _describe(network: nn.Module, spec: EnvironmentSpec) -> dict[str, Any]:
    """What someone who plays the policy must know of its inputs and outputs."""
    return {
        "observation": {"shape": list(spec.observation_shape), "dtype": spec.frame_dtype},
        "num_states": spec.num_states,
        "num_actions": spec.num_actions,
        "action_meanings": list(spec.action_meanings),
        "preprocessing": spec.preprocessing,
        "network": {
            "layers": [str(layer) for layer in network.children()],
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
        },
    }


def _write_checked(network: nn.Module, observations: npt.NDArray[Any], path: Path) -> dict[str, Any]:
    """Write one file, play it, and describe it; raises TrainingError as `export_policy` does."""
    try:
        WRITERS[path.suffix](network, torch.tensor(observations), path)
        written = open_written(path, network)
        # One observation alone shows that the batch's size was not written down with the network.
        batches = (observations, observations[:1])
        difference = max(_difference(path.name, written, network, batch) for batch in batches)
    except TrainingError:
        raise
    except Exception as error:  # each library has its own, and a full disk is another to each
        raise TrainingError(f"{path.name} could not be exported: {first_line(error)}") from error
    return {
        "sha256": sha256(path),
        "bytes": path.stat().st_size,
        "largest_q_value_difference": difference,
    }


def _difference(name: str, written: Policy, network: nn.Module, observations: npt.NDArray[Any]) -> float:
    """The largest difference of a Q-value; raises TrainingError where it is more than rounding."""
    expected, found = module_policy(network)(observations), written(observations)
    if found.shape != expected.shape:
        raise TrainingError(f"{name} gives Q-values of shape {found.shape}, the network {expected.shape}")
    difference = float(np.abs(found - expected).max())
    limit = TOLERANCE * max(1.0, float(np.abs(expected).max()))
    if not difference <= limit:  # this way round, NaN is too much as well
        raise TrainingError(f"{name} differs from its network by {difference:.3g} in a Q-value (> {limit:.3g})")
    return difference


@contextmanager
def _staging(folder: Path) -> Iterator[Path]:
    """An empty folder beside `folder`, gone at the end; what a killed export left there is cleared first."""
    staging = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(staging, ignore_errors=True)
    try:
        staging.mkdir(parents=True)
        yield staging
    except OSError as error:
        raise TrainingError(f"{folder} could not be written: {error}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _publish(staging: Path, folder: Path, names: Sequence[str]) -> None:
    """Move the finished files into place, each at once and in this order; remove what they replace."""
    for name in names:
        sync(staging / name)
    folder.mkdir(exist_ok=True)
    for name in names:
        (staging / name).replace(folder / name)
    for stale in {path.name for path in folder.glob("policy.*")} - set(names):
        (folder / stale).unlink()
    sync(folder)
