"""Functions on tensors captured as CUDA graphs: one launch for all their kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

# Calls that run as they are first: libraries choose their kernels and allocate their workspaces then, which a
# capture must not see (https://docs.pytorch.org/docs/stable/notes/cuda.html, "CUDA Graphs").
_CALLS_BEFORE_CAPTURE = 3


class Captured:
    """A function of CUDA tensors that returns one tensor or none, captured at its fourth call and then replayed.

    Arguments must keep the shapes of the first call; a result lasts until the next call.

    Args:
        function: changes tensors in place or returns one; looks at no tensor's value.
    """

    def __init__(self, function: Callable[..., Tensor | None]) -> None:
        self._function = function
        self._calls = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: list[Tensor] = []
        self._output: Tensor | None = None

    def __call__(self, *args: Tensor) -> Any:
        """Call it; every call does its work exactly once."""
        if self._graph is None:
            self._calls += 1
            if self._calls <= _CALLS_BEFORE_CAPTURE:
                return self._call_beside(args)
            self._inputs = [tensor.clone() for tensor in args]
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):  # records, and runs nothing
                self._output = self._function(*self._inputs)
        for place, tensor in zip(self._inputs, args, strict=True):
            place.copy_(tensor, non_blocking=True)
        self._graph.replay()
        return self._output

    def _call_beside(self, args: tuple[Tensor, ...]) -> Tensor | None:
        """Call it on a stream of its own, as what will be captured must be."""
        here, beside = torch.cuda.current_stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
        beside.wait_stream(here)
        with torch.cuda.stream(beside):
            output = self._function(*args)
        here.wait_stream(beside)
        return output
