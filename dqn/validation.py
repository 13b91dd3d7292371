"""Check plain data against a dataclass, and say in the user's words what is wrong with it.

pydantic does the checking. Its errors are turned into one `UserError` with the dotted key as it is written in
the YAML or on the command line; where a name is misspelt, the error says which one was probably meant.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from dqn.errors import UserError, nearest, shortened

T = TypeVar("T")
Location = tuple[Any, ...]

_NOUNS = {
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "string": "text",
    "array": "a list",
    "object": "a group of settings",
}
_LONGEST_VALUE = 60


def validate(cls: type[T], data: Mapping[str, Any], prefix: str = "") -> T:
    """An instance of the pydantic dataclass `cls` made of `data`, plain nested dicts and lists.

    Where `data` is a part of something larger, `prefix` is the dotted key at which it stands.

    Whole numbers may be written as floats (1e6) and numbers as text ("3", as environment variables come), but
    true and false are no numbers.

    Raises:
        UserError: an unknown or missing key, a wrong type, a value out of range; only the first is named.
    """
    try:
        instance = TypeAdapter(cls).validate_python(data)
    except ValidationError as error:
        raise first_error(error, cls, prefix) from None
    for key, flag, number in _booleans_taken_for_numbers(data, instance, prefix):
        noun = _NOUNS["integer" if isinstance(number, int) else "number"]
        raise UserError(key, yaml_text(flag), f"must be {noun}")
    return instance


def as_checked(data: Mapping[str, Any], instance: Any) -> dict[str, Any]:
    """The data of which `validate` made an instance, in the types that they have there: 3 for "3"."""
    checked = {key: getattr(instance, key) for key in data}
    return {
        key: as_checked(data[key], value) if dataclasses.is_dataclass(value) else value
        for key, value in checked.items()
    }


def first_error(error: ValidationError, cls: type[Any], prefix: str = "") -> UserError:
    """The error to mend first: an unknown key (a typo also leaves a key missing), else a wrong value."""
    ranks = {"unexpected_keyword_argument": 0, "missing": 2, "union_tag_not_found": 2}
    details = min(error.errors(include_url=False), key=lambda details: ranks.get(details["type"], 1))
    root = Schema.of(cls)
    if details["type"] == "unexpected_keyword_argument":
        return _unknown_key(details, root, prefix)
    key, schema = root.locate(details["loc"], prefix)
    if details["type"] == "missing":
        return UserError("", None, schema.missing_message(key))
    if details["type"] in ("union_tag_not_found", "union_tag_invalid"):
        key = join_key(key, schema.node["discriminator"]["propertyName"])
        tags = schema.node["discriminator"]["mapping"]
        if details["type"] == "union_tag_not_found":
            return UserError("", None, f"{key} is missing: choose one of {', '.join(tags)}")
        return UserError(key, details["ctx"]["tag"], nearest(details["ctx"]["tag"], tags))
    return UserError(key, _shortened(details["input"]), _expectation(details, schema))


def yaml_text(value: object) -> str:
    """A value as it would be written on one line in YAML or on the command line."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(yaml_text, value))}]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {yaml_text(entry)}" for key, entry in value.items()) + "}"
    return str(value) if value != "" else '""'


def join_key(parent: str, name: object) -> str:
    """The dotted key of `parent`'s entry `name`: a.b for a key, a[0] for a position in a list."""
    if isinstance(name, int):
        return f"{parent}[{name}]"
    return f"{parent}.{name}" if parent else str(name)


