"""The benchmark's arithmetic, and that it compares like with like only."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from dqn.benchmark.floor import Floor, forward_operations, operations_per_step
from dqn.benchmark.measurement import Measurement, differences, in_a_process, median_speed, ratio
from dqn.benchmark.report import Result, speed_table
from dqn.benchmark.workloads import CARTPOLE, WORKLOADS
from dqn.compose import compose_config
from dqn.config import Config
from dqn.errors import TrainingError
from dqn.validation import validate


def one(side: str, seconds: float = 1.0, **changes: object) -> Measurement:
    return dataclasses.replace(Measurement(side, 10, "compiled", 5000, seconds, 500, 128, 10_934), **changes)


def test_a_ratio_is_the_median_of_pairs_with_its_spread():
    found = ratio([one("dqn", 1.0), one("dqn", 2.0), one("dqn", 0.5)], [one("peer", s) for s in (3.0, 4.0, 4.0)])
    assert (found.median, found.least, found.largest) == (3.0, 2.0, 8.0)
    assert median_speed([one("dqn", s) for s in (1.0, 5.0, 2.0)]) == 2500


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"updates": 400}, "400 updates in 5000 steps, where 500 are due"),
        ({"steps": 4000, "updates": 400}, "timed over 4000 steps instead of 5000"),
        ({"batch_size": 64}, "batches of 64 instead of 128"),
        ({"parameters": 9}, "networks differ: dqn has 10,934 parameters, peer has 9 parameters"),
    ],
)
def test_different_work_is_named_and_gets_no_ratio(changes, words):
    assert differences(CARTPOLE, [one("dqn")], [one("peer")]) == []
    theirs = [one("peer", **changes)]
    (found,) = differences(CARTPOLE, [one("dqn")], theirs)
    assert words in found
    result = Result(CARTPOLE, Floor(1e9, 1e9, 1e6, 1e-5), ours=[one("dqn")], theirs=theirs)
    assert "not the same work" in list(speed_table([result]).columns[3].cells)


def test_operations_of_layers_and_of_a_step():
    network = nn.Sequential(nn.Conv2d(2, 3, 4, 2), nn.ReLU(), nn.Flatten(), nn.Linear(27, 5))
    layers = forward_operations(network, torch.zeros(2, 8, 8))
    assert layers == [2 * (2 * 4 * 4) * (3 * 3 * 3), 2 * 27 * 5]
    forward = sum(layers)
    assert operations_per_step(layers, CARTPOLE) == forward + 128 * (4 * forward - layers[0]) / 10


def test_the_floor_is_arithmetic_and_environment_one_after_the_other():
    assert Floor(1e9, 1e9, 1e6, 1e-3).steps_per_second == pytest.approx(500)


@pytest.mark.parametrize("name", WORKLOADS)
def test_every_workload_is_a_valid_configuration(name):
    workload = WORKLOADS[name]
    for num_envs in workload.num_envs:
        config = validate(Config, compose_config(workload.overrides(num_envs, "never", "float32")))
        assert config.env.num_envs == num_envs
        assert config.trainer.batch_size == workload.batch_size


def test_a_failed_process_is_one_line():
    with pytest.raises(TrainingError, match=r"dqn.benchmark.ours ended with status 1: KeyError: 'nothing'"):
        in_a_process("dqn.benchmark.ours", {"workload": "nothing"})
