"""Machines fail: a run ends with one line and what it has saved, or goes on where only a logger is lost."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from gated import AT_GATE, GO
from shell import Script, environment, start_script
from wandb_process import wandb_process

from dqn.provenance import installed_memory

GATE_STEP = 250
RUN = [
    "env=gymnasium", "env.id=gated:Gated-v0", "env.num_envs=1",
    "trainer.total_steps=400", "trainer.learn_every_steps=4",
    "trainer.updates_per_learn=1", "trainer.compile=never", "trainer.log_every_steps=50", "trainer.batch_size=4",
    "network.hidden_sizes=[8]", "memory.warmup_steps=100", "memory.capacity_steps=1000", "checkpoint.every_steps=100",
    "evaluation.every_steps=null", "evaluation.stop.mean_return=null", "evaluation.final_episodes=1",
    "evaluation.video=false", "export.formats=[safetensors]", "logger=none", "hydra.run.dir=run",
]  # fmt: skip
LAST = "step-000000000200"  # checkpoint before the gate


@pytest.fixture
def here(tmp_path, request):
    """The folder in which scripts run, with the mounts of a test that has any."""
    return request.getfixturevalue("mounts").seen(tmp_path) if "mounts" in request.fixturenames else tmp_path


@pytest.fixture
def start(tmp_path, tmp_path_factory, request):
    """start("seed=1") begins such a run; it has W&B's account of the variables, or none, and an empty home."""
    mounts = request.getfixturevalue("mounts") if "mounts" in request.fixturenames else None
    home = str(tmp_path_factory.mktemp("home"))
    variables = {"GATE_STEP": str(GATE_STEP), "HOME": home, "NETRC": f"{home}/.netrc"}

    def call(*words: str, **account: str) -> Script:
        beside = tmp_path_factory.mktemp("printed")
        return Script("train", words, tmp_path, beside, variables | account, mounts=mounts)

    return call


@pytest.fixture
def at_gate(start, here):
    """A run that stands still after its second checkpoint, and goes on after the block."""

    @contextmanager
    def stand_still(*words: str) -> Iterator[Script]:
        script = start(*RUN, *words)
        try:
            wait_for((here / AT_GATE).exists, script)
            wait_for((here / "run" / "checkpoints" / LAST).exists, script)
            yield script
        except BaseException:
            script.kill()
            raise
        finally:
            (here / GO).touch()

    return stand_still


def wait_for(condition: Callable[[], bool], script: Script) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert script.is_running, script.done().stderr
        assert time.monotonic() < deadline
        time.sleep(0.01)


def ended(script: Script) -> tuple[int, list[str]]:
    """The status with which a script comes to its end, and what it has said, but not how training is getting on."""
    done = script.done(timeout=120)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, [line for line in done.stderr.splitlines() if ": step " not in line]


def records(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]


def check_complete(folder: Path) -> None:
    """Everything is there that a run leaves."""
    run = folder / "run"
    assert json.loads((run / "summary.json").read_text())["status"] == "completed"
    assert [place.name for place in sorted((run / "checkpoints").iterdir())][-1] == "step-000000000400"
    assert (run / "export" / "policy.safetensors").is_file()
    assert [record["step"] for record in records(folder) if record["kind"] == "end"] == [400]


def check_resumes(folder: Path, start: Callable[..., Script]) -> None:
    """The run goes on from the checkpoint before the gate, and comes to its end."""
    status, lines = ended(start("resume=run", "modules=[gated]"))
    assert (status, lines[-2:]) == (0, ["resuming run at step 200", OVER])
    check_complete(folder)
    steps = [record["step"] for record in records(folder)]
    assert steps == sorted(steps)


# Loggers: training goes on.


OFFLINE = "W&B: offline; to upload: wandb sync run/wandb/offline-run-*"
OVER = "cartpole seed 0: completed at step 400: 400 steps"


def test_the_process_of_wandb_is_killed(at_gate, tmp_path):
    with at_gate("logger=wandb") as script:
        os.kill(wandb_process(script.pid), signal.SIGKILL)
    status, lines = ended(script)
    assert status == 0
    (lost,) = [line for line in lines if line not in (OFFLINE, OVER)]
    assert lost.startswith("W&B: gave up (")
    assert lost.endswith("); metrics.jsonl has everything")
    check_complete(tmp_path)


def test_the_folder_of_a_logger_vanishes(at_gate, tmp_path):
    with at_gate("logger=[wandb,tensorboard]") as script:
        shutil.rmtree(tmp_path / "run" / "wandb")
        shutil.rmtree(tmp_path / "run" / "tensorboard")
    status, lines = ended(script)
    assert status == 0
    lost = [line for line in lines if "gave up" in line]
    assert sorted(line.partition(":")[0] for line in lost) == ["TensorBoard", "W&B"]
    assert all("No such file or directory" in line for line in lost)
    check_complete(tmp_path)


