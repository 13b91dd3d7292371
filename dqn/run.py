"""Runs from their configs to their summaries: new ones, and those that go on.

Runs that differ in traits only train together, as the members of one population; one run is a population of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from dqn import members
from dqn.breeding import Breeder
from dqn.checkpoint import Checkpoints, checkpoints
from dqn.compose import with_values
from dqn.config import Config
from dqn.cores import available_cores
from dqn.errors import EnvironmentRaisedError, TrainingError, UserError
from dqn.experiment import build_trainer, compiled_as
from dqn.faults import disk_errors_explained
from dqn.member import Member, changed_traits
from dqn.observers.base import Watcher
from dqn.provenance import provenance
from dqn.run_folder import RunFolder, empty, remove_if_empty
from dqn.terminal import say
from dqn.trainer import Judge, Trainer
from dqn.training import Training
from dqn.validation import as_checked, validate

Values = dict[str, Any]


def train(
    values: Sequence[Values],
    paths: Sequence[Path],
    watcher: Watcher | None = None,
    judge: Judge | None = None,
    breeder: Breeder | None = None,
) -> list[dict[str, Any]]:
    """Train new runs together, each in its folder; returns their summaries.

    Args:
        values: the runs' configs, which differ in traits only.
        paths: of their folders.
        watcher: shows how all of them are getting on, in place of a progress bar for each.
        judge: says which to prune.
        breeder: says which go on as copies of others.

    Raises:
        UserError: the configs or a folder will not do; nothing has been written.
        TrainingError: training had to stop.
    """
    configs = [validate(Config, one) for one in values]
    values = [as_checked(one, config) for one, config in zip(values, configs, strict=True)]
    folders = [RunFolder(path) for path in paths]
    for folder in folders:
        folder.check_is_new()
    trainer = build_trainer(configs)
    with disk_errors_explained(folders[0]), ExitStack() as locks:
        names = [path.name for path in paths]
        of_all = {**provenance(), "population": names, **trainer.form}
        for folder in folders:
            if not folder.path.exists():
                locks.callback(remove_if_empty, folder.path)
            folder.path.mkdir(parents=True, exist_ok=True)
            locks.enter_context(folder.locked("hydra.run.dir"))
            folder.check_is_new()  # while nobody else can change that
        try:
            for folder, one in zip(folders, values, strict=True):
                folder.create(one, of_all)
            together = _members(
                configs, values, [Checkpoints(f.checkpoints) for f in folders], trainer, watcher is None
            )
        except (UserError, KeyboardInterrupt):  # a logger cannot start; or somebody would not wait until one does
            for path in paths:
                with suppress(OSError):  # W&B's process may still write there
                    empty(path)
            raise
        return Training(trainer, together, watcher, judge, breeder, names, list(range(len(paths)))).execute()


def resume(
    values: Sequence[Values],
    paths: Sequence[Path],
    watcher: Watcher | None = None,
    judge: Judge | None = None,
    breeder: Breeder | None = None,
) -> list[dict[str, Any]]:
    """Go on with the runs in the folders from their last checkpoints, which are of the same step.

    Runs that have none yet begin again. Of runs that were members of a larger population the others' places are kept:
    what is computed for a member depends, in its last bits, on how many there are.

    Args:
        values: the runs' configs, with whatever may change.
        paths: of the runs' folders.
        watcher: see `train`.
        judge: see `train`.
        breeder: see `train`.

    Raises:
        UserError: there is no such run, it is in use, it has no whole checkpoint, or nothing is left to do.
        TrainingError: the checkpoints are not of the same step, or training had to stop.
    """
    values = [as_checked(one, validate(Config, one)) for one in values]
    folders = [RunFolder(path) for path in paths]
    for folder in folders:
        folder.check_is_run("resume")
    with disk_errors_explained(folders[0]), ExitStack() as locks:
        for folder in folders:
            locks.enter_context(folder.locked("resume"))
        has_begun = any(checkpoints(folder.checkpoints) or folder.read_summary() for folder in folders)
        configs, states, saved = (_load if has_begun else _from_the_beginning)(values, folders)
        population, places = _population(states, folders)
        # In the place of one that is gone stands another that goes on: what it computes there is looked at by nobody.
        stand_ins = [places.index(m) if m in places else 0 for m in range(len(population))]
        trainer = build_trainer([configs[i] for i in stand_ins])
        trainer.endings.leave_out([m for m in range(len(population)) if m not in places])
        if states:
            try:
                trainer.load_state_dict(members.join([states[i]["trainer"] for i in stand_ins]))
            except EnvironmentRaisedError as error:
                problem = "as its episodes were played again; the checkpoint is as it was"
                raise TrainingError(f"{folders[0]}: {error}, {problem}") from error
        for state in states:
            del state["trainer"]  # which keeps files of the memory open
        if trainer.is_over and folders[0].is_concluded:
            advice = "to go on, give a larger trainer.total_steps; one that has converged ends where it did"
            raise UserError("resume", folders[0], f"is complete after {trainer.steps:,} steps; {advice}")
        if trainer.gave_up is not None:
            say(f"{folders[0]} goes on with new episodes: {trainer.gave_up}")
        together = _members(configs, values, saved, trainer, watcher is None)
        for member, state in zip(together, states, strict=False):
            member.load_state_dict(state)
        of_all = {**provenance(), **trainer.form}
        for member, one in zip(together, values, strict=True):
            member.folder.note_resume(one, trainer.steps, of_all, trainer.gave_up)
            if watcher is None:
                say(f"resuming {member.folder} at step {trainer.steps:,}")
        seconds = states[0]["seconds"] if states else 0.0
        return Training(trainer, together, watcher, judge, breeder, population, places, seconds).execute()


Loaded = tuple[list[Config], list[dict[str, Any]], list[Checkpoints]]


def _from_the_beginning(values: Sequence[Values], folders: Sequence[RunFolder]) -> Loaded:
    """Of runs that were ended before they had a checkpoint: there are no states."""
    for folder in folders:
        say(f"{folder} has no checkpoint yet: it begins again")
        folder.remove_results()
    return [validate(Config, one) for one in values], [], [Checkpoints(folder.checkpoints) for folder in folders]


def _load(values: Sequence[Values], folders: Sequence[RunFolder]) -> Loaded:
    """Of each run its config, the state of its last whole checkpoint, and its checkpoints.

    Where one of several has a damaged one, all go back to the step of the one before.
    """
    configs, states, saved = [], [], [Checkpoints(folder.checkpoints) for folder in folders]
    with_memory = [bool(one["checkpoint"]["memory"]) for one in values]
    loaded = [of_one.load_last(str(f), memory) for of_one, f, memory in zip(saved, folders, with_memory, strict=True)]
    earliest_step = min(state["trainer"]["steps"] for state, _, _ in loaded)
    for one, folder, of_one, memory, last in zip(values, folders, saved, with_memory, loaded, strict=True):
        state, recordings, damages = last
        if state["trainer"]["steps"] > earliest_step:
            state, recordings, more_damages = of_one.load_last(str(folder), memory, earliest_step)
            damages = [*damages, *more_damages]
        if not memory:
            state["trainer"]["memory"] = {}
        elif state["trainer"]["memory"]:
            state["trainer"]["memory"]["recordings"] = [recordings]
        states.append(state)
        traits = changed_traits(state, one, str(folder))
        configs.append(validate(Config, with_values(one, traits | _rounding(state, one))))
        for damage in damages:
            say(f"{f'{folder}: ' if len(folders) > 1 else ''}{damage}; the one before is used")
    if len({state["trainer"]["steps"] for state in states}) > 1:
        problem = "their whole checkpoints are of different steps, so that they cannot go on together"
        raise TrainingError(f"{', '.join(map(str, folders))}: {problem}; resume=<folder> goes on with one of them")
    return configs, states, saved


def _rounding(state: dict[str, Any], values: Values) -> dict[str, Any]:
    """What the last bits of sums depend on, as it was: threads, if they are there, and whether it was compiled.

    With trainer.compile=auto that follows from how long a run is to be, which may have changed, and from the device.
    """
    population = state["population"]
    as_before: dict[str, Any] = {}
    settings = values["trainer"]
    if settings["compile"] == "auto":
        as_before |= compiled_as(population, settings["device"])
    threads: int = population["threads"]
    if threads <= available_cores():
        return {**as_before, "trainer.threads": threads}
    say(f"trained with {threads} threads before, for which there are too few cores here: the last bits may differ")
    return as_before


def _population(states: Sequence[dict[str, Any]], folders: Sequence[RunFolder]) -> tuple[list[str], list[int]]:
    """The names of the members of the runs' population, and where the runs are in it; of several or none, their own."""
    populations = {tuple(state["population"]["members"]) for state in states}
    if len(populations) != 1:
        return [folder.path.name for folder in folders], list(range(len(folders)))
    return list(populations.pop()), [state["population"]["place"] for state in states]


def _members(
    configs: Sequence[Config],
    values: Sequence[Values],
    saved: Sequence[Checkpoints],
    trainer: Trainer,
    shows_progress: bool,
) -> list[Member]:
    frames_per_step = trainer.parts.environment.spec.frames_per_step
    made: list[Member] = []
    try:
        for config, one, of_one in zip(configs, values, saved, strict=True):
            made.append(Member(config, one, of_one, frames_per_step, shows_progress))
    except BaseException:
        for member in made:
            member.close()
        raise
    return made
