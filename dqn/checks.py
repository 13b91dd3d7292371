"""What must fit together in a config beyond the type and range of each field.

`check_config` needs the config alone and runs before anything is built; `check_fit` needs to know what the
environment observes and runs before anything is written.
"""

from __future__ import annotations

import importlib.util
import math

import numpy as np
import torch
from torch import nn

from dqn.config import (
    BoltzmannConfig,
    C51Config,
    Config,
    ConstantConfig,
    FQFConfig,
    GreedyConfig,
    ImplicitQuantilesConfig,
    LinearConfig,
    MLPConfig,
    NoTargetConfig,
    PiecewiseConfig,
    PQNConfig,
    PriorityMemoryConfig,
    ReplayMemoryConfig,
    RolloutMemoryConfig,
    ScheduleConfig,
    TabularConfig,
    UniformMemoryConfig,
)
from dqn.convergence import Convergence
from dqn.envs.base import EnvironmentSpec
from dqn.errors import UserError
from dqn.provenance import installed_memory


def check_config(config: Config) -> None:
    """Raise a UserError for the first thing in the config that cannot work."""
    _check_length(config)
    _check_memory(config)
    _check_schedules(config)
    _check_algorithm(config)
    _check_evaluation(config)
    _check_device("trainer.device", config.trainer.device)
    _check_device("memory.device", config.memory.device)
    if config.logger.tensorboard is not None and importlib.util.find_spec("tensorboard") is None:
        raise UserError("logger", "tensorboard", 'needs the extra: pip install -e ".[tensorboard]"')


def _check_length(config: Config) -> None:
    trainer = config.trainer
    if trainer.total_steps is None and trainer.total_episodes is None:
        raise UserError("trainer.total_steps", None, "set this or trainer.total_episodes, or the run never ends")


def _check_memory(config: Config) -> None:
    memory, trainer = config.memory, config.trainer
    if memory.capacity_steps is not None and memory.capacity_steps < config.env.num_envs:
        raise UserError("memory.capacity_steps", memory.capacity_steps, "holds less than one step of env.num_envs")
    if memory.compression != "none" and memory.device.startswith("cuda"):
        raise UserError("memory.device", memory.device, "compressed images are kept on the CPU; use auto or cpu")
    if isinstance(memory, RolloutMemoryConfig):
        _check_rollout(config, memory)
    else:
        _check_replay(config, memory)
    if trainer.total_steps is not None and memory.warmup_steps >= trainer.total_steps:
        raise UserError(
            "memory.warmup_steps",
            memory.warmup_steps,
            f"the run ends at {trainer.total_steps} steps before learning starts; must be less",
        )


def _check_replay(config: Config, memory: ReplayMemoryConfig) -> None:
    incomplete = (memory.n_step - 1) * config.env.num_envs  # steps whose transitions wait for more rewards
    if memory.n_step > 1 and memory.warmup_steps <= incomplete:
        problem = f"before, no transition of {memory.n_step} steps is there; at least {incomplete + 1}"
        raise UserError("memory.warmup_steps", memory.warmup_steps, f"learning cannot start {problem}")
    if isinstance(memory, PriorityMemoryConfig):
        _check_schedule("memory.importance_exponent", memory.importance_exponent)
        for field, value in _levels(memory.importance_exponent):
            if value > 1:
                problem = "at most 1, where weights undo in full what priorities do"
                raise UserError(f"memory.importance_exponent.{field}", value, problem)
    elif isinstance(memory, UniformMemoryConfig) and not memory.replacement:
        batch_size = config.trainer.batch_size
        needed = 2 * batch_size  # between two transitions there is at most one autoreset, which is none
        if memory.capacity_steps is not None and memory.capacity_steps < needed:
            problem = f"batches of {batch_size} without replacement need at least {needed}"
            raise UserError("memory.capacity_steps", memory.capacity_steps, problem)
        if memory.warmup_steps < incomplete + needed:
            problem = f"learning cannot start before a batch of {batch_size} different transitions is there"
            advice = f"at least {incomplete + needed}, or memory.replacement=true"
            raise UserError("memory.warmup_steps", memory.warmup_steps, f"{problem}; {advice}")


