"""Writing while training goes on."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from typing import Any

import torch
from torch import Tensor

_COPIED_BYTES = 64 * 2**20  # what is smaller takes no time and no memory worth speaking of to copy


class BackgroundWriter:
    """Writes one thing at a time in a thread of its own; what goes wrong there is kept for who asks or waits.

    A process that ends abruptly does not wait for it: what is half written then does not count.
    """

    def __init__(self) -> None:
        self._thread: Thread | None = None
        self._error: BaseException | None = None
        self._deadline_step: int | None = None

    def start(self, write: Callable[[], None], deadline_step: int | None) -> None:
        """Begin to write, once what was begun before is done.

        Args:
            write: does it.
            deadline_step: before training is at this agent step it must be done; None if it may take its time.
        """
        self.wait()

        def run() -> None:
            try:
                write()
            except BaseException as error:
                self._error = error

        self._thread, self._deadline_step = Thread(target=run, name="checkpoint", daemon=True), deadline_step
        self._thread.start()

    @property
    def is_busy(self) -> bool:
        """Whether something is being written."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def has_failed(self) -> bool:
        """Whether what was being written could not be, and nobody has asked why."""
        return self._error is not None

    def wait(self) -> None:
        """Until nothing is being written.

        Raises:
            Exception: what was being written could not be.
        """
        error = self.failure()
        if error is not None:
            raise error

    def failure(self) -> BaseException | None:
        """Wait until nothing is being written; returns why that could not be, once."""
        self._join()
        error, self._error = self._error, None
        return error

    def wait_before(self, step: int) -> None:
        """Wait if training may be at agent step `step` when this is called next, and that would be too late."""
        if self._deadline_step is not None and step >= self._deadline_step:
            self._join()

    def _join(self) -> None:
        if self._thread is not None:
            self._thread.join()
        self._thread = self._deadline_step = None


def detached(state: Any) -> Any:
    """The state on the CPU, of which further training changes nothing."""
    if isinstance(state, Tensor):
        return state.detach().to("cpu", copy=True)
    if isinstance(state, dict):
        return {key: detached(value) for key, value in state.items()}
    if isinstance(state, list):
        return [detached(value) for value in state]
    return state


def is_worth_no_copy(state: Any) -> bool:
    """Whether the state is large, and in the machine's own memory."""
    tensors = list(_tensors(state))
    large = sum(tensor.nbytes for tensor in tensors) > _COPIED_BYTES
    return large and all(tensor.device == torch.device("cpu") for tensor in tensors)


def _tensors(state: Any) -> list[Tensor]:
    if isinstance(state, Tensor):
        return [state]
    values = state.values() if isinstance(state, dict) else state if isinstance(state, list) else ()
    return [tensor for value in values for tensor in _tensors(value)]