class Schema:
    """What may stand at one place of a dataclass: a node of its JSON schema, references and null resolved."""

    def __init__(self, node: dict[str, Any], definitions: dict[str, Any]) -> None:
        alternatives = [one for one in node.get("anyOf", [node]) if one.get("type") != "null"]
        self.nullable = len(alternatives) < len(node.get("anyOf", [node]))
        self.description: str = node.get("description", "")
        self.examples: list[Any] = node.get("examples", [])
        self.has_default = "default" in node
        self.default: Any = node.get("default")
        self.node = alternatives[0] if len(alternatives) == 1 else node
        if "$ref" in self.node:
            self.node = definitions[self.node["$ref"].rpartition("/")[2]]
        self._definitions = definitions

    @classmethod
    def of(cls, dataclass: type[Any]) -> Schema:
        """The schema of a whole dataclass."""
        node = TypeAdapter(dataclass).json_schema()
        return cls(node, node.get("$defs", {}))

    def child(self, step: str | int) -> Schema:
        """What may stand one step further in: at a key, at a position of a list, or behind a union's tag."""
        if "discriminator" in self.node:
            return Schema({"$ref": self.node["discriminator"]["mapping"][step]}, self._definitions)
        inner = self.node.get("items") if isinstance(step, int) else self.properties.get(step)
        return Schema(inner or {}, self._definitions)

    def locate(self, location: Location, prefix: str = "") -> tuple[str, Schema]:
        """The dotted key and the schema of pydantic's error location; a union's tag is no part of the key."""
        key, schema = prefix, self
        for step in location:
            if "discriminator" not in schema.node:
                key = join_key(key, step)
            schema = schema.child(step)
        return key, schema

    @property
    def properties(self) -> dict[str, Any]:
        """The names that may stand here, each with its node."""
        properties: dict[str, Any] = self.node.get("properties", {})
        return properties

    @property
    def choices(self) -> list[str]:
        """The values to choose from where only named ones are valid, else empty."""
        constant = [self.node["const"]] if "const" in self.node else []
        return [str(choice) for choice in self.node.get("enum", constant)]

    @property
    def type(self) -> str:
        """JSON's name of the type: integer, number, boolean, string, array or object; empty for anything."""
        if "discriminator" in self.node:
            return "object"
        return str(self.node.get("type", ""))

    @property
    def noun(self) -> str:
        """The type in words: `a whole number or null`."""
        noun = " or ".join(self.choices) or _NOUNS.get(self.type, "a value")
        if self.type == "array":
            items = self.child(0)
            plurals = {"integer": "whole numbers", "number": "numbers", "string": "text"}
            noun += f" of {', '.join(items.choices) or plurals.get(items.type, 'values')}"
        return f"{noun} or null" if self.nullable else noun

    def missing_message(self, key: str) -> str:
        """What to tell a user who has not given the required `key`."""
        what = self.description or self.noun
        example = f", e.g. {assignment(key, self.examples[0])}" if self.examples else ""
        return f"{key} is missing: {what.rstrip('.')}{example}"


def assignment(key: str, value: object) -> str:
    """`key=value` as one would type it in a shell, quoted where the shell would else take it apart."""
    text = yaml_text(value)
    return f'{key}="{text}"' if any(character in text for character in " *?[]{}'();&|<>#") else f"{key}={text}"


def _unknown_key(details: ErrorDetails, root: Schema, prefix: str) -> UserError:
    *parents, name = details["loc"]
    parent_key, parent = root.locate(tuple(parents), prefix)
    problem = f"no such key; {nearest(str(name), parent.properties)}"
    kind = parent.properties.get("kind", {})
    if parents and str(parents[-1]) in Schema(kind, {}).choices:  # the tag: other kinds may well have this key
        problem = f"no such key where {parent_key}.kind={parents[-1]}; {nearest(str(name), parent.properties)}"
    return UserError(join_key(parent_key, name), _shortened(details["input"]), problem)


def _expectation(details: ErrorDetails, schema: Schema) -> str:
    """What would be right, for a value that is wrong."""
    kind, message = details["type"], details["msg"]
    if kind == "literal_error":
        return nearest(str(details["input"]), schema.choices)
    if kind.endswith(("_type", "_parsing", "_from_float")):
        return f"must be {schema.noun}"
    if kind == "string_pattern_mismatch" and schema.examples:
        return f"must be like {', '.join(map(yaml_text, schema.examples))}"
    for pydantics, ours in {"Input should ": "must ", "String should ": "must ", "Value error, ": ""}.items():
        message = message.replace(pydantics, ours)
    return f"{message}, or null" if schema.nullable else message


def _booleans_taken_for_numbers(data: Any, checked: Any, key: str) -> Iterator[tuple[str, bool, float]]:
    """Where `data` has true or false and what was made of it has a number: dotted key, boolean and number."""
    if isinstance(data, bool) and not isinstance(checked, bool):
        yield key, data, checked
    elif isinstance(data, Mapping) and dataclasses.is_dataclass(checked):
        for name, entry in data.items():
            yield from _booleans_taken_for_numbers(entry, getattr(checked, name), join_key(key, name))
    elif isinstance(data, list):
        for index, (entry, one) in enumerate(zip(data, checked, strict=True)):
            yield from _booleans_taken_for_numbers(entry, one, join_key(key, index))


def _shortened(value: object) -> str:
    return shortened(yaml_text(value), _LONGEST_VALUE)
