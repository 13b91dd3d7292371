"""Stable-Baselines3's side of a workload: `python -m dqn.benchmark.peer REQUEST` prints a measurement."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import ale_py
import gymnasium
import torch
from stable_baselines3 import DQN
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_atari_env, make_vec_env
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack

from dqn.benchmark.measurement import Measurement
from dqn.benchmark.processes import answer, wait_for_the_others
from dqn.benchmark.workloads import BREAKOUT, Workload, find


class _Marks(BaseCallback):  # type: ignore[misc, unused-ignore]  # Any where it is not installed
    """Takes the time and the updates at the first steps at or after given ones; ends the run at the last.

    Args:
        steps: given.
        at_the_start: is called before the first time is taken.
    """

    def __init__(self, steps: list[int], at_the_start: Callable[[], None]) -> None:
        super().__init__()
        self._waiting, self._at_the_start = steps, at_the_start
        self.marks: list[tuple[float, int, int]] = []

    def _on_step(self) -> bool:
        if self._waiting and self.num_timesteps >= self._waiting[0]:
            self._waiting.pop(0)
            if not self.marks:
                self._at_the_start()
            self.marks.append((time.perf_counter(), self.num_timesteps, self.model._n_updates))
        return bool(self._waiting)


def _environments(workload: Workload, num_envs: int, seed: int) -> VecEnv:
    if workload is BREAKOUT:
        gymnasium.register_envs(ale_py)
        return VecFrameStack(make_atari_env("BreakoutNoFrameskip-v4", n_envs=num_envs, seed=seed), 4)
    return make_vec_env("CartPole-v1", n_envs=num_envs, seed=seed)


def run(request: dict[str, Any], at_the_start: Callable[[], None] = lambda: None) -> Measurement:
    """Train as its documentation shows, and time all but the first two segments; see `dqn.benchmark.ours.run`."""
    workload, num_envs, seed = find(request["workload"]), request["num_envs"], request.get("process", 0)
    torch.set_num_threads(workload.threads)
    calls = max(1, workload.learn_every_steps // num_envs)
    model = DQN(
        "CnnPolicy" if workload is BREAKOUT else "MlpPolicy",
        _environments(workload, num_envs, seed),
        learning_rate=workload.learning_rate,
        buffer_size=workload.capacity_steps,
        learning_starts=workload.warmup_steps,
        batch_size=workload.batch_size,
        train_freq=(calls, "step"),
        gradient_steps=workload.updates_due(calls * num_envs),
        target_update_interval=workload.target_period_steps,
        max_grad_norm=10,
        gamma=0.99,
        exploration_fraction=workload.segment_steps / (2 * workload.total_steps),
        exploration_final_eps=0.05,
        policy_kwargs=None if workload is BREAKOUT else {"net_arch": [120, 84]},
        device="cpu",
        seed=seed,
    )
    callback = _Marks([2 * workload.segment_steps, workload.total_steps], at_the_start)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SB3_LOGDIR"] = folder  # else it leaves an empty folder for each run
        model.learn(2 * workload.total_steps, callback=callback)  # the callback ends it
    (started, first_step, first_updates), (ended, last_step, last_updates) = callback.marks
    return Measurement(
        side="stable-baselines3",
        num_envs=num_envs,
        variant="as it comes",
        steps=last_step - first_step,
        started=started,
        seconds=ended - started,
        updates=last_updates - first_updates,
        batch_size=model.batch_size,
        parameters=sum(p.numel() for p in model.q_net.parameters()),
    )


if __name__ == "__main__":
    answer(run(json.loads(sys.argv[1]), wait_for_the_others))
