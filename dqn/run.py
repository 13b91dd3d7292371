"""One run from its config to its summary: builds the parts, listens to the loop, concludes."""

from __future__ import annotations

import copy
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from dqn import checkpoint
from dqn.compilation import Compiled
from dqn.conclusion import evaluate_network, export_network, film_network
from dqn.config import Config
from dqn.errors import UserError
from dqn.events import End, Evaluation, Event, Pause
from dqn.experiment import build_trainer
from dqn.files import disk_errors_explained, write_json
from dqn.interruption import PlayInterruptedError, interruptible
from dqn.networks.population import member_network
from dqn.observers.base import Observer
from dqn.provenance import provenance
from dqn.run_folder import RunFolder
from dqn.sections import Stopwatch
from dqn.terminal import say
from dqn.trainer import Trainer
from dqn.validation import validate


def train(config_values: dict[str, Any], path: Path) -> dict[str, Any]:
    """Train a new run in the folder `path`; returns its summary.

    Raises:
        UserError: the config or the folder will not do; nothing has been written.
        TrainingError: training had to stop.
    """
    config = validate(Config, config_values)
    folder = RunFolder(path)
    folder.check_is_new()
    trainer = build_trainer([config])
    with disk_errors_explained(folder):
        folder.create(config_values, provenance())
        try:
            run = Run(config, config_values, folder, trainer)
        except UserError:  # of a logger that cannot start
            shutil.rmtree(path)
            raise
        return run.execute()


