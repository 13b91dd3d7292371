"""From a checked config to the parts of a run: the only place that knows which class a config names.

Every builder takes the configs of all members of a population; a lone run is a population of one. Members agree in
everything but traits, so what is not a trait is read from the first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dqn import exploration, optim
from dqn.agent import Plan
from dqn.algorithms.base import Algorithm
from dqn.algorithms.c51 import C51
from dqn.algorithms.custom_loss import make_custom_loss
from dqn.algorithms.dqn import DQN
from dqn.algorithms.fqf import FQF
from dqn.algorithms.iqn import IQN
from dqn.algorithms.losses import Huber, SquaredError, TDLoss
from dqn.algorithms.munchausen_dqn import Munchausen, MunchausenDQN
from dqn.algorithms.munchausen_iqn import MunchausenIQN
from dqn.algorithms.pqn import PQN
from dqn.algorithms.qr_dqn import QRDQN
from dqn.checks import check_config, check_fit, check_network_fits
from dqn.compilation import can_compile, wants_compilation
from dqn.config import (
    AlgorithmConfig,
    AtariConfig,
    BoltzmannConfig,
    C51Config,
    CenteredRMSPropConfig,
    CNNConfig,
    Config,
    ConstantConfig,
    CustomLossConfig,
    DQNConfig,
    DuelingHeadConfig,
    EnvConfig,
    EpsilonGreedyConfig,
    ExponentialConfig,
    FQFConfig,
    GridWorldConfig,
    GymnasiumConfig,
    HardTargetConfig,
    HeadConfig,
    HuberConfig,
    ImpalaConfig,
    ImplicitQuantilesConfig,
    IQNConfig,
    LinearConfig,
    LossConfig,
    MaxBoltzmannConfig,
    MLPConfig,
    MomentsConfig,
    MSEConfig,
    MunchausenDQNConfig,
    PiecewiseConfig,
    PolyakTargetConfig,
    PQNConfig,
    PrioritizedMemoryConfig,
    PriorityMemoryConfig,
    QRDQNConfig,
    RAdamConfig,
    RankedMemoryConfig,
    RMSPropConfig,
    RolloutMemoryConfig,
    ScheduleConfig,
    SGDConfig,
    TabularConfig,
    UniformMemoryConfig,
)
from dqn.cores import default_threads
from dqn.envs.base import (
    Environment,
    EnvironmentSpec,
    ReseedableEnvironment,
    StatefulEnvironment,
    TensorEnvironment,
)
from dqn.errors import UserError
from dqn.evaluation import Evaluator
from dqn.learner import Learner
from dqn.machine import prepare
from dqn.memory.prioritized import Priorities, PrioritizedMemory, RankedMemory
from dqn.memory.rollout import RolloutMemory
from dqn.memory.uniform import UniformMemory
from dqn.networks import heads, q_network
from dqn.networks.implicit import ImplicitQuantiles
from dqn.networks.initialization import initialize
from dqn.networks.population import flatten_parameters
from dqn.networks.proposed import ProposedQuantiles
from dqn.networks.readout import ExpectedValue, MeanOfProposed, MeanQuantile
from dqn.randomness import derive_seed
from dqn.sections import Sections, Stopwatch
from dqn.target import NoTarget, PeriodicTarget, TargetRule
from dqn.trainer import Parts, Periods, Trainer
from dqn.traits import Traits
from dqn.validation import validate


def _updates_worth_compiling(template: nn.Module, device: torch.device, members: int) -> float:
    """From how many updates on a population is faster compiled, with nothing kept from earlier runs.

    On a CPU compiling takes about 40 s. An update of a small network and the steps before it are 0.8 to 2 ms faster
    then, of ten of them stacked 4 ms; of a convolutional one, whose time goes to the same library in either form, too
    little. On a GPU it costs nothing.
    """
    if device.type != "cpu":
        return 0
    if any(isinstance(layer, nn.Conv2d) for layer in template.modules()):
        return math.inf
    return 50_000 if members == 1 else 20_000


def build_trainer(
    configs: Sequence[Config], environment: StatefulEnvironment | None = None, sections: Sections | None = None
) -> Trainer:
    """Everything that a run (or a population of them) needs, put together.

    Args:
        configs: of the members.
        environment: theirs, where they go on in one; else it is made.
        sections: that go on counting where the time goes.

    Raises:
        UserError: the config does not fit together, or names something that does not exist.
    """
    first = configs[0]
    for config in configs:
        check_config(config)
    threads = prepare(first.trainer.threads)
    device = resolve_device(first.trainer.device)
    if device.type == "cuda":
        torch.cuda.set_device(device)  # whose streams and graphs are meant where none is named
    environment = environment or make_training_environment(first.env, len(configs), threads, device)
    spec = environment.spec
    check_fit(first, spec, len(configs))
    _check_evaluation_environment(first, spec)
    _check_network(first, spec, len(configs))

    template, traits = make_network(first, spec), make_traits(configs)
    learner = Learner(
        template,
        flatten_parameters([_initial_network(c, spec) for c in configs], device),
        traits.algorithm,
        traits.optimizer,
        traits.target_rule,
        traits.max_gradient_norm,
        getattr(torch, first.trainer.precision),
        _acting_fractions(first),
        first.trainer.random_shift_pixels,
        _relative_rates(first, template, device),
    )
    memory = _make_memory(first, spec, traits)
    evaluator = Evaluator(
        make_environment=lambda: make_evaluation_environment(first, len(configs), first.evaluation.episodes),
        seeds=traits.seeds,
        episodes=first.evaluation.episodes,
        epsilon=first.exploration.evaluation_epsilon,
        device=device,
    )
    parts = Parts(environment, memory, learner, evaluator, traits)
    periods = Periods(first.trainer.log_every_steps, first.evaluation.every_steps, first.checkpoint.every_steps)
    pays_from_updates = _updates_worth_compiling(template, device, len(configs))
    compiles = wants_compilation(first.trainer, pays_from_updates)
    if compiles:  # on a GPU: captured in CUDA graphs, for which everything must be there
        compiles = can_compile() if device.type == "cpu" else memory.device == device and memory.is_traceable
    sections = sections or (Stopwatch() if first.trainer.profile else Sections())
    shrinks_for = pays_from_updates if compiles else 0  # as a smaller population would have to be compiled, too
    return Trainer(parts, first.trainer, first.evaluation.stop, periods, compiles, sections, shrinks_for)


def _make_memory(config: Config, spec: EnvironmentSpec, traits: Traits) -> UniformMemory:
    settings, num_envs = config.memory, config.env.num_envs
    shared: dict[str, Any] = {
        "spec": spec,
        "num_envs": num_envs,
        "capacity_steps": capacity_steps(config, spec),
        "discount": traits.discount,
        "device": traits.discount.device,
        "compressed": settings.compression == "lz4",
    }
    if isinstance(settings, RolloutMemoryConfig):
        assert traits.trace_decay is not None
        return RolloutMemory(traits.trace_decay, **shared)
    shared["n_step"] = settings.n_step
    if isinstance(settings, UniformMemoryConfig):
        return UniformMemory(**shared, replacement=settings.replacement)
    offset = settings.priority_offset if isinstance(settings, PrioritizedMemoryConfig) else 0.0
    priorities = Priorities(
        settings.priority_exponent, offset, settings.uniform_share, settings.stratified, settings.normalization
    )
    if isinstance(settings, RankedMemoryConfig):
        return RankedMemory(priorities, math.ceil(settings.rank_every_steps / num_envs), **shared)
    return PrioritizedMemory(priorities, **shared)


def make_traits(configs: Sequence[Config]) -> Traits:
    """What the configs of a population's members may differ in, on the devices where it is used."""
    first = configs[0]
    device = resolve_device(first.trainer.device)
    policy, schedule = _make_exploration(configs, device)
    terminal_rewards = [
        float("nan") if c.trainer.terminal_reward is None else c.trainer.terminal_reward for c in configs
    ]
    return Traits(
        seeds=tuple(c.seed for c in configs),
        warmup_steps=np.array([c.memory.warmup_steps for c in configs]),
        trace_decay=_trace_decay(configs, _memory_device(first, device)),
        discount=_trait([c.algorithm.discount for c in configs], _memory_device(first, device)),
        max_gradient_norm=_trait([c.optimizer.max_gradient_norm or float("inf") for c in configs], device),
        algorithm=_make_algorithm(configs, device),
        optimizer=_make_optimizer(configs, device),
        target_rule=_make_target_rule(configs, device),
        plan=Plan(
            policy=policy,
            exploration=schedule,
            learning_rate_schedule=_make_schedule([c.optimizer.learning_rate_schedule for c in configs], device),
            learning_rate=_trait([c.optimizer.learning_rate for c in configs], device, torch.float64),
            importance_exponent=_importance_exponent(configs, device),
            terminal_reward=_trait(terminal_rewards, device).unsqueeze(-1),
            truncation_is_terminal=first.trainer.truncation_is_terminal,
        ),
    )