@pytest.mark.parametrize("sent", ["Ctrl-C in a terminal", "SIGTERM to every process"])
def test_interrupted_with_wandb(at_gate, tmp_path, sent):
    with at_gate("logger=wandb") as script:
        if sent == "Ctrl-C in a terminal":
            os.killpg(script.pid, signal.SIGINT)
        else:  # as from a service manager
            os.kill(wandb_process(script.pid), signal.SIGTERM)
            os.kill(script.pid, signal.SIGTERM)
        sent_at_seconds = time.monotonic()
    status, lines = ended(script)
    assert time.monotonic() - sent_at_seconds < 10
    assert status == 130
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["status"] == "interrupted"
    stopped = f"cartpole seed 0: interrupted at step {summary['steps']}: stopped by a signal"
    assert [line for line in lines if not line.startswith("W&B: gave up (")] == [OFFLINE, stopped]
    assert len(lines) == 2 if "Ctrl-C" in sent else len(lines) <= 3
    assert (tmp_path / "run" / "checkpoints" / f"step-{summary['steps']:012d}").is_dir()


@pytest.fixture
def server():
    """The address of a server that refuses every API key."""

    class Refuses(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_error(401)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Refuses) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.parametrize("mode", ["online", "auto"])
def test_wandb_refuses_the_key(start, tmp_path, server, mode):
    (tmp_path / GO).touch()
    words = [*RUN, "logger=wandb", f"logger.wandb.mode={mode}"]
    status, lines = ended(start(*words, WANDB_API_KEY="k" * 40, WANDB_BASE_URL=server))
    if mode == "online":
        assert status == 2
        (line,) = lines
        assert line.startswith("error: logger.wandb.mode=online: W&B does not start: ")
        assert "401" in line
        assert not (tmp_path / "run").exists()
    else:
        assert status == 0
        assert lines[0].startswith("W&B: cannot go online (")
        assert lines[0].endswith("; this run is recorded offline")
        assert lines[1] == OFFLINE
        check_complete(tmp_path)


@pytest.fixture
def silent_server():
    """The address of a server that answers nothing, and an event that says that it was asked."""
    asked, over = threading.Event(), threading.Event()

    class Waits(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.set()
            over.wait(120)

    with ThreadingHTTPServer(("127.0.0.1", 0), Waits) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
        over.set()
        server.shutdown()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("resumes", [False, True])
def test_a_signal_while_wandb_waits_for_its_server(start, tmp_path, silent_server, number, resumes):
    """A new run leaves nothing, one that was to go on everything."""
    address, asked = silent_server
    (tmp_path / GO).touch()
    words, run = RUN, tmp_path / "run"
    if resumes:
        assert ended(start(*RUN))[0] == 0
        words = ["resume=run", "modules=[gated]", "trainer.total_steps=500"]
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    script = start(*words, "logger=wandb", "logger.wandb.mode=online", WANDB_API_KEY="k" * 40, WANDB_BASE_URL=address)
    wait_for(asked.is_set, script)
    os.kill(script.pid, number)
    sent_at_seconds = time.monotonic()
    assert ended(script) == (130, ["interrupted"])
    assert time.monotonic() - sent_at_seconds < 20
    assert run.exists() == resumes
    assert {path: path.read_bytes() for path in before} == before
    if resumes:
        assert {path.name for path in run.iterdir()} - {path.relative_to(run).parts[0] for path in before} == {"wandb"}


# Disks: the run ends.


def test_a_disk_becomes_full(mounts, at_gate, start, tmp_path, here):
    run = here / "run"
    run.mkdir()
    mounts.mount("-t", "tmpfs", "-o", "size=2m", "tmpfs", str(tmp_path / "run"))
    filler = run / "filler"
    with at_gate() as script, filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    status, lines = ended(script)
    assert status == 1
    assert lines == [f"error: could not write in run: the disk is full; the last checkpoint is {LAST}"]
    assert {place.name for place in (run / "checkpoints").iterdir()} == {"step-000000000100", LAST}
    filler.unlink()
    check_resumes(here, start)


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="needs Linux")
def test_a_file_may_not_grow_any_more(at_gate, start, tmp_path):
    with at_gate() as script:
        size = (tmp_path / "run" / "metrics.jsonl").stat().st_size
        resource.prlimit(script.pid, resource.RLIMIT_FSIZE, (size + 10, size + 10))
    status, lines = ended(script)
    assert status == 1
    assert lines == [f"error: could not write in run: File too large; the last checkpoint is {LAST}"]
    check_resumes(tmp_path, start)


@pytest.mark.parametrize("how", ["removed", "moved"])
def test_the_folder_of_the_run_vanishes(at_gate, start, tmp_path, how):
    run = tmp_path / "run"
    with at_gate("logger=[wandb,tensorboard]") as script:
        if how == "removed":
            shutil.rmtree(run)
        else:
            run.rename(tmp_path / "elsewhere")
    status, lines = ended(script)
    assert status == 1
    assert lines[-1] == "error: run was removed or moved away before the run was over"
    assert not run.exists()
    if how == "moved":
        (tmp_path / "elsewhere").rename(run)
        check_resumes(tmp_path, start)


