"""How many CPU cores there are for this process, and how many threads it shall have."""

from __future__ import annotations

import os


def available_cores() -> int:
    """The cores that this process may use; a cluster's scheduler often grants fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def default_threads() -> int:
    """The threads of a run whose config leaves it open: one per core, or OMP_NUM_THREADS.

    Processes that share a machine are told their share by that variable.
    """
    first, *_ = os.environ.get("OMP_NUM_THREADS", "").split(",")  # the others are for nested regions
    return int(first) if first.isdecimal() and int(first) > 0 else available_cores()
