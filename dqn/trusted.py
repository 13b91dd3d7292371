"""What a config may say that comes from a file, which may be somebody else's: values, and no more.

Hydra makes objects of whatever class a config names, configures logging as it says, and writes where it says. So what
stands in files is checked as soon as it is composed, before any of that. What stands on the command line is the user's
own word, but for the names of classes: these are the project's own, or lie in modules that the user lists there.
"""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from dqn.errors import UserError, first_line

if TYPE_CHECKING:
    from dqn.run_folder import RunFolder

MODULES = "modules"
LOSS = "algorithm.loss._target_"

_CORE = "hydra._internal.core_plugins"
_REGISTERED = frozenset(
    {
        *(
            f"hydra_plugins.dqn_sweeps.{name}"
            for name in ("PopulationLauncher", "OptunaSweeper", "PBTSweeper", "NewFolders")
        ),
        f"{_CORE}.basic_launcher.BasicLauncher",
        f"{_CORE}.basic_sweeper.BasicSweeper",
        *(f"hydra.experimental.callbacks.{name}" for name in ("LogJobReturnCallback", "PickleJobInfoCallback")),
    }
)
_SUBFOLDER = "hydra.sweep.subdir"
_LOGGING = ("hydra.job_logging", "hydra.hydra_logging")
_LOGGING_CLASSES = frozenset(
    {
        *(f"logging.{name}" for name in ("StreamHandler", "FileHandler", "NullHandler", "Formatter")),
        *(f"logging.handlers.{name}" for name in ("RotatingFileHandler", "TimedRotatingFileHandler")),
        "colorlog.ColoredFormatter",
        "colorlog.StreamHandler",
    }
)
_STREAMS = ("ext://sys.stdout", "ext://sys.stderr")
_PATHS = ("hydra.run.dir", "hydra.sweep.dir", _SUBFOLDER)
_LOG_FOLDER = "${hydra.runtime.output_dir}/"
# What may stand in a file, as text; anything else has to be given on the command line: other runs to go on with, other
# files to read, environment variables, clusters and databases to talk to, further places to write.
_COMMAND_LINE_ONLY: dict[str, tuple[Any, ...]] = {
    MODULES: ([],),
    "resume": (None,),
    "sweep.resume": (None,),
    "hydra.searchpath": ([],),
    "hydra.output_subdir": (None, ".hydra"),
    "hydra.job.env_set": ({},),
    "hydra.job.env_copy": ([],),
    "hydra.sweeper.storage": (None,),
    "hydra.launcher.executor.address": (None,),
    "hydra.launcher.executor.folder": ("${hydra.sweep.dir}/jobs",),
    "hydra.launcher.executor.partition": (None,),
    "hydra.launcher.executor.parameters": ({},),
}
# A value of the config, or a resolver that can neither read what is outside of the config nor make new parts of it.
_INTERPOLATION = re.compile(r"\$\{(?:(?:now|run_folder|hydra|python_version):|[\w.]+\})")
_KEY = re.compile(r"\$\{(hydra:)?(\w[\w.]*)\}")
_RUN_FOLDER = re.compile(r"\$\{run_folder:\$\{(?:sweep\.)?resume\},(.*)\}")
_NOW = re.compile(r"\$\{now:([^{}]*)\}")


class CommandLine:
    """The words of a command line that set something.

    Args:
        words: all of them.

    Raises:
        UserError: the modules in them are no names.
    """

    def __init__(self, words: Sequence[str]) -> None:
        parts = [word.lstrip("+~").partition("=") for word in words if "=" in word and not word.startswith("-")]
        self._words = [(key.replace("/", "."), text) for key, _, text in parts]
        self.modules = [name for key, text in self._words if key == MODULES for name in _names(text)]

    def gives(self, key: str) -> bool:
        """Whether it sets this key, by itself or as one of a group in braces."""
        name = key.rpartition(".")[2]
        return any(key == given or (key.startswith(f"{given}.") and f"{name}:" in text) for given, text in self._words)

    def says(self, text: str) -> bool:
        """Whether this text stands in one of its values."""
        return any(text in given for _, given in self._words)

    def allows(self, module: str) -> bool:
        """Whether the user lists this module, or a package that it is in."""
        return _lies_in(module, self.modules)


def _names(text: str) -> list[str]:
    names = [name.strip() for name in re.sub(r"^\[(.*)\]$", r"\1", text).split(",")]
    if not all(part.isidentifier() for name in names for part in name.split(".")):
        raise UserError(MODULES, text, "must be names of modules, e.g. modules=[my_package]")
    return names


