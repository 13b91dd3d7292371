"""A population's state taken apart into its members' states, and put together again.

In a state every tensor and every list has a leading member axis; what is neither is the same for all members.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def select(state: Any, members: Sequence[int]) -> Any:
    """The state of a population of some of the members, in that order."""
    if isinstance(state, dict):
        return {key: select(value, members) for key, value in state.items()}
    if isinstance(state, Tensor):
        if len(members) == 1:  # a view: of one member, whose memory may be large
            return state[members[0] : members[0] + 1]
        return state[torch.tensor(members, device=state.device)]
    if isinstance(state, list):
        return [state[m] for m in members]
    return state


def join(states: Sequence[Any]) -> Any:
    """The state of the population whose members have these states."""
    first = states[0]
    if len(states) == 1:
        return first
    if isinstance(first, dict):
        return {key: join([state[key] for state in states]) for key in first}
    if isinstance(first, Tensor):
        return torch.cat(list(states))
    if isinstance(first, list):
        return [entry for state in states for entry in state]
    return first


def grouped(state: Any, members: int) -> Any:
    """The state of M * E environments as a population's: tensors (M * E, ...) as (M, E, ...), lists in M lists."""
    if isinstance(state, dict):
        return {key: grouped(value, members) for key, value in state.items()}
    if isinstance(state, Tensor):
        return state.view(members, -1, *state.shape[1:])
    if isinstance(state, list):
        size = len(state) // members
        return [state[m * size : (m + 1) * size] for m in range(members)]
    return state


def ungrouped(state: Any) -> Any:
    """The state of which `grouped` was made."""
    if isinstance(state, dict):
        return {key: ungrouped(value) for key, value in state.items()}
    if isinstance(state, Tensor):
        return state.flatten(0, 1)
    if isinstance(state, list):
        return [entry for of_member in state for entry in of_member]
    return state
