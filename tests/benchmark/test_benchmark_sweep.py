"""Populations beside several processes: the arithmetic, and that only like work at the same time is compared."""

from __future__ import annotations

import dataclasses
import textwrap
import time
from pathlib import Path

import pytest

from dqn.benchmark import command
from dqn.benchmark.command import BenchmarkOptions, _variants, benchmark
from dqn.benchmark.floor import Floor, measure_floor
from dqn.benchmark.growth import Growth, growth_table, measure_growth
from dqn.benchmark.measurement import Joint, Measurement, differences, ratio
from dqn.benchmark.ours import run as run_ours
from dqn.benchmark.processes import in_a_process, in_processes
from dqn.benchmark.report import Result, floor_lines, speed_table
from dqn.benchmark.workloads import CARTPOLE_TORCH, GROWTH, STACK, STACK_EVERY_STEP, WORKLOADS
from dqn.errors import TrainingError
from dqn.events import End
from dqn.observers.metrics_file import MetricsFile

FLOOR = Floor(1e9, 1e9, 1e6, 0.0, threads=2)


def ours(members: int = 64, **changes: object) -> Measurement:
    """What one of our processes made of `stack` with so many members, in 10 s."""
    made = Measurement("dqn", 20, "compiled", 20_000 * members, 5.0, 10.0, 2000 * members, 128, 10_934, members)
    return dataclasses.replace(made, **changes)


def theirs(**changes: object) -> Measurement:
    """One of their processes, in 4 s."""
    made = Measurement("stable-baselines3", 1, "as it comes", 20_000, 7.0, 4.0, 2000, 128, 10_934)
    return dataclasses.replace(made, **changes)


def test_speeds_of_processes_at_the_same_time_add_up_without_their_resets():
    apart = Joint({}, [ours(32, resets=40_000), ours(32, seconds=8.0)])
    assert apart.steps_per_second == 600_000 / 10 + 640_000 / 8
    assert ratio([apart], [Joint({}, [theirs(), theirs()])]).median == 140_000 / 10_000


def test_overlap_is_the_share_of_the_time_in_which_all_were_timed():
    assert Joint({}, [theirs()]).overlap == 1.0
    assert Joint({}, [theirs(started=1.0, seconds=4.0), theirs(started=2.0, seconds=4.0)]).overlap == 3.0 / 5.0
    assert Joint({}, [theirs(started=1.0, seconds=4.0), theirs(started=6.0, seconds=4.0)]).overlap == 0.0


@pytest.mark.parametrize(
    "together", [[ours(64)], [ours(32), ours(32, started=5.1)], [ours(64, updates=2000 * 64 - 64 * 4)]]
)
def test_the_same_work_for_each_member_is_compared_whatever_the_placing(together):
    their = [Joint({}, [theirs(), theirs(started=7.5)])]
    assert differences(STACK, [Joint({}, together)], their) == []
    assert Result(STACK, FLOOR, ours=[Joint({}, together)], theirs=their).ratio is not None


@pytest.mark.parametrize(
    ("our", "their", "words"),
    [
        ([ours(32)], [theirs(), theirs()], "dqn trained 32 at the same time instead of 64"),
        ([ours(64)], [theirs()], "stable-baselines3 trained 1 at the same time instead of 2"),
        (
            [ours(64)],
            [theirs(), theirs(started=8.0)],
            "stable-baselines3's processes were timed together for 60% of the time only",
        ),
        (
            [ours(32), ours(32, started=9.0)],
            [theirs(), theirs()],
            "dqn's processes were timed together for 43% of the time only",
        ),
        (
            [ours(64, updates=2000 * 63)],
            [theirs(), theirs()],
            "dqn made 126000 updates in 1280000 steps, where 128000 are due",
        ),
        (
            [ours(32), ours(32, steps=20_000 * 31, updates=2000 * 31)],
            [theirs(), theirs()],
            "dqn was timed over 620000 steps instead of 640000",
        ),
        ([ours(64)], [theirs(), theirs(batch_size=64)], "stable-baselines3 learned from batches of 64 instead of 128"),
        (
            [ours(64)],
            [theirs(), theirs(parameters=9)],
            "networks differ: dqn has 10,934 parameters, stable-baselines3 has 9 parameters",
        ),
    ],
)
def test_other_work_or_other_times_are_named_and_get_no_ratio(our, their, words):
    result = Result(STACK, FLOOR, ours=[Joint({}, our)], theirs=[Joint({}, their)])
    assert result.problems == [f"stack: {words}"]
    assert result.ratio is None
    assert list(speed_table([result]).columns[3].cells) == ["not the same work"]