def check_buildable(configs: Sequence[Config]) -> None:
    """Raise the UserError that building this population would raise, as far as configs and environment tell."""
    first = configs[0]
    for config in configs:
        check_config(config)
    environment = make_environment(replace(first.env, num_envs=1), 1, 1)
    try:
        check_fit(first, environment.spec, len(configs))
        _check_evaluation_environment(first, environment.spec)
        _check_network(first, environment.spec, len(configs))
        _make_algorithm(configs, torch.device("cpu"))  # of which a user's loss may be wrong
    finally:
        environment.close()


def stacks(config: Config) -> bool:
    """Whether several such runs train faster as one population: not with convolutions on a CPU."""
    return (
        not isinstance(config.network, CNNConfig | ImpalaConfig) or resolve_device(config.trainer.device).type != "cpu"
    )


def resolve_device(name: str) -> torch.device:
    """The device that a config names; auto is the GPU if there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda":  # by its full name, so that devices can be compared
        name = f"cuda:{torch.cuda.current_device()}"
    return torch.device(name)


def compiled_as(form: Mapping[str, Any], device: str) -> dict[str, str]:
    """The override by which training is compiled, or not, as it was; none where this device is of another kind.

    Args:
        form: then, see `Trainer.form`.
        device: as the config names it.
    """
    if resolve_device(device).type != form["device"]:
        return {}
    return {"trainer.compile": "always" if form["compiled"] else "never"}


def _memory_device(config: Config, network_device: torch.device) -> torch.device:
    if config.memory.device != "auto":
        return resolve_device(config.memory.device)
    return network_device if config.memory.compression == "none" else torch.device("cpu")


# --- environments ---


def make_environment(
    config: EnvConfig,
    members: int,
    threads: int,
    render: bool = False,
    draws_path: bool = False,
    device: torch.device | None = None,
) -> TensorEnvironment | ReseedableEnvironment:
    """The environments of a population: `num_envs` for each of its members.

    Args:
        config: of the environment.
        members: of the population.
        threads: that Atari games may use.
        render: whether environment 0 is to be drawn.
        draws_path: whether `path_drawing` is to answer, where there is a map.
        device: of environments that are functions of tensors; None is the CPU. Nothing drawn is one.

    Raises:
        UserError: there is no such environment, or deep Q-learning cannot use it.
    """
    num_envs = members * config.num_envs
    if isinstance(config, AtariConfig):
        from dqn.envs.atari import AtariEnvironment

        settings = {k: v for k, v in asdict(config).items() if k not in ("kind", "num_envs")}
        return AtariEnvironment(**settings, num_envs=num_envs, num_threads=threads, render=render)
    if isinstance(config, GridWorldConfig):
        from dqn.envs.gridworld import GRID_WORLD_ID

        kwargs = {k: v for k, v in asdict(config).items() if k not in ("kind", "num_envs", "backend")}
        env_id, max_steps = GRID_WORLD_ID, None  # its limit is among the kwargs
    else:
        assert isinstance(config, GymnasiumConfig)
        env_id, kwargs, max_steps = config.id, config.kwargs, config.max_steps
    if config.backend == "torch" and not (render or draws_path):
        from dqn.envs.batched.factory import make_batched

        return make_batched(env_id, num_envs, kwargs, max_steps, members, device or torch.device("cpu"))
    from dqn.envs.gymnasium_env import GymnasiumEnvironment

    return GymnasiumEnvironment(env_id, num_envs, kwargs, max_steps, members=members, render=render)


def make_training_environment(
    config: EnvConfig, members: int, threads: int, device: torch.device
) -> StatefulEnvironment:
    """Environments that a resumed run goes on with in mid-episode; see `make_environment`."""
    from dqn.envs.replay import ReplayedEnvironment

    environment = make_environment(config, members, threads, device=device)
    return environment if isinstance(environment, TensorEnvironment) else ReplayedEnvironment(environment)


def evaluation_env_config(config: Config) -> EnvConfig:
    """The environment as evaluations see it: `env` with the fields of `evaluation.env` in place of its own.

    Raises:
        UserError: `evaluation.env` has a field that the environment does not.
    """
    return validate(type(config.env), {**asdict(config.env), **config.evaluation.env}, prefix="evaluation.env")


def make_evaluation_environment(
    config: Config, members: int, episodes: int, render: bool = False, draws_path: bool = False
) -> Environment:
    """Environments for evaluations of so many episodes, never more of them for a member; see `make_environment`."""
    env_config = replace(evaluation_env_config(config), num_envs=min(config.evaluation.num_envs, episodes))
    return make_environment(env_config, members, config.trainer.threads or default_threads(), render, draws_path)


def _check_evaluation_environment(config: Config, spec: EnvironmentSpec) -> None:
    """Raise a UserError if evaluations would observe or act otherwise than training."""
    environment = make_evaluation_environment(config, 1, 1)
    environment.close()
    for name in ("observation_shape", "frame_dtype", "num_states", "num_actions"):
        here, there = getattr(spec, name), getattr(environment.spec, name)
        if here != there:
            raise UserError("evaluation.env", config.evaluation.env, f"changes {name} from {here} to {there}")


# --- networks ---


def make_network(config: Config, spec: EnvironmentSpec) -> nn.Module:
    """The single-member network that a config names, uninitialized.

    Raises:
        UserError: it cannot read this environment's observations.
    """
    network, per_action = config.network, _outputs_per_action(config)
    try:
        if isinstance(network, TabularConfig):
            return q_network.tabular(spec, per_action)
        head, noise_std = _head(network.head, config.algorithm), network.noise_std
        if isinstance(network, MLPConfig):
            return q_network.mlp(
                spec, network.hidden_sizes, network.activation, head, per_action, noise_std, network.layer_norm
            )
        if isinstance(network, ImpalaConfig):
            sizes = network.width, network.hidden_size
            return q_network.impala_cnn(spec, *sizes, head, per_action, noise_std, network.layer_norm)
        cnn = {"nips_cnn": q_network.nips_cnn, "nature_cnn": q_network.nature_cnn}[network.kind]
        return cnn(spec, head, per_action, noise_std, network.layer_norm)
    except ValueError as error:
        raise UserError("network", network.kind, f"{error}; network=mlp reads them") from error


def _head(config: HeadConfig, algorithm: AlgorithmConfig) -> heads.Head:
    if isinstance(config, DuelingHeadConfig):
        head: heads.Head = partial(heads.dueling, gradient_scale=config.gradient_scale)
    else:
        head = {"linear": heads.linear, "shared_bias": heads.shared_bias}[config.kind]
    if isinstance(algorithm, ImplicitQuantilesConfig):
        numbers = algorithm.num_cosines, algorithm.num_acting_fractions
        return heads.quantiles_at_fractions(ImplicitQuantiles, head, *numbers)
    if isinstance(algorithm, FQFConfig):
        numbers = algorithm.num_cosines, algorithm.num_fractions
        return heads.quantiles_at_fractions(ProposedQuantiles, head, *numbers)
    return head


def _check_network(config: Config, spec: EnvironmentSpec, members: int) -> None:
    """Raise a UserError if the network that a config names cannot read the observations, or is too large."""
    with torch.device("meta"):
        network = make_network(config, spec)
    check_network_fits(config, spec, network, members)


def _initial_network(config: Config, spec: EnvironmentSpec) -> nn.Module:
    network = make_network(config, spec)
    initialize(network, config.network.initialization, derive_seed(config.seed, "initialization"))
    return network


# --- learning ---


def _trait(values: Sequence[float], device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.tensor(values, dtype=dtype, device=device)


def _field(configs: Sequence[Any], name: str, device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """One field of the members' configs as a trait, (M,) or, of lists, (M, K)."""
    return _trait([getattr(c, name) for c in configs], device, dtype)


