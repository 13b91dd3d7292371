"""The kinds of parameters a trial can choose: numbers from a range, and choices."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from hydra.core.override_parser.types import Quote, QuotedString
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from dqn.config import Finite, Positive, PositiveFloat
from dqn.errors import UserError
from dqn.validation import yaml_text

if TYPE_CHECKING:
    from optuna.trial import BaseTrial

_STRICT = ConfigDict(extra="forbid")
_PLAIN_WORD = re.compile(r"[A-Za-z][\w./-]*")
_NO_WORDS = ("true", "false", "null", "nan", "inf")  # what a plain word would be read as
When = dict[str, Any] | None


def override_text(value: object) -> str:
    """A value as it stands after the `=` of a Hydra override."""
    if isinstance(value, str):
        plain = _PLAIN_WORD.fullmatch(value) and value.lower() not in _NO_WORDS
        return value if plain else QuotedString(value, Quote.single).with_quotes()
    if isinstance(value, list):
        return f"[{','.join(map(override_text, value))}]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{override_text(key)}:{override_text(entry)}" for key, entry in value.items()) + "}"
    return yaml_text(value)


@dataclass(config=_STRICT, frozen=True, kw_only=True)
class Parameter:
    """What every parameter has.

    Attributes:
        when: the parameter is chosen only where each of these other (categorical) parameters has this value, or one of
            these values; null: always.
    """

    when: When = None

    @property
    def conditions(self) -> dict[str, list[Any]]:
        """The values that let the parameter be chosen, as `plain`, by the key of the other parameter."""
        accepted = {key: value if isinstance(value, list) else [value] for key, value in (self.when or {}).items()}
        return {key: [plain(value) for value in values] for key, values in accepted.items()}

    def check(self, path: str) -> None:
        """Raise a UserError under this key if there is nothing to choose from."""
        raise NotImplementedError

    def suggest(self, trial: BaseTrial, key: str) -> Any:
        """The trial's value."""
        raise NotImplementedError

    def text(self, value: Any) -> str:
        """The value as it stands after the `=` of an override."""
        return override_text(value)

    def ends(self) -> list[Any]:
        """Values that show whether the config can take all of them: both ends of a range, or every choice."""
        raise NotImplementedError

    def values(self, path: str) -> list[Any]:
        """Every value, for a grid.

        Raises:
            UserError: there is no end of them.
        """
        raise NotImplementedError


@dataclass(config=_STRICT, frozen=True, kw_only=True)
class Range(Parameter):
    """What every range of numbers has."""

    def at(self, fraction: float) -> Any:
        """The value that lies at this fraction (from 0 to 1) of the range; uniform fractions make uniform draws."""
        raise NotImplementedError

    def fitted(self, value: float) -> Any:
        """The value of the range that is nearest to a number."""
        raise NotImplementedError


@dataclass(config=_STRICT, frozen=True, kw_only=True)
class FloatRange(Range):
    """A number from low to high; uniform in its logarithm if `log`, a multiple of `step` above low if that is set."""

    type: Literal["float"]
    low: Finite
    high: Finite
    log: bool = False
    step: PositiveFloat | None = None

    def check(self, path: str) -> None:
        """See `Parameter`."""
        _check_range(path, self.low, self.high, self.log)
        if self.log and self.step is not None:
            raise UserError(f"{path}.step", self.step, "a logarithmic range has no steps")

    def suggest(self, trial: BaseTrial, key: str) -> float:
        """See `Parameter`."""
        return trial.suggest_float(key, self.low, self.ends()[-1], step=self.step, log=self.log)

    def ends(self) -> list[Any]:
        """See `Parameter`."""
        return [self.low, self.high if self.step is None else self.values("")[-1]]

    def at(self, fraction: float) -> float:
        """See `Range`."""
        (low, high), margin = self.ends(), (self.step or 0.0) / 2
        return self.fitted(_between(low - margin, high + margin, self.log, fraction))

    def fitted(self, value: float) -> float:
        """See `Range`."""
        low, high = self.ends()
        if self.step is not None:
            value = float(np.round(self.low + round((value - self.low) / self.step) * self.step, 12))
        return float(min(max(value, low), high))

    def values(self, path: str) -> list[Any]:
        """See `Parameter`."""
        if self.step is None:
            raise UserError(f"{path}.step", None, "a grid needs steps, or a categorical parameter")
        count = int((self.high - self.low) / self.step + 1e-9) + 1  # 0.3 / 0.1 is a little less than 3
        return [float(np.round(self.low + index * self.step, 12)) for index in range(count)]


