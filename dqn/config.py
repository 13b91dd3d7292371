"""What a run is, as types: one dataclass per choice, filled from the YAML files in conf/.

Every value and its comment stand in conf/, once; the fields here carry no defaults. A field says its type, its
range and whether it is a trait: a setting in which the members of one population may differ. What must fit
together across fields is checked in `dqn.checks`.
"""

from __future__ import annotations

from dataclasses import dataclass as plain_dataclass
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, functional_validators
from pydantic.dataclasses import dataclass


@plain_dataclass(frozen=True)
class Trait:
    """Marks a field in which members of one population may differ."""


TRAIT = Trait()


def is_number(value: object) -> bool:
    """Whether a free argument is a number, and so a trait; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


_STRICT = ConfigDict(extra="forbid")

LARGEST = 10**15  # more than any run has of anything, and sums of such still fit into 64 bits
Positive = Annotated[int, Field(ge=1, le=LARGEST)]
NonNegative = Annotated[int, Field(ge=0, le=LARGEST)]
Seed = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]


# --- env -----------------------------------------------------------------------------------------------------

Backend = Literal["gymnasium", "torch"]


@dataclass(config=_STRICT, frozen=True)
class GridWorldConfig:
    """conf/env/gridworld.yaml."""

    kind: Literal["gridworld"]
    map: str
    step_reward: Finite
    goal_reward: Finite
    hole_reward: Finite
    slip_probability: Fraction
    start: Literal["fixed", "random", "every"]
    max_steps: Positive
    observation: Literal["index", "one_hot", "coordinates", "image"]
    num_envs: Positive
    backend: Backend


@dataclass(config=_STRICT, frozen=True)
class GymnasiumConfig:
    """conf/env/gymnasium.yaml and cartpole.yaml."""

    kind: Literal["gymnasium"]
    id: str
    kwargs: dict[str, Any]
    max_steps: Positive | None
    num_envs: Positive
    backend: Backend


@dataclass(config=_STRICT, frozen=True)
class AtariConfig:
    """conf/env/atari.yaml, breakout.yaml and pong.yaml."""

    kind: Literal["atari"]
    game: str
    action_repeat: Positive
    repeat_action_probability: Fraction
    noop_max: NonNegative
    fire_on_reset: bool
    full_action_set: bool
    terminal_on_life_loss: bool
    clip_rewards: bool
    frame_height: Annotated[int, Field(ge=8, le=512)]
    frame_width: Annotated[int, Field(ge=8, le=512)]
    frame_stack: Annotated[int, Field(ge=1, le=64)]
    max_pool: bool
    max_frames_per_episode: Positive
    num_envs: Positive


EnvConfig = Annotated[GridWorldConfig | GymnasiumConfig | AtariConfig, Field(discriminator="kind")]


# --- network -------------------------------------------------------------------------------------------------

Initialization = Literal["torch", "xavier_uniform", "he_uniform", "he_normal", "orthogonal", "uniform_01", "zeros"]


@dataclass(config=_STRICT, frozen=True)
class PlainHeadConfig:
    """conf/network/head/linear.yaml and shared_bias.yaml."""

    kind: Literal["linear", "shared_bias"]


@dataclass(config=_STRICT, frozen=True)
class DuelingHeadConfig:
    """conf/network/head/dueling.yaml."""

    kind: Literal["dueling"]
    gradient_scale: Annotated[float, Field(gt=0, le=1)]


HeadConfig = Annotated[PlainHeadConfig | DuelingHeadConfig, Field(discriminator="kind")]


@dataclass(config=_STRICT, frozen=True)
class MLPConfig:
    """conf/network/mlp.yaml."""

    kind: Literal["mlp"]
    hidden_sizes: list[Positive]
    activation: Literal["relu", "tanh", "elu", "silu", "sigmoid"]
    initialization: Initialization
    noise_std: PositiveFloat | None
    layer_norm: bool
    head: HeadConfig


@dataclass(config=_STRICT, frozen=True)
class CNNConfig:
    """conf/network/nips_cnn.yaml and nature_cnn.yaml."""

    kind: Literal["nips_cnn", "nature_cnn"]
    initialization: Initialization
    noise_std: PositiveFloat | None
    layer_norm: bool
    head: HeadConfig


@dataclass(config=_STRICT, frozen=True)
class ImpalaConfig:
    """conf/network/impala_cnn.yaml."""

    kind: Literal["impala_cnn"]
    width: Annotated[int, Field(ge=1, le=64)]
    hidden_size: Positive
    initialization: Initialization
    noise_std: PositiveFloat | None
    layer_norm: bool
    head: HeadConfig


@dataclass(config=_STRICT, frozen=True)
class TabularConfig:
    """conf/network/tabular.yaml."""

    kind: Literal["tabular"]
    initialization: Initialization


NetworkConfig = Annotated[MLPConfig | CNNConfig | ImpalaConfig | TabularConfig, Field(discriminator="kind")]


# --- memory --------------------------------------------------------------------------------------------------

Device = Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")]


# --- schedules and exploration -------------------------------------------------------------------------------


@dataclass(config=_STRICT, frozen=True)
class ConstantConfig:
    """A schedule that stays where it is."""

    kind: Literal["constant"]
    value: Annotated[NonNegativeFloat, TRAIT]


@dataclass(config=_STRICT, frozen=True)
class LinearConfig:
    """A straight line from start to end."""

    kind: Literal["linear"]
    start: Annotated[NonNegativeFloat, TRAIT]
    end: Annotated[NonNegativeFloat, TRAIT]
    delay_steps: Annotated[NonNegative, TRAIT]
    duration_steps: Annotated[Positive | None, TRAIT]


@dataclass(config=_STRICT, frozen=True)
class ExponentialConfig:
    """Multiplied by the decay once per step or per episode, for as long as it is above the end."""

    kind: Literal["exponential"]
    start: Annotated[PositiveFloat, TRAIT]
    end: Annotated[PositiveFloat, TRAIT]
    decay: Annotated[float, Field(gt=0, lt=1), TRAIT]
    per: Literal["step", "episode"]


@dataclass(config=_STRICT, frozen=True)
class PiecewiseConfig:
    """Straight lines between (step, value) points; constant before the first and after the last."""

    kind: Literal["piecewise"]
    steps: Annotated[list[NonNegative], Field(min_length=1), TRAIT]
    values: Annotated[list[NonNegativeFloat], Field(min_length=1), TRAIT]


ScheduleConfig = Annotated[
    ConstantConfig | LinearConfig | ExponentialConfig | PiecewiseConfig, Field(discriminator="kind")
]


@dataclass(config=_STRICT, frozen=True)
class EpsilonGreedyConfig:
    """conf/exploration/epsilon_greedy.yaml."""

    kind: Literal["epsilon_greedy"]
    schedule: ScheduleConfig
    evaluation_epsilon: Fraction


@dataclass(config=_STRICT, frozen=True)
class BoltzmannConfig:
    """conf/exploration/boltzmann.yaml."""

    kind: Literal["boltzmann"]
    schedule: ScheduleConfig
    evaluation_epsilon: Fraction


@dataclass(config=_STRICT, frozen=True)
class MaxBoltzmannConfig:
    """conf/exploration/max_boltzmann.yaml."""

    kind: Literal["max_boltzmann"]
    schedule: ScheduleConfig
    temperature: Annotated[PositiveFloat, TRAIT]
    evaluation_epsilon: Fraction


@dataclass(config=_STRICT, frozen=True)
class GreedyConfig:
    """conf/exploration/greedy.yaml."""

    kind: Literal["greedy"]
    evaluation_epsilon: Fraction


ExplorationConfig = Annotated[
    EpsilonGreedyConfig | BoltzmannConfig | MaxBoltzmannConfig | GreedyConfig,
    Field(discriminator="kind"),
]


# --- memory ---------------------------------------------------------------------------------------------------


@dataclass(config=_STRICT, frozen=True)
class MemoryConfig:
    """What every memory has."""

    capacity_steps: Positive | None
    warmup_steps: Annotated[NonNegative, TRAIT]
    compression: Literal["none", "lz4"]
    device: Device


@dataclass(config=_STRICT, frozen=True)
class ReplayMemoryConfig(MemoryConfig):
    """What every memory has whose transitions are replayed."""

    n_step: Annotated[int, Field(ge=1, le=1000)]


@dataclass(config=_STRICT, frozen=True)
class UniformMemoryConfig(ReplayMemoryConfig):
    """conf/memory/uniform.yaml."""

    kind: Literal["uniform"]
    replacement: bool


@dataclass(config=_STRICT, frozen=True)
class PriorityMemoryConfig(ReplayMemoryConfig):
    """What every memory has that is sampled by priority."""

    priority_exponent: Annotated[float, Field(ge=0, le=10)]
    uniform_share: Fraction
    stratified: bool
    importance_exponent: ScheduleConfig
    normalization: Literal["batch", "memory"]


@dataclass(config=_STRICT, frozen=True)
class PrioritizedMemoryConfig(PriorityMemoryConfig):
    """conf/memory/prioritized.yaml."""

    kind: Literal["prioritized"]
    priority_offset: NonNegativeFloat


@dataclass(config=_STRICT, frozen=True)
class RankedMemoryConfig(PriorityMemoryConfig):
    """conf/memory/ranked.yaml."""

    kind: Literal["ranked"]
    rank_every_steps: Positive


@dataclass(config=_STRICT, frozen=True)
class RolloutMemoryConfig(MemoryConfig):
    """conf/memory/rollout.yaml."""

    kind: Literal["rollout"]
    trace_decay: Annotated[Fraction, TRAIT]


AnyMemoryConfig = Annotated[
    UniformMemoryConfig | PrioritizedMemoryConfig | RankedMemoryConfig | RolloutMemoryConfig,
    Field(discriminator="kind"),
]


# --- target, optimizer, algorithm ----------------------------------------------------------------------------


@dataclass(config=_STRICT, frozen=True)
class NoTargetConfig:
    """conf/target/none.yaml."""

    kind: Literal["none"]


@dataclass(config=_STRICT, frozen=True)
class HardTargetConfig:
    """conf/target/hard.yaml."""

    kind: Literal["hard"]
    period_steps: Annotated[Positive, TRAIT]


@dataclass(config=_STRICT, frozen=True)
class PolyakTargetConfig:
    """conf/target/polyak.yaml."""

    kind: Literal["polyak"]
    rate: Annotated[float, Field(gt=0, le=1), TRAIT]


TargetConfig = Annotated[NoTargetConfig | HardTargetConfig | PolyakTargetConfig, Field(discriminator="kind")]


@dataclass(config=_STRICT, frozen=True)
class OptimizerConfig:
    """What every optimizer has."""

    learning_rate: Annotated[PositiveFloat, TRAIT]
    learning_rate_schedule: ScheduleConfig
    max_gradient_norm: Annotated[PositiveFloat | None, TRAIT]


@dataclass(config=_STRICT, frozen=True)
class MomentsConfig(OptimizerConfig):
    """What every optimizer has that estimates two moments of the gradient."""

    beta1: Annotated[Decay, TRAIT]
    beta2: Annotated[Decay, TRAIT]
    epsilon: Annotated[PositiveFloat, TRAIT]


@dataclass(config=_STRICT, frozen=True)
class AdamConfig(MomentsConfig):
    """conf/optimizer/adam.yaml."""

    kind: Literal["adam"]


@dataclass(config=_STRICT, frozen=True)
class RAdamConfig(MomentsConfig):
    """conf/optimizer/radam.yaml."""

    kind: Literal["radam"]


@dataclass(config=_STRICT, frozen=True)
class RMSPropConfig(OptimizerConfig):
    """conf/optimizer/rmsprop.yaml."""

    kind: Literal["rmsprop"]
    decay: Annotated[Decay, TRAIT]
    epsilon: Annotated[PositiveFloat, TRAIT]


@dataclass(config=_STRICT, frozen=True)
class CenteredRMSPropConfig(OptimizerConfig):
    """conf/optimizer/rmsprop_centered.yaml."""

    kind: Literal["rmsprop_centered"]
    decay: Annotated[Decay, TRAIT]
    epsilon_in_root: Annotated[PositiveFloat, TRAIT]


@dataclass(config=_STRICT, frozen=True)
class SGDConfig(OptimizerConfig):
    """conf/optimizer/sgd.yaml."""

    kind: Literal["sgd"]
    momentum: Annotated[Decay, TRAIT]


AnyOptimizerConfig = Annotated[
    AdamConfig | RAdamConfig | RMSPropConfig | CenteredRMSPropConfig | SGDConfig, Field(discriminator="kind")
]


@dataclass(config=_STRICT, frozen=True)
class MSEConfig:
    """conf/algorithm/loss/mse.yaml."""

    kind: Literal["mse"]
    factor: Annotated[PositiveFloat, TRAIT]


@dataclass(config=_STRICT, frozen=True)
class HuberConfig:
    """conf/algorithm/loss/huber.yaml."""

    kind: Literal["huber"]
    threshold: Annotated[PositiveFloat, TRAIT]


@dataclass(config=_STRICT, frozen=True)
class CustomLossConfig:
    """A loss of the user's: a class, and the arguments of its constructor, of which numbers are traits each."""

    kind: Literal["custom"]
    _target_: str
    arguments: Annotated[dict[str, Any], TRAIT]


