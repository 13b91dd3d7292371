"""Composing configs with Hydra, with errors that name the key and the nearest valid one."""

from __future__ import annotations

import copy
import re
from collections.abc import Hashable, Iterator, Mapping, Sequence, Set
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_type_hints

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from dqn.complaints import in_hydras_words, is_of_hydra, unreadable
from dqn.composer import Composer
from dqn.errors import TrainingError, UserError, nearest, shortened
from dqn.trusted import check_run, only_trusted_configs

CONF = Path(__file__).resolve().parents[1] / "conf"
WANDB_SWEEPS = "wandb"  # the folder in conf/ that is for `wandb sweep`, and no group of options


def register_resolvers() -> None:
    """Make `run_folder` known to Hydra: the folder of the run to resume, or else the one of a new run."""
    OmegaConf.register_new_resolver("run_folder", lambda resume, new: resume or new, replace=True)


def compose_config(overrides: Sequence[str]) -> dict[str, Any]:
    """What `scripts/train.py` would run with these overrides, resolved.

    Raises:
        UserError: an override names what does not exist.
    """
    register_resolvers()
    try:
        with only_trusted_configs(overrides):
            return resolve(_composer()(with_free_keys(overrides)), overrides)
    except (HydraException, OmegaConfBaseException) as error:
        raise explain_composition(error, overrides) from error


def resolve(config: DictConfig, overrides: Sequence[str]) -> dict[str, Any]:
    """A composed config as plain nested values.

    A preset changes values of the options that it expects. Where the user has chosen another option, a value that only
    the preset's option knows is left out; what the user has given stays, to be complained about.

    Raises:
        UserError: a value that has no default was not given, or an environment imports what the user has not named.
    """
    try:
        container = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        key = str(error.full_key)
        raise UserError(key, "???", f"must be given, e.g. {key}={_EXAMPLES.get(key, '...')}") from error
    except OmegaConfBaseException as error:
        raise in_hydras_words(error, overrides, _groups()) from error
    assert isinstance(container, dict)
    values = {str(key): value for key, value in container.items() if key != "sweep"}  # the sweeper's, not a run's
    leave_out_strays(values, overrides)
    check_run(values)
    return values


def leave_out_strays(values: dict[str, Any], overrides: Sequence[str]) -> None:
    """Remove from a run's config, in place, what belongs to options that were not chosen, unless it was given."""
    from dqn.config import Config  # here: the schema takes 0.1 s to build, and --help needs none

    given = {override.lstrip("+").partition("=")[0].replace("/", ".") for override in overrides}
    _leave_out_strays(Config, values, "", given)


def _leave_out_strays(cls: Any, values: dict[str, Any], path: str, given: Set[str]) -> None:
    """Remove keys that belong to another kind of the same group, unless they were given."""
    for name, hint in _hints(cls).items():
        kinds: list[Any] = [kind for kind in (hint, *get_args(hint)) if is_dataclass(kind)]
        group, key = values.get(name), f"{path}{name}"
        if not kinds or not isinstance(group, dict):
            continue
        chosen = next((kind for kind in kinds if group.get("kind") in _names(kind)), kinds[0])
        own, others = _fields(chosen), set().union(*map(_fields, kinds))
        for stray in [field for field in group if field in others - own and not _is_given(f"{key}.{field}", given)]:
            del group[stray]
        _leave_out_strays(chosen, group, f"{key}.", given)


def _is_given(key: str, given: Set[str]) -> bool:
    return any(one == key or one.startswith(f"{key}.") for one in given)


@cache
def _hints(cls: Hashable) -> dict[str, Any]:
    return get_type_hints(cls)


def _names(kind: Any) -> tuple[str, ...]:
    return get_args(_hints(kind).get("kind"))


def _fields(kind: Any) -> set[str]:
    return {field.name for field in fields(kind)}


_ARGUMENTS = "algorithm.loss.arguments"  # keys in it are for the user's class to know
_EXAMPLES = {"env.game": "seaquest", "env.id": "Acrobot-v1"}


@cache
def _composer() -> Composer:
    return Composer(_compose, is_group=lambda key: (CONF / key).is_dir())


def _compose(overrides: Sequence[str], with_hydra: bool = False) -> DictConfig:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", overrides=list(overrides), return_hydra_config=with_hydra)


