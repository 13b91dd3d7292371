"""The benchmark's arithmetic, and that it compares like with like only."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import nn

from dqn.benchmark.clock import FILE
from dqn.benchmark.command import BenchmarkOptions, _variants, benchmark
from dqn.benchmark.floor import Floor, forward_operations, operations_per_step
from dqn.benchmark.measurement import Joint, Measurement, differences, median_speed, ratio
from dqn.benchmark.ours import run as run_ours
from dqn.benchmark.processes import in_a_process
from dqn.benchmark.report import Result, memory_lines, sections_table, speed_table
from dqn.benchmark.startup import first_step_seconds
from dqn.benchmark.workloads import CARTPOLE, WORKLOADS
from dqn.compose import compose_config
from dqn.config import Config
from dqn.envs.base import Array, StepResult
from dqn.envs.gymnasium_env import GymnasiumEnvironment
from dqn.errors import TrainingError, UserError
from dqn.validation import validate


def one(side: str, seconds: float = 1.0, **changes: object) -> Joint:
    measured = Measurement(side, 10, "compiled", 20_000, 0.0, seconds, 2000, 128, 10_934)
    return Joint({}, [dataclasses.replace(measured, **changes)])


def test_a_ratio_is_the_median_of_pairs_with_its_spread():
    found = ratio([one("dqn", 1.0), one("dqn", 2.0), one("dqn", 0.5)], [one("peer", s) for s in (3.0, 4.0, 4.0)])
    assert (found.median, found.least, found.largest) == (3.0, 2.0, 8.0)
    assert median_speed([one("dqn", s) for s in (1.0, 5.0, 2.0)]) == 10_000


def test_steps_that_only_reset_an_environment_do_not_count():
    found = ratio([one("dqn", resets=2000)], [one("peer")])
    assert found.median == pytest.approx(0.9)


def test_our_side_knows_its_resets(monkeypatch):
    short = dataclasses.replace(CARTPOLE, segment_steps=1000, timed_segments=1, warmup_steps=100)
    monkeypatch.setitem(WORKLOADS, "cartpole", short)
    steps: list[StepResult] = []

    def watched(environment: GymnasiumEnvironment, actions: Array) -> StepResult:
        steps.append(step(environment, actions))
        return steps[-1]

    step = GymnasiumEnvironment.step
    monkeypatch.setattr(GymnasiumEnvironment, "step", watched)
    measured = run_ours({"workload": "cartpole", "num_envs": 20, "compile": "never", "precision": "float32"})
    timed = steps[2000 // 20 :]
    assert measured.steps == 1000
    assert measured.resets > 10
    # Episodes that end in the last call before the timed ones, or in their last, are reset in the call after.
    assert measured.resets == pytest.approx(sum(int(one.was_reset.sum()) for one in timed), abs=20)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"updates": 1900}, "1900 updates in 20000 steps, where 2000 are due"),
        ({"steps": 4000, "updates": 400}, "timed over 4000 steps instead of 20000"),
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
    assert result.ratio is None
    assert "not the same work" in list(speed_table([result]).columns[3].cells)


def test_operations_of_layers_and_of_a_step():
    network = nn.Sequential(nn.Conv2d(2, 3, 4, 2), nn.ReLU(), nn.Flatten(), nn.Linear(27, 5))
    layers = forward_operations(network, torch.zeros(2, 8, 8))
    assert layers == [2 * (2 * 4 * 4) * (3 * 3 * 3), 2 * 27 * 5]
    forward = sum(layers)
    assert operations_per_step(layers, CARTPOLE) == forward + 128 * (4 * forward - layers[0]) / 10


def test_the_floor_is_arithmetic_and_environment_one_after_the_other():
    floor = Floor(1e9, 4e9, 1e6, 1e-3)
    assert floor.steps_per_second("float32") == pytest.approx(500)
    assert floor.steps_per_second("bfloat16") == pytest.approx(800)


@pytest.mark.parametrize("name", WORKLOADS)
def test_every_workload_is_a_valid_configuration(name):
    workload = WORKLOADS[name]
    for num_envs in workload.num_envs:
        config = validate(Config, compose_config(workload.overrides(num_envs, "never", "float32")))
        assert config.env.num_envs == num_envs
        assert config.trainer.batch_size == workload.batch_size


def test_the_run_whose_start_is_timed_has_the_default_observers(monkeypatch):
    words: list[str] = []

    def train(given: list[str], environment: dict[str, str]) -> None:
        words.extend(given)
        Path(environment[FILE]).write_text("0", encoding="utf-8")

    monkeypatch.setattr("dqn.benchmark.startup._train", train)
    first_step_seconds(1)
    timed, default = (
        validate(Config, compose_config(overrides))
        for overrides in ([word for word in words if not word.startswith("hydra.")], ["logger.wandb.mode=offline"])
    )
    assert timed.env.id == "dqn.benchmark.clock:FirstStep-v0"
    for part in ("network", "exploration", "target", "algorithm", "optimizer"):
        assert getattr(timed, part) == getattr(default, part)
    assert timed.logger.wandb is not None
    assert timed.logger == default.logger


@pytest.mark.parametrize(("there_is_a_compiler", "forms"), [(True, {"never", "always"}), (False, {"never"})])
def test_without_a_compiler_nothing_is_called_compiled(there_is_a_compiler, forms, monkeypatch):
    monkeypatch.setattr("dqn.benchmark.command.can_compile", lambda: there_is_a_compiler, raising=False)
    tried = _variants(Result(CARTPOLE, Floor(1e9, 1e9, 1e6, 1e-5)))
    assert {how["compile"] for module, how in tried if module == "dqn.benchmark.ours"} == forms


def test_a_failed_process_is_one_line():
    with pytest.raises(TrainingError, match=r"dqn.benchmark.ours ended with status 1: KeyError: 'nothing'"):
        in_a_process("dqn.benchmark.ours", {"workload": "nothing"})


def test_the_table_names_the_variants_that_are_compared():
    result = Result(CARTPOLE, Floor(1e9, 1e9, 1e6, 1e-5), ours=[one("dqn", 1.0)], theirs=[one("peer", 4.0, num_envs=1)])
    table = speed_table([result])
    assert "cartpole: 10 environments compiled against 1 environment compiled" in str(table.caption)
    assert list(table.columns[3].cells) == ["4.00 (4.00 to 4.00)"]
    assert list(table.columns[4].cells) == ["3 met"]


def test_shares_of_time_add_up():
    profiled = one("dqn", sections={"act": 0.3, "learn": 0.6, "rest": 0.1})
    result = Result(CARTPOLE, Floor(1e9, 1e9, 1e6, 1e-5), profiled=profiled)
    (row,) = zip(*(column.cells for column in sections_table([result]).columns), strict=True)
    assert row == ("cartpole", "30.0%", "60.0%", "10.0%", "50.0")


@pytest.mark.parametrize(
    ("names", "options", "words"),
    [
        (["cartpol"], {}, "did you mean cartpole?"),
        (["startup"], {"output": "no/such/folder.json"}, "there is no such folder"),
        (["cartpole"], {}, r'pip install -e "\.\[bench\]"'),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_measured(names, options, words, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(UserError, match=words):
        benchmark(names, BenchmarkOptions(**options))


def test_memory_is_reported_a_million_steps():
    measured = {
        "peer_bytes_per_step": 56_000,
        "none": {"steps": 1000, "bytes": 7_100_000, "sample_seconds": 4e-4},
        "lz4": {"steps": 1000, "bytes": 900_000, "sample_seconds": 5e-4},
        "problems": [],
        "speed_ratio": {"median": 0.95, "least": 0.9, "largest": 1.0},
    }
    plain, compressed, peer, cost = memory_lines(measured)
    assert "7.10 GB a million (target 7.2 GB: met)" in plain
    assert "0.40 ms (target 0.3 ms: missed)" in plain
    assert "0.90 GB a million (target 2.0 GB: met)" in compressed
    assert "56.0 GB" in peer
    assert "0.95 times as fast as without (0.90 to 1.00; target over 0.9: met)" in cost
    *_, last = memory_lines({**measured, "problems": ["dqn made 1 update"], "speed_ratio": None})
    assert last == "memory.compression=lz4: dqn made 1 update"
