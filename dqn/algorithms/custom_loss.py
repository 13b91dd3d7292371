"""Losses that users have written, in modules of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from dqn.algorithms.losses import TDLoss
from dqn.config import is_number
from dqn.errors import UserError, first_line
from dqn.trusted import LOSS, own_class


def make_custom_loss(name: str, arguments: Sequence[Mapping[str, Any]], device: torch.device) -> TDLoss:
    """A user's loss for a population.

    Args:
        name: of its class, module.Class, in a module that the user has allowed.
        arguments: of its constructor, for each member. Numbers become tensors (M,); all else is the members' alike.
        device: of the tensors.

    Raises:
        UserError: there is no such class, it takes other arguments, or it is no loss.
    """
    loss_class: Any = own_class(LOSS, name)
    if not hasattr(loss_class, "__dataclass_fields__"):  # a population finds its traits in fields
        raise UserError(LOSS, name, "must be a dataclass whose fields are its arguments")
    try:
        loss: TDLoss = loss_class(**{key: _argument([one[key] for one in arguments], device) for key in arguments[0]})
    except Exception as error:  # of code that is not ours, which may raise anything
        problem = f"cannot be made with these arguments: {type(error).__name__}: {first_line(error)}"
        raise UserError(LOSS, name, problem) from error
    errors = torch.ones((len(arguments), 2), device=device)
    try:
        losses = loss(errors)
    except Exception as error:
        problem = f"raised {type(error).__name__} for errors of shape (M, B): {first_line(error)}"
        raise UserError(LOSS, name, problem) from error
    if not isinstance(losses, Tensor) or losses.shape != errors.shape:
        raise UserError(LOSS, name, "must give one loss for each error: a tensor (M, B) for a tensor (M, B)")
    return loss


def _argument(of_members: Sequence[Any], device: torch.device) -> Any:
    """One argument: a tensor of the members' numbers, or what all of them have."""
    if is_number(of_members[0]):
        return torch.tensor(of_members, dtype=torch.float32, device=device)
    return of_members[0]
