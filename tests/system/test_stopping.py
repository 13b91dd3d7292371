"""Runs that are stopped, locked out or let down by their environment: nothing is lost, and one line says why."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import textwrap
import time
from pathlib import Path

import pytest
from shell import SHORT, Script, start_script

from dqn.checkpoint import FORMAT

LONG = [word for word in SHORT if not word.startswith(("trainer.total_steps", "checkpoint", "evaluation.stop"))]
LONG += ["trainer.total_steps=10000000", "evaluation.stop.mean_return=null", "evaluation.every_steps=null"]


@pytest.fixture
def start(tmp_path, tmp_path_factory):
    """start("seed=1") begins such a run in the folder `run`."""
    beside = tmp_path_factory.mktemp("printed")
    return lambda *words: Script("train", [*LONG, "hydra.run.dir=run", *words], tmp_path, beside)


def wait_for(path: Path, script: Script | subprocess.Popen[str]) -> None:
    """Until there is something in a file that a script writes."""
    deadline = time.monotonic() + 120
    while not (path.exists() and path.stat().st_size > 0):
        is_running = script.poll() is None if isinstance(script, subprocess.Popen) else script.is_running
        assert is_running, script
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_checkpoint_and_summary_within_ten_seconds(number, start, tmp_path):
    script = start()
    wait_for(tmp_path / "run" / "metrics.jsonl", script)
    sent = time.monotonic()
    os.kill(script.pid, number)
    done = script.done(timeout=60)
    assert time.monotonic() - sent < 10
    assert done.returncode == 130
    assert "Traceback" not in done.stderr
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["status"] == "interrupted"
    (place,) = (tmp_path / "run" / "checkpoints").iterdir()
    assert place.name == f"step-{summary['steps']:012d}"


def test_a_terminal_that_is_closed_sends_two_signals(start, tmp_path):
    """The shell one, and the system one."""
    script = start()
    wait_for(tmp_path / "run" / "metrics.jsonl", script)
    for _ in range(2):
        os.kill(script.pid, signal.SIGHUP)
        time.sleep(0.01)  # else they are one
    assert script.done(timeout=60).returncode == 130
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["status"] == "interrupted"


@pytest.mark.parametrize("ignored", [signal.SIGHUP, signal.SIGINT])
def test_what_a_run_was_started_to_ignore_does_not_stop_it(ignored, tmp_path):
    """SIGHUP by nohup, SIGINT by the shell of a script that starts something in the background."""

    def ignore() -> None:
        signal.signal(ignored, signal.SIG_IGN)

    script = start_script("train", [*LONG, "hydra.run.dir=run"], tmp_path, preexec_fn=ignore)
    metrics = tmp_path / "run" / "metrics.jsonl"
    wait_for(metrics, script)
    script.send_signal(ignored)
    size = metrics.stat().st_size
    deadline = time.monotonic() + 60
    while metrics.stat().st_size < size + 2000 and script.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert script.poll() is None
    script.send_signal(signal.SIGTERM)
    script.communicate(timeout=60)
    assert script.returncode == 130


@pytest.mark.parametrize("kind", ["pipe", "terminal"])
def test_a_signal_after_whoever_read_has_gone(kind, tmp_path):
    """As Ctrl-C ends `tee` too, or as a connection breaks down."""
    seen, by = os.openpty() if kind == "terminal" else os.pipe()
    process = start_script("train", [*LONG, "hydra.run.dir=run"], tmp_path, stdout=by, stderr=by)
    os.close(by)
    wait_for(tmp_path / "run" / "metrics.jsonl", process)
    os.close(seen)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 130
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["status"] == "interrupted"
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == [f"step-{summary['steps']:012d}"]


def test_a_signal_while_compiling_does_not_wait_for_the_compiler(tmp_path):
    words = [word for word in LONG if not word.startswith("trainer.compile")]
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache"), "CUDA_VISIBLE_DEVICES": ""}
    script = Path(__file__).parents[2] / "scripts" / "train.py"
    command = ["python", str(script), *words, "trainer.compile=always", "hydra.run.dir=run"]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    line = ""
    while "compiling the training step" not in line:
        line = process.stderr.readline()
        assert line or process.poll() is None
    sent = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=60)
    assert time.monotonic() - sent < 10
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["status"], summary["steps"]) == ("interrupted", 0)
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-000000000000"]


def test_a_second_process_in_the_folder_is_refused(start, shell, tmp_path):
    script = start("checkpoint.every_steps=null")
    try:
        wait_for(tmp_path / "run" / "metrics.jsonl", script)
        second = shell("train", "resume=run", "trainer.total_steps=20000000")
        expected = "error: resume=run: another process is training in this folder; only one can\n"
        assert (second.returncode, second.stderr) == (2, expected)
    finally:
        script.kill()
        script.wait(60)
    resumed = shell("train", "resume=run", "trainer.total_steps=300", "evaluation.final_episodes=1")
    assert resumed.returncode == 0, "the lock ends with its process"


def test_a_run_that_was_killed_before_its_first_checkpoint_begins_again(start, shell, tmp_path):
    script = start()
    wait_for(tmp_path / "run" / "metrics.jsonl", script)
    script.kill()
    script.wait(60)
    resumed = shell("train", "resume=run", "trainer.total_steps=300")
    assert resumed.returncode == 0, resumed.stderr
    assert "run has no checkpoint yet: it begins again" in resumed.stderr
    whole = shell("train", *LONG, "trainer.total_steps=300", "hydra.run.dir=whole")
    assert whole.returncode == 0
    for file in ("export/policy.safetensors", "checkpoints/step-000000000300/tensors.safetensors"):
        assert (tmp_path / "run" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


def test_a_run_that_was_killed_as_it_saved_the_same_step_again_goes_on(shell, tmp_path):
    """Its only checkpoint lies aside, in whose place the new one was to come."""
    words = [*SHORT, "checkpoint.keep=1", "hydra.run.dir=run"]
    assert shell("train", *words).returncode == 0
    (place,) = (tmp_path / "run" / "checkpoints").iterdir()
    place.rename(place.with_name(f".{place.name}.aside"))
    place.with_name(f".{place.name}.part").mkdir()
    resumed = shell("train", "resume=run", "trainer.total_steps=400")
    assert resumed.returncode == 0, resumed.stderr
    assert "resuming run at step 300" in resumed.stderr
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-000000000400"]


def test_an_environment_that_raises(shell, tmp_path, monkeypatch):
    (tmp_path / "faulty.py").write_text(
        textwrap.dedent(
            """
            import pathlib
            import gymnasium
            from gymnasium.envs.classic_control import CartPoleEnv

            class Faulty(CartPoleEnv):
                steps = 0

                def step(self, action):
                    Faulty.steps += 1
                    if pathlib.Path("broken").exists():
                        raise RuntimeError("there is no cable")
                    if Faulty.steps == 230 and not pathlib.Path("mended").exists():
                        raise RuntimeError("the cable\\nis loose")
                    return super().step(action)

            gymnasium.register("Faulty-v0", Faulty, max_episode_steps=500)
            """
        )
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    words = [*SHORT, "env=gymnasium", "env.id=faulty:Faulty-v0", "evaluation.stop.mean_return=null"]
    words += ["evaluation.every_steps=null"]
    failed = shell("train", *words, "hydra.run.dir=run")
    assert failed.returncode == 1
    error = failed.stderr.splitlines()[-1]
    assert error.startswith("error: faulty:Faulty-v0 raised RuntimeError: the cable is loose, after step ")
    assert "resume=run goes on from there (traceback: run/error.txt)" in error
    assert "Traceback" not in failed.stderr
    assert "the cable" in (tmp_path / "run" / "error.txt").read_text()
    (tmp_path / "broken").touch()
    played = "faulty:Faulty-v0 raised RuntimeError: there is no cable"
    resumed = shell("train", "resume=run", "modules=[faulty]")
    problem = "as its episodes were played again; the checkpoint is as it was"
    assert (resumed.returncode, resumed.stderr) == (1, f"error: run: {played}, {problem}\n")
    verified = shell("verify", "run=run", "modules=[faulty]")
    assert (verified.returncode, verified.stderr.splitlines()[-1]) == (1, f"error: {played}")
    (tmp_path / "broken").unlink()
    (tmp_path / "mended").touch()
    assert shell("train", "resume=run", "modules=[faulty]").returncode == 0
    assert shell("train", *words, "hydra.run.dir=whole").returncode == 0
    for file in ("export/policy.safetensors", "checkpoints/step-000000000300/tensors.safetensors"):
        assert (tmp_path / "run" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


def test_a_checkpoint_of_an_older_format_is_refused_by_name(shell, tmp_path):
    assert shell("train", *SHORT, "hydra.run.dir=run").returncode == 0
    for place in (tmp_path / "run" / "checkpoints").iterdir():
        record = json.loads((place / "values.json").read_text())
        (place / "values.json").write_text(json.dumps({**record, "format": 3}))
    shutil.rmtree(tmp_path / "run" / "export")
    refused = shell("train", "resume=run", "trainer.total_steps=400")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert f"checkpoint step-000000000300 has format 3; this version reads {FORMAT}" in refused.stderr
