"""Groups of a sweep in processes of this machine."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any, NamedTuple

from loky import ProcessPoolExecutor
from loky.process_executor import BrokenProcessPool

from dqn.cores import available_cores
from dqn.sweep.executors import (
    SAVE_SECONDS,
    Failure,
    ProcessesConfig,
    R,
    Results,
    T,
    attempt_in_worker,
    first_line,
    last_line,
)

_TRIES = 2  # of a group whose process dies


class _Try(NamedTuple):
    """A group in a process of its own."""

    group: int  # its place
    number: int  # from 1
    pool: Any


class Processes:
    """Each group in a fresh process of its own, several at a time.

    loky ends all workers of a pool when one of them dies, and cannot say whose work it was that killed it. Therefore
    each group has a pool of one worker: a death costs this group alone.
    """

    def __init__(self, config: ProcessesConfig) -> None:
        self._num_workers = config.num_workers or available_cores()

    def run(self, work: Callable[[T], R], groups: Sequence[T]) -> Results[R]:
        """Run the groups; as in `Executor`."""
        num_workers = max(1, min(self._num_workers, len(groups)))
        threads = max(1, available_cores() // num_workers)
        waiting = deque((index, 1) for index in range(len(groups)))
        running: dict[Future[R | Failure], _Try] = {}
        try:
            while waiting or running:
                while waiting and len(running) < num_workers:
                    index, number = waiting.popleft()
                    pool = ProcessPoolExecutor(max_workers=1, initializer=_follow_the_leader, initargs=(os.getpid(),))
                    future = pool.submit(_attempt_for, os.getpid(), work, groups[index], threads)
                    running[future] = _Try(index, number, pool)
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    index, number, pool = running.pop(future)
                    error = future.exception()
                    pool.shutdown(kill_workers=error is not None)
                    if isinstance(error, BrokenProcessPool) and number < _TRIES:
                        waiting.append((index, number + 1))
                    else:
                        yield index, future.result() if error is None else Failure(_cause_of_death(error))
        finally:
            try:
                _stop_gently(running)
            finally:
                for _, _, pool in running.values():
                    pool.shutdown(kill_workers=True)


def _follow_the_leader(leader: int) -> None:
    """In a worker: Ctrl-C is for the process that leads, which then ends its workers; and they do not outlive it."""
    os.setpgid(0, 0)
    threading.Thread(target=_end_with, args=(leader,), daemon=True).start()


def _end_with(leader: int) -> None:
    """Wait until the process that leads is gone, and end this one, whose runs save their state then.

    Linux could send a signal by itself, but sends several: one for each thread of the leader.
    """
    while os.getppid() == leader:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)


def _attempt_for(leader: int, work: Callable[[T], R], group: T, threads: int) -> R | Failure:
    """In a worker: the result of a group, for as long as there is somebody to take it."""
    result = attempt_in_worker(work, group, threads)
    if os.getppid() != leader:
        os._exit(0)  # else it would wait for more work
    return result


def _stop_gently(running: Mapping[Future[Any], _Try]) -> None:
    """Ask the workers to save what they have, and give them the time for it."""
    for _, _, pool in running.values():
        for process in pool._processes.values():
            process.terminate()
    wait(running, timeout=SAVE_SECONDS)


def _cause_of_death(error: BaseException) -> str:
    """Why a process of loky's gave no result, in one line."""
    exit_codes = re.search(r"exit codes of the workers are \{(.*)\}", str(error))
    if exit_codes:
        return f"its process died {_TRIES} times, at last with {exit_codes.group(1)}"
    return f"{type(error).__name__}: {first_line(str(error))} {last_line(str(error.__cause__ or ''))}".rstrip()