def make_readout(config: Config, device: torch.device) -> nn.Module:
    """What makes Q-values of the network's outputs."""
    algorithm = config.algorithm
    if isinstance(algorithm, C51Config):
        return ExpectedValue(torch.linspace(algorithm.min_value, algorithm.max_value, algorithm.num_atoms)).to(device)
    if isinstance(algorithm, FQFConfig):
        return MeanOfProposed()
    has_quantiles = isinstance(algorithm, QRDQNConfig | ImplicitQuantilesConfig)
    return MeanQuantile() if has_quantiles else nn.Identity()


def _relative_rates(config: Config, network: nn.Module, device: torch.device) -> Tensor | None:
    """Of each parameter, (P,), where there are some that learn at another rate."""
    if not isinstance(config.algorithm, FQFConfig):
        return None
    proposals = [layer.proposal for layer in network.modules() if isinstance(layer, ProposedQuantiles)]
    slower = {parameter for proposal in proposals for parameter in proposal.parameters()}
    rate = config.algorithm.proposal_rate
    return torch.cat([torch.full((p.numel(),), rate if p in slower else 1.0) for p in network.parameters()]).to(device)


def _acting_fractions(config: Config) -> int:
    algorithm = config.algorithm
    return algorithm.num_acting_fractions if isinstance(algorithm, ImplicitQuantilesConfig) else 0


