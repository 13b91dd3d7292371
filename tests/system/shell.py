"""What the tests of the scripts share."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import resource
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# A whole run in little time, whatever the preset's own settings are.
SHORT = [
    "env.num_envs=1",
    "trainer.total_steps=300",
    "trainer.learn_every_steps=2",
    "trainer.updates_per_learn=1",
    "trainer.compile=never",
    "memory.warmup_steps=100",
    "evaluation.every_steps=200",
    "evaluation.episodes=2",
    "evaluation.final_episodes=3",
    "evaluation.num_envs=2",
    "checkpoint.every_steps=200",
    "evaluation.video=false",
    "export.formats=[safetensors]",
    "logger=none",
]

# Scripts start as forks of a process that has imported already what takes seconds to import.
_PREPARED = multiprocessing.get_context("forkserver")
_PREPARED.set_forkserver_preload(["dqn.cli", "dqn.run", "dqn.sweep.launch", "hydra", "gymnasium", "wandb", "onnx"])


def environment() -> dict[str, str]:
    """The user's environment without an account of W&B."""
    without_account = {key: value for key, value in os.environ.items() if not key.startswith("WANDB")}
    return without_account | {"CUDA_VISIBLE_DEVICES": ""}


def run_script(script: str, words: Sequence[str], folder: Path, beside: Path) -> subprocess.CompletedProcess[str]:
    """scripts/<script>.py with these words, in this folder; what it prints stands meanwhile in files `beside`."""
    process = start_fork(script, words, folder, beside)
    process.join(timeout=300)
    if process.exitcode is None:
        process.kill()
        raise TimeoutError(f"{script} {' '.join(words)}: {(beside / 'stderr').read_text()}")
    return finished(process, words, beside)


def start_fork(
    script: str, words: Sequence[str], folder: Path, beside: Path, memory_bytes: int | None = None
) -> BaseProcess:
    """The same, not waited for. With a limit on its memory it also leads a process group, which can be ended whole."""
    files = [beside / "stdout", beside / "stderr"]
    for file in files:
        file.write_text("")
    arguments = (script, list(words), folder, files, environment(), memory_bytes)
    process = _PREPARED.Process(target=_be_script, args=arguments)
    process.start()
    return process


def finished(process: BaseProcess, words: Sequence[str], beside: Path) -> subprocess.CompletedProcess[str]:
    """What came of a fork that has ended."""
    assert process.exitcode is not None
    printed = [(beside / name).read_text(errors="replace") for name in ("stdout", "stderr")]
    return subprocess.CompletedProcess(words, process.exitcode, *printed)


def _be_script(
    script: str,
    words: list[str],
    folder: Path,
    files: list[Path],
    environment: dict[str, str],
    memory_bytes: int | None,
) -> None:
    """Become what the shell would have started."""
    if memory_bytes is not None:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    for descriptor, file in enumerate(files, start=1):
        os.dup2(os.open(file, os.O_WRONLY), descriptor)
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", buffering=1, closefd=False)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    path = ROOT / "scripts" / f"{script}.py"
    sys.argv = [str(path), *words]
    try:
        runpy.run_path(str(path), run_name="__main__")
    finally:
        atexit._run_exitfuncs()  # as at the end of any process but such a fork


def start_script(script: str, words: Sequence[str], folder: Path, **options: object) -> subprocess.Popen[str]:
    """The same as a process of its own, to which a test does something while it runs."""
    command = [sys.executable, str(ROOT / "scripts" / f"{script}.py"), *words]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=folder, env=environment(), stdout=pipe, stderr=pipe, text=True, **options)


def interrupted(words: Sequence[str], folder: Path, once_written: Path) -> subprocess.CompletedProcess[str]:
    """scripts/train.py with these words, in this folder, which gets a Ctrl-C once there is something in a file."""
    process = start_script("train", words, folder)
    deadline = time.monotonic() + 120
    while not (once_written.exists() and once_written.stat().st_size > 0) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=120)
    return subprocess.CompletedProcess(words, process.returncode, stdout, stderr)
