"""Settings side by side: dotted keys, which of them differ, and names for what they tell apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from dqn.compose import leaves
from dqn.report.runs import Run
from dqn.terminal import one_line
from dqn.validation import yaml_text

Settings = dict[str, Any]

# What does not change what a run learns: runs that differ in nothing else are seeds of one experiment.
_NOT_SETTINGS = ("seed", "resume", "logger")
_LONGEST_LABEL_PARTS = 3


@dataclass(frozen=True)
class Group:
    """Runs with the same settings: the seeds of one experiment."""

    label: str
    settings: Settings
    runs: tuple[Run, ...]


def flatten(config: Mapping[str, Any]) -> Settings:
    """Nested dicts as one dict with dotted keys, in the order in which they stand; lists stay values."""
    return dict(leaves(config)) if config else {}


def all_keys(settings: Sequence[Settings]) -> list[str]:
    """Every key that one of the settings has; a section's own keys before its sections."""
    order: dict[str, int] = {}  # of keys and of sections, by where they come first
    keys = dict.fromkeys(key for one in settings for key in one)
    for key in keys:
        for path in _paths(key):
            order.setdefault(path, len(order))
    return sorted(keys, key=lambda key: [(path != key, order[path]) for path in _paths(key)])


def _paths(key: str) -> list[str]:
    """The sections that a key is in, from the outside in, and the key: a, a.b, a.b.c for a.b.c."""
    return list(accumulate(key.split("."), lambda section, name: f"{section}.{name}"))


def differing_keys(settings: Sequence[Settings]) -> list[str]:
    """The keys that not all of the settings have, or not with the same value."""
    return [key for key in all_keys(settings) if len({_comparable(one, key) for one in settings}) > 1]


def group_runs(runs: Sequence[Run]) -> list[Group]:
    """Runs that differ only in their seed, together; in the order in which they were given."""
    members: dict[tuple[tuple[str, str], ...], list[Run]] = {}
    for run in runs:
        settings = _settings(run)
        identity = tuple((key, _comparable(settings, key)) for key in sorted(settings))
        members.setdefault(identity, []).append(run)
    of_groups = [_settings(group[0]) for group in members.values()]
    labels = _labels(of_groups, [group[0].name for group in members.values()])
    return [Group(*parts) for parts in zip(labels, of_groups, map(tuple, members.values()), strict=True)]


def _settings(run: Run) -> Settings:
    return flatten({name: value for name, value in run.config.items() if name not in _NOT_SETTINGS})


def _comparable(settings: Settings, key: str) -> str:
    """Text that is the same for equal values: 1 and 1.0 are, 1 and true are not, nor null and no such key."""
    value = settings.get(key, "")
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return repr(float(value) if is_number else value)


def _labels(settings: Sequence[Settings], names: Sequence[str]) -> list[str]:
    """A name for each of the settings: the experiment's where that tells them apart, else what differs."""
    if len(set(names)) == len(names):
        return list(names)
    keys = differing_keys(settings)
    if len(keys) > _LONGEST_LABEL_PARTS:
        keys = _telling_keys(settings, keys)
    keys = sorted(keys, key=_is_name, reverse=True)
    labels = [", ".join(_label_part(one, key, keys) for key in keys if key in one) for one in settings]
    labels = [label or name for label, name in zip(labels, names, strict=True)]
    unique = len(set(labels)) == len(labels)
    return labels if unique else [f"{label} ({number})" for number, label in enumerate(labels, start=1)]


def _telling_keys(settings: Sequence[Settings], keys: Sequence[str]) -> list[str]:
    """A few of the keys that are enough to tell all settings apart."""
    chosen: list[str] = []
    for key in keys:
        without, with_key = (_num_distinct(settings, some) for some in (chosen, [*chosen, key]))
        if with_key > without:
            chosen.append(key)
    return chosen


def _num_distinct(settings: Sequence[Settings], keys: Sequence[str]) -> int:
    return len({tuple(_comparable(one, key) for key in keys) for one in settings})


def _label_part(settings: Settings, key: str, keys: Sequence[str]) -> str:
    """`double_dqn` for algorithm.kind, `rate=1` for target.rate, with the whole key where it is ambiguous."""
    name = key.rpartition(".")[2]
    if _is_name(key):
        return one_line(str(settings[key]))
    if sum(other.rpartition(".")[2] == name for other in keys) > 1:
        name = key
    return one_line(f"{name}={yaml_text(settings[key])}")


def _is_name(key: str) -> bool:
    """Whether the value says by itself what it is."""
    return key.rpartition(".")[2] in ("name", "kind")
