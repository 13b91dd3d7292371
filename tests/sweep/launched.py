"""Sweeps that are launched in this process, and what they leave."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.utils import JobReturn
from hydra.types import HydraContext, RunMode
from omegaconf import OmegaConf
from safetensors.torch import load_file

from dqn import run
from dqn.compose import compose_config
from dqn.sweep import launch as launcher

# Small and short, whatever the preset says.
SHORT = [
    "logger=none", "env.num_envs=2", "network.hidden_sizes=[12]", "memory.capacity_steps=400", "memory.warmup_steps=60",
    "trainer.total_steps=400", "trainer.learn_every_steps=4", "trainer.updates_per_learn=1", "trainer.batch_size=8",
    "trainer.log_every_steps=100", "trainer.compile=never", "evaluation.every_steps=100", "evaluation.episodes=2",
    "evaluation.final_episodes=2", "evaluation.num_envs=2", "evaluation.video=false",
    "evaluation.stop.mean_return=null", "checkpoint.every_steps=100", "export.formats=[safetensors]",
]  # fmt: skip
Judging = Callable[[int, Mapping[int, float]], Mapping[int, str]]
_CLOCKS = ("seconds", "compile_seconds", "steps_per_second")


class JudgeOf:
    """A judge whose verdicts a function gives; keeps what it was asked to recall, by job."""

    def __init__(self, function: Judging) -> None:
        self.function, self.recalled = function, dict[int, dict[int, float]]()

    def __call__(self, step: int, scores: Mapping[int, float]) -> Mapping[int, str]:
        return self.function(step, scores)

    def recall(self, job: int, scores: Mapping[int, float]) -> None:
        self.recalled[job] = dict(scores)

    def trial_of(self, job: int) -> int:
        return job // 2


class Launch:
    """Launches jobs as `scripts/train.py -m` does, from Hydra's composition on.

    Args:
        loader: Hydra's.
    """

    def __init__(self, loader: ConfigLoaderImpl) -> None:
        self._loader = loader

    def __call__(
        self,
        folder: Path,
        jobs: Sequence[Sequence[str]],
        *words: str,
        judge: JudgeOf | Judging | None = None,
        resume: bool = False,
        first: int = 0,
        keeps_numbers: bool = False,
    ) -> list[JobReturn]:
        """Train `jobs`, each a few overrides, with `words` for all, in the sweep's folder."""
        judging = judge if judge is None or isinstance(judge, JudgeOf) else JudgeOf(judge)
        of_hydra = [word for word in words if word.startswith("hydra")]
        place = f"sweep.resume={folder}" if resume else f"hydra.sweep.dir={folder}"
        config = self._loader.load_configuration("config", [*of_hydra, place], run_mode=RunMode.MULTIRUN)
        shared = [*SHORT, *(word for word in words if not word.startswith("hydra"))]
        shared += [place] if resume else []  # as Hydra hands on every word of the command line to every job
        launcher.prepare(config)
        context = HydraContext(config_loader=self._loader, callbacks=None)
        overrides = [[*shared, *job] for job in jobs]
        return launcher.launch(context, config, overrides, first, judging, keeps_numbers=keeps_numbers)


def train_alone(folder: Path, *words: str) -> Path:
    """The run with these overrides, by itself."""
    run.train([compose_config([*SHORT, *words])], [folder])
    return folder


def metrics(folder: Path) -> list[dict[str, Any]]:
    """The records of a run but for what clocks say."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key not in _CLOCKS} for line in lines]


def summary(folder: Path) -> dict[str, Any]:
    """A run's summary but for what clocks say."""
    values = json.loads((folder / "summary.json").read_text())
    values["export"] = sorted((values["export"] or {}).get("files", []))  # without their checksums
    return {key: value for key, value in values.items() if key not in _CLOCKS}


def weights(folder: Path) -> dict[str, Any]:
    """The exported network."""
    return load_file(folder / "export" / "policy.safetensors")


def config(folder: Path) -> Any:
    """A run's config as plain values."""
    return OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"))


def manifest(folder: Path) -> dict[int, dict[str, Any]]:
    """The jobs of a sweep by number."""
    return {job["number"]: job for job in json.loads((folder / "sweep.json").read_text())["jobs"]}


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Bytes and time of change of every file in a folder."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}
