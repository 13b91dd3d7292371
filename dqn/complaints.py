"""Errors of Hydra and OmegaConf in one line that names the key."""

from __future__ import annotations

import re
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Glob, IntervalSweep, Override, QuotedString
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from dqn.errors import UserError, nearest, shortened

_OF_HYDRA = ("hydra", "omegaconf", "antlr4")
# Keys that name the folder to be made.
_FOLDERS = ("resume", "hydra.run.dir", "sweep.resume", "hydra.sweep.dir", "name", "seed")


def is_of_hydra(error: Exception) -> bool:
    """Whether it is Hydra that fails, at what it was told, rather than code of ours that it calls."""
    if isinstance(error, HydraException | OmegaConfBaseException):
        return True
    modules = [str(frame.f_globals.get("__name__")) for frame, _ in traceback.walk_tb(error.__traceback__)]
    packages = [module.partition(".")[0] for module in modules]  # others, as the standard library, work for any
    return next((package for package in reversed(packages) if package in (*_OF_HYDRA, "dqn")), None) in _OF_HYDRA


def unreadable(override: str) -> UserError:
    """Of an override that Hydra's grammar does not know."""
    return UserError("", "", f"cannot read the override {shortened(override)!r}; overrides look like key=value")


def in_hydras_words(error: Exception, overrides: Sequence[str], groups: Mapping[str, Path]) -> UserError:
    """An error in Hydra's own words, under the key that it is about, as far as that can be told.

    Args:
        error: of Hydra or OmegaConf.
        overrides: that were given.
        groups: the folder of each group of options.
    """
    pairs = [(key, value) for key, _, value in (override.lstrip("+~").partition("=") for override in overrides)]
    given = dict(sorted(pairs, key=lambda pair: "${" in pair[1]))  # of a key given twice, what can fail
    chain = _chain(error)
    said = " ".join(" ".join(str(link) for link in chain).split())
    for word in overrides:
        try:
            override = OverridesParser.create().parse_override(word)
        except (HydraException, ValueError):
            return unreadable(word)
        fault = _fault(override, said, groups)
        if fault is not None:
            return UserError(override.key_or_group, given.get(override.key_or_group, ""), fault)
    if isinstance(error, OSError):
        key = max((key for key in _FOLDERS if key in given), key=lambda key: len(given[key]), default="name")
        return UserError(key, given.get(key, ""), f"no folder can be made there: {error.strerror}")
    cause = next((link for link in reversed(chain) if str(link) not in ("", "None")), error)
    key = str(getattr(cause, "full_key", None) or "")
    if key not in given:
        named = [word for word in given if _is_named(word, said)]
        is_within = "${" in said or "nterpolation" in said
        key = next((word for word in given if is_within and "${" in given[word]), max(named, key=len, default=key))
    problem = re.sub(r"\s+(full_key|object_type|reference_type)[:=].*", "", str(cause), flags=re.DOTALL)
    return UserError(key, given.get(key, ""), shortened(" ".join(problem.split()) or said))


def _chain(error: BaseException) -> list[BaseException]:
    """An error and its causes."""
    return [error, *(_chain(error.__cause__) if error.__cause__ is not None else [])]


def _fault(override: Override, said: str, groups: Mapping[str, Path]) -> str | None:
    """What is wrong with an override that Hydra complains about without a name."""
    value = override.value()
    if override.key_or_group in groups and not _is_option(value):
        options = [path.stem for path in groups[override.key_or_group].glob("*.yaml")]
        return f"no such option; {nearest('', options)}"
    if "does not support sweep type" in said and isinstance(value, IntervalSweep):
        return "an interval is for a search, as with hydra/sweeper=optuna; here give values"
    return None


def _is_option(value: object) -> bool:
    """Whether a group takes such a thing: a name, several names, values for its fields, or several to sweep over."""
    if isinstance(value, list):
        return all(isinstance(entry, str | QuotedString) for entry in value)
    if isinstance(value, ChoiceSweep):
        return all(_is_option(entry) for entry in value.list)
    return isinstance(value, str | QuotedString | dict | Glob)


def _is_named(key: str, said: str) -> bool:
    """Whether a message is about a key: by the whole of it, or by its last part in quotes."""
    last = key.rpartition(".")[2]
    return bool(last) and (f"'{last}'" in said or bool(re.search(rf"(?<![\w.]){re.escape(key)}(?![\w.])", said)))
