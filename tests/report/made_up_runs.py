"""Run folders that no run has made."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

CARTPOLE = {"kind": "gymnasium", "id": "CartPole-v1", "max_steps": 500}
BREAKOUT = {"kind": "atari", "game": "breakout", "action_repeat": 4}

WriteRun = Callable[..., Path]


def make_up_run(
    root: Path,
    folder: str,
    *,
    seed: int = 0,
    evaluations: Sequence[tuple[int, float]] = (),
    episodes: Sequence[tuple[int, float]] = (),
    final: float | None = None,
    standard_error: float | None = None,
    status: str = "completed",
    summary: bool = True,
    env: dict[str, Any] = CARTPOLE,
    name: str = "cartpole",
    **settings: Any,
) -> Path:
    path = root / folder
    path.mkdir(parents=True)
    config = {"name": name, "seed": seed, "resume": None, "env": env, "logger": {"tag": seed}, **settings}
    (path / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    repeat = env.get("action_repeat", 1)
    records = [
        {"kind": "evaluation", "step": step, "returns": [mean], "mean_return": mean} for step, mean in evaluations
    ] + [{"kind": "episode", "step": step, "episode_return": value, "episode_length": 1} for step, value in episodes]
    records.sort(key=lambda record: record["step"])
    lines = [json.dumps({**record, "frames": record["step"] * repeat, "seconds": 0.1}) for record in records]
    (path / "metrics.jsonl").write_text("".join(f"{line}\n" for line in lines))
    if summary:
        last = max((record["step"] for record in records), default=0)
        scored = None if final is None else {"network": "best", "step": last, "mean_return": final}
        if scored and standard_error is not None:
            scored["standard_error"] = standard_error
        best = max(evaluations, key=lambda point: point[1], default=None)
        content = {
            "name": name,
            "status": status,
            "reason": "",
            "seed": seed,
            "steps": last,
            "seconds": 3.0 + seed,
            "best_evaluation": None if best is None else {"step": best[0], "mean_return": best[1]},
        }
        (path / "summary.json").write_text(json.dumps({**content, "final_evaluation": scored}))
    return path
