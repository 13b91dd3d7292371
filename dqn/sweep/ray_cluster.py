"""Groups of a sweep on a Ray cluster."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Sequence
from typing import Any

from dqn.errors import UserError
from dqn.sweep.executors import (
    KEY,
    SAVE_SECONDS,
    Failure,
    R,
    RayConfig,
    Results,
    T,
    attempt_in_worker,
    first_line,
    imported,
    last_line,
)

_KNOCK_SECONDS = 5
_OBJECT_STORE_BYTES = 100 * 2**20  # of a local Ray; results are small, and Ray would take a third of the memory


class Ray:
    """On a Ray cluster, which places the groups by the resources that they need and repeats those whose node dies."""

    def __init__(self, config: RayConfig) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere unasked
        self._ray, self._config = imported("ray", "ray"), config
        for field in ("num_cpus", "num_gpus"):
            number = getattr(config, field)
            if number > 1 and number != int(number):  # Ray's own rule
                raise UserError(f"{KEY}.{field}", number, "must be a whole number where it is more than 1")

    def run(self, work: Callable[[T], R], groups: Sequence[T]) -> Results[R]:
        """Run the groups; as in `Executor`."""
        ray, config = self._ray, self._config
        try:
            self._connect()
            task = ray.remote(attempt_in_worker).options(
                num_cpus=config.num_cpus,
                num_gpus=config.num_gpus,
                max_retries=config.max_retries,
                retry_exceptions=False,
            )
            running = {task.remote(work, group, None): index for index, group in enumerate(groups)}
            try:
                while running:
                    (done,), _ = ray.wait(list(running))
                    yield running.pop(done), self._outcome(done)
            finally:
                self._stop_gently(list(running))
        finally:
            ray.shutdown()

    def _stop_gently(self, running: Sequence[Any]) -> None:
        """Interrupt the groups, so that they save what they have, and give them the time for it."""
        for reference in running:
            self._ray.cancel(reference)
        if running:
            self._ray.wait(list(running), num_returns=len(running), timeout=SAVE_SECONDS)

    def _connect(self) -> None:
        quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
        if self._config.address is not None:
            try:
                _knock(self._config.address)
                self._ray.init(self._config.address, **quiet)
            except (OSError, RuntimeError, ValueError) as error:
                expectation = f"no Ray cluster answers there ({first_line(str(error))})"
                raise UserError(f"{KEY}.address", self._config.address, expectation) from error
            return
        self._ray.init("local", object_store_memory=_OBJECT_STORE_BYTES, include_dashboard=False, **quiet)
        resources = self._ray.cluster_resources()
        for field, name in {"num_cpus": "CPU", "num_gpus": "GPU"}.items():
            needed, there = getattr(self._config, field), resources.get(name, 0)
            if needed > there:  # Ray would wait for them forever
                raise UserError(f"{KEY}.{field}", f"{needed:g}", f"this machine has {there:g}")

    def _outcome(self, done: Any) -> Any:
        """The result behind a reference that is ready, or why there is none."""
        try:
            return self._ray.get(done)
        except self._ray.exceptions.RayTaskError as error:  # a traceback
            return Failure(last_line(str(error)))
        except self._ray.exceptions.RayError as error:
            return Failure(first_line(str(error)))


def _knock(address: str) -> None:
    """Raise an OSError if nobody listens at host:port, where Ray would try for minutes."""
    host, _, port = address.rpartition("//")[2].rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=_KNOCK_SECONDS).close()
