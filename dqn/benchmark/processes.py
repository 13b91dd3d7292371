"""Measuring in fresh processes, so that threads and caches are their own; several at a time where that is the workload.

A process that measures says when its timed part is next, and begins it when all that run at the same time have come as
far: so their timed parts overlap, however long each took to load, to compile and to warm up.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict
from typing import Any

from dqn.benchmark.measurement import Joint, Measurement
from dqn.benchmark.workloads import Workload
from dqn.errors import TrainingError
from dqn.terminal import say

OURS, PEER = "dqn.benchmark.ours", "dqn.benchmark.peer"
_READY = "ready"


def measure(module: str, workload: Workload, **how: Any) -> Joint:
    """One measurement of a workload by the side that a module runs, in `processes` of them at the same time."""
    requests = [{"workload": workload.name, **how, "process": number} for number in range(how.get("processes", 1))]
    one = Joint(how, [Measurement(**made) for made in in_processes(module, requests)])
    say(f"{workload.name}: {one.side}, {one.num_envs} at once, {one.variant}: {one.steps_per_second:,.0f} steps/s")
    return one


def in_a_process(module: str, request: dict[str, Any]) -> dict[str, Any]:
    """The answer of `python -m module` to a request; see `in_processes`."""
    (only,) = in_processes(module, [request])
    return only


def in_processes(module: str, requests: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The answers of as many processes `python -m module`, which run at the same time.

    Raises:
        TrainingError: one failed; says what it printed last. The others are stopped.
    """
    with ExitStack() as stack:
        running = [stack.enter_context(_Process(module, request)) for request in requests]
        for process in running:
            process.await_ready()
        for process in running:
            process.go()
        return [process.answer() for process in running]


def wait_for_the_others() -> None:
    """In a process that measures: its timed part is next; returns when all others are as far."""
    print(_READY, flush=True)
    sys.stdin.readline()


def answer(measurement: Measurement) -> None:
    """Print a measurement, as the process that made it."""
    print(json.dumps(asdict(measurement)))


class _Process:
    """One of them, which does not outlive the context."""

    def __init__(self, module: str, request: dict[str, Any]) -> None:
        self._module = module
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 -- closed in __exit__
        command = [sys.executable, "-m", module, json.dumps(request)]
        pipe = subprocess.PIPE
        self._popen = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=self._errors, text=True)
        self._last = ""  # line of its output

    def __enter__(self) -> _Process:
        return self

    def __exit__(self, *_: object) -> None:
        self._popen.kill()
        self._popen.communicate()
        self._errors.close()

    def await_ready(self) -> None:
        """Until it is, or has ended."""
        assert self._popen.stdout is not None
        for line in self._popen.stdout:
            if line.strip() == _READY:
                return
            self._last = line
        if self._popen.wait() != 0:
            self._check()

    def go(self) -> None:
        """Let it begin what it times."""
        assert self._popen.stdin is not None
        with suppress(BrokenPipeError):  # it has ended, and `answer` will see how
            self._popen.stdin.write("\n")
            self._popen.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """The last line that it prints."""
        assert self._popen.stdout is not None
        for line in self._popen.stdout:
            self._last = line
        self._check()
        found: dict[str, Any] = json.loads(self._last)
        return found

    def _check(self) -> None:
        """Raise if it failed; pass on what it said of a form that it could not compile."""
        status = self._popen.wait()
        self._errors.seek(0)
        lines = self._errors.read().strip().splitlines()
        if status != 0:
            raise TrainingError(f"{self._module} ended with status {status}: {(lines or ['nothing'])[-1]}")
        for line in lines:
            if line.startswith("trainer.compile: "):
                say(line)