def _check_rollout(config: Config, memory: RolloutMemoryConfig) -> None:
    trainer, size = config.trainer, memory.capacity_steps
    if size is None or size % config.env.num_envs or size < 2 * config.env.num_envs:
        problem = f"is a rollout, of two or more steps of each of env.num_envs={config.env.num_envs} environments"
        raise UserError(
            "memory.capacity_steps", size, f"{problem}: a multiple of it, from {2 * config.env.num_envs} on"
        )
    if trainer.learn_every_steps != size:
        problem = f"of memory=rollout is learned once, when it is whole; use memory.capacity_steps={size}"
        raise UserError("trainer.learn_every_steps", trainer.learn_every_steps, f"what comes {problem}")
    if size % trainer.batch_size:
        raise UserError("trainer.batch_size", trainer.batch_size, f"must divide memory.capacity_steps={size}")
    if trainer.updates_per_learn % (size // trainer.batch_size):
        advice = (
            f"epochs are whole: a multiple of memory.capacity_steps / trainer.batch_size = {size // trainer.batch_size}"
        )
        raise UserError("trainer.updates_per_learn", trainer.updates_per_learn, advice)


def _check_algorithm(config: Config) -> None:
    algorithm = config.algorithm
    is_pqn, is_rollout = isinstance(algorithm, PQNConfig), isinstance(config.memory, RolloutMemoryConfig)
    if is_pqn and not is_rollout:
        raise UserError("algorithm", algorithm.kind, "learns returns as they are, which memory=rollout makes")
    if is_rollout and not is_pqn:
        raise UserError("algorithm", algorithm.kind, "memory=rollout makes returns for algorithm=pqn only")
    has_target = not isinstance(config.target, NoTargetConfig)
    if is_pqn and has_target:
        raise UserError("target", config.target.kind, "algorithm=pqn has no target network; use target=none")
    if getattr(algorithm, "double", False) and not has_target:
        problem = "one network would pick the next action and value it, as without"
        raise UserError("algorithm.double", True, f"{problem}; use false, or target=hard or polyak for target=none")
    if isinstance(algorithm, C51Config):
        if algorithm.max_value <= algorithm.min_value:
            problem = f"must be above algorithm.min_value={algorithm.min_value:g}"
            raise UserError("algorithm.max_value", algorithm.max_value, problem)
        atoms = np.linspace(algorithm.min_value, algorithm.max_value, algorithm.num_atoms).astype(np.float32)
        if not (np.isfinite(atoms).all() and (np.diff(atoms) > 0).all()):
            problem = f"with algorithm.min_value={algorithm.min_value:g} its atoms are not {algorithm.num_atoms}"
            raise UserError("algorithm.max_value", algorithm.max_value, f"{problem} different numbers in float32")
    if isinstance(algorithm, FQFConfig | ImplicitQuantilesConfig) and isinstance(config.network, TabularConfig):
        problem = f"a table has no features, which algorithm={algorithm.kind} needs; use mlp, or algorithm=qr_dqn"
        raise UserError("network", config.network.kind, problem)


def _check_schedules(config: Config) -> None:
    _check_schedule("optimizer.learning_rate_schedule", config.optimizer.learning_rate_schedule)
    exploration = config.exploration
    if isinstance(exploration, GreedyConfig):
        return
    _check_schedule("exploration.schedule", exploration.schedule)
    is_temperature = isinstance(exploration, BoltzmannConfig)
    for field, value in _levels(exploration.schedule):
        if is_temperature and value <= 0:
            raise UserError(f"exploration.schedule.{field}", value, "is a temperature, which must be above 0")
        if not is_temperature and value > 1:
            raise UserError(f"exploration.schedule.{field}", value, "is an epsilon, a probability: at most 1")


def _check_schedule(key: str, schedule: ScheduleConfig) -> None:
    if isinstance(schedule, LinearConfig) and schedule.duration_steps is None:
        advice = "a line over the whole run needs trainer.total_steps; give a number, or choose a constant schedule"
        raise UserError(f"{key}.duration_steps", None, advice)
    if not isinstance(schedule, PiecewiseConfig):
        return
    if len(schedule.steps) != len(schedule.values):
        raise UserError(f"{key}.values", schedule.values, f"needs one value for each of {len(schedule.steps)} steps")
    if any(b <= a for a, b in zip(schedule.steps, schedule.steps[1:], strict=False)):
        raise UserError(f"{key}.steps", schedule.steps, "must increase")


def _levels(schedule: ScheduleConfig) -> list[tuple[str, float]]:
    """The values a schedule can take, with the names of their fields."""
    if isinstance(schedule, ConstantConfig):
        return [("value", schedule.value)]
    if isinstance(schedule, PiecewiseConfig):
        return [("values", value) for value in schedule.values]
    return [("start", schedule.start), ("end", schedule.end)]


def _check_evaluation(config: Config) -> None:
    evaluation, stop = config.evaluation, config.evaluation.stop
    if Convergence(stop).wanted and evaluation.every_steps is None:
        raise UserError("evaluation.every_steps", None, "evaluation.stop needs evaluations during training")


def _check_device(key: str, name: str) -> None:
    if not name.startswith("cuda"):
        return
    index = int(name.partition(":")[2] or 0)
    if index >= torch.cuda.device_count():
        raise UserError(key, name, f"CUDA devices here: {torch.cuda.device_count()}; use auto or cpu")


def check_fit(config: Config, spec: EnvironmentSpec, members: int) -> None:
    """Raise a UserError where network, memory and environment do not fit together, or so many memories into one."""
    if config.evaluation.stop.optimal and not spec.knows_optimum:
        raise UserError("evaluation.stop.optimal", True, "this environment does not know its optimum; use mean_return")
    if config.memory.capacity_steps is None and config.trainer.total_steps is None and spec.max_episode_steps is None:
        raise UserError(
            "memory.capacity_steps", None, "an unbounded memory needs trainer.total_steps or episodes of limited length"
        )
    if config.memory.compression != "none" and not spec.is_image:
        raise UserError(
            "memory.compression",
            config.memory.compression,
            f"needs images, but observations are {spec.frame_dtype} {spec.observation_shape}; use none",
        )
    if config.trainer.random_shift_pixels and not spec.is_image:
        problem = f"needs images, but observations are {spec.frame_dtype} {spec.observation_shape}; use 0"
        raise UserError("trainer.random_shift_pixels", config.trainer.random_shift_pixels, problem)
    _check_memory_fits(config, spec, members)


def check_network_fits(config: Config, spec: EnvironmentSpec, network: nn.Module, members: int) -> None:
    """Raise a UserError if this network, or one batch for it, takes more memory at the least than the machine has.

    Args:
        config: of the members.
        spec: of their environment.
        network: of one of them; it may be on PyTorch's meta device, where it takes none itself.
        members: of the population.
    """
    installed = installed_memory()
    if installed is None or _is_on_gpu(config.trainer.device):
        return
    # The network, its gradient and the best so far, in float32.
    parameters = 3 * members * 4 * sum(parameter.numel() for parameter in network.parameters())
    if parameters > installed:
        if isinstance(config.network, MLPConfig):
            raise UserError("network.hidden_sizes", config.network.hidden_sizes, _too_much(parameters, installed))
        raise UserError("network", config.network.kind, _too_much(parameters, installed))
    widths = sum(layer.in_features for layer in network.modules() if isinstance(layer, nn.Linear))
    observation = math.prod(spec.observation_shape) * _BYTES[spec.frame_dtype]
    batch = members * config.trainer.batch_size * (2 * observation + 4 * widths)
    if batch > installed:
        raise UserError("trainer.batch_size", config.trainer.batch_size, _too_much(batch, installed))


def _too_much(needed: float, installed: int) -> str:
    return f"needs {needed / 1e9:,.1f} GB and more, but this machine has {installed / 1e9:.1f} GB"


_BYTES = {"uint8": 1, "float32": 4, "int64": 8}


def _check_memory_fits(config: Config, spec: EnvironmentSpec, members: int) -> None:
    steps = config.memory.capacity_steps or config.trainer.total_steps
    if steps is None:
        return
    item = _BYTES[spec.frame_dtype]
    # Compressed, the images of Atari games take a quarter at most.
    share = 1.0 if config.memory.compression == "none" else 0.25
    priorities = {"uniform": 0, "prioritized": 8, "ranked": 16, "rollout": 4}[config.memory.kind]
    needed = members * steps * (math.prod(spec.frame_shape) * item * share + 18 + priorities)
    installed = installed_memory()
    device = config.trainer.device if config.memory.device == "auto" else config.memory.device
    on_gpu = _is_on_gpu(device) and config.memory.compression == "none"
    if installed is not None and needed > installed and not on_gpu:
        whose = "" if members == 1 else f" for {members} members of one population (hydra.launcher.max_members)"
        raise UserError(
            "memory.capacity_steps",
            steps,
            f"needs {needed / 1e9:.1f} GB{whose}, but this machine has {installed / 1e9:.1f} GB; "
            f"at most {_rounded_down(steps * installed / needed):,} would fit",
        )


def _is_on_gpu(device: str) -> bool:
    return device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())


def _rounded_down(number: float) -> int:
    """To two digits."""
    unit = 10 ** max(int(math.log10(max(number, 1))) - 1, 0)
    return int(number // unit * unit)
