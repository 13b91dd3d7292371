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
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from mounts import Mounts

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


class Script:
    """scripts/<script>.py as it runs with these words, in this folder; what it prints stands in files `beside`.

    It leads a process group, as what is started from a terminal does.
    """

    def __init__(
        self,
        script: str,
        words: Sequence[str],
        folder: Path,
        beside: Path,
        changes: Mapping[str, str] | None = None,
        memory_bytes: int | None = None,
        mounts: Mounts | None = None,
    ) -> None:
        self._words, self._files = list(words), [beside / "stdout", beside / "stderr"]
        for file in self._files:
            file.write_text("")
        variables = environment() | dict(changes or {})
        arguments = script, self._words, folder, self._files, variables, memory_bytes, mounts
        self._process = _PREPARED.Process(target=_be_script, args=arguments)
        self._process.start()

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it has not come to its end yet."""
        return self._process.exitcode is None

    @property
    def printed(self) -> str:
        """What it has said on stderr so far."""
        return self._files[1].read_text()

    def wait(self, seconds: float) -> None:
        """Until it is over, or so long."""
        self._process.join(seconds)

    def done(self, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """What became of it once it is over; TimeoutError and its end if that takes longer."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            self._process.kill()
            raise TimeoutError(f"{' '.join(self._words)}: {self.printed}")
        printed = [file.read_text(errors="replace") for file in self._files]
        return subprocess.CompletedProcess(self._words, self._process.exitcode, *printed)

    def kill(self) -> None:
        """Have it no longer, nor what it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.kill()


def run_script(
    script: str, words: Sequence[str], folder: Path, beside: Path, changes: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """scripts/<script>.py with these words, in this folder; what it prints stands meanwhile in files `beside`."""
    return Script(script, words, folder, beside, changes).done()


def _be_script(
    script: str,
    words: list[str],
    folder: Path,
    files: list[Path],
    environment: dict[str, str],
    memory_bytes: int | None,
    mounts: Mounts | None,
) -> None:
    """Become what the shell would have started."""
    if mounts is not None:
        mounts.enter()
    os.setpgrp()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where pytest runs in a shell's background
    if memory_bytes is not None:
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    for descriptor, file in enumerate(files, start=1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_APPEND), descriptor)  # a worker may outlive its leader
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", buffering=1, closefd=False)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))  # which came too late
    path = ROOT / "scripts" / f"{script}.py"
    sys.argv = [str(path), *words]
    try:
        runpy.run_path(str(path), run_name="__main__")
    finally:
        atexit._run_exitfuncs()  # as at the end of any process but such a fork


def start_script(script: str, words: Sequence[str], folder: Path, **options: object) -> subprocess.Popen[str]:
    """The same as a process of its own, to which a test does something while it runs; `options` are those of Popen."""
    command = [sys.executable, str(ROOT / "scripts" / f"{script}.py"), *words]
    pipe = subprocess.PIPE
    options = {"env": environment(), "stdout": pipe, "stderr": pipe, **options}
    return subprocess.Popen(command, cwd=folder, text=True, **options)


def interrupted(
    words: Sequence[str], folder: Path, beside: Path, once_written: Path
) -> subprocess.CompletedProcess[str]:
    """scripts/train.py with these words, in this folder, which gets a Ctrl-C once there is something in a file."""
    script = Script("train", words, folder, beside)
    deadline = time.monotonic() + 120
    while not (once_written.exists() and once_written.stat().st_size > 0) and time.monotonic() < deadline:
        script.wait(0.01)
    os.kill(script.pid, signal.SIGINT)
    return script.done(timeout=120)
