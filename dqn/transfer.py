"""Tensors between host and device, so that nobody waits for more than what he needs."""

from __future__ import annotations

import torch
from torch import Tensor

from dqn.envs.base import Array


def to_device(array: Array, device: torch.device) -> Tensor:
    """An array as a tensor on a device; a GPU's copy is only begun, in the order of what else it is given to do."""
    tensor = torch.from_numpy(array)
    if device.type == "cpu":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)


class HostCopy:
    """A tensor on its way to the host.

    Args:
        tensor: what it is at this point of its device's work; whatever the device does afterwards changes nothing.
    """

    def __init__(self, tensor: Tensor) -> None:
        self._event: torch.cuda.Event | None = None
        self._host = tensor
        if tensor.device.type == "cuda":
            self._host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            self._host.copy_(tensor, non_blocking=True)
            self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._event.record()

    def wait(self) -> Array:
        """The copy, once it has arrived; what the device was given to do later is not waited for."""
        if self._event is not None:
            self._event.synchronize()
        array: Array = self._host.numpy()
        return array