def _outputs_per_action(config: Config) -> int:
    algorithm = config.algorithm
    if isinstance(algorithm, C51Config):
        return algorithm.num_atoms
    return algorithm.num_quantiles if isinstance(algorithm, QRDQNConfig) else 1


def _make_algorithm(configs: Sequence[Config], device: torch.device) -> Algorithm:
    first, readout = configs[0].algorithm, make_readout(configs[0], device)

    def trait(name: str) -> Tensor:
        return _field([c.algorithm for c in configs], name, device)

    def munchausen() -> Munchausen:
        return Munchausen(trait("alpha"), trait("temperature"), trait("min_log_policy"))

    if isinstance(first, C51Config):
        assert isinstance(readout, ExpectedValue)
        return C51(first.double, readout, readout.atoms)
    if isinstance(first, QRDQNConfig):
        return QRDQN(first.double, readout, Huber(trait("threshold")))
    if isinstance(first, FQFConfig):
        return FQF(first.double, readout, Huber(trait("threshold")))
    if isinstance(first, ImplicitQuantilesConfig):
        numbers = first.num_fractions, first.num_target_fractions, first.num_acting_fractions
        if isinstance(first, IQNConfig):
            return IQN(first.double, readout, Huber(trait("threshold")), *numbers)
        return MunchausenIQN(False, readout, Huber(trait("threshold")), munchausen(), *numbers)
    losses = [c.algorithm.loss for c in configs if isinstance(c.algorithm, DQNConfig | MunchausenDQNConfig | PQNConfig)]
    td_loss = _make_loss(losses, device)
    if isinstance(first, PQNConfig):
        return PQN(False, readout, td_loss)
    if isinstance(first, DQNConfig):
        return DQN(first.double, readout, td_loss)
    return MunchausenDQN(False, readout, td_loss, munchausen())