LossConfig = Annotated[MSEConfig | HuberConfig | CustomLossConfig, Field(discriminator="kind")]


@dataclass(config=_STRICT, frozen=True)
class DQNConfig:
    """conf/algorithm/dqn.yaml and double_dqn.yaml."""

    kind: Literal["dqn"]
    discount: Annotated[Fraction, TRAIT]
    double: bool
    loss: LossConfig


@dataclass(config=_STRICT, frozen=True)
class C51Config:
    """conf/algorithm/c51.yaml."""

    kind: Literal["c51"]
    discount: Annotated[Fraction, TRAIT]
    double: bool
    num_atoms: Annotated[int, Field(ge=2, le=10_000)]
    min_value: Finite
    max_value: Finite


@dataclass(config=_STRICT, frozen=True)
class QRDQNConfig:
    """conf/algorithm/qr_dqn.yaml."""

    kind: Literal["qr_dqn"]
    discount: Annotated[Fraction, TRAIT]
    double: bool
    num_quantiles: Annotated[int, Field(ge=2, le=10_000)]
    threshold: Annotated[PositiveFloat, TRAIT]


@dataclass(config=_STRICT, frozen=True)
class ImplicitQuantilesConfig:
    """What every algorithm of implicit quantiles has."""

    discount: Annotated[Fraction, TRAIT]
    num_fractions: Annotated[int, Field(ge=1, le=10_000)]
    num_target_fractions: Annotated[int, Field(ge=1, le=10_000)]
    num_acting_fractions: Annotated[int, Field(ge=1, le=10_000)]
    num_cosines: Annotated[int, Field(ge=1, le=10_000)]
    threshold: Annotated[PositiveFloat, TRAIT]


