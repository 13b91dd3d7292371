"""What a resumed run may change: how long it goes on and who looks at it, but nothing that its past depends on."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from dqn.compose import leaves, with_values
from dqn.errors import UserError
from dqn.validation import yaml_text

# Keys, and groups with all that is in them.
_MAY_CHANGE = (
    "trainer.total_steps",
    "trainer.total_episodes",
    "trainer.log_every_steps",
    "trainer.profile",
    "evaluation",
    "checkpoint",
    "export",
    "logger",
)
_ABSENT = object()


def changed(
    run: Mapping[str, Any], given: Mapping[str, Any], overrides: Sequence[str], folder: object
) -> dict[str, Any]:
    """The config with which a run goes on.

    Args:
        run: its config so far.
        given: what the command line composes to.
        overrides: of the command line. What none of them is about stays as it is in the run.
        folder: of the run.

    Raises:
        UserError: an override differs from the run in what must stay as it is.
    """
    before, after = dict(leaves(run)), dict(leaves(given))
    named = [_key(override) for override in overrides if _key(override) != "resume"]
    differing = sorted(
        key
        for key in {*before, *after} - {"resume"}
        if any(_is_in(key, name) for name in named) and before.get(key, _ABSENT) != after.get(key, _ABSENT)
    )
    refused = [key for key in differing if not any(_is_in(key, one) for one in _MAY_CHANGE)]
    if refused:
        what = ", ".join(f"{key} ({_text(before, key)} in the run, {_text(after, key)} given)" for key in refused)
        raise UserError(
            "resume", folder, f"the run was begun otherwise: {what}; only {', '.join(_MAY_CHANGE)} may change"
        )
    result = copy.deepcopy(dict(run))
    for name in named:
        if name in _MAY_CHANGE and name in given:  # a whole group, in which keys may come and go
            result[name] = copy.deepcopy(given[name])
    return with_values(result, {key: after[key] for key in differing if key in after})


def _key(override: str) -> str:
    """The dotted key, or group of keys, that an override is about; empty for all of them."""
    key = override.lstrip("+~").partition("=")[0].partition("@")[0].replace("/", ".")
    return "" if key == "experiment" else key


def _is_in(key: str, group: str) -> bool:
    return group in ("", key) or key.startswith(f"{group}.")


def _text(values: Mapping[str, Any], key: str) -> str:
    return yaml_text(values[key]) if key in values else "absent"
