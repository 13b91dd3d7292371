"""The physical floor of a workload: its arithmetic at the machine's best rate, and the environment alone.

`python -m dqn.benchmark.floor REQUEST` prints both.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import nn

from dqn.benchmark.workloads import Workload, find
from dqn.compose import compose_config
from dqn.config import Config
from dqn.envs.base import Environment
from dqn.experiment import make_environment, make_network
from dqn.validation import validate

_MATRIX = 1024  # large enough for a matrix product's best rate
_ENVIRONMENT_SECONDS = 1.0


@dataclass(frozen=True)
class Floor:
    """What no code on this machine can be faster than."""

    operations_per_second: float  # floating point, float32
    bfloat16_operations_per_second: float
    operations_per_step: float
    environment_seconds_per_step: float  # 0 where environments are tensors, whose arithmetic is next to nothing
    threads: int = 1

    def steps_per_second(self, precision: str) -> float:
        """Agent steps per second if there were nothing but arithmetic and environment, one after the other."""
        rate = self.bfloat16_operations_per_second if precision == "bfloat16" else self.operations_per_second
        return 1.0 / (self.operations_per_step / rate + self.environment_seconds_per_step)


def forward_operations(network: nn.Module, observation: torch.Tensor) -> list[int]:
    """Floating point operations of each layer for one observation, a multiplication and an addition counting two."""
    counts: list[int] = []

    def count(layer: nn.Module, _inputs: object, output: torch.Tensor) -> None:
        weights_per_output = layer.get_parameter("weight")[0].numel()
        counts.append(2 * weights_per_output * output[0].numel())

    hooks = [
        layer.register_forward_hook(count) for layer in network.modules() if isinstance(layer, (nn.Linear, nn.Conv2d))
    ]
    with torch.no_grad():
        network(observation.unsqueeze(0))
    for hook in hooks:
        hook.remove()
    return counts


def operations_per_step(layers: list[int], workload: Workload) -> float:
    """Of acting, and of an update's share: two networks forward, and the gradients of weights and of inputs.

    The first layer's input needs no gradient.
    """
    forward = sum(layers)
    update = workload.batch_size * (2 * forward + 2 * forward - layers[0])
    return forward + update / workload.learn_every_steps


def measure_floor(workload: Workload) -> Floor:
    """Measure it with all threads of the workload's processes and its larger number of environments."""
    threads, num_envs = workload.threads * workload.processes, workload.num_envs[-1]
    torch.set_num_threads(threads)
    config = validate(Config, compose_config(workload.overrides(num_envs, "never", "float32")))
    environment = make_environment(config.env, 1, threads)
    dtype = getattr(torch, environment.spec.frame_dtype)
    observation = torch.zeros(environment.spec.observation_shape, dtype=dtype)
    layers = forward_operations(make_network(config, environment.spec), observation)
    seconds = 0.0 if workload.backend == "torch" else _environment_seconds(environment)
    environment.close()
    operations = operations_per_step(layers, workload)
    return Floor(_product_rate(torch.float32), _product_rate(torch.bfloat16), operations, seconds, threads)


def _environment_seconds(environment: Environment) -> float:
    """Per agent step, with random actions."""
    num_envs = environment.num_envs
    environment.reset(list(range(num_envs)))
    random = np.random.default_rng(0)
    actions = random.integers(environment.spec.num_actions, size=(1000, num_envs))
    calls, started = 0, time.perf_counter()
    while time.perf_counter() - started < _ENVIRONMENT_SECONDS:
        environment.step(actions[calls % 1000])
        calls += 1
    return (time.perf_counter() - started) / (calls * num_envs)


def _product_rate(dtype: torch.dtype) -> float:
    a = torch.randn(_MATRIX, _MATRIX).to(dtype)
    return 2 * _MATRIX**3 / best_seconds(lambda: a @ a)


def best_seconds(function: Callable[[], object], times: int = 8, at_most_seconds: float = 4.0) -> float:
    """The fastest of several calls."""
    best, started = float("inf"), time.perf_counter()
    for _ in range(times):
        before = time.perf_counter()
        function()
        best = min(best, time.perf_counter() - before)
        if time.perf_counter() - started > at_most_seconds:
            break
    return best


if __name__ == "__main__":
    print(json.dumps(asdict(measure_floor(find(json.loads(sys.argv[1])["workload"])))))
