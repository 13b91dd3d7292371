"""Comparing what state_dict() of two trainers gave, value by value."""

from __future__ import annotations

from collections.abc import Callable

import torch

Tolerance = Callable[[str], tuple[float, float]]


def exact(path: str) -> tuple[float, float]:
    """To the bit, wherever."""
    return 0.0, 0.0


def assert_same_state(one: object, other: object, tolerance: Tolerance = exact, path: str = "state") -> None:
    """Same keys, lengths, types and values; ``tolerance`` gives (relative, absolute) for the tensor at a path."""
    assert type(one) is type(other), path
    if isinstance(one, dict):
        assert one.keys() == other.keys(), path
        for key, value in one.items():
            assert_same_state(value, other[key], tolerance, f"{path}/{key}")
    elif isinstance(one, list):
        assert len(one) == len(other), path
        for i, value in enumerate(one):
            assert_same_state(value, other[i], tolerance, f"{path}/{i}")
    elif isinstance(one, torch.Tensor):
        relative, absolute = tolerance(path)
        torch.testing.assert_close(one, other, rtol=relative, atol=absolute, msg=lambda text: f"{path}: {text}")
    else:
        assert one == other, path
