"""A search space: which config keys a trial chooses, from what, and under which condition."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from dqn.errors import UserError, nearest
from dqn.sweep.parameters import PARAMETERS, Categorical, Parameter, plain
from dqn.validation import validate, yaml_text

if TYPE_CHECKING:
    from optuna.trial import BaseTrial

Values = dict[str, Any]


def parse_parameter(key: str, description: object) -> Parameter:
    """The parameter of a config key from its entry under sweep.space.

    Raises:
        UserError: the entry is no such thing.
    """
    path = f"sweep.space.{key}"
    if not isinstance(description, Mapping):
        raise UserError(path, yaml_text(description), "must be settings, e.g. {type: float, low: 0, high: 1}")
    if "type" not in description:
        raise UserError("", None, f"{path}.type is missing: choose one of {', '.join(PARAMETERS)}")
    kind = str(description["type"])
    if kind not in PARAMETERS:
        raise UserError(f"{path}.type", kind, nearest(kind, PARAMETERS))
    return validate(PARAMETERS[kind], description, path)


class Space:
    """Parameters by config key, each after those on which it depends.

    Args:
        parameters: by config key, in any order.
        fixed: values that the user has given for some of the keys; these are not searched.

    Raises:
        UserError: a range is empty, or a condition can never hold.
    """

    def __init__(self, parameters: Mapping[str, Parameter], fixed: Mapping[str, Any] | None = None) -> None:
        for key, parameter in parameters.items():
            parameter.check(f"sweep.space.{key}")
            _check_condition(key, parameters)
        self._parameters = _ordered(_without(parameters, fixed or {}))

    def __len__(self) -> int:
        return len(self._parameters)

    def __contains__(self, key: str) -> bool:
        return key in self._parameters

    def suggest(self, trial: BaseTrial) -> Values:
        """A value for every parameter whose condition holds; what the trial has already got, it keeps."""
        values: Values = {}
        for key, parameter in self._parameters.items():
            if _holds(parameter, values):
                values[key] = parameter.suggest(trial, key)
        return values

    @property
    def parameters(self) -> Mapping[str, Parameter]:
        """The parameters by config key."""
        return self._parameters

    def overrides(self, values: Values) -> list[str]:
        """The words of a command line that set these values."""
        from dqn.compose import with_free_keys

        return with_free_keys([f"{key}={self._parameters[key].text(value)}" for key, value in values.items()])

    def probes(self) -> Iterator[Values]:
        """A few settings in which each end of each range and each choice occurs."""
        left = {key: parameter.ends() for key, parameter in self._parameters.items()}
        while waiting := [key for key, ends in left.items() if ends]:
            forced = {**self._needed(waiting[0]), waiting[0]: left[waiting[0]].pop(0)}
            values: Values = {}
            for key, parameter in self._parameters.items():
                if _holds(parameter, values):
                    values[key] = forced[key] if key in forced else (left[key] or parameter.ends())[0]
                    left[key] = [end for end in left[key] if end != values[key]]
            yield values

    def points(self) -> list[Values]:
        """Every combination of values, each once.

        Raises:
            UserError: a parameter has no end of values.
        """
        points: list[Values] = [{}]
        for key, parameter in self._parameters.items():
            values = parameter.values(f"sweep.space.{key}")
            points = [
                longer
                for point in points
                for longer in ([{**point, key: value} for value in values] if _holds(parameter, point) else [point])
            ]
        return points

    def describe(self) -> dict[str, Any]:
        """The space as plain values, to compare."""
        return {key: asdict(parameter) for key, parameter in self._parameters.items()}

    def _needed(self, key: str) -> Values:
        """Values of other parameters with which the condition of `key` holds."""
        needed: Values = {}
        for other, accepted in self._parameters[key].conditions.items():
            needed |= self._needed(other) | {other: accepted[0]}
        return needed


def _holds(parameter: Parameter, values: Mapping[str, Any]) -> bool:
    return all(key in values and values[key] in accepted for key, accepted in parameter.conditions.items())


def _check_condition(key: str, parameters: Mapping[str, Parameter]) -> None:
    for other, accepted in parameters[key].conditions.items():
        path = f"sweep.space.{key}.when.{other}"
        if other not in parameters:
            raise UserError(path, yaml_text(accepted), f"no such parameter; {nearest(other, parameters)}")
        choices = parameters[other]
        if not isinstance(choices, Categorical):
            raise UserError(path, yaml_text(accepted), f"can depend on a categorical parameter, {other} is none")
        for value in accepted:
            if value not in choices.ends():
                raise UserError(path, value, f"is no choice of {other}: {yaml_text(choices.choices)}")


def _without(parameters: Mapping[str, Parameter], fixed: Mapping[str, Any]) -> dict[str, Parameter]:
    """The parameters but for the fixed ones; conditions on these are decided, and so may take others out."""
    fixed = {key: plain(value) for key, value in fixed.items() if key in parameters}
    remaining: dict[str, Parameter] = {}
    gone = set(fixed)
    for key, parameter in _ordered(parameters).items():
        conditions = parameter.conditions
        if key in fixed:
            continue
        if any(fixed[other] not in conditions[other] if other in fixed else other in gone for other in conditions):
            gone.add(key)
            continue
        open_conditions = {other: accepted for other, accepted in conditions.items() if other not in fixed}
        remaining[key] = replace(parameter, when=open_conditions or None)
    return remaining


def _ordered(parameters: Mapping[str, Parameter]) -> dict[str, Parameter]:
    """Each parameter after those on which it depends."""
    ordered: dict[str, Parameter] = {}

    def add(key: str, dependents: Sequence[str]) -> None:
        if key in dependents:
            raise UserError(f"sweep.space.{key}.when", dependents[-1], "depends on itself")
        for other in parameters[key].conditions:
            add(other, [*dependents, key])
        ordered[key] = parameters[key]

    for key in parameters:
        add(key, [])
    return ordered