def test_each_placing_is_tried_and_the_table_names_the_faster(monkeypatch):
    monkeypatch.setattr("dqn.benchmark.command.can_compile", lambda: True)
    tried = [how for module, how in _variants(Result(STACK, FLOOR)) if module == "dqn.benchmark.ours"]
    assert {(how["processes"], how["members"], how["threads"]) for how in tried} == {(1, 64, 2), (2, 32, 1)}
    their = [how for module, how in _variants(Result(STACK, FLOOR)) if module == "dqn.benchmark.peer"]
    assert their == [{"num_envs": 1, "processes": 2}, {"num_envs": 20, "processes": 2}]
    apart = Joint({}, [ours(32, variant="compiled, 32 members on 1 thread")] * 2)
    table = speed_table([Result(STACK, FLOOR, ours=[apart], theirs=[Joint({}, [theirs()] * 2)])])
    assert "stack: 20 environments compiled, 32 members on 1 thread, in each of 2 processes against" in str(
        table.caption
    )
    assert list(table.columns[3].cells) == ["12.80 (12.80 to 12.80)"]
    assert list(table.columns[4].cells) == ["8 met"]
    assert list(table.columns[6].cells) == ["12800%"]  # of a floor of a thousand


def test_targets_and_what_they_are_of():
    assert [(w.members, w.processes, w.target_ratio) for w in (STACK_EVERY_STEP, STACK, CARTPOLE_TORCH)] == [
        (64, 2, 13.0),
        (64, 2, 8.0),
        (1, 1, 10.0),
    ]
    assert (STACK_EVERY_STEP.batch_size, STACK_EVERY_STEP.learn_every_steps) == (32, 1)
    assert (STACK.batch_size, STACK.learn_every_steps) == (128, 10)


def test_our_side_counts_the_work_of_all_members(monkeypatch):
    short = dataclasses.replace(STACK, segment_steps=60, timed_segments=2, warmup_steps=20, batch_size=8, members=3)
    monkeypatch.setitem(WORKLOADS, "stack", short)
    closed: list[Path] = []
    close = MetricsFile.close
    monkeypatch.setattr(MetricsFile, "close", lambda file: (closed.append(file.path), close(file)))
    called: list[float] = []
    request = {"workload": "stack", "num_envs": 5, "compile": "never", "precision": "float32", "process": 1}
    measured = run_ours({**request, "members": 3, "threads": 1}, lambda: called.append(time.perf_counter()))
    assert (measured.members, measured.steps, measured.updates) == (3, 3 * 120, 3 * 12)
    assert 0 < measured.resets < 3 * 120 / 5
    assert differences(short, [Joint({}, [measured])], []) == []
    assert len(called) == 1
    assert called[0] <= measured.started
    assert measured.variant == "uncompiled, env.backend=torch, 3 members on 1 thread"
    assert sorted(path.parent.name for path in closed) == ["0", "1", "2"]


def test_a_member_that_diverges_is_no_measurement(monkeypatch):
    class Diverging:
        def run(self):
            yield End(0, 10, "diverged", "the loss is no number")

    built = _built(monkeypatch, Diverging)
    with pytest.raises(TrainingError, match="the loss is no number"):
        run_ours({"workload": "stack", "num_envs": 1, "compile": "never", "precision": "float32", "members": 2})
    assert [config.seed for config in built] == [0, 1]


def test_processes_train_other_seeds(monkeypatch):
    class Ending:
        def run(self):
            yield End(0, 10, "diverged", "enough")

    built = _built(monkeypatch, Ending)
    request = {"workload": "stack", "num_envs": 1, "compile": "never", "precision": "float32", "members": 2}
    with pytest.raises(TrainingError, match="enough"):
        run_ours({**request, "process": 1})
    assert [config.seed for config in built] == [2, 3]


def _built(monkeypatch, run):
    """The configs that our side builds a trainer from, which is a `run` in its stead."""
    from dqn.experiment import build_trainer
    from dqn.sections import Sections

    configs = []

    def build(given):
        configs.extend(given)
        real = build_trainer(given)
        real.run, real.sections = run().run, Sections()
        return real

    monkeypatch.setattr("dqn.benchmark.ours.build_trainer", build)
    return configs


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Makes a module of this source that processes can run."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")

    def make(source: str) -> str:
        head = "import json, sys, time\nfrom dqn.benchmark.processes import wait_for_the_others\n"
        (tmp_path / "a_measurer.py").write_text(
            head + "request = json.loads(sys.argv[1])\n" + textwrap.dedent(source), encoding="utf-8"
        )
        return "a_measurer"

    return make


def test_no_process_is_timed_before_all_are_ready(module):
    name = module("""
        time.sleep(request["warm_up"])
        ready = time.perf_counter()
        print("noise")
        wait_for_the_others()
        print(json.dumps({"ready": ready, "started": time.perf_counter()}))
    """)
    quick, slow = in_processes(name, [{"warm_up": 0.0}, {"warm_up": 0.5}])
    assert quick["ready"] < slow["ready"]
    assert min(quick["started"], slow["started"]) >= slow["ready"]


