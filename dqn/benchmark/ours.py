"""Our side of a workload: `python -m dqn.benchmark.ours REQUEST` prints a measurement."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from dqn.benchmark.measurement import Measurement, counted
from dqn.benchmark.processes import answer, wait_for_the_others
from dqn.benchmark.workloads import BREAKOUT, Workload, find
from dqn.compilation import Compiled
from dqn.compose import compose_config
from dqn.config import Config
from dqn.errors import TrainingError
from dqn.events import End, Learning, Pause
from dqn.experiment import build_trainer
from dqn.observers.metrics_file import MetricsFile
from dqn.sections import Stopwatch
from dqn.validation import validate


def run(request: dict[str, Any], at_the_start: Callable[[], None] = lambda: None) -> Measurement:
    """Train each member with a metrics file, as any run has one, and time all but the first two segments.

    Args:
        request: the workload's name, and how to do it.
        at_the_start: is called before the time is taken.

    Raises:
        TrainingError: a member diverged, so that not all did the same work.
    """
    workload = find(request["workload"])
    configs = _configs(workload, request)
    members = len(configs)
    trainer = build_trainer(configs)
    clock = Stopwatch()
    if request.get("profile"):
        trainer.sections = clock  # instead of trainer.profile, so that what it measures is at hand
    marks: list[tuple[float, int, int, int, dict[str, float]]] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        frames_per_step = trainer.parts.environment.spec.frames_per_step
        metrics = []
        for m in range(members):
            (folder / str(m)).mkdir()
            metrics.append(stack.enter_context(closing(MetricsFile(folder / str(m), frames_per_step))))
        for event in trainer.run():
            if isinstance(event, Pause):
                continue
            with trainer.sections("log"):
                metrics[event.member].on_event(event)
            if isinstance(event, End) and event.status != "completed":
                raise TrainingError(event.reason)
            if isinstance(event, Learning) and event.member == members - 1:
                if len(marks) == 1:
                    at_the_start()
                counts = members * event.step, int(trainer.updates.sum()), int(trainer.episodes.sum())
                marks.append((time.perf_counter(), *counts, dict(clock.seconds)))
    trainer.close()
    started, first_step, first_updates, first_episodes, before = marks[1]
    ended, last_step, last_updates, last_episodes, after = marks[-1]
    sections = {name: seconds - before.get(name, 0.0) for name, seconds in after.items()}
    if sections:
        sections["rest"] = ended - started - sum(sections.values())
    return Measurement(
        side="dqn",
        num_envs=request["num_envs"],
        variant=_variant(configs),
        steps=last_step - first_step,
        started=started,
        seconds=ended - started,
        updates=last_updates - first_updates,
        batch_size=configs[0].trainer.batch_size,
        parameters=trainer.parts.learner.parameters.shape[1],
        members=members,
        resets=last_episodes - first_episodes,  # the step after each episode's end
        compile_seconds=Compiled.seconds,
        sections=sections,
    )


def _configs(workload: Workload, request: dict[str, Any]) -> list[Config]:
    """Of the members, which differ in their seeds, also from those of the other processes."""
    overrides = workload.overrides(request["num_envs"], request["compile"], request["precision"])
    overrides.append(f"memory.compression={request.get('compression', 'none')}")
    overrides.append(f"trainer.threads={request.get('threads', workload.threads)}")
    if workload is not BREAKOUT:
        overrides.append(f"env.backend={request.get('backend', workload.backend)}")
    values = compose_config(overrides)
    members = request.get("members", workload.members)
    first = request.get("process", 0) * members
    return [validate(Config, {**values, "seed": seed}) for seed in range(first, first + members)]


def _variant(configs: Sequence[Config]) -> str:
    first, count = configs[0], len(configs)
    words = [{"never": "uncompiled", "always": "compiled"}[first.trainer.compile]]
    words += [first.trainer.precision] if first.trainer.precision != "float32" else []
    words += [f"memory in {first.memory.compression}"] if first.memory.compression != "none" else []
    words += ["env.backend=torch"] if getattr(first.env, "backend", "gymnasium") == "torch" else []
    words += [f"{count} members on {counted(first.trainer.threads or 1, 'thread')}"] if count > 1 else []
    return ", ".join(words)


if __name__ == "__main__":
    answer(run(json.loads(sys.argv[1]), wait_for_the_others))
