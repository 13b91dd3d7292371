"""Every kind of executor on real processes: this one, others of this machine, a Ray cluster, jobs as Slurm's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any

import group_work
import pytest
from omegaconf import OmegaConf

from dqn.compose import CONF
from dqn.cores import available_cores
from dqn.errors import UserError
from dqn.sweep.executors import Executor, ExecutorConfig, Failure, make_executor
from dqn.validation import validate

KINDS = ["serial", "processes", pytest.param("ray", marks=pytest.mark.ray), "slurm"]


def config_of(option: str, folder: Path, **changes: Any) -> Any:
    """What conf/ says of this option, with changes."""
    values = OmegaConf.load(CONF / "hydra" / "launcher" / "executor" / f"{option}.yaml")
    whole = OmegaConf.create({"hydra": {"sweep": {"dir": str(folder)}, "launcher": {"executor": values}}})
    return validate(
        ExecutorConfig,
        {**OmegaConf.to_container(whole, resolve=True)["hydra"]["launcher"]["executor"], **changes},
        prefix="hydra.launcher.executor",
    )


def executor_of(kind: str, folder: Path, **changes: Any) -> Executor:
    """An executor of this kind that works on this machine, with changes."""
    if kind == "ray":
        pytest.importorskip("ray")
    if kind == "slurm":
        pytest.importorskip("submitit")
        changes = {"cluster": "local", **changes}
    if kind == "processes":
        changes = {"num_workers": 2, **changes}
    return make_executor(config_of(kind, folder, **changes))


@pytest.fixture(autouse=True)
def workers_find_the_work(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(group_work.__file__).parent), *sys.path]))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_the_same_results(kind, tmp_path):
    executor = executor_of(kind, tmp_path)
    assert dict(executor.run(group_work.square, range(4))) == {0: 0, 1: 1, 2: 4, 3: 9}
    assert dict(executor.run(group_work.square, [])) == {}


@pytest.mark.parametrize("kind", KINDS)
def test_a_group_that_raises_fails_alone_with_its_cause_in_one_line(kind, tmp_path):
    results = dict(executor_of(kind, tmp_path).run(group_work.square_unless_bad, range(5)))
    assert {index: result for index, result in results.items() if index in (0, 2, 4)} == {0: 0, 2: 4, 4: 16}
    assert results[1] == Failure("trainer.batch_size=0: must be positive")
    assert results[3].reason.startswith("ZeroDivisionError: integer division or modulo by zero (")
    assert "group_work.py:" in results[3].reason


@pytest.mark.parametrize("kind", KINDS[1:])
def test_a_group_that_exits_fails_alone(kind, tmp_path):
    results = dict(executor_of(kind, tmp_path).run(group_work.square_unless_bad, [4, 5]))
    assert results == {0: 16, 1: Failure("exited with status 4")}


@pytest.mark.parametrize(("work", "stop"), [(group_work.interrupted, KeyboardInterrupt), (exit, SystemExit)])
def test_in_this_process_an_interruption_or_an_exit_ends_the_sweep(work, stop, tmp_path):
    with pytest.raises(stop):
        next(executor_of("serial", tmp_path).run(work, [0]))


def test_serial_yields_each_result_before_the_next_group_starts(tmp_path):
    results = executor_of("serial", tmp_path).run(partial(group_work.note_start, tmp_path), [0, 1])
    assert next(results) == (0, 1)
    assert group_work.starts(tmp_path, 1) == 0


def test_a_killed_process_costs_only_its_group_another_try(tmp_path):
    results = dict(executor_of("processes", tmp_path).run(partial(group_work.killed, tmp_path, 1), range(4)))
    assert results == {0: 0, 1: 1, 2: 4, 3: 9}
    assert [group_work.starts(tmp_path, number) for number in range(4)] == [1, 2, 1, 1]


def test_a_group_whose_processes_are_killed_twice_fails_and_the_others_run_once(tmp_path):
    results = dict(executor_of("processes", tmp_path).run(partial(group_work.killed, tmp_path, 9), range(4)))
    assert results == {0: 0, 1: Failure("its process died 2 times, at last with SIGKILL(-9)"), 2: 4, 3: 9}
    assert [group_work.starts(tmp_path, number) for number in range(4)] == [1, 2, 1, 1]


def test_processes_share_the_cores(tmp_path):
    for num_workers, num_groups in ((1, 2), (2, 2), (None, 1), (available_cores() + 1, available_cores() + 1)):
        executor = executor_of("processes", tmp_path, num_workers=num_workers)
        at_a_time = min(num_workers or available_cores(), num_groups)
        shares = set(dict(executor.run(group_work.threads, range(num_groups))).values())
        assert shares == {max(1, available_cores() // at_a_time)}


@pytest.mark.parametrize("kind", KINDS[1:])
def test_closing_the_iterator_stops_what_still_runs_and_lets_it_save(kind, tmp_path):
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts in the background ignores it
    (tmp_path / "starts").mkdir()
    results = executor_of(kind, tmp_path).run(partial(group_work.linger, tmp_path / "starts"), [0, 1])
    assert next(results) == (0, 0)
    (start,) = (tmp_path / "starts").glob("1-*")
    pid = int(start.name.split("-")[1])
    assert is_alive(pid)
    results.close()
    group_work.wait_until(lambda: not is_alive(pid), seconds=30)
    assert not is_alive(pid)
    if kind != "slurm":  # which gives jobs time, but submitit's imitation of it on one machine does not
        assert (tmp_path / "starts" / "saved-1").exists()


def test_workers_save_and_end_when_the_process_that_leads_is_killed(tmp_path):
    command = f"import group_work, pathlib; group_work.lead(pathlib.Path({str(tmp_path)!r}))"
    leader = subprocess.Popen([sys.executable, "-c", command])
    group_work.wait_until(lambda: group_work.starts(tmp_path, 1) > 0 and group_work.starts(tmp_path, 2) > 0)
    workers = [int(start.name.split("-")[1]) for start in tmp_path.iterdir()]
    leader.kill()
    leader.wait()
    group_work.wait_until(lambda: not any(map(is_alive, workers)), seconds=30)
    assert len(workers) == 2
    assert not any(map(is_alive, workers))
    assert {path.name for path in tmp_path.glob("saved-*")} == {"saved-1", "saved-2"}


def is_alive(pid: int) -> bool:
    """And not merely waiting for its parent to ask what became of it."""
    listed = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return listed.stdout.strip()[:1] not in ("", "Z")


def test_a_slurm_job_without_a_result_fails_with_the_end_of_its_log(tmp_path, monkeypatch):
    submitit = pytest.importorskip("submitit")
    monkeypatch.setattr(submitit.core.core.Job, "_results_timeout_s", 0)  # a shared file system may be late
    results = dict(executor_of("slurm", tmp_path).run(group_work.die_loudly, range(2)))
    assert results == {0: 0, 1: Failure("its job ended without a result: no more memory")}


def test_slurm_jobs_have_their_threads_and_leave_their_logs_in_the_folder(tmp_path):
    executor = executor_of("slurm", tmp_path, num_cpus=3)
    assert dict(executor.run(group_work.threads, range(2))) == {0: 3, 1: 3}
    assert len(list((tmp_path / "jobs").glob("*_log.err"))) == 2


def test_slurm_jobs_can_be_tried_out_in_this_process(tmp_path):
    executor = executor_of("slurm", tmp_path, cluster="debug")
    assert dict(executor.run(group_work.square, range(3))) == {0: 0, 1: 1, 2: 4}


def test_slurm_asks_for_what_the_config_says(tmp_path, monkeypatch):
    """A made-up sbatch keeps what it is given, and refuses it."""
    pytest.importorskip("submitit")
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    for name in ("srun", "sbatch"):
        script = bin_folder / name
        script.write_text(f'#!/bin/sh\ncp "$1" {tmp_path}/submitted\necho "not now" >&2\nexit 1\n')
        script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_folder}{os.pathsep}{os.environ['PATH']}")
    asked = {"num_gpus": 2, "num_cpus": 5, "memory_gb": 7, "timeout_minutes": 90, "partition": "long"}
    executor = executor_of("slurm", tmp_path, cluster="slurm", parameters={"account": "lab"}, **asked)
    with pytest.raises(UserError, match=r"^hydra\.launcher\.executor=slurm: sbatch refuses the jobs: not now$"):
        list(executor.run(group_work.square, range(3)))
    script = (tmp_path / "submitted").read_text()
    flags = {line.removeprefix("#SBATCH --") for line in script.splitlines() if line.startswith("#SBATCH")}
    assert flags >= {
        "gpus-per-node=2",
        "cpus-per-task=5",
        "mem=7GB",
        "time=90",
        "partition=long",
        "account=lab",
    }
    assert any(flag.startswith("array=0-2") for flag in flags)


@pytest.mark.ray
def test_a_ray_node_that_dies_in_mid_sweep_costs_no_result(two_nodes, tmp_path):
    cluster, doomed = two_nodes

    def kill_the_node_at_work() -> None:
        group_work.wait_until(lambda: any(tmp_path.glob(f"*-{doomed.node_id}-*")))
        (start,) = tmp_path.glob(f"*-{doomed.node_id}-*")
        cluster.remove_node(doomed, allow_graceful=False)
        # Its worker outlives it by a moment, in which it could finish this group and begin another.
        group_work.wait_until(lambda: not is_alive(int(start.name.split("-")[2])))
        (tmp_path / "go").touch()

    killer = threading.Thread(target=kill_the_node_at_work)
    killer.start()
    executor = executor_of("ray", tmp_path, address=cluster.address)
    results = dict(executor.run(partial(group_work.on_any_node, tmp_path), range(4)))
    killer.join()
    assert results == {0: 0, 1: 1, 2: 4, 3: 9}
    (lost,) = tmp_path.glob(f"*-{doomed.node_id}-*")
    number = int(lost.name.split("-")[0])
    assert [group_work.starts(tmp_path, each) for each in range(4)] == [1 + (each == number) for each in range(4)]


@pytest.mark.ray
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_gpus": 99}, r"num_gpus=99: this machine has \d+$"),
        ({"num_cpus": 1.5}, r"num_cpus=1\.5: must be a whole number where it is more than 1$"),
        ({"address": "127.0.0.1:1"}, r"address=127\.0\.0\.1:1: no Ray cluster answers there"),
    ],
)
def test_what_ray_cannot_do_is_refused_by_key(changes, message, tmp_path):
    with pytest.raises(UserError, match=rf"^hydra\.launcher\.executor\.{message}"):
        list(executor_of("ray", tmp_path, **changes).run(group_work.square, [1]))


@pytest.mark.parametrize(("kind", "package"), [("ray", "ray"), ("slurm", "submitit")])
def test_a_missing_package_is_named_with_its_extra(kind, package, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError) as caught:
        make_executor(config_of(kind, tmp_path))
    assert str(caught.value) == f'hydra.launcher.executor.kind={kind}: needs {package}: pip install -e ".[{kind}]"'


def test_slurm_is_refused_where_there_is_none(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"^hydra\.launcher\.executor\.cluster=slurm: there is no srun here"):
        list(executor_of("slurm", tmp_path, cluster="slurm").run(group_work.square, [1]))


@pytest.mark.parametrize(
    ("option", "changes", "message"),
    [
        ("processes", {"num_workers": 0}, "num_workers=0: must be greater than or equal to 1, or null"),
        (
            "serial",
            {"a": 1},
            "a=1: no such key where hydra.launcher.executor.kind=serial; choose one of kind, num_workers",
        ),
        ("ray", {"max_retries": -1}, "max_retries=-1: must be greater than or equal to 0"),
        ("slurm", {"cluster": "slrm"}, "cluster=slrm: did you mean slurm?"),
        ("serial", {"kind": "rya"}, "kind=rya: did you mean ray?"),
    ],
)
def test_a_wrong_value_is_refused_by_key(option, changes, message, tmp_path):
    with pytest.raises(UserError) as caught:
        config_of(option, tmp_path, **changes)
    assert str(caught.value) == f"hydra.launcher.executor.{message}"
