"""The sweeps in conf/wandb/ call scripts/train.py with what it understands."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

from dqn.compose import CONF
from dqn.events import Evaluation
from dqn.observers.scalars import ScalarRecords

SWEEPS = sorted(path.stem for path in (CONF / "wandb").glob("*.yaml"))

# What W&B's documentation (docs.wandb.ai/models/sweeps/sweep-config-keys) and its schema (the package `sweeps`) know,
# as far as it is used here. The package itself wants another numpy than this project.
KEYS = {"project", "name", "program", "method", "metric", "early_terminate", "run_cap", "command", "parameters"}
PARAMETER_KEYS = {
    "constant": {"value"},
    "categorical": {"values"},
    "int_uniform": {"distribution", "min", "max"},
    "log_uniform_values": {"distribution", "min", "max"},
    "q_log_uniform_values": {"distribution", "min", "max", "q"},
}


def read(name: str) -> dict[str, Any]:
    """The file as `wandb sweep` reads it."""
    content = yaml.safe_load((CONF / "wandb" / f"{name}.yaml").read_text())
    assert isinstance(content, dict)
    return content


def distribution(parameter: dict[str, Any]) -> str:
    default = "constant" if "value" in parameter else "categorical"
    return str(parameter.get("distribution", default))


def ends(parameter: dict[str, Any]) -> list[Any]:
    """Every choice, or both ends of the range; quantized draws are floats."""
    if "value" in parameter:
        return [parameter["value"]]
    if "values" in parameter:
        return list(parameter["values"])
    quantized = "q" in parameter
    return [float(parameter[end]) if quantized else parameter[end] for end in ("min", "max")]


def points(parameters: dict[str, dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """All parameters at their first value, all at their last, and each one elsewhere."""
    first = {key: ends(parameter)[0] for key, parameter in parameters.items()}
    yield first
    yield {key: ends(parameter)[-1] for key, parameter in parameters.items()}
    for key, parameter in parameters.items():
        for value in ends(parameter)[1:]:
            yield first | {key: value}


def words(sweep: dict[str, Any], values: dict[str, Any]) -> list[str]:
    """The command that an agent starts for these values."""
    macros = create_sweep_command_args({"args": {key: {"value": value} for key, value in values.items()}})
    macros |= {"env": ["/usr/bin/env"], "interpreter": ["python"], "program": [sweep["program"]]}
    command = []
    for chunk in create_sweep_command(list(sweep["command"])):
        is_macro = chunk.startswith("${") and chunk.endswith("}")
        command += macros[chunk[2:-1]] if is_macro else [chunk]
    return command


@pytest.mark.parametrize("name", SWEEPS)
def test_every_value_of_a_sweep_makes_a_run(name: str, make_config: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_SWEEP_ID", "s1")
    monkeypatch.setenv("WANDB_RUN_ID", "r1")
    sweep = read(name)
    for values in points(sweep["parameters"]):
        command = words(sweep, values)
        assert command[:3] == ["/usr/bin/env", "python", "scripts/train.py"]
        config = make_config(*command[3:])
        assert config.name == name
        assert config.optimizer.learning_rate == values["optimizer.learning_rate"]
        assert config.exploration.schedule.duration_steps == values["exploration.schedule.duration_steps"]


@pytest.mark.parametrize("name", SWEEPS)
def test_a_sweep_has_the_keys_that_are_documented(name: str) -> None:
    sweep = read(name)
    assert set(sweep) == KEYS
    assert sweep["method"] in ("bayes", "random")
    assert (CONF.parent / sweep["program"]).is_file()
    assert set(sweep["early_terminate"]) == {"type", "min_iter", "eta"}
    assert sweep["early_terminate"]["type"] == "hyperband"
    for key, parameter in sweep["parameters"].items():
        assert set(parameter) == PARAMETER_KEYS[distribution(parameter)], key
        if "min" in parameter:
            assert all(isinstance(parameter[end], (int, float)) for end in ("min", "max")), key
            assert 0 < parameter["min"] < parameter["max"], key


@pytest.mark.parametrize("name", SWEEPS)
def test_the_metric_is_one_that_every_evaluation_logs(name: str) -> None:
    records = ScalarRecords(lambda: 0.0)
    records.add(Evaluation(0, 1, (1.0,), (1,), epsilon=0.0, optimal=None, value_change=None, is_best=True))
    ((_, numbers),) = records.rest()
    assert read(name)["metric"] == {"name": "evaluation/mean_return", "goal": "maximize"}
    assert numbers["evaluation/mean_return"] == 1.0


@pytest.mark.parametrize("name", SWEEPS)
def test_hyperband_has_evaluations_to_judge_by(name: str) -> None:
    sweep = read(name)
    parameters, rule = sweep["parameters"], sweep["early_terminate"]
    evaluations = parameters["trainer.total_steps"]["value"] // parameters["evaluation.every_steps"]["value"]
    assert rule["min_iter"] * rule["eta"] < evaluations
