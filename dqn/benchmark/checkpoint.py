"""What checkpoints of a filled memory of Breakout take: `python -m dqn.benchmark.checkpoint REQUEST` prints it."""

from __future__ import annotations

import gc
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dqn.checkpoint import Checkpoints, checkpoints
from dqn.compose import compose_config
from dqn.config import Config
from dqn.cores import default_threads
from dqn.envs.atari import AtariEnvironment
from dqn.envs.base import Array
from dqn.events import Event
from dqn.experiment import build_trainer, make_environment, make_training_environment
from dqn.member import Member
from dqn.memory.stream import Experience
from dqn.memory.uniform import UniformMemory
from dqn.provenance import provenance
from dqn.run_folder import RunFolder
from dqn.trainer import Trainer
from dqn.training import Training
from dqn.validation import validate

_SECONDS = 40.0  # that training is timed before a checkpoint, and at least while it is written
_BEGUN_STEPS = 2000  # after which it learns
_CALLS_PLAYED = 2000  # of a game; the memory is filled with these again and again


def measure_checkpoints(steps: int, compression: str, folder: Path) -> dict[str, Any]:
    """Seconds and bytes of a first checkpoint, and of later ones after a quarter of the memory each."""
    overrides = ["experiment=breakout", "logger=none", "evaluation.every_steps=null", "checkpoint.every_steps=null"]
    overrides += [f"memory.capacity_steps={steps}", f"memory.compression={compression}", "memory.warmup_steps=1000"]
    values = compose_config([*overrides, "trainer.log_every_steps=100", "trainer.total_steps=100_000_000"])
    config = validate(Config, values)
    trainer = build_trainer([config])
    folder.mkdir()
    RunFolder(folder).create(values, provenance())
    saved = Checkpoints(RunFolder(folder).checkpoints)
    training = Training(trainer, [Member(config, values, saved, 4, False)], None, None, None, [folder.name], [0])
    loop = trainer.run()
    _train_until(trainer, loop, lambda _: trainer.steps >= _BEGUN_STEPS)
    played = _played(config)
    _fill(trainer.parts.memory, played, steps)
    first = _save_and_wait(training, folder)
    _fill(trainer.parts.memory, played, steps // 4)
    baseline_steps, baseline_seconds = _train_until(trainer, loop, lambda seconds: seconds >= _SECONDS)
    started = time.perf_counter()
    training.save()
    call_seconds = time.perf_counter() - started
    writer = training.writer
    steps_meanwhile, seconds_meanwhile = _train_until(
        trainer, loop, lambda seconds: not writer.is_busy and seconds >= _SECONDS
    )
    per_second = baseline_steps / baseline_seconds
    stall_seconds = call_seconds + seconds_meanwhile - steps_meanwhile / per_second
    later = {"call_seconds": call_seconds, "stall_seconds": stall_seconds, "bytes": _new_bytes(folder)}
    _fill(trainer.parts.memory, played, steps // 4)
    again = _save_and_wait(training, folder)  # with nobody training meanwhile: how long the writing takes
    trainer.close()
    return {
        "steps": steps,
        "compression": compression,
        "steps_per_second": per_second,
        "first": first,
        "later": later | {"seconds": again["seconds"]},
    }


def measure_resume(folder: Path) -> dict[str, float]:
    """Seconds from a run's folder to a trainer that goes on, and to replay the most that there is of the games."""
    started = time.perf_counter()
    config = RunFolder(folder).load_config()
    state, recordings, _ = Checkpoints(RunFolder(folder).checkpoints).load_last("run")
    state["trainer"]["memory"]["recordings"] = [recordings]
    trainer = build_trainer([config])
    trainer.load_state_dict(state["trainer"])
    seconds = time.perf_counter() - started
    assert trainer.gave_up is None
    trainer.close()
    return {"resume_seconds": seconds, "replay_seconds": _replay_seconds(config)}


def _train_until(trainer: Trainer, loop: Iterator[Event], is_enough: Callable[[float], bool]) -> tuple[int, float]:
    """Agent steps that are trained until it is enough after so many seconds, and the seconds that takes."""
    before, started = trainer.steps, time.perf_counter()
    while not is_enough(time.perf_counter() - started):
        next(loop)
    return trainer.steps - before, time.perf_counter() - started


def _played(config: Config) -> list[Experience]:
    """A game played at random, as the memory takes it in."""
    environment = make_environment(config.env, 1, 1)
    random = np.random.default_rng(0)
    environment.reset(range(config.env.num_envs))
    played = []
    for _ in range(_CALLS_PLAYED):
        actions: Array = random.integers(environment.spec.num_actions, size=config.env.num_envs)
        result = environment.step(actions)
        arrays = (actions, result.rewards, result.terminated, result.was_reset, result.frames.copy())
        played.append(Experience(*(torch.from_numpy(array).unsqueeze(0) for array in arrays)))
    environment.close()
    return played


def _fill(memory: UniformMemory, played: list[Experience], steps: int) -> None:
    for call in range(steps // played[0].actions.shape[1]):
        memory.add(played[call % len(played)])


def _save_and_wait(training: Training, folder: Path) -> dict[str, Any]:
    started = time.perf_counter()
    training.save()
    training.writer.wait()
    return {"seconds": time.perf_counter() - started, "bytes": _new_bytes(folder)}


def _new_bytes(folder: Path) -> int:
    """Of the last checkpoint, without what it shares with the one before."""
    last = checkpoints(RunFolder(folder).checkpoints)[-1]
    return sum(path.stat().st_size for path in last.iterdir() if path.stat().st_nlink == 1)


def _replay_seconds(config: Config) -> float:
    """To bring a game back to where it was just before a new seed was due."""
    threads, num_envs = default_threads(), config.env.num_envs
    environments = [make_training_environment(config.env, 1, threads, torch.device("cpu")) for _ in range(2)]
    random = np.random.default_rng(0)
    environments[0].reset(range(num_envs))
    for _ in range(AtariEnvironment.calls_per_seed - 1):
        environments[0].step(random.integers(environments[0].spec.num_actions, size=num_envs))
    state = environments[0].state_dict()
    started = time.perf_counter()
    environments[1].load_state_dict(state)
    seconds = time.perf_counter() - started
    for environment in environments:
        environment.close()
    return seconds


if __name__ == "__main__":
    request = json.loads(sys.argv[1])
    with tempfile.TemporaryDirectory(dir=request["folder"]) as temporary:
        run = Path(temporary) / "run"
        measured = measure_checkpoints(request["steps"], request["compression"], run)
        gc.collect()  # the memory, before there is a second one
        print(json.dumps(measured | measure_resume(run)))