@dataclass(config=_STRICT, frozen=True)
class MunchausenConfig:
    """What every algorithm with Munchausen rewards has."""

    alpha: Annotated[Fraction, TRAIT]
    temperature: Annotated[float, Field(ge=1e-6, allow_inf_nan=False), TRAIT]
    min_log_policy: Annotated[float, Field(le=0, allow_inf_nan=False), TRAIT]


@dataclass(config=_STRICT, frozen=True)
class IQNConfig(ImplicitQuantilesConfig):
    """conf/algorithm/iqn.yaml."""

    kind: Literal["iqn"]
    double: bool


@dataclass(config=_STRICT, frozen=True)
class MunchausenIQNConfig(ImplicitQuantilesConfig, MunchausenConfig):
    """conf/algorithm/munchausen_iqn.yaml."""

    kind: Literal["munchausen_iqn"]


@dataclass(config=_STRICT, frozen=True)
class FQFConfig:
    """conf/algorithm/fqf.yaml."""

    kind: Literal["fqf"]
    discount: Annotated[Fraction, TRAIT]
    double: bool
    num_fractions: Annotated[int, Field(ge=2, le=10_000)]
    num_cosines: Annotated[int, Field(ge=1, le=10_000)]
    threshold: Annotated[PositiveFloat, TRAIT]
    proposal_rate: Annotated[float, Field(ge=0, le=1)]


