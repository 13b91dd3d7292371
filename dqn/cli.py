"""From a command line to a run: Hydra composes, errors become one line and an exit status."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from dqn.command_line import check_flags, check_output_subdir, check_ranges, split
from dqn.errors import TrainingError, UserError
from dqn.terminal import say

# Exit statuses beside 0 for success.
_FAILED, _BAD_INPUT, _INTERRUPTED = 1, 2, 130
_LENGTHS = ("trainer.total_steps", "trainer.total_episodes")


def run_command(command: Callable[[], int | None]) -> None:
    """Run a script's work and exit: 2 with one line for bad input, 1 for failed work, 130 when interrupted."""
    try:
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

    from dqn import new_folders
    from dqn.compose import CONF, explain, register_resolvers, with_free_keys
    from dqn.sweep import outcome

    # Errors come to us as they are; Hydra would print them and exit.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    register_resolvers()
    program, *words = with_free_keys(_with_absolute_config_path(sys.argv))
    flags, overrides = split(words)
    sys.argv = [program, *flags, *overrides]
    check_flags(sys.argv[1:])
    check_output_subdir(overrides)
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
        final = summary["final_evaluation"]
        return None if final is None else float(final["mean_return"])

    try:
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

    from dqn.compose import resolve
    from dqn.observers.result_table import print_result_table

    hydra_config = HydraConfig.get()
    path = Path(hydra_config.runtime.output_dir)
    try:
        _check_is_no_sweep(config, hydra_config)
        overrides = list(hydra_config.overrides.task)
        values = resolve(config, overrides)
        from dqn import run  # with torch: only now that the config has composed

        if values["resume"] is None:
            (summary,) = run.train([values], [path])
        else:
            (summary,) = run.resume([path], _changes(overrides, values["trainer"]))
    except UserError:
        if hydra_config.mode == RunMode.MULTIRUN:
            _remove_if_empty(path)
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


def _changes(overrides: list[str], trainer: dict[str, Any]) -> dict[str, int | None]:
    """What a resumed run changes: its length and nothing else."""
    changes = {}
    for override in overrides:
        key, _, value = override.partition("=")
        if key == "resume":
            continue
        if key not in _LENGTHS:
            raise UserError(key, value, f"a resumed run keeps its config; only {' and '.join(_LENGTHS)} may be given")
        changes[key] = trainer[key.partition(".")[2]]
    return changes


def _remove_if_empty(path: Path) -> None:
    """Take back the folder that Hydra made for one job of several."""
    with suppress(OSError):
        path.rmdir()


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
