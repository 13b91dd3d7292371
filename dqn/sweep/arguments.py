"""The words of a sweep's command line: which set a value for all trials, and which add to the search space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, QuotedString, RangeSweep, Sweep

from dqn.errors import UserError
from dqn.sweep.parameters import Parameter
from dqn.sweep.space import Space, parse_parameter

if TYPE_CHECKING:
    from hydra.core.config_loader import ConfigLoader

# What the sweep itself decides, and why it cannot be searched or set.
_TAKEN = {
    "seed": "hydra.sweeper.first_seed and hydra.sweeper.seeds_per_trial say the seeds of a trial",
    "resume": "a sweep is resumed with sweep.resume",
}


def read_arguments(
    arguments: Sequence[str], space: Mapping[str, Any], loader: ConfigLoader | None
) -> tuple[list[str], Space]:
    """The overrides that all trials share, and the search space.

    The space is that of the config group `sweep` and of sweeps on the command line (`key=interval(1,2)`, `choice(...)`,
    `range(...)`, `a,b,c`, with tag(log, ...) for logarithmic ones). What the command line says of a key counts; a key
    with a single value there is not searched.

    Args:
        arguments: the words without those for Hydra itself.
        space: sweep.space of the composed config.
        loader: Hydra's, which knows the options of a group for `key=glob(*)`.

    Raises:
        UserError: a parameter is wrong, or there is none.
    """
    parameters = {key: parse_parameter(key, description) for key, description in space.items()}
    shared: list[str] = []
    fixed: dict[str, Any] = {}
    for override in OverridesParser.create(config_loader=loader).parse_overrides(list(arguments)):
        key = override.get_key_element().lstrip("+")
        if override.is_sweep_override():
            parameters[key] = _parameter(key, override)
            continue
        shared.append(str(override.input_line))
        fixed[key] = override.value()
    for key, reason in _TAKEN.items():
        if key in parameters or key in fixed:
            raise UserError(key, fixed.get(key, "..."), reason)
    searched = Space(parameters, fixed)
    if not len(searched):
        raise UserError("sweep.space", "{}", "nothing to search; e.g. sweep=cartpole or a key=interval(low,high)")
    return shared, searched


def _parameter(key: str, override: Override) -> Parameter:
    """The parameter that a sweep on the command line stands for."""
    sweep = override.value()
    tags = sweep.tags if isinstance(sweep, Sweep) else set()
    if tags - {"log"}:
        raise UserError(key, override.get_value_string(), "the only tag is log")
    log = "log" in tags
    if isinstance(sweep, IntervalSweep):
        return _range(key, sweep.start, sweep.end, [sweep.start, sweep.end], log)
    values = [_plain(value) for value in override.sweep_iterator()]
    if isinstance(sweep, RangeSweep) and len(values) > 1:
        return _range(key, min(values), max(values), values, log, None if log else abs(sweep.step))
    if log:
        raise UserError(key, override.get_value_string(), "choices are not logarithmic")
    return parse_parameter(key, {"type": "categorical", "choices": values})


def _range(key: str, low: Any, high: Any, values: Sequence[Any], log: bool, step: float | None = None) -> Parameter:
    """A range of whole numbers where all values are such, as with int(interval(1,9)); else of any."""
    is_whole = all(isinstance(value, int) for value in values)
    description = {"type": "int" if is_whole else "float", "low": low, "high": high, "log": log}
    return parse_parameter(key, description if step is None else {**description, "step": step})


def _plain(value: Any) -> Any:
    """A parsed element without the marks of its quotes."""
    if isinstance(value, QuotedString):
        return value.text
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    if isinstance(value, dict):
        return {_plain(key): _plain(entry) for key, entry in value.items()}
    return value
