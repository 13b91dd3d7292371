"""Which runs can train as one population: those that differ in traits only."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any, TypeVar, cast, get_type_hints

from dqn.config import TRAIT, Config, is_number

T = TypeVar("T")


def differing_only_in_traits(configs: Sequence[Config]) -> list[list[int]]:
    """The numbers of configs that can be members of one population, together; in order of their first."""
    groups: dict[Hashable, list[int]] = {}
    for number, config in enumerate(configs):
        groups.setdefault(tuple(_all_but_traits(config)), []).append(number)
    return list(groups.values())


def is_trait(config: Config, key: str) -> bool:
    """Whether members of one population may differ in this dotted key of the config."""
    group, _, name = key.rpartition(".")
    part = value_at(config, group) if group else config
    if isinstance(part, Mapping):  # of free arguments numbers are
        return is_trait(config, group) and is_number(part.get(name))
    return is_dataclass(part) and dict(_fields(cast("Hashable", type(part)))).get(name, False)


def value_at(config: Config, key: str) -> Any:
    """What stands at a dotted key of the config; None where there is no such key."""
    part: Any = config
    for name in key.split("."):
        part = part.get(name) if isinstance(part, Mapping) else getattr(part, name, None)
    return part


def pieces(items: Sequence[T], most: int) -> list[Sequence[T]]:
    """As few pieces of at most `most` items as there can be, of about the same size."""
    count = math.ceil(len(items) / most)
    edges = [round(i * len(items) / count) for i in range(count + 1)]
    return [items[begin:end] for begin, end in pairwise(edges)]


def _all_but_traits(config: Any) -> Iterator[Hashable]:
    yield type(config).__qualname__
    for name, is_trait in _fields(cast("Hashable", type(config))):
        value = getattr(config, name)
        if is_dataclass(value):
            yield from _all_but_traits(value)
        elif not is_trait:
            yield repr(value)
        elif isinstance(value, list):
            yield len(value)  # traits of members side by side are one tensor
        elif isinstance(value, dict):
            yield repr({key: None if is_number(entry) else (entry,) for key, entry in value.items()})


@lru_cache
def _fields(cls: Any) -> tuple[tuple[str, bool], ...]:
    """The names of the fields, each with whether it is a trait."""
    hints = get_type_hints(cls, include_extras=True)
    return tuple((field.name, TRAIT in getattr(hints[field.name], "__metadata__", ())) for field in fields(cls))
