"""Our side of a workload: `python -m dqn.benchmark.ours REQUEST` prints a measurement."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from dqn.benchmark.measurement import Measurement, answer
from dqn.benchmark.workloads import WORKLOADS
from dqn.compilation import Compiled
from dqn.compose import compose_config
from dqn.config import Config
from dqn.events import Learning
from dqn.experiment import build_trainer
from dqn.observers.metrics_file import MetricsFile
from dqn.sections import Stopwatch
from dqn.validation import validate


def run(request: dict[str, Any]) -> Measurement:
    """Train with a metrics file, as any run has one, and time all but the first two segments."""
    workload = WORKLOADS[request["workload"]]
    overrides = workload.overrides(request["num_envs"], request["compile"], request["precision"])
    compression = request.get("compression", "none")
    overrides.append(f"memory.compression={compression}")
    config = validate(Config, compose_config(overrides))
    trainer = build_trainer([config])
    clock = Stopwatch()
    if request.get("profile"):
        trainer.sections = clock  # instead of trainer.profile, so that what it measures is at hand
    marks: list[tuple[float, int, int, int, dict[str, float]]] = []
    with tempfile.TemporaryDirectory() as folder:
        metrics = MetricsFile(Path(folder), trainer.parts.environment.spec.frames_per_step)
        for event in trainer.run():
            with trainer.sections("log"):
                metrics.on_event(event)
            if isinstance(event, Learning):
                counts = event.step, int(trainer.updates[0]), int(trainer.episodes[0])
                marks.append((time.perf_counter(), *counts, dict(clock.seconds)))
        metrics.close()
    trainer.close()
    started, first_step, first_updates, first_episodes, before = marks[1]
    ended, last_step, last_updates, last_episodes, after = marks[-1]
    sections = {name: seconds - before.get(name, 0.0) for name, seconds in after.items()}
    if sections:
        sections["rest"] = ended - started - sum(sections.values())
    precision = "" if request["precision"] == "float32" else f", {request['precision']}"
    return Measurement(
        side="dqn",
        num_envs=request["num_envs"],
        variant={"never": "uncompiled", "always": "compiled"}[request["compile"]]
        + precision
        + ("" if compression == "none" else f", memory in {compression}"),
        steps=last_step - first_step,
        seconds=ended - started,
        updates=last_updates - first_updates,
        batch_size=config.trainer.batch_size,
        parameters=trainer.parts.learner.parameters.shape[1],
        resets=last_episodes - first_episodes,  # the step after each episode's end
        compile_seconds=Compiled.seconds,
        sections=sections,
    )


if __name__ == "__main__":
    answer(run(json.loads(sys.argv[1])))