def _trace_decay(configs: Sequence[Config], device: torch.device) -> Tensor | None:
    memories = [c.memory for c in configs]
    decays = [m.trace_decay for m in memories if isinstance(m, RolloutMemoryConfig)]
    return _trait(decays, device) if decays else None


def _make_loss(losses: Sequence[LossConfig], device: torch.device) -> TDLoss:
    first = losses[0]
    if isinstance(first, HuberConfig):
        return Huber(_field(losses, "threshold", device))
    if isinstance(first, MSEConfig):
        return SquaredError(_field(losses, "factor", device))
    arguments = [loss.arguments for loss in losses if isinstance(loss, CustomLossConfig)]
    return make_custom_loss(first._target_, arguments, device)


def _importance_exponent(configs: Sequence[Config], device: torch.device) -> exploration.Schedule | None:
    memories = [c.memory for c in configs]
    schedules = [m.importance_exponent for m in memories if isinstance(m, PriorityMemoryConfig)]
    return _make_schedule(schedules, device) if schedules else None


def _make_optimizer(configs: Sequence[Config], device: torch.device) -> optim.Optimizer:
    settings = [c.optimizer for c in configs]

    def trait(name: str) -> Tensor:
        return _field(settings, name, device)

    kind = settings[0]
    if isinstance(kind, MomentsConfig):
        rule = optim.RAdam if isinstance(kind, RAdamConfig) else optim.Adam
        return rule(trait("beta1"), trait("beta2"), trait("epsilon"))
    if isinstance(kind, RMSPropConfig):
        return optim.RMSProp(trait("decay"), trait("epsilon"))
    if isinstance(kind, CenteredRMSPropConfig):
        return optim.CenteredRMSProp(trait("decay"), trait("epsilon_in_root"))
    assert isinstance(kind, SGDConfig)
    return optim.SGD(trait("momentum"))