def with_values(config: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a resolved config with other values at some of its dotted keys."""
    changed = copy.deepcopy(dict(config))
    for key, value in values.items():
        *groups, name = key.split(".")
        place = changed
        for group in groups:
            place = place[group]
        place[name] = value
    return changed


def leaves(values: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The values of nested mappings, each with its dotted key; a list is one value."""
    if isinstance(values, Mapping) and values:
        for name, value in values.items():
            yield from leaves(value, f"{path}.{name}" if path else str(name))
    else:
        yield path, values


def with_free_keys(words: Sequence[str]) -> list[str]:
    """The words of a command line; keys of groups that may hold any key get the ++ that Hydra wants for new ones."""
    free = ("env.kwargs.", "env.kwargs=", "evaluation.env.", "evaluation.env=")
    return [f"++{word}" if word.startswith(free) and not word.endswith("={}") else word for word in words]


def explain(error: Exception, overrides: Sequence[str]) -> UserError | TrainingError | None:
    """What to tell the user in one line about an error while these overrides were composed, or run; None of a bug."""
    if isinstance(error, UserError | TrainingError):
        return error
    return explain_composition(error, overrides) if is_of_hydra(error) else None


def explain_composition(error: Exception, overrides: Sequence[str]) -> UserError:
    """Hydra's complaint about overrides in one line, with the nearest valid name."""
    nameless = next((word for word in overrides if not word.lstrip("+~") or word.lstrip("+~")[0] in "=@"), None)
    if nameless is not None:
        return unreadable(nameless)
    if isinstance(error, MissingConfigException) and error.options is not None:
        group, _, option = str(error.missing_cfg_file).rpartition("/")
        group = group.removeprefix("/")
        return UserError(group, option, f"no such option; {nearest(option, error.options)}")
    if isinstance(error, OverrideParseException):
        return unreadable(str(error.override))
    ambiguous = re.search(r"Ambiguous value for argument '([^=']+)=([^']*)'", str(error))
    if ambiguous:
        key, value = ambiguous.groups()
        advice = f"several values are for a sweep, which needs -m; a list is written [{shortened(value, 60)}]"
        return UserError(key, value, advice)
    match = re.search(r"Could not override '([^']+)'", str(error))
    if isinstance(error, ConfigCompositionException) and match:
        key, within = match.group(1).partition("@")[0], str(getattr(error.__cause__, "full_key", None) or "")
        return _unknown_key(within if within.startswith(f"{key}.") else key, overrides)  # key={within:...}
    if isinstance(error, re.error):  # Hydra puts these separators into a regular expression as they are
        key, _, value = next((word for word in overrides if "override_dirname" in word), "hydra.job").partition("=")
        return UserError(key, value, f"cannot be part of a regular expression: {error}")
    return in_hydras_words(error, overrides, _groups())


def _unknown_key(key: str, overrides: Sequence[str]) -> UserError:
    value = {o.lstrip("+~").partition("=")[0]: o.partition("=")[2] for o in overrides}.get(key, "")
    if key == WANDB_SWEEPS:
        return UserError(key, value, f"is no group; a sweep by W&B is begun with: wandb sweep conf/{key}/cartpole.yaml")
    groups = _groups()
    if key in groups:
        problem = "the config that a run or a sweep has left has no groups to choose from; change single values"
        return UserError(key, value, f"{problem}, as in trainer.batch_size=64")
    if "/" in key:
        return UserError(key, value, f"no such group; {nearest(key, groups)}")
    if key.startswith(f"{_ARGUMENTS}."):
        return UserError(key, value, f"the loss's YAML file has no such argument; +{key}=... gives it one more")
    # Group choices keep their meaning without the faulty values; they decide which keys there are.
    choices = [
        o for o in overrides if o.partition("=")[0] in groups and not set(o) & set(",({") and not _is_of_the_users(o)
    ]  # no sweeps, no values
    of_hydra = key.startswith("hydra.")
    composed = OmegaConf.to_container(_compose(choices, of_hydra))
    keys = [k for k, _ in leaves(composed) if k.startswith("hydra.") == of_hydra]
    parent, _, name = key.rpartition(".")
    if not parent:
        return UserError(key, value, f"no such key; {nearest(key, [*groups, *(k for k in keys if '.' not in k)])}")
    # Plain containers: OmegaConf's `in` overlooks values that are still to be given.
    options_here = {path.stem: OmegaConf.to_container(OmegaConf.load(path)) for path in (CONF / parent).glob("*.yaml")}
    homes = [option for option, values in options_here.items() if isinstance(values, dict) and name in values]
    if homes:
        options = " or ".join(f"{parent}={option}" for option in sorted(homes))
        return UserError(key, value, f"no such key in this {parent}; there is one with {options}")
    siblings = [k for k in keys if k.startswith(f"{parent}.")]
    return UserError(key, value, f"no such key; {nearest(key, siblings or keys)}")


def _is_of_the_users(choice: str) -> bool:
    """Whether an option is none of conf/, but of another folder of configs."""
    group, _, option = choice.partition("=")
    return re.fullmatch(r"[\w./-]+", option) is not None and not (CONF / group / f"{option}.yaml").is_file()


def _groups() -> dict[str, Path]:
    """The folder of each group of options."""
    groups = {str(path.relative_to(CONF)): path for path in CONF.rglob("*") if path.is_dir()}
    del groups[WANDB_SWEEPS]
    return groups
