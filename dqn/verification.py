"""Whether a run does the same again: what scripts/verify.py does.

The run is made once more from its config, in memory, and what happens is compared with what metrics.jsonl says and with
the checkpoints that are still there, number by number.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as checked_dataclass
from torch import Tensor

from dqn import members
from dqn.checkpoint import checkpoints, load_state, step_of
from dqn.compose import leaves, with_values
from dqn.config import Config
from dqn.cores import available_cores
from dqn.errors import UserError
from dqn.events import End, Episode, Event, Pause
from dqn.experiment import build_trainer, compiled_as
from dqn.interruption import interruptible
from dqn.observers.metrics_file import OF_THE_CLOCK, record_of
from dqn.observers.progress import ProgressBar
from dqn.options import MODULES, RUN
from dqn.provenance import provenance
from dqn.run_folder import RunFolder
from dqn.sweep.grouping import is_trait
from dqn.sweep.lineage import read_lineage
from dqn.terminal import one_line, say
from dqn.trainer import Trainer
from dqn.trusted import read_run_config
from dqn.validation import validate

_WITHOUT_TRACE = ("checkpoint", "export", "logger")  # groups of keys
_WITHOUT_EVALUATIONS = {
    "evaluation.every_steps": None,
    "evaluation.stop": {"mean_return": None, "evaluations": 1, "optimal": False, "max_value_change": None},
}
_OF_TRAINING = ("steps", "updates", "learner", "episodes", "observations", "environment")


@checked_dataclass(config=ConfigDict(extra="forbid"), frozen=True)
class VerifyOptions:
    """What scripts/verify.py can be asked."""

    run: Annotated[str, RUN]
    steps: Annotated[int | None, Field(ge=1, description="only so many agent steps; null: the whole run")] = None
    modules: Annotated[tuple[str, ...], MODULES] = ()


@dataclass(frozen=True)
class Difference:
    """Where a run first differs from what it was: the agent step, the quantity and both values."""

    step: int
    quantity: str
    then: Any
    now: Any

    def __str__(self) -> str:
        return f"at step {self.step:,}: {self.quantity} was {self.then}, now it is {self.now}"


def verify_run(options: VerifyOptions) -> int:
    """Make a run again and say whether it is the same; returns the exit status, 1 if it is not.

    A member of a stack is made again among the others, as long as their folders are there.

    Raises:
        UserError: there is no such run, or nothing to compare with.
    """
    folder = RunFolder(Path(options.run))
    folder.check_is_run("run")
    try:
        records = _records(folder.path / "metrics.jsonl")
    except (OSError, ValueError) as error:
        raise UserError("run", folder, f"its metrics.jsonl cannot be read ({error})") from error
    if not records:
        raise UserError("run", folder, "has recorded nothing yet that could be compared")
    was = _provenance(folder)
    steps, note = _reproducible_steps(folder, was, options.steps or records[-1]["step"])
    if note:
        say(f"note: {note}")
    changed = _changes_in_records(was)
    if changed:
        say(f"note: {', '.join(changed)} changed as the run was resumed; only episodes and learning are compared")
        records = [record for record in records if record["kind"] == "episode"]
    records = [record for record in records if record["step"] <= steps]
    if not records:
        raise UserError("run", folder, f"has recorded nothing up to step {steps:,} that could be compared")
    configs, place = _configs(folder, was, options.modules, bool(changed))
    trainer = build_trainer(configs)
    verification = _Verification(trainer, place, folder, records, steps, only_training=bool(changed))
    try:
        with interruptible(trainer):
            difference = verification.run()
    finally:
        trainer.close()
    for line in _other_circumstances(was):
        say(f"note: {line}")
    if difference is None:
        print(one_line(f"{folder} reproduces: {verification.summary}"))
        return 0
    print(one_line(f"{folder} does not reproduce: it first differs {difference}"))
    return 1


class _Verification:
    """A run that is made again beside its records."""

    def __init__(
        self,
        trainer: Trainer,
        place: int,
        folder: RunFolder,
        records: Sequence[dict[str, Any]],
        steps: int,
        only_training: bool,
    ) -> None:
        self._trainer, self._place, self._steps, self._only_training = trainer, place, steps, only_training
        self._frames_per_step = trainer.parts.environment.spec.frames_per_step
        self._records = records
        self._compared = self._last_step = 0
        saved = {step_of(place): place for place in checkpoints(folder.checkpoints)}
        self._saved = {step: place for step, place in saved.items() if step <= steps}
        self._compared_checkpoints: list[int] = []
        self._progress = ProgressBar(steps, None, self._frames_per_step, f"verifying {folder}")

    @property
    def summary(self) -> str:
        """What was the same."""
        count = len(self._compared_checkpoints)
        of_checkpoints = f" and {count} checkpoint{'s' if count > 1 else ''}" if count else ""
        of_records = f"{self._compared:,} record{'s' if self._compared > 1 else ''}"
        return f"{of_records}{of_checkpoints} up to step {self._last_step:,} are the same"

    def run(self) -> Difference | None:
        """The first difference, if there is one."""
        try:
            for event in self._trainer.run():
                difference = self._difference(event)
                if difference is not None or self._is_done:
                    break
            else:
                difference = None
                if not self._is_done:
                    say("note: what follows was trained in a smaller stack, which is not made again")
            missed = [self._saved[step].name for step in self._saved if step not in self._compared_checkpoints]
            if difference is None and missed:
                say(f"note: not compared: {', '.join(missed)}, which lie at no regular stop")
            return difference
        finally:
            self._progress.close()

    @property
    def _is_done(self) -> bool:
        """Whether all records are compared, and the last checkpoint is or cannot be any more."""
        last = max(self._saved, default=0)
        was_last = last in (0, *self._compared_checkpoints) or self._trainer.steps > last
        return self._compared == len(self._records) and was_last

    def _difference(self, event: Event) -> Difference | None:
        if isinstance(event, Pause):
            return self._from_checkpoint(event.step)
        if event.member != self._place or (self._only_training and not isinstance(event, (Episode, End))):
            return None
        self._progress.on_event(event)
        if self._compared == len(self._records):
            return None
        then = self._records[self._compared]
        now = json.loads(json.dumps(record_of(event, self._frames_per_step)))
        if isinstance(event, End) and event.status == "interrupted":
            raise KeyboardInterrupt  # this time, not then
        if isinstance(event, End) and self._only_training:
            return Difference(event.step, "the next record", then["kind"], now["kind"])
        if then["kind"] == "end" and then.get("status") in ("interrupted", "pruned"):
            self._compared += 1  # by somebody who is not here
            return None
        if then["kind"] != now["kind"]:
            return Difference(min(event.step, then["step"]), "the next record", then["kind"], now["kind"])
        for name in dict.fromkeys([*now, *then]):
            if name not in OF_THE_CLOCK and then.get(name) != now.get(name):
                quantity = f"{then['kind']} {name}"
                return Difference(min(event.step, then["step"]), quantity, then.get(name), now.get(name))
        self._compared += 1
        self._last_step = event.step
        return None

    def _from_checkpoint(self, step: int) -> Difference | None:
        place = self._saved.get(step)
        if place is None:
            return None
        then = load_state(place)["trainer"]
        now = members.select(self._trainer.state_dict(memory=False), [self._place])
        if self._only_training:
            then, now = ({name: state[name] for name in _OF_TRAINING} for state in (then, now))
        for name, one, other in _leaves(then, now, ""):
            is_same = torch.equal(one, other) if isinstance(one, Tensor) and isinstance(other, Tensor) else one == other
            if not is_same:
                return Difference(step, f"{name} in {place.name}", _shown(one, other), _shown(other, one))
        self._compared_checkpoints.append(step)
        return None


def _reproducible_steps(folder: RunFolder, was: Mapping[str, Any], steps: int) -> tuple[int, str]:
    """How many of so many agent steps can be made again, and why not all."""
    limits = [(steps, "")]
    bred_step = _first_replacement(folder)
    if bred_step is not None:
        limits.append((bred_step - 1, f"members were replaced from step {bred_step:,} on, which is not made again"))
    for resumed in was.get("resumed", []):
        if resumed.get("new_episodes"):
            problem = f"new episodes began at step {resumed['step']:,}, as the run was resumed: not made again"
            limits.append((resumed["step"], f"{problem} ({resumed['new_episodes']})"))
    return min(limits)


def _first_replacement(folder: RunFolder) -> int | None:
    """The step from which members of population-based training go on as copies of others."""
    try:
        births = read_lineage(folder.path.absolute().parent)
    except (OSError, ValueError, TypeError):  # it was none
        return None
    return min((birth.step for birth in births if birth.parent is not None), default=None)


def _changes_in_records(was: Mapping[str, Any]) -> list[str]:
    """The keys that changed as the run was resumed and on which it depends what is recorded."""
    changed = {key for resumed in was.get("resumed", []) for key in resumed.get("config", {})}
    return sorted(key for key in changed if key != "trainer.profile" and not key.startswith(_WITHOUT_TRACE))


def _records(path: Path) -> list[dict[str, Any]]:
    """The file's records; a last line that was cut off, by a kill or a full disk, is left out.

    Raises:
        ValueError: a line is none; says which.
    """
    *lines, _ = path.read_bytes().split(b"\n")
    return [_record(line, number) for number, line in enumerate(lines, start=1)]


def _record(line: bytes, number: int) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        record = None
    is_one = isinstance(record, dict) and isinstance(record.get("kind"), str) and type(record.get("step")) is int
    if not is_one:
        raise ValueError(f"line {number} is no record with a kind and a step")
    return dict(record)


def _provenance(folder: RunFolder) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads((folder.path / "provenance.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record


def _configs(
    folder: RunFolder, was: Mapping[str, Any], modules: Sequence[str], only_training: bool
) -> tuple[list[Config], int]:
    """The configs of the run's population, and its place there."""
    names: list[str] = was.get("population", [folder.path.name])
    folders = [RunFolder(folder.path.absolute().parent / name) for name in names]
    if len(names) > 1 and not all((one.path / "config.yaml").is_file() for one in folders):
        problem = "whose other runs are not beside it: alone, its last bits may differ"
        say(f"{folder} was trained in a stack of {len(names)}, {problem}")
        names, folders = [folder.path.name], [folder]
    threads = was.get("threads", available_cores())
    as_then: dict[str, Any] = {"trainer.threads": threads} if threads <= available_cores() else {}
    if only_training:
        as_then |= _WITHOUT_EVALUATIONS
    own = read_run_config(folder, "run", modules)
    began = was
    for resumed in was.get("resumed", []):
        began = {**began, **resumed} if resumed["step"] == 0 else began  # it began again
    if "compiled" in began:
        as_then |= compiled_as(began, own["trainer"]["device"])
    values = [with_values(own, _traits(read_run_config(one, "run", modules), own) | as_then) for one in folders]
    configs = [validate(Config, one) for one in values]
    return configs, names.index(folder.path.name) if folder.path.name in names else 0