def _make_target_rule(configs: Sequence[Config], device: torch.device) -> TargetRule:
    targets = [c.target for c in configs]
    if isinstance(targets[0], HardTargetConfig):
        periods = tuple(t.period_steps for t in targets if isinstance(t, HardTargetConfig))
        return PeriodicTarget(periods, _trait([1.0] * len(targets), device))
    if isinstance(targets[0], PolyakTargetConfig):
        return PeriodicTarget((1,) * len(targets), _field(targets, "rate", device))
    return NoTarget()


def _make_exploration(
    configs: Sequence[Config], device: torch.device
) -> tuple[exploration.Policy, exploration.Schedule]:
    settings = [c.exploration for c in configs]
    first = settings[0]
    if not isinstance(first, EpsilonGreedyConfig | BoltzmannConfig | MaxBoltzmannConfig):
        return exploration.Greedy(), exploration.Constant(_trait([0.0] * len(configs), device, torch.float64))
    schedule = _make_schedule([c.schedule for c in settings if c.kind != "greedy"], device)
    if isinstance(first, EpsilonGreedyConfig):
        return exploration.EpsilonGreedy(), schedule
    if isinstance(first, BoltzmannConfig):
        return exploration.Boltzmann(), schedule
    return exploration.MaxBoltzmann(_field(settings, "temperature", device, torch.float64)), schedule


def _make_schedule(schedules: Sequence[ScheduleConfig], device: torch.device) -> exploration.Schedule:
    def trait(name: str) -> Tensor:
        return _field(schedules, name, device, torch.float64)

    kind = schedules[0]
    if isinstance(kind, ConstantConfig):
        return exploration.Constant(trait("value"))
    if isinstance(kind, LinearConfig):
        return exploration.Linear(trait("start"), trait("end"), trait("delay_steps"), trait("duration_steps"))
    if isinstance(kind, ExponentialConfig):
        return exploration.Exponential(trait("start"), trait("end"), trait("decay"), kind.per)
    assert isinstance(kind, PiecewiseConfig)
    return exploration.Piecewise(trait("steps"), trait("values"))


def capacity_steps(config: Config, spec: EnvironmentSpec) -> int:
    """The memory's capacity in agent steps; unbounded means as many as the run can have."""
    if config.memory.capacity_steps is not None:
        return config.memory.capacity_steps
    limits = [config.trainer.total_steps] if config.trainer.total_steps is not None else []
    if config.trainer.total_episodes is not None and spec.max_episode_steps is not None:
        # Each episode takes its steps and the autoreset's.
        limits.append(config.trainer.total_episodes * (spec.max_episode_steps + 1))
    return min(limits)