@dataclass(config=_STRICT, frozen=True)
class PQNConfig:
    """conf/algorithm/pqn.yaml."""

    kind: Literal["pqn"]
    discount: Annotated[Fraction, TRAIT]
    loss: LossConfig


@dataclass(config=_STRICT, frozen=True)
class MunchausenDQNConfig(MunchausenConfig):
    """conf/algorithm/munchausen_dqn.yaml."""

    kind: Literal["munchausen_dqn"]
    discount: Annotated[Fraction, TRAIT]
    loss: LossConfig


AlgorithmConfig = Annotated[
    DQNConfig | C51Config | QRDQNConfig | IQNConfig | FQFConfig | MunchausenDQNConfig | MunchausenIQNConfig | PQNConfig,
    Field(discriminator="kind"),
]


# --- trainer and what looks outside --------------------------------------------------------------------------


@dataclass(config=_STRICT, frozen=True)
class TrainerConfig:
    """conf/trainer/default.yaml."""

    total_steps: Positive | None
    total_episodes: Positive | None
    learn_every_steps: Positive | None
    updates_per_learn: Annotated[int, Field(ge=1, le=10_000)]  # between them nothing hears a Ctrl-C
    batch_size: Positive
    terminal_reward: Annotated[Finite | None, TRAIT]
    truncation_is_terminal: bool
    random_shift_pixels: Annotated[int, Field(ge=0, le=64)]
    learn_while_stepping: bool
    log_every_steps: Positive
    device: Device
    threads: Annotated[int, Field(ge=1, le=1024)] | None
    precision: Literal["float32", "bfloat16"]
    compile: Literal["auto", "always", "never"]
    profile: bool