def _traits(of_other: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """What another member has otherwise, but for what may change on resume, and may have for it alone."""
    config, mine = validate(Config, dict(own)), dict(leaves(own))
    return {key: value for key, value in leaves(of_other) if is_trait(config, key) and value != mine.get(key)}


def _leaves(one: Any, other: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    """The values of two states side by side, each under its path; what one of them lacks is None there."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in [*one, *(key for key in other if key not in one)]:
            if key != "memory":  # it follows from what else is compared
                yield from _leaves(one.get(key), other.get(key), f"{path}/{key}" if path else key)
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for index, pair in enumerate(zip(one, other, strict=True)):
            yield from _leaves(*pair, f"{path}/{index}")
    else:
        yield path, one, other


def _shown(value: Any, other: Any) -> Any:
    """A value, or of a tensor the first entry in which it differs from another."""
    if not (isinstance(value, Tensor) and isinstance(other, Tensor) and value.shape == other.shape):
        return list(value.shape) if isinstance(value, Tensor) else value
    return value[value != other].flatten()[0].item()


def _other_circumstances(was: Mapping[str, Any]) -> Iterator[str]:
    """What about the machine and the software is otherwise than it was."""
    now = provenance()
    for name in ("python", "threads"):
        if name in was and was[name] != now[name]:
            yield f"{name} was {was[name]}, now it is {now[name]}"
    for name in ("platform", "processor", "gpus"):
        then = was.get("hardware", {}).get(name)
        if then is not None and then != now["hardware"][name]:
            yield f"{name} was {then}, now it is {now['hardware'][name]}"
    packages = was.get("packages", {})
    changed = [name for name in packages if packages[name] != now["packages"].get(name)]
    if changed:
        yield "other versions: " + ", ".join(f"{n} {packages[n]} -> {now['packages'].get(n)}" for n in changed)
    if was.get("git") and now["git"] and any(was["git"].get(name) != now["git"][name] for name in ("commit", "diff")):
        yield f"the code was {was['git']['commit'][:12]}, now it is {now['git']['commit'][:12]} or was changed since"
