"""What the groups of these tests do; in a module, so that other processes can import it."""

from __future__ import annotations

import os
import signal
import sys
import time
import uuid
from functools import partial
from pathlib import Path
from typing import NoReturn

from dqn.cores import default_threads
from dqn.errors import UserError
from dqn.interruption import interruptible
from dqn.sweep.executors import ProcessesConfig, make_executor


def square(number: int) -> int:
    return number**2


def square_unless_bad(number: int) -> int:
    """1 is bad input, 3 meets a bug, 5 exits."""
    if number == 1:
        raise UserError("trainer.batch_size", 0, "must be\npositive")
    if number == 3:
        return number // 0
    if number == 5:
        raise SystemExit(4)
    return number**2


def interrupted(number: int) -> NoReturn:
    raise KeyboardInterrupt


def note_start(folder: Path, number: int) -> int:
    """Leave a file that says that `number` was begun here; returns how often it has been."""
    (folder / f"{number}-{os.getpid()}-{uuid.uuid4().hex}").touch()
    return len(list(folder.glob(f"{number}-*")))


def starts(folder: Path, number: int) -> int:
    return len(list(folder.glob(f"{number}-*")))


def killed(folder: Path, deaths: int, number: int) -> int:
    """Group 1 is killed `deaths` times, for the first time while group 0 is at work, which goes on a second longer."""
    if note_start(folder, number) <= deaths and number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if number == 0:
        wait_until(lambda: starts(folder, 1) > 0)
        time.sleep(1)
    return number**2


def threads(number: int) -> int:
    return default_threads()


class Run:
    """Like a run, it looks whether it is to stop."""

    interrupted = False
    is_preparing = False


def linger(folder: Path, number: int) -> int:
    """0 ends once 1 has begun, which would take a minute, and leaves a file `saved` where it is interrupted."""
    run = Run()
    with interruptible(run):
        note_start(folder, number)
        wait_until(lambda: run.interrupted or (number == 0 and starts(folder, 1) > 0))
        if run.interrupted:
            time.sleep(1)  # writing
            (folder / f"saved-{number}").touch()
    return number**2


def lead(folder: Path) -> None:
    """A process with two others at work."""
    list(make_executor(ProcessesConfig("processes", 2)).run(partial(linger, folder), [1, 2]))


def on_any_node(folder: Path, number: int) -> int:
    """Note the node of the Ray cluster and wait for the word to go on."""
    import ray

    node = ray.get_runtime_context().get_node_id()
    (folder / f"{number}-{node}-{os.getpid()}-{uuid.uuid4().hex}").touch()
    wait_until((folder / "go").exists)
    return number**2


def wait_until(condition, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)


def die_loudly(number: int) -> int:
    """Group 1 ends as one that the system kills, with a line in its log."""
    if number == 1:
        print("loading\nno more memory", file=sys.stderr, flush=True)
        os._exit(3)
    return number**2