def test_a_process_that_times_nothing_just_answers(module):
    assert in_a_process(module("print('noise'); print(json.dumps(request))"), {"a": 1}) == {"a": 1}


def test_what_could_not_be_compiled_is_said_once(module, capsys):
    name = module("""
        print("trainer.compile: learning goes uncompiled: no", file=sys.stderr)
        print("something else", file=sys.stderr)
        print(json.dumps({}))
    """)
    in_a_process(name, {})
    assert capsys.readouterr().err == "trainer.compile: learning goes uncompiled: no\n"


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_process_that_fails_is_one_line_and_ends_the_others(when, module, tmp_path):
    name = module("""
        if request["fails"] == "before": sys.exit("out of memory")
        wait_for_the_others()
        if request["fails"] == "after": sys.exit("out of memory")
        time.sleep(60)
    """)
    started = time.monotonic()
    with pytest.raises(TrainingError, match=r"^a_measurer ended with status 1: out of memory$"):
        in_processes(name, [{"fails": when}, {"fails": "never"}])
    assert time.monotonic() - started < 30


def test_sweep_is_a_name_for_four(monkeypatch, tmp_path):
    done: list[str] = []

    def measure(workload, repeats):
        done.append(workload.name)
        their = Joint({}, [theirs()] * workload.processes)
        return Result(workload, FLOOR, ours=[Joint({}, [ours(workload.members)])], theirs=[their])

    monkeypatch.setattr(command, "_measure", measure)
    monkeypatch.setattr(command, "measure_growth", lambda sizes: done.append(sizes) or Growth(FLOOR))
    monkeypatch.setattr("importlib.util.find_spec", lambda _: object())
    output = str(tmp_path / "benchmark.json")
    benchmark(["sweep", "stack"], BenchmarkOptions(members=[2, 3], output=output))
    assert done == ["stack_every_step", "stack", "cartpole_torch", (2, 3)]


def test_growth_measures_each_size_in_each_form_and_draws_a_row_for_it(monkeypatch):
    speeds = iter(range(1000, 9000, 1000))
    asked = []

    def measure(module, workload, **how):
        asked.append((how["members"], how["backend"], how["compile"]))
        steps = how["members"] * workload.timed_steps
        measured = Measurement(
            "dqn", 10, "", steps, 0.0, steps / next(speeds), steps, 32, 10_934, members=how["members"]
        )
        return Joint(how, [measured])

    monkeypatch.setattr("dqn.benchmark.growth.measure", measure)
    monkeypatch.setattr("dqn.benchmark.growth.can_compile", lambda: True)
    monkeypatch.setattr("dqn.benchmark.growth.in_a_process", lambda *_: dataclasses.asdict(Floor(1e10, 1e10, 1e6, 0)))
    growth = measure_growth([1, 4, 1])
    forms = [("gymnasium", "never"), ("gymnasium", "always"), ("torch", "never"), ("torch", "always")]
    assert asked == [(members, *form) for members in (1, 4) for form in forms]
    assert growth.problems == []
    rows = list(zip(*(column.cells for column in growth_table(growth).columns), strict=True))
    assert rows == [
        ("1", "1,000", "2,000", "3,000", "4,000", "40%"),
        ("4", "5,000", "6,000", "7,000", "8,000", "80%"),
    ]
    less = dataclasses.replace(growth.measured[-1].processes[0], updates=3)
    growth.measured.append(Joint(growth.measured[-1].how, [less]))
    assert growth.problems == ["growth, 4 members: dqn made 3 updates in 4000 steps, where 4000 are due"]


def test_the_floor_of_a_stack_is_arithmetic_alone_on_the_cores_of_both(monkeypatch):
    threads = []
    monkeypatch.setattr("torch.set_num_threads", threads.append)
    monkeypatch.setattr("dqn.benchmark.floor._product_rate", lambda _: 1e9)
    floor = measure_floor(STACK)
    assert threads == [2]
    assert (floor.threads, floor.environment_seconds_per_step) == (2, 0.0)
    forward = 2 * (4 * 120 + 120 * 84 + 84 * 2)
    assert floor.operations_per_step == forward + 128 * (4 * forward - 2 * 4 * 120) / 10
    (line,) = floor_lines({"stack": floor})
    assert line.startswith(
        f"floor of stack: {1e9 / floor.operations_per_step:,.0f} steps/s, from 1.1 million operations"
    )
    assert line.endswith("1 GFLOP/s on 2 threads (bfloat16: 1)")
    assert measure_floor(GROWTH).threads == 1