@dataclass(config=_STRICT, frozen=True, kw_only=True)
class IntRange(Range):
    """A whole number from low to high, both included."""

    type: Literal["int"]
    low: int
    high: int
    log: bool = False
    step: Positive = 1

    def check(self, path: str) -> None:
        """See `Parameter`."""
        _check_range(path, self.low, self.high, self.log)
        if self.log and self.step != 1:
            raise UserError(f"{path}.step", self.step, "a logarithmic range has no steps")

    def suggest(self, trial: BaseTrial, key: str) -> int:
        """See `Parameter`."""
        return trial.suggest_int(key, self.low, self.ends()[-1], step=self.step, log=self.log)

    def ends(self) -> list[Any]:
        """See `Parameter`."""
        return [self.low, self.high - (self.high - self.low) % self.step]

    def at(self, fraction: float) -> int:
        """See `Range`."""
        (low, high), margin = self.ends(), self.step / 2
        return self.fitted(_between(low - margin, high + margin, self.log, fraction))

    def fitted(self, value: float) -> int:
        """See `Range`."""
        low, high = self.ends()
        nearest = self.low + round((value - self.low) / self.step) * self.step
        return int(min(max(nearest, low), high))

    def values(self, path: str) -> list[Any]:
        """See `Parameter`."""
        return list(range(self.low, self.high + 1, self.step))


@dataclass(config=_STRICT, frozen=True, kw_only=True)
class Categorical(Parameter):
    """One of several values, or one of several options of a config group."""

    type: Literal["categorical"]
    choices: Annotated[list[Any], Field(min_length=1)]

    def check(self, path: str) -> None:
        """See `Parameter`."""
        labels = self._labels
        for index, label in enumerate(labels):
            if label in labels[:index]:
                raise UserError(f"{path}.choices", yaml_text(self.choices), f"has {yaml_text(label)} twice")

    def suggest(self, trial: BaseTrial, key: str) -> Any:
        """See `Parameter`."""
        return trial.suggest_categorical(key, self._labels)

    def text(self, value: Any) -> str:
        """See `Parameter`."""
        return override_text(self.choices[self._labels.index(value)])

    def ends(self) -> list[Any]:
        """See `Parameter`."""
        return self._labels

    def values(self, path: str) -> list[Any]:
        """See `Parameter`."""
        return self._labels

    @property
    def _labels(self) -> list[Any]:
        return [plain(choice) for choice in self.choices]


def plain(value: Any) -> Any:
    """A value as Optuna, which knows only scalars, is told it: a list or a group of settings is its text."""
    return override_text(value) if isinstance(value, (list, dict)) else value


PARAMETERS: dict[str, type[Parameter]] = {"float": FloatRange, "int": IntRange, "categorical": Categorical}


def _between(low: float, high: float, log: bool, fraction: float) -> float:
    """The number at a fraction of the way from low to high, in their logarithm if `log`."""
    return float(low * (high / low) ** fraction) if log else low + fraction * (high - low)


def _check_range(path: str, low: float, high: float, log: bool) -> None:
    if high <= low:
        raise UserError(f"{path}.high", high, f"must be above low ({low:g})")
    if log and low <= 0:
        raise UserError(f"{path}.low", low, "a logarithmic range must be above 0")