@dataclass(config=_STRICT, frozen=True)
class StopConfig:
    """When evaluations end a run before its fixed length."""

    mean_return: Finite | None
    optimal: bool
    max_value_change: PositiveFloat | None
    evaluations: Positive


@dataclass(config=_STRICT, frozen=True)
class EvaluationConfig:
    """conf/evaluation/default.yaml."""

    every_steps: Positive | None
    episodes: Positive
    final_episodes: Positive
    num_envs: Positive
    env: dict[str, Any]
    video: bool
    stop: StopConfig


@dataclass(config=_STRICT, frozen=True)
class CheckpointConfig:
    """conf/checkpoint/default.yaml."""

    every_steps: Positive | None
    keep: Positive
    memory: bool


@dataclass(config=_STRICT, frozen=True)
class ExportConfig:
    """conf/export/default.yaml."""

    network: Literal["best", "last"]
    formats: list[Literal["safetensors", "onnx", "pt2", "h5"]]


@dataclass(config=_STRICT, frozen=True)
class WandbConfig:
    """conf/logger/wandb.yaml."""

    project: str
    entity: str | None
    group: str | None
    tags: list[str]
    mode: Literal["auto", "online", "offline"]


@dataclass(config=_STRICT, frozen=True)
class TensorboardConfig:
    """conf/logger/tensorboard.yaml."""

    flush_seconds: PositiveFloat


@dataclass(config=_STRICT, frozen=True)
class LoggerConfig:
    """conf/logger/*.yaml: each file adds its own part; a part that no file adds is absent, hence the defaults."""

    wandb: WandbConfig | None = None
    tensorboard: TensorboardConfig | None = None


def _check_names_a_folder(name: str) -> str:
    if not name.strip("."):
        raise ValueError("must be more than dots, as it names a folder")
    return name


@dataclass(config=_STRICT, frozen=True)
class Config:
    """conf/config.yaml: the whole run."""

    name: Annotated[
        str, Field(pattern=r"^[A-Za-z0-9_.-]+$"), functional_validators.AfterValidator(_check_names_a_folder)
    ]
    seed: Annotated[Seed, TRAIT]
    resume: str | None
    env: EnvConfig
    network: NetworkConfig
    memory: AnyMemoryConfig
    exploration: ExplorationConfig
    target: TargetConfig
    optimizer: AnyOptimizerConfig
    algorithm: AlgorithmConfig
    trainer: TrainerConfig
    evaluation: EvaluationConfig
    checkpoint: CheckpointConfig
    export: ExportConfig
    logger: LoggerConfig
