"""An Optuna study in its storage: made, found again, written to and judged."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.exceptions import DuplicatedStudyError
from optuna.storages import BaseStorage, RDBStorage
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from dqn.compose import leaves
from dqn.errors import UserError
from dqn.sweep.config import PrunerConfig
from dqn.sweep.sampler import make_pruner
from dqn.sweep.score import Direction
from dqn.validation import yaml_text

MEMORY = "dqn_sweep"  # the study's attribute with all that may not change while it goes on
_LOCK_SECONDS = 60  # how long SQLite waits for another process


@dataclass(frozen=True)
class StudyAddress:
    """Where a study is: the storage's URL and the study's name in it."""

    url: str
    name: str

    @property
    def shown(self) -> str:
        """The URL without a password."""
        try:
            return make_url(self.url).render_as_string(hide_password=True)
        except SQLAlchemyError:
            return self.url

    def connect(self) -> BaseStorage:
        """The storage.

        Raises:
            UserError: it cannot be reached.
        """
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        try:
            is_sqlite = make_url(self.url).get_backend_name() == "sqlite"
            options = {"connect_args": {"timeout": _LOCK_SECONDS}} if is_sqlite else {}
            return RDBStorage(self.url, engine_kwargs=options)
        except (SQLAlchemyError, ImportError) as error:
            cause = str(error).splitlines()[0]
            raise UserError("hydra.sweeper.storage", self.shown, f"cannot be opened: {cause}") from error


def create_study(address: StudyAddress, directions: Sequence[Direction], memory: Mapping[str, Any]) -> None:
    """Make a new study that remembers its search space, and whatever else may not change.

    Raises:
        UserError: the storage cannot be reached, or has a study of this name.
    """
    try:
        study = optuna.create_study(storage=address.connect(), study_name=address.name, directions=list(directions))
    except DuplicatedStudyError as error:
        advice = "the storage has this study; sweep.resume=<its folder> goes on with it, another name starts one"
        raise UserError("hydra.sweeper.study_name", address.name, advice) from error
    study.set_user_attr(MEMORY, memory)


def delete_study(address: StudyAddress) -> None:
    """Remove a study from its storage."""
    optuna.delete_study(study_name=address.name, storage=address.connect())


class OpenStudy:
    """A connection to a study that exists.

    Args:
        address: of the study.
        pruner: which one, and its settings.
        max_steps: of a whole run, which hyperband needs.

    Raises:
        UserError: there is no such study.
    """

    def __init__(self, address: StudyAddress, pruner: PrunerConfig, max_steps: int | None) -> None:
        self.storage = address.connect()
        try:
            self.study = optuna.load_study(
                study_name=address.name, storage=self.storage, pruner=make_pruner(pruner, max_steps)
            )
        except KeyError as error:
            problem = f"{address.shown} has no study of this name"
            raise UserError("hydra.sweeper.study_name", address.name, problem) from error
        self._id = self.storage.get_study_id_from_name(address.name)
        self._trial_ids: dict[int, int] = {}  # in the storage, by number

    def check_memory(self, memory: Mapping[str, Any]) -> None:
        """Raise a UserError for the first value that is no longer what it was when the study was made."""
        before = dict(leaves(self.study.user_attrs.get(MEMORY, {})))
        now = dict(leaves(json.loads(json.dumps(memory))))
        for key in [*now, *before]:
            if now.get(key) != before.get(key):
                was = yaml_text(before[key]) if key in before else "nothing"
                advice = f"was {was} when the sweep began; it may have more hydra.sweeper.trials, but no other settings"
                raise UserError(key, yaml_text(now[key]) if key in now else "nothing", advice)

    def trial(self, number: int) -> optuna.Trial:
        """A running trial, to suggest what it still lacks; `ask` makes its trials in the same way."""
        return optuna.Trial(self.study, self._trial_id(number))

    def report(self, number: int, step: int, value: float) -> None:
        """Tell a trial's value at a step; a trial that is run again tells anew."""
        self.storage.set_trial_intermediate_value(self._trial_id(number), step, value)

    def should_prune(self, number: int, step: int) -> bool:
        """Whether the pruner gives the trial up at this step.

        It looks at the last step that was ever told. Of a trial that has gone back to a checkpoint that may be a later
        one, and nothing is decided before it has got there again.
        """
        trial = self.storage.get_trial(self._trial_id(number))
        return trial.last_step == step and self.study.pruner.prune(self.study, trial)

    def _trial_id(self, number: int) -> int:
        if number not in self._trial_ids:
            self._trial_ids[number] = self.storage.get_trial_id_from_study_id_trial_number(self._id, number)
        return self._trial_ids[number]