def _lies_in(module: str, packages: Iterable[str]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


_command_line = CommandLine([])  # of this process


@contextmanager
def only_trusted_configs(words: Sequence[str]) -> Iterator[None]:
    """Within it, Hydra composes no config that `check_composed` refuses, and does not see the word `modules=...`.

    Args:
        words: of the command line.

    Raises:
        UserError: the modules in them are no names.
    """
    global _command_line
    command_line, before, load = CommandLine(words), _command_line, ConfigLoaderImpl.load_configuration

    def load_checked(
        self: ConfigLoaderImpl, config_name: str | None, overrides: list[str], *rest: Any, **named: Any
    ) -> DictConfig:
        _check_searchpath(self, config_name, command_line)
        overrides = [word for word in overrides if word.lstrip("+~").partition("=")[0] != MODULES]
        config = load(self, config_name, overrides, *rest, **named)
        check_composed(config, command_line)
        return config

    _command_line = command_line
    ConfigLoaderImpl.load_configuration = load_checked  # type: ignore[method-assign]  # Hydra has no other way in
    try:
        yield
    finally:
        ConfigLoaderImpl.load_configuration = load  # type: ignore[method-assign]
        _command_line = before


def _check_searchpath(loader: ConfigLoaderImpl, config_name: str | None, command_line: CommandLine) -> None:
    """Before anything else: Hydra imports the packages of a searchpath while it composes."""
    from dqn.compose import CONF

    is_ours = any(source.provider == "main" and source.path == str(CONF) for source in loader.get_sources())
    if config_name is None or (is_ours and config_name == "config"):  # a tenth of what it takes to compose all
        return
    primary = loader.repository.load_config(config_name)
    if primary is not None:
        _check_command_line_only("hydra.searchpath", _plain(primary.config), command_line)


def check_composed(config: DictConfig, command_line: CommandLine) -> None:
    """Raise a UserError if a composed config, Hydra's own part included, does more than give values.

    Args:
        config: as Hydra has composed it, interpolations as they are written.
        command_line: what counts as the user's own word.
    """
    plain = _plain(config)
    for key, value in _leaves(plain, ""):
        if key.rpartition(".")[2] == "_target_":
            _check_target(key, str(value), command_line)
        if isinstance(value, str) and "$" in value:
            _check_interpolation(key, value, command_line)
    for key in _COMMAND_LINE_ONLY:
        _check_command_line_only(key, plain, command_line)
    for section in _LOGGING:
        for key, value in _leaves(_at(plain, section), section):
            if isinstance(value, str) and not command_line.gives(key):
                _check_logging(key, value, config)
    for key in _PATHS:
        path = _at(plain, key)
        if isinstance(path, str):
            is_the_users = command_line.gives(key) and key != _SUBFOLDER
            _check_path(key, path, config, is_the_users)


def read_run_config(folder: RunFolder, key: str, modules: Iterable[str] = ()) -> dict[str, Any]:
    """The config of a run in its folder, plain, that `check_run` does not refuse.

    Args:
        folder: of the run.
        key: what the user has named it by.
        modules: as for `check_run`.

    Raises:
        UserError: there is no run, its config cannot be read, or it imports what the user has not named.
    """
    folder.check_is_run(key)
    try:
        values = folder.read_config()
    except (YAMLError, OmegaConfBaseException, OSError, UnicodeDecodeError, AssertionError) as error:
        reason = " ".join(str(error).split()) or "it holds no settings"
        raise UserError(key, folder, f"config.yaml cannot be read: {reason}") from error
    check_run(values, modules)
    return values


def check_run(values: Mapping[str, Any], modules: Iterable[str] = ()) -> None:
    """Raise a UserError if a run's environment or loss lies in a module that the user has not named.

    Args:
        values: the run's config, plain and resolved.
        modules: that may be imported, beside those that the command line names.
    """
    for key, env_id in _imports(values):
        module = env_id.partition(":")[0]
        if not (_command_line.says(env_id) or _command_line.allows(module) or _lies_in(module, modules)):
            raise UserError(key, env_id, f"imports {module}; if you trust that, give modules=[{module}]")
    loss = _at(values, LOSS)
    if loss is not None:
        module = str(loss).rpartition(".")[0]
        if not (_command_line.allows(module) or _lies_in(module, modules)):
            raise _foreign_class(LOSS, str(loss))


def modules_of(values: Mapping[str, Any]) -> set[str]:
    """The modules that a run's environments and its loss lie in."""
    loss = _at(values, LOSS)
    of_loss = set() if loss is None else {str(loss).rpartition(".")[0]}
    return of_loss | {env_id.partition(":")[0] for _, env_id in _imports(values)}


def own_class(key: str, name: str) -> type:
    """The class of a config that `check_run` has let pass.

    Raises:
        UserError: there is no such class, or it is not of the package by which it is named.
    """
    return _find_class(key, name, [name.partition(".")[0]])


def _imports(values: Any) -> Iterator[tuple[str, str]]:
    """The ids of environments that say what to import first, as Gymnasium reads them: module:id."""
    for key in ("env.id", "evaluation.env.id"):
        env_id = _at(values, key)
        if isinstance(env_id, str) and ":" in env_id:
            yield key, env_id


def _plain(config: Any) -> Any:
    return OmegaConf.to_container(config, resolve=False)


def _at(plain: Any, key: str) -> Any:
    """What is written at a dotted key; None where nothing is.

    Raises:
        UserError: the groups that it is in are put in from elsewhere.
    """
    *groups, _ = names = key.split(".")
    for depth, name in enumerate(names):
        if not isinstance(plain, dict):
            if isinstance(plain, str) and "${" in plain:
                raise UserError(".".join(groups[:depth]), plain, "must be written out")
            return None
        plain = plain.get(name)
    return plain


def _leaves(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Every value with its dotted key."""
    if isinstance(node, (dict, list)) and node:
        for name, entry in node.items() if isinstance(node, dict) else enumerate(node):
            yield from _leaves(entry, f"{path}.{name}" if path else str(name))
    else:
        yield path, node


def _check_target(key: str, name: str, command_line: CommandLine) -> None:
    """Whether a class is registered, of a plug-in that the command line chooses, or of a module that it lists."""
    parent = key.rpartition(".")[0]
    is_chosen = parent in ("hydra.launcher", "hydra.sweeper") and command_line.gives(parent)
    if name in _REGISTERED or (is_chosen and name.startswith("hydra_plugins.")):
        return
    if not command_line.allows(name.rpartition(".")[0]):
        raise _foreign_class(key, name)
    _find_class(key, name, command_line.modules)


def _foreign_class(key: str, name: str) -> UserError:
    module = name.rpartition(".")[0]
    return UserError(key, name, f"is no class of this project; if you trust it, give modules=[{module or '...'}]")


def _find_class(key: str, name: str, packages: Sequence[str]) -> type:
    try:
        found = pkgutil.resolve_name(name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(key, name, f"cannot be imported: {first_line(error)}") from error
    except Exception as error:  # of the module's own code
        raise UserError(key, name, f"cannot be imported: {type(error).__name__}: {first_line(error)}") from error
    if not isinstance(found, type) or not _lies_in(found.__module__, packages):
        raise UserError(key, name, f"is no class that {', '.join(packages)} defines")
    return found


def _check_interpolation(key: str, text: str, command_line: CommandLine) -> None:
    """Whether a text refers to nothing but other values, or is the user's own."""
    if key == "hydra.job.override_dirname":  # Hydra's own, of words
        return
    if key.startswith("hydra.overrides."):  # whole words, also from a file
        text = text.partition("=")[2]
    rest = _INTERPOLATION.sub("", text)
    # Before a letter it is for Hydra's templates; any other might meet its brace only when values are put together.
    if re.search(r"\$(?![A-Za-z])", rest) and not command_line.says(text):
        raise UserError(key, text, "a file may put in other values, as ${key}, and the time, as ${now:...}, only")


def _check_command_line_only(key: str, plain: Any, command_line: CommandLine) -> None:
    value = _at(plain, key)
    if value is None or value in _COMMAND_LINE_ONLY[key]:
        return
    copied = _at(plain, "hydra.job.env_copy") or []  # Hydra sets those
    for leaf, one in _leaves(value, key):
        of_list = re.sub(r"(\.\d+)+$", "", leaf)
        if not command_line.gives(of_list) and leaf.rpartition(".")[2] not in copied:
            raise UserError(leaf, one, "comes from a file, but counts only on the command line")


def _check_logging(key: str, value: str, config: DictConfig) -> None:
    name = key.rpartition(".")[2]
    if name in ("()", "class") and value not in _LOGGING_CLASSES:
        raise UserError(key, value, "is no class that logs to the terminal or to a file of the run")
    if name == "filename":
        if not value.startswith(_LOG_FOLDER):
            raise UserError(key, value, f"must be in the run's folder, {_LOG_FOLDER}..., or be on the command line")
        _check_path(key, value.removeprefix(_LOG_FOLDER), config, is_the_users=False)
    elif "${" in value:
        raise UserError(key, value, "must be written out")
    elif "://" in value and value not in _STREAMS:
        raise UserError(key, value, f"must be {' or '.join(_STREAMS)}")


def _check_path(key: str, path: str, config: DictConfig, is_the_users: bool) -> None:
    """Whether a path leads down from where it begins; one of the user's own may begin anywhere."""
    for of_hydra, name in _KEY.findall(path):
        name = f"hydra.{name}" if of_hydra else name
        if name not in ("resume", "sweep.resume"):  # these count only on the command line
            _check_part(name, config, key)
    if is_the_users:
        return
    written, path = path, _NOW.sub(lambda now: re.sub("%.", "x", now[1]), _RUN_FOLDER.sub(r"\1", path))
    literal = _KEY.sub("", path)  # where dots may stand at both sides of what is put in
    if path.startswith("/") or _climbs(literal) or any(character in literal for character in "$'\"\\"):
        where = "the sweep's folder" if key == _SUBFOLDER else "the folder that you are in, or be on the command line"
        raise UserError(key, written, f"must be inside {where}")


def _check_part(name: str, config: DictConfig, path_key: str) -> None:
    """Whether a value that is put into a path stays there; one that is not known yet is checked with its job."""
    try:
        value = str(OmegaConf.select(config, name, throw_on_missing=False))
    except (OmegaConfBaseException, ValueError):
        return
    if not value or value.startswith("/") or _climbs(value):
        raise UserError(name, value, f"is a part of {path_key}, and must not lead out of that folder")


def _climbs(path: str) -> bool:
    """Whether a part of it is nothing but dots."""
    return any(part and not part.strip(".") for part in path.split("/"))
