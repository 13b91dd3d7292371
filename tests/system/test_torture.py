"""Runs that are killed at random instants and resumed, any number of times, end as those that never were: to the byte.

`pytest -n 0 -s -m torture tests/system/test_torture.py` is the long form: 72 runs, some 15 minutes. It prints a
seed; TORTURE_SEED=... repeats that schedule of kills.
"""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from shell import Script
from states import assert_same_state

from dqn.checkpoint import Checkpoints, checkpoints

SEED = int(os.environ.get("TORTURE_SEED") or random.SystemRandom().randrange(10**6))
SHARED = (
    "trainer.compile=never",
    "trainer.threads=1",
    "trainer.log_every_steps=100",
    "memory.warmup_steps=100",
    "evaluation.every_steps=300",
    "evaluation.episodes=4",
    "evaluation.num_envs=4",
    "evaluation.final_episodes=5",
    "evaluation.stop.mean_return=null",
    "evaluation.stop.optimal=false",
    "evaluation.stop.max_value_change=null",
    "evaluation.video=false",
    "checkpoint.every_steps=150",
    "export.formats=[safetensors]",
    "logger=none",
)
ATARI = ("env.repeat_action_probability=0.25", "env.terminal_on_life_loss=true", "trainer.batch_size=8")
KINDS = {
    "grid world": (
        *("experiment=gridworld_dqn", "env.start=random", "env.slip_probability=0.1", "memory.capacity_steps=1000"),
        *("trainer.total_steps=2500", "env.max_steps=50"),
    ),
    "cartpole": (
        *("experiment=cartpole", "env.backend=gymnasium", "env.num_envs=2", "memory.capacity_steps=1200"),
        *("trainer.total_steps=3000", "trainer.learn_while_stepping=true"),
    ),
    "cartpole stack": (
        *("experiment=cartpole", "-m", "seed=range(8)", "trainer.total_steps=3000", "memory.capacity_steps=1200"),
        # Two processes share the members, who end at steps of their own: those that go on keep their places.
        *("trainer.total_episodes=30", "env.num_envs=2"),
    ),
    "acrobot stack": (
        *(
            "env=gymnasium",
            "env.id=Acrobot-v1",
            "name=acrobot",
            "env.backend=torch",
            "env.num_envs=2",
            "env.max_steps=90",
        ),
        *("-m", "seed=range(4)", "trainer.total_steps=2500", "memory.capacity_steps=1000"),
    ),
    "breakout": (
        *("experiment=breakout", "network=nips_cnn", "trainer.total_steps=800", "memory.capacity_steps=500", *ATARI),
        *("env.max_frames_per_episode=600", "trainer.learn_every_steps=8"),
    ),
    "breakout stack": (
        *("experiment=breakout", "network=nips_cnn", "trainer.total_steps=700", "memory.capacity_steps=300", *ATARI),
        *("env.max_frames_per_episode=400", "trainer.learn_every_steps=16", "-m", "seed=0,1", "env.num_envs=2"),
        *("hydra.launcher.max_members=2", "memory.compression=lz4"),
    ),
}


def files_of(folder: Path) -> dict[str, Any]:
    """What a run has come to: all of its results but the time that it took."""
    metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    summary = json.loads((folder / "summary.json").read_text())
    for record in (*metrics, summary):
        for name in ("seconds", "steps_per_second", "compile_seconds"):
            record.pop(name, None)
    saved = folder / "checkpoints"
    state, recordings, damages = Checkpoints(saved).load_last("run")
    assert damages == []
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if saved not in path.parents}
    return {
        "files": sorted(files - {".lock"}),  # empty; of a process that was killed it may be left
        "metrics": metrics,
        "summary": summary,
        "policy": (folder / "export" / "policy.safetensors").read_bytes(),
        "state": {name: state[name] for name in ("trainer", "population", "best_evaluation", "traits")},
        "memory": kept(joined(recordings), yaml.safe_load((folder / "config.yaml").read_text())),
        "last": checkpoints(saved)[-1].name,
        "leftovers": [path.name for path in saved.glob(".*")],
        "config": (folder / "config.yaml").read_text().replace(str(folder.parent), ""),
    }


