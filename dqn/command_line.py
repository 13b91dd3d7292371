"""The words of a command line before Hydra sees them: put in its order, and without what it would take badly."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NoReturn

from dqn.errors import UserError, shortened

_FLAGS_WITH_VALUE = (
    *("--cfg", "-c", "--package", "-p", "--info", "-i", "--experimental-rerun"),
    *("--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd"),
)
_MOST_VALUES = 100_000  # of a range of a sweep


def split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Hydra's flags, with their values, and the overrides; it would not take overrides on both sides of a flag."""
    words, flags, overrides = list(words), [], []
    while words:
        word = words.pop(0)
        if word == "-" or not word.startswith("-"):
            overrides.append(word)
        elif word in ("--info", "-i") and (not words or "=" in words[0] or words[0].startswith("-")):
            flags.append("--info=all")  # or it would take the override that comes next
        else:
            flags += [word, *([words.pop(0)] if word in _FLAGS_WITH_VALUE and words else [])]
    return flags, overrides


def check_flags(words: Sequence[str]) -> None:
    """Raise a UserError where Hydra would print how it is used."""
    from hydra._internal.utils import get_args_parser

    def refuse(message: str) -> NoReturn:
        raise UserError("", None, f"{shortened(message)}; see --help")

    parser = get_args_parser()
    parser.error = refuse  # type: ignore[method-assign]  # argparse has no other way
    parser.parse_args(list(words))


def only_shows(flags: Sequence[str]) -> bool:
    """Whether Hydra only prints its own or a config's text; what --cfg prints is not meant: YAML escapes by itself."""
    from hydra._internal.utils import get_args_parser

    parsed = get_args_parser().parse_args(list(flags))
    return parsed.help or parsed.hydra_help or parsed.info is not None


def check_output_subdir(overrides: Sequence[str]) -> None:
    """Raise a UserError if Hydra is to write into the run's folder before it is known whether there will be a run."""
    for override in overrides:
        key, _, value = override.lstrip("+").partition("=")
        if key == "hydra.output_subdir" and value != "null":
            raise UserError(key, value, "must be null: a run's folder holds its config itself")


def check_parts_of_hydra(overrides: Sequence[str]) -> None:
    """Raise a UserError where Hydra is to have something else in the place of its sweeper's or launcher's settings."""
    for override in overrides:
        key, _, value = override.lstrip("+~").partition("=")
        if key in ("hydra.sweeper", "hydra.launcher") and not value.startswith("{"):
            raise UserError(
                key, value, f"is a group of settings, of which one is chosen as {key.replace('.', '/')}=name"
            )


def check_ranges(overrides: Sequence[str]) -> None:
    """Raise a UserError for a range of values with no end in sight: Hydra lists them all before it asks anybody."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import RangeSweep
    from hydra.errors import HydraException

    for override in overrides:
        if "range(" not in override:
            continue
        try:
            parsed = OverridesParser.create().parse_override(override)
        except (HydraException, ValueError):
            continue  # Hydra will come to the same
        value = parsed.value()
        if isinstance(value, RangeSweep) and not _length(value.start, value.stop, value.step) <= _MOST_VALUES:
            problem = f"has no end, or more than {_MOST_VALUES:,} values"
            raise UserError(parsed.key_or_group, parsed.get_value_string(), problem)


def _length(start: float | None, stop: float | None, step: float) -> float:
    """How many values a range has."""
    if start is None or stop is None or step == 0:
        return math.inf
    return (stop - start) / step