def resume(path: Path, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Go on with the run in the folder `path` from its last checkpoint; returns its summary.

    Args:
        path: of the run's folder.
        changes: a new length: trainer.total_steps, trainer.total_episodes or both.

    Raises:
        UserError: there is no such run, it has no whole checkpoint, or nothing is left to do.
        TrainingError: training had to stop.
    """
    folder = RunFolder(path)
    folder.check_is_run("resume")
    values = copy.deepcopy(folder.read_config())
    rate_schedule = values["optimizer"]["learning_rate_schedule"]
    if rate_schedule.get("duration_steps") == values["trainer"]["total_steps"]:  # it spans the run, and still shall
        rate_schedule["duration_steps"] = changes.get("trainer.total_steps", rate_schedule.get("duration_steps"))
    for key, value in changes.items():
        values["trainer"][key.removeprefix("trainer.")] = value
    config = validate(Config, values)
    state, damages = checkpoint.load_last(folder.checkpoints, str(folder))
    trainer = build_trainer([config])
    trainer.load_state_dict(state["trainer"])
    if trainer.is_over and not folder.was_interrupted:
        raise UserError(
            "resume", folder, f"is complete after {trainer.steps:,} steps; to go on, give a larger trainer.total_steps"
        )
    with disk_errors_explained(folder):
        run = Run(config, values, folder, trainer)
        run.load_state_dict(state, damages)
        folder.write_config(values)
        return run.execute()


class Run:
    """One run in its folder.

    Args:
        config: checked.
        config_values: the same as plain values.
        folder: exists.
        trainer: built from the config.
    """

    def __init__(self, config: Config, config_values: dict[str, Any], folder: RunFolder, trainer: Trainer) -> None:
        self._config, self._folder, self._trainer = config, folder, trainer
        self._spec = trainer.parts.environment.spec
        self._best_evaluation: dict[str, Any] | None = None
        self._seconds_before = 0.0
        self._started, self._compiled_before = time.monotonic(), Compiled.seconds
        self._observers = make_observers(config, config_values, folder, self._spec.frames_per_step)

    def load_state_dict(self, state: dict[str, Any], notes: Sequence[str]) -> None:
        """Take over a checkpoint's state; the trainer has taken over its own."""
        self._best_evaluation = state["best_evaluation"]
        self._seconds_before = state["seconds"]
        for observer in self._observers:
            if type(observer).__name__ in state["observers"]:
                observer.load_state_dict(state["observers"][type(observer).__name__])
        for note in notes:
            say(f"{note}; the one before is used")
        say(f"resuming {self._folder} at step {self._trainer.steps:,}")

    def execute(self) -> dict[str, Any]:
        """Train to the end, conclude, and return the summary."""
        end: End | None = None
        try:
            with interruptible(self._trainer):
                for event in self._trainer.run():
                    self._tell(event)
                    if isinstance(event, End):
                        end = event
                assert end is not None
                self._report_profile()
                summary = self._conclude(end)
            for observer in self._observers:
                observer.on_run_end(summary, self._folder.path)
            return summary
        finally:
            self._trainer.close()
            for observer in self._observers:
                observer.close()

    @property
    def _seconds(self) -> float:
        return self._seconds_before + time.monotonic() - self._started

    def _tell(self, event: Event) -> None:
        if isinstance(event, Evaluation) and event.is_best:
            mean = sum(event.returns) / len(event.returns)
            self._best_evaluation = {"step": event.step, "mean_return": mean}
        with self._trainer.sections("log"):
            for observer in self._observers:
                observer.on_event(event)
        if isinstance(event, Pause):
            with self._trainer.sections("checkpoint"):
                self._save_checkpoint()

    def _report_profile(self) -> None:
        """Print where the time went, and write the trace."""
        sections = self._trainer.sections
        if not isinstance(sections, Stopwatch):
            return
        shares = sections.shares()
        total = sum(shares.values())
        say(f"{total:,.1f} s of training, by section:")
        for name, seconds in shares.items():
            per_call = f"{1e6 * seconds / sections.calls[name]:10,.0f} us a call" if name in sections.calls else ""
            say(f"  {name:12} {seconds:9,.2f} s {seconds / total:6.1%}  {per_call}".rstrip())
        path = self._folder.path / "trace.json"
        sections.write_trace(path)
        say(f"{path}: open it in https://ui.perfetto.dev")

    def _save_checkpoint(self) -> None:
        state = {
            "trainer": self._trainer.state_dict(memory=self._config.checkpoint.memory),
            "observers": {type(o).__name__: o.state_dict() for o in self._observers},
            "best_evaluation": self._best_evaluation,
            "seconds": self._seconds,
        }
        checkpoint.save(self._folder.checkpoints, self._trainer.steps, state, self._config.checkpoint.keep)

    def _conclude(self, end: End) -> dict[str, Any]:
        """Final evaluation, film, export and summary.json, as far as the way the run ended allows."""
        trainer = self._trainer
        summary: dict[str, Any] = {
            "name": self._config.name,
            "status": end.status,
            "reason": end.reason,
            "seed": self._config.seed,
            "steps": trainer.steps,
            "episodes": int(trainer.episodes[0]),
            "frames": trainer.steps * self._spec.frames_per_step,
            "updates": int(trainer.updates[0]),
            "seconds": round(self._seconds, 3),
            "compile_seconds": round(Compiled.seconds - self._compiled_before, 3),
            "final_evaluation": None,
            "best_evaluation": self._best_evaluation,
            "export": None,
            "video": None,
        }
        if end.status != "diverged":
            network, chosen = self._chosen_network()
            written = export_network(self._config, network, self._folder.export, chosen)
            summary["export"] = {"files": written["files"], "skipped": written["skipped"]}
            try:
                final = evaluate_network(self._config, network, trainer.device, lambda: trainer.interrupted)
                summary["final_evaluation"] = chosen | final
                if self._config.evaluation.video:
                    summary["video"] = self._film(network)
            except PlayInterruptedError:
                summary["status"] = "interrupted"
        write_json(self._folder.path / "summary.json", summary)
        return summary

    def _film(self, network: nn.Module) -> list[str] | None:
        """Film the network; a film that cannot be made costs nothing but itself."""
        trainer = self._trainer
        try:
            return film_network(self._config, network, self._folder.videos, trainer.device, lambda: trainer.interrupted)
        except UserError as error:
            say(f"no film: {error}")
            return None

    def _chosen_network(self) -> tuple[nn.Module, dict[str, Any]]:
        """The network to export, and which it is; without an evaluation the last is all there is."""
        trainer = self._trainer
        best_step = int(trainer.best_step[0])
        if self._config.export.network == "best" and best_step >= 0:
            return member_network(trainer.parts.learner.template, trainer.best_parameters[0]), {
                "network": "best",
                "step": best_step,
            }
        return member_network(trainer.parts.learner.template, trainer.parts.learner.parameters[0]), {
            "network": "last",
            "step": trainer.steps,
        }


def make_observers(
    config: Config, config_values: dict[str, Any], folder: RunFolder, frames_per_step: int
) -> list[Observer]:
    """Everything that listens to a run."""
    from dqn.observers.metrics_file import MetricsFile
    from dqn.observers.progress import ProgressBar

    title = f"{config.name} seed {config.seed}"
    observers: list[Observer] = [
        MetricsFile(folder.path, frames_per_step),
        ProgressBar(config.trainer.total_steps, config.trainer.total_episodes, frames_per_step, title),
    ]
    if config.logger.wandb is not None:
        from dqn.observers.wandb import WandbObserver

        name = folder.path.name
        observers.append(WandbObserver(config.logger.wandb, config_values, folder.path, name, frames_per_step))
    if config.logger.tensorboard is not None:
        from dqn.observers.tensorboard import TensorboardObserver

        observers.append(TensorboardObserver(config.logger.tensorboard, folder.path))
    return observers