def joined(recordings: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """What a memory took in, however many files it is in: a worker whose leader is killed saves once more."""
    names = [name for name in recordings[0] if name != "first"]
    # Of frames the first axis is time, of what else there is the last.
    axes = {name: 0 if name.startswith("frame") else 1 for name in names}
    return {name: torch.cat([one[name] for one in recordings], dim=axes[name]) for name in names}


def kept(recording: dict[str, torch.Tensor], config: dict[str, Any]) -> dict[str, torch.Tensor]:
    """As much of it as the memory holds: what was there before stays on the disk as long as newer is in its file."""
    calls = math.ceil(config["memory"]["capacity_steps"] / config["env"]["num_envs"])
    calls += config["env"].get("frame_stack", 1) - 1
    result = {}
    for name, tensor in recording.items():
        lengths = recording.get(f"frame_lengths.{name.rpartition('.')[2]}") if name.startswith("frames.") else None
        if lengths is not None:  # bytes
            result[name] = tensor[int(lengths.sum() - lengths[-calls:].sum()) :]
        else:
            result[name] = tensor[-calls:] if name.startswith("frame") else tensor[:, -calls:]
    return result


def finish(words: list[str], folder: Path, beside: Path) -> float:
    started = time.monotonic()
    done = Script("train", words, folder, beside).done()
    while "another process is training" in done.stderr and time.monotonic() < started + 60:
        done = Script("train", words, folder, beside).done()
    assert done.returncode == 0, done.stderr
    return time.monotonic() - started


def checkpoint_is_being_written(place: Path) -> bool:
    return any(place.rglob(".step-*.part"))


def evaluation_is_on(place: Path) -> bool:
    for metrics in place.rglob("metrics.jsonl"):
        lines = metrics.read_bytes().splitlines()
        if lines and b'"kind": "learning"' in lines[-1] and json.loads(lines[-1])["step"] % 300 == 0:
            return True
    return False


def export_is_on(place: Path) -> bool:
    return any(place.rglob("export"))


Moment = Callable[[Path], bool]
MOMENTS = (checkpoint_is_being_written, evaluation_is_on, export_is_on)


def kill_at_some_moment(
    words: list[str],
    folder: Path,
    beside: Path,
    chance: random.Random,
    seconds: float,
    moment: Callable[..., bool] | None,
) -> bool:
    """Start, and kill; returns whether it was killed before it came to its end."""
    script = Script("train", words, folder, beside)
    if moment is None:
        script.wait(chance.uniform(0.0, seconds))
    else:
        time.sleep(chance.uniform(0.0, 0.5 * seconds))
        while script.is_running and not _seen(moment, folder):
            script.wait(0.001)
    was_running = script.is_running
    if chance.random() < 0.2 and was_running:  # politely
        os.kill(script.pid, signal.SIGTERM)
        script.wait(60)
        assert not script.is_running
        assert script.done().returncode in (130, 0, -signal.SIGTERM), script.printed
    script.kill()
    done = script.done()
    # Workers may still be saving what a killed leader has left them with.
    assert was_running or done.returncode == 0 or "another process is training" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return was_running


def _seen(moment: Moment, folder: Path) -> bool:
    try:
        return moment(folder)
    except FileNotFoundError:  # what was there a moment ago
        return False


def tortured(kind: str, number: int, whole: Path, seconds: float, folder: Path, beside: Path, most_kills: int) -> str:
    chance = random.Random(f"{SEED} {kind} {number}")
    words, place = [*KINDS[kind], *SHARED], folder / "run"
    is_stack = "-m" in words
    start = [*words, f"hydra.sweep.dir={place}" if is_stack else f"hydra.run.dir={place}"]
    kills = chance.randint(1, most_kills)
    moments = [chance.choice([None, *MOMENTS]) for _ in range(kills)]
    resumes = [*words, f"sweep.resume={place}"] if is_stack else [f"resume={place}"]

    def next_words() -> list[str]:
        return resumes if (place / ("sweep.json" if is_stack else "config.yaml")).exists() else start

    def is_over() -> bool:
        summaries = [place / path.relative_to(whole) for path in whole.rglob("summary.json")]
        # A worker whose leader is killed notes that it was interrupted.
        return all(path.exists() and json.loads(path.read_text())["status"] != "interrupted" for path in summaries)

    killed = 0
    while moments[killed:]:
        moment = moments[killed]
        if is_over() and killed > 0:
            break
        if is_over():  # too late to be killed: another time, and earlier
            shutil.rmtree(place)
            seconds *= 0.7
        else:
            killed += kill_at_some_moment(next_words(), folder, beside, chance, seconds, moment)
            if is_stack and place.exists() and not (place / "sweep.json").exists():
                (place / "multirun.yaml").unlink(missing_ok=True)  # Hydra's note is all there is
    if not is_over():
        finish(next_words(), folder, beside)
    for summary in whole.rglob("summary.json"):
        run = summary.parent.relative_to(whole)
        assert_same_state(files_of(place / run), files_of(whole / run), path=f"{kind} {number} {run}")
    assert killed > 0
    return f"killed {killed} times: {', '.join('any time' if m is None else m.__name__ for m in moments[:killed])}"


@pytest.mark.parametrize(
    ("kind", "count", "most_kills"),
    [
        *((kind, 1, 2) for kind in ("cartpole stack", "breakout")),
        *(pytest.param(kind, 12, 5, marks=pytest.mark.torture, id=f"{kind}-long") for kind in KINDS),
    ],
)
def test_killed_runs_end_as_those_that_never_were(kind, count, most_kills, tmp_path):
    print(f"\n{kind}: TORTURE_SEED={SEED}")
    whole, beside = tmp_path / "whole" / "run", tmp_path / "printed"
    beside.mkdir()
    where = "hydra.sweep.dir" if "-m" in KINDS[kind] else "hydra.run.dir"
    seconds = finish([*KINDS[kind], *SHARED, f"{where}={whole}"], tmp_path, beside)
    for number in range(count):
        folder = tmp_path / str(number)
        folder.mkdir()
        told = tortured(kind, number, whole, seconds, folder, beside, most_kills)
        print(f"{kind} {number}: {told}", flush=True)
