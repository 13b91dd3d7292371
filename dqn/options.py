"""The options of the scripts beside train.py: `key=value` words, checked like the configuration is.

A script's options are a pydantic dataclass; the defaults, descriptions and examples of its fields are what
`--help` shows. Values are read as YAML: `episodes=100`, `video=true`, `runs="[a, b]"`.
"""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence
from typing import Any, TypeVar, cast

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import Field
from yaml import YAMLError

from dqn.errors import UserError, nearest
from dqn.validation import Schema, assignment, validate, yaml_text

T = TypeVar("T")

# Fields of the options of several scripts.
RUN = Field(description="the run's folder", examples=["runs/cartpole/2026-01-01_12-00-00-seed0"])
MODULES = Field(description="of yours, which the run's environment may import", examples=[["my_package"]])


def parse_options(cls: type[T], argv: Sequence[str], description: str) -> T:
    """An instance of the pydantic dataclass `cls` (with extra="forbid") made of the words in `argv`.

    A single value stands for a list of one. `--help` or `-h` prints the description and every option, and
    exits with status 0.

    Raises:
        UserError: an unknown, repeated or missing option, or a value of the wrong type or out of range.
    """
    schema = Schema.of(cls)
    if {"-h", "--help"} & set(argv):
        print(help_text(schema, description))
        raise SystemExit(0)
    values: dict[str, Any] = {}
    for word in argv:
        key, equals, text = word.partition("=")
        if not equals:
            raise UserError("", None, f"{word}: options are written key=value; --help lists them")
        if key not in schema.properties:
            raise UserError(key, text, f"no such option; {nearest(key.lstrip('-'), schema.properties)}")
        if key in values:
            raise UserError(key, text, f"was given before as {yaml_text(values[key])}; give it once")
        values[key] = _read(key, text, schema.child(key))
    return validate(cls, values)


def help_text(schema: Schema, description: str) -> str:
    """The description, then for each option its type, its default, what it means and an example."""
    width = min(shutil.get_terminal_size().columns, 100)
    lines = [description.strip(), "", "options, each given as key=value:"]
    for key in schema.properties:
        option = schema.child(key)
        default = f"default {yaml_text(option.default)}" if option.has_default else "required"
        lines += ["", f"  {key}: {option.noun} ({default})"]
        lines += textwrap.wrap(option.description, width, initial_indent=" " * 6, subsequent_indent=" " * 6)
        lines += [f"      e.g. {assignment(key, example)}" for example in option.examples]
    return "\n".join(lines)


def _read(key: str, text: str, option: Schema) -> Any:
    """The value that `text` means for this option."""
    if not text:
        raise UserError(key, text, f"needs a value: {option.noun}")
    value = _read_yaml(key, text)
    if isinstance(value, list) or (value is None and option.nullable):
        return value
    is_list = option.type == "array"
    if (option.child(0) if is_list else option).type == "string" and not isinstance(value, dict):
        value = value if isinstance(value, str) else text  # a folder may well be called 2024
    return [value] if is_list else value


def _read_yaml(key: str, text: str) -> Any:
    try:
        config = OmegaConf.from_dotlist([f"value={text}"])
        return cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))["value"]
    except YAMLError:
        if text[0] not in "[{\"'":
            return text  # a plain word such as *.png, which YAML would take for something of its own
        hint = f"cannot be read as YAML; put names with special characters in quotes, e.g. {key}=\"['*/a', b]\""
        raise UserError(key, text, hint) from None
    except OmegaConfBaseException as error:
        raise UserError(key, text, str(error).splitlines()[0]) from None
