"""From a command line to a run: Hydra composes, errors become one line and an exit status."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from dqn.command_line import check_flags, check_output_subdir, check_parts_of_hydra, check_ranges, only_shows, split
from dqn.errors import TrainingError, UserError
from dqn.faults import memory_errors_explained
from dqn.interruption import terminable
from dqn.terminal import printable, say

# Exit statuses beside 0 for success.
_FAILED, _BAD_INPUT, _INTERRUPTED = 1, 2, 130


def run_command(command: Callable[[], int | None]) -> None:
    """Run a script's work and exit: 2 with one line for bad input, 1 for failed work, 130 when interrupted."""
    try:
        with memory_errors_explained():
            status = command() or 0
    except UserError as error:
        say(f"error: {error}")
        status = _BAD_INPUT
    except TrainingError as error:
        say(f"error: {error}")
        status = _FAILED
    except KeyboardInterrupt:
        say("interrupted")
        status = _INTERRUPTED
    sys.exit(status)


def train_command() -> int:
    """Train what Hydra composes from the command line; returns the exit status."""
    import hydra
    from yaml import YAMLError

    from dqn import new_folders
    from dqn.compose import CONF, explain, register_resolvers, with_free_keys
    from dqn.run_folder import final_return
    from dqn.sweep import outcome
    from dqn.trusted import only_trusted_configs

    # Errors come to us as they are; Hydra would print them and exit.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    register_resolvers()
    program, *words = with_free_keys(_with_absolute_config_path(sys.argv))
    flags, overrides = split(words)
    sys.argv = [program, *flags, *overrides]
    _refuse_pickles(sys.argv)
    check_flags(sys.argv[1:])
    check_output_subdir(overrides)
    check_parts_of_hydra(overrides)
    check_ranges(overrides)
    statuses = [0]
    errors: list[Exception] = []

    def job(config: Any) -> float | None:
        try:
            summary = _train_composed(config)
        except Exception as error:
            if (explained := explain(error, overrides)) is None:
                raise
            errors.append(explained)
            raise SystemExit from error  # past Hydra, which would print a trace
        statuses.append({"interrupted": _INTERRUPTED, "diverged": _FAILED}.get(summary["status"], 0))
        if summary["status"] == "interrupted":
            raise SystemExit(_INTERRUPTED)  # of a sweep the remaining jobs too
        return final_return(summary)

    try:
        with only_trusted_configs(sys.argv[1:]), _printable_output(only_shows(flags)):
            hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(job)()
    except SystemExit:
        if not errors:
            raise
        new_folders.take_back()
        raise errors[0] from None
    except KeyboardInterrupt:
        new_folders.take_back()
        if outcome.folder is not None and outcome.folder.exists():
            say(f"to go on with the sweep, the same command with sweep.resume={outcome.folder}")
        raise
    except YAMLError as error:
        new_folders.take_back()
        raise UserError("", "", f"a config file is no YAML: {' '.join(str(error).split())}") from error
    except Exception as error:
        if (explained := explain(error, overrides)) is None:
            raise
        new_folders.take_back()
        raise explained from error
    if outcome.folder is not None:
        statuses.append(_finish_sweep(outcome.folder))
    return max(statuses)


def _finish_sweep(folder: Path) -> int:
    """Say what the runs of a sweep came to; returns the exit status."""
    from dqn.report.sweep import report_sweep

    return _FAILED if report_sweep(folder) else 0


def _train_composed(config: Any) -> dict[str, Any]:
    """One job of Hydra's: a new run, or one to resume."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from dqn.changes import changed
    from dqn.compose import resolve
    from dqn.observers.result_table import print_result_table
    from dqn.run_folder import RunFolder, remove_if_empty
    from dqn.trusted import read_run_config

    hydra_config = HydraConfig.get()
    path = Path(hydra_config.runtime.output_dir)
    folder = RunFolder(path)
    try:
        _check_is_no_sweep(config, hydra_config)
        overrides = list(hydra_config.overrides.task)
        values = resolve(config, overrides)
        with memory_errors_explained(folder):
            from dqn import run  # with torch: only now that the config has composed

            with terminable():  # before there is a run that could save itself, W&B may wait, and gigabytes are loaded
                if values["resume"] is None:
                    (summary,) = run.train([values], [path])
                else:
                    going_on = changed(read_run_config(folder, "resume"), values, overrides, folder)
                    (summary,) = run.resume([going_on], [path])
    except (UserError, TrainingError):
        if hydra_config.mode == RunMode.MULTIRUN:
            remove_if_empty(path)  # which Hydra made for one job of several
        raise
    print_result_table(summary, path)
    return summary


def _check_is_no_sweep(config: Any, hydra_config: Any) -> None:
    """Raise a UserError if a single job is told what only a whole sweep can do."""
    from hydra.types import RunMode
    from omegaconf import OmegaConf

    sweeper = hydra_config.runtime.choices.get("hydra/sweeper") or "basic"
    is_alone = hydra_config.mode == RunMode.RUN
    resumed = OmegaConf.select(config, "sweep.resume")
    if resumed is not None and (is_alone or sweeper == "basic"):  # a search goes on by itself, whoever trains its jobs
        advice = "goes on with a sweep: give -m and hydra/launcher=population; one run goes on with resume=<its folder>"
        raise UserError("sweep.resume", resumed, advice)
    if is_alone and sweeper != "basic":
        raise UserError("hydra/sweeper", sweeper, "searches where -m is given")


@contextmanager
def _printable_output(is_wanted: bool) -> Iterator[None]:
    """If it is wanted, hold back what Hydra prints of other people's configs, and show it as `printable` has it."""
    if not is_wanted:
        yield
        return
    output = StringIO()
    try:
        with redirect_stdout(output):
            yield
    finally:
        print(printable(output.getvalue()), end="", flush=True)


def _refuse_pickles(argv: list[str]) -> None:
    """Raise a UserError for the one flag of Hydra's that reads a pickle, which it also knows by its beginning."""
    flags = [word.partition("=")[0] for word in argv[1:]]
    if any(len(flag) > 2 and "--experimental-rerun".startswith(flag) for flag in flags):
        advice = "--config-path <folder> --config-name config runs a run again"
        raise UserError("", "", f"--experimental-rerun would read a pickle; {advice}")


def _with_absolute_config_path(argv: list[str]) -> list[str]:
    """A config path as seen from where the user is; Hydra would look beside the script."""
    argv = list(argv)
    for i, word in enumerate(argv):
        flag, equals, value = word.partition("=")
        if flag not in ("--config-path", "-cp", "--config-dir", "-cd"):
            continue
        if equals:
            argv[i] = f"{flag}={Path(value).absolute()}"
        elif i + 1 < len(argv):
            argv[i + 1] = str(Path(argv[i + 1]).absolute())
    return argv