def test_the_folder_of_the_run_becomes_read_only(mounts, at_gate, start, tmp_path, here):
    run = str(tmp_path / "run")
    with at_gate() as script:
        mounts.mount("--bind", run, run)
        mounts.mount("-o", "remount,ro,bind", run)
    status, lines = ended(script)
    assert status == 1
    assert lines == [f"error: could not write in run: Read-only file system; the last checkpoint is {LAST}"]
    mounts.mount("-o", "remount,rw,bind", run)
    check_resumes(here, start)


# Workers: another one goes on.


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc")
def test_a_worker_is_killed_in_mid_training(start, tmp_path):
    words = [word for word in RUN if not word.startswith("hydra.run.dir")]
    words += ["-m", "seed=0", "hydra.sweep.dir=sweep", "hydra/launcher/executor=processes"]
    script, run = start(*words), tmp_path / "sweep" / "0-seed0"
    try:
        wait_for((tmp_path / AT_GATE).exists, script)
        wait_for((run / "checkpoints" / LAST).exists, script)
        (worker,) = [pid for pid in children(script.pid) if b"LokyProcess" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        os.kill(worker, signal.SIGKILL)
    finally:
        (tmp_path / GO).touch()
    status, _ = ended(script)
    assert status == 0
    assert json.loads((run / "summary.json").read_text())["status"] == "completed"
    (resumed,) = json.loads((run / "provenance.json").read_text())["resumed"]
    assert resumed["step"] == 200
    assert ended(start(*RUN))[0] == 0  # alone, and without a pause
    for file in ("export/policy.safetensors", "checkpoints/step-000000000400/tensors.safetensors"):
        assert (run / file).read_bytes() == (tmp_path / "run" / file).read_bytes()


def children(pid: int) -> list[int]:
    return [
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]


# Memory: the run ends, too.


@pytest.mark.skipif(sys.platform != "linux", reason="others do not limit memory so")
@pytest.mark.skipif((installed_memory() or 0) < 8e9, reason="where there is less, such a memory is refused at once")
@pytest.mark.parametrize("several", [False, True], ids=["run", "sweep"])
def test_a_replay_memory_that_cannot_be_had(tmp_path, several):
    words = ["memory.capacity_steps=200_000_000"]
    if several:
        words = ["-m", "seed=0,1", "memory.capacity_steps=100_000_000", "hydra.sweep.dir=sweep"]

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (3 * 2**30, 3 * 2**30))

    words = [*[word for word in RUN if not word.startswith("env")], *words]
    one_thread = environment() | {"OMP_NUM_THREADS": "1"}  # each has a stack
    process = start_script("train", words, tmp_path, env=one_thread, preexec_fn=limit)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 1
    (line,) = [line for line in stderr.splitlines() if ": step " not in line]
    advice = "lower memory.capacity_steps, trainer.batch_size, env.num_envs or hydra.launcher.max_members"
    if several:
        problem = f"cartpole, 2 jobs from 0 failed: out of memory (for 3.2 GB more): {advice}"
    else:
        advice = "lower memory.capacity_steps, trainer.batch_size or env.num_envs"
        problem = f"error: out of memory (for 3.2 GB more): {advice}"
    assert line == f"{problem}; no checkpoint had been written"
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="others do not limit the memory of a process that runs")
def test_memory_that_cannot_be_had_any_more_in_mid_run(at_gate, start, tmp_path):
    with at_gate("memory.warmup_steps=300", "trainer.batch_size=200_000", "trainer.learn_every_steps=20") as script:
        used_bytes = int(Path(f"/proc/{script.pid}/statm").read_text().split()[0]) * resource.getpagesize()
        resource.prlimit(script.pid, resource.RLIMIT_AS, (used_bytes, used_bytes))
    status, (line,) = ended(script)
    assert status == 1
    assert line.startswith("error: out of memory (")
    assert line.endswith(f"trainer.batch_size or env.num_envs; the last checkpoint is {LAST}")
    check_resumes(tmp_path, start)


# Rewards that are no numbers.


def strict_json(path: Path) -> dict:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    return json.loads(path.read_text(), parse_constant=refuse)


def test_rewards_that_are_no_numbers_end_the_run_once_it_learns_from_them(start, tmp_path):
    status, lines = ended(start(*RUN, "env.id=gated:Unrewarding-v0", "memory.warmup_steps=320"))
    assert status == 1
    assert lines[0].startswith(
        "cartpole seed 0: diverged at step 350: the loss stopped being a finite number between steps 300 and 350; "
    )
    assert [place.name for place in sorted((tmp_path / "run" / "checkpoints").iterdir())][-1] == "step-000000000300"
    assert strict_json(tmp_path / "run" / "summary.json")["status"] == "diverged"


def test_a_score_that_is_no_number_is_told_as_none(start, tmp_path):
    status, _ = ended(start(*RUN, "env.id=gated:Unrewarding-v0", "trainer.learn_every_steps=1000"))
    assert status == 0
    assert strict_json(tmp_path / "run" / "summary.json")["final_evaluation"]["mean_return"] is None
