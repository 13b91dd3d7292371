"""One member of a population as a run of its own: its folder, its listeners and what becomes of its network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from dqn.checkpoint import Checkpoints, Recording
from dqn.compose import leaves, with_values
from dqn.conclusion import evaluate_network, export_network, film_network
from dqn.config import Config, is_number
from dqn.errors import UserError, shortened
from dqn.events import End, Evaluation, Event
from dqn.files import strict, write_json
from dqn.interruption import PlayInterruptedError
from dqn.networks.population import member_network
from dqn.observers.base import Observer
from dqn.run_folder import RunFolder
from dqn.sweep.grouping import is_trait
from dqn.terminal import say
from dqn.validation import validate


class Member:
    """A run in its folder, as it would be alone.

    Args:
        config: checked.
        config_values: the same as plain values, as the run began.
        checkpoints: of the run, in its folder, which exists.
        frames_per_step: frames of the environment per agent step.
        shows_progress: whether it has a progress bar of its own.
    """

    def __init__(
        self,
        config: Config,
        config_values: dict[str, Any],
        checkpoints: Checkpoints,
        frames_per_step: int,
        shows_progress: bool,
    ) -> None:
        self.config, self.folder = config, RunFolder(checkpoints.folder.parent)
        self._checkpoints = checkpoints
        self._config_values = config_values
        self._traits: dict[str, Any] = {}  # that are no longer what the run began with, by dotted key
        self.summary: dict[str, Any] | None = None  # when it is over
        self._frames_per_step = frames_per_step
        self._best_evaluation: dict[str, Any] | None = None
        self._observers = make_observers(config, config_values, self.folder, frames_per_step, shows_progress)

    def tell(self, event: Event) -> None:
        """Hand an event to all that listen."""
        if isinstance(event, Evaluation) and event.is_best:
            self._best_evaluation = {"step": event.step, "mean_return": event.mean_return}
        for observer in self._observers:
            observer.on_event(event)

    def change_traits(self, values: Mapping[str, Any]) -> None:
        """Go on with other values of traits, by dotted key; config.yaml tells what the run began with."""
        self._traits |= values
        self.config = validate(Config, with_values(self._config_values, self._traits))

    @property
    def recorded_calls(self) -> int:
        """Up to which step call the last checkpoint has what the memory took in."""
        return self._checkpoints.recorded_calls

    def saves(
        self,
        step: int,
        trainer_state: dict[str, Any],
        population: dict[str, Any],
        seconds: float,
        recordings: Sequence[Recording],
        oldest_call: int,
    ) -> Callable[[], object]:
        """What writes a checkpoint of this member as it is now, and leaves one more than are to be kept, see `prune`.

        Args:
            step: the agent step.
            trainer_state: of the trainer about this member, without its memory's recordings.
            population: the names of its `members`, and this one's `place` among them.
            seconds: of training so far.
            recordings: see `Checkpoints.save`.
            oldest_call: likewise.
        """
        state = {
            "trainer": trainer_state,
            "population": population,
            "observers": {type(o).__name__: o.state_dict() for o in self._observers},
            "best_evaluation": self._best_evaluation,
            "traits": dict(self._traits),
            "seconds": seconds,
        }
        return partial(self._checkpoints.save, step, state, self.config.checkpoint.keep + 1, recordings, oldest_call)

    def prune(self) -> None:
        """Once all have written theirs: before, the oldest may be the last step of which all have one."""
        self._checkpoints.prune(self.config.checkpoint.keep)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a checkpoint's state, but for the trainer's."""
        self._best_evaluation = state["best_evaluation"]
        self.change_traits(changed_traits(state, self._config_values, str(self.folder)))
        for observer in self._observers:
            if type(observer).__name__ in state["observers"]:
                observer.load_state_dict(state["observers"][type(observer).__name__])

    def summarize(self, end: End, record: dict[str, Any]) -> None:
        """Write summary.json of a run that ended so, without an export; `record` is what the trainer knows of it."""
        write_json(self.folder.path / "summary.json", strict(self._summary(end, record)))

    def _summary(self, end: End, record: dict[str, Any]) -> dict[str, Any]:
        return {
            "name": self.config.name,
            "status": end.status,
            "reason": end.reason,
            "seed": self.config.seed,
            "steps": end.step,
            "frames": end.step * self._frames_per_step,
            **record,
            **({"traits": self._traits} if self._traits else {}),
            "final_evaluation": None,
            "best_evaluation": self._best_evaluation,
            "export": None,
            "video": None,
        }

    def conclude(
        self,
        end: End,
        record: dict[str, Any],
        networks: Networks,
        device: torch.device,
        interrupted: Callable[[], bool],
    ) -> None:
        """Export, final evaluation and film of a run that came to its end, and of every run its summary.json.

        One that was interrupted is exported, too, as far as it has come.

        Args:
            end: how it ended.
            record: what the trainer knows of the run, for the summary.
            networks: what it has learned.
            device: where evaluations compute.
            interrupted: whether to break off.
        """
        summary = self._summary(end, record)
        if end.status in ("completed", "converged", "interrupted"):
            network, chosen = networks.chosen(self.config.export.network)
            written = export_network(self.config, network, self.folder.export, chosen)
            summary["export"] = {"files": written["files"], "skipped": written["skipped"]}
            try:
                if end.status != "interrupted":
                    final = evaluate_network(self.config, network, device, interrupted)
                    summary["final_evaluation"] = chosen | final
                    if self.config.evaluation.video:
                        summary["video"] = self._film(network, device, interrupted)
            except PlayInterruptedError:
                summary["status"] = "interrupted"
        write_json(self.folder.path / "summary.json", strict(summary))
        self.summary = summary
        for observer in self._observers:
            observer.on_run_end(summary, self.folder.path)
        self.close()

    def close(self) -> None:
        """End all that listen; called again it does nothing."""
        observers, self._observers = self._observers, []
        for observer in observers:
            observer.close()

    def _film(self, network: nn.Module, device: torch.device, interrupted: Callable[[], bool]) -> list[str] | None:
        """Film the network; a film that cannot be made costs nothing but itself."""
        try:
            return film_network(self.config, network, self.folder.videos, device, interrupted)
        except PlayInterruptedError:
            raise
        except Exception as error:
            say(f"no film: {type(error).__name__}: {error}")
            return None


def changed_traits(state: Mapping[str, Any], values: Mapping[str, Any], run: str) -> dict[str, Any]:
    """The traits in a checkpoint's state that are no longer what config.yaml says, by dotted key.

    A checkpoint may be somebody else's: nothing else of the config is taken from it.

    Args:
        state: of the checkpoint.
        values: what config.yaml says.
        run: how messages call the run.

    Raises:
        UserError: there is something else than numbers for traits.
    """
    changed = state.get("traits", {})
    config, keys = validate(Config, dict(values)), dict(leaves(values))
    is_as_saved = isinstance(changed, dict) and all(
        key in keys and is_trait(config, key) and is_number(value) for key, value in changed.items()
    )
    if not is_as_saved:
        problem = f"values.json changes what is no trait, {shortened(str(changed))}"
        raise UserError("resume", run, f"its last checkpoint is damaged ({problem})")
    return dict(changed)


class Networks:
    """What one member has learned: its last network and its best.

    Args:
        template: the single-member network.
        readout: what makes Q-values of its outputs.
        last: parameters (P,) after `last_step` agent steps.
        best: parameters (P,) of the best evaluation, which was at `best_step`; -1 without any.
    """

    def __init__(
        self, template: nn.Module, readout: nn.Module, last: Tensor, last_step: int, best: Tensor, best_step: int
    ) -> None:
        self._template, self._readout = template, readout
        self._last, self._last_step, self._best, self._best_step = last, last_step, best, best_step

    def chosen(self, which: str) -> tuple[nn.Module, dict[str, Any]]:
        """The best or last network, and which it is; without an evaluation the last is all there is."""
        is_best = which == "best" and self._best_step >= 0
        parameters, step = (self._best, self._best_step) if is_best else (self._last, self._last_step)
        network = member_network(self._template, parameters, self._readout)
        return network, {"network": "best" if is_best else "last", "step": step}


def make_observers(
    config: Config, config_values: dict[str, Any], folder: RunFolder, frames_per_step: int, shows_progress: bool
) -> list[Observer]:
    """Everything that listens to one run."""
    from dqn.observers.metrics_file import MetricsFile

    observers: list[Observer] = [MetricsFile(folder.path, frames_per_step)]
    if shows_progress:
        from dqn.observers.progress import ProgressBar

        title = f"{config.name} seed {config.seed}"
        lengths = config.trainer.total_steps, config.trainer.total_episodes
        observers.append(ProgressBar(*lengths, frames_per_step, title))
    if config.logger.wandb is not None:
        from dqn.observers.wandb import WandbObserver

        name = folder.path.name
        observers.append(WandbObserver(config.logger.wandb, config_values, folder.path, name, frames_per_step))
    if config.logger.tensorboard is not None:
        from dqn.observers.tensorboard import TensorboardObserver

        observers.append(TensorboardObserver(config.logger.tensorboard, folder.path))
    return observers
