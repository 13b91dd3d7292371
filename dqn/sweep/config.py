"""What a search is, as types: conf/hydra/sweeper/*.yaml and the options of their groups."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from dqn.config import NonNegative, Positive, PositiveFloat

_STRICT = ConfigDict(extra="forbid")

Objective = Literal["mean_return", "steps_to_threshold"]
Aggregate = Literal["mean", "iqm"]


# --- sampler: what proposes the next trials --------------------------------------------------------------------


@dataclass(config=_STRICT, frozen=True)
class TPEConfig:
    """conf/hydra/sweeper/sampler/tpe.yaml."""

    kind: Literal["tpe"]
    seed: NonNegative
    startup_trials: NonNegative


@dataclass(config=_STRICT, frozen=True)
class RandomConfig:
    """conf/hydra/sweeper/sampler/random.yaml."""

    kind: Literal["random"]
    seed: NonNegative


@dataclass(config=_STRICT, frozen=True)
class GridConfig:
    """conf/hydra/sweeper/sampler/grid.yaml."""

    kind: Literal["grid"]
    seed: NonNegative


@dataclass(config=_STRICT, frozen=True)
class CMAESConfig:
    """conf/hydra/sweeper/sampler/cmaes.yaml."""

    kind: Literal["cmaes"]
    seed: NonNegative
    startup_trials: Positive


@dataclass(config=_STRICT, frozen=True)
class QMCConfig:
    """conf/hydra/sweeper/sampler/qmc.yaml."""

    kind: Literal["qmc"]
    seed: NonNegative
    sequence: Literal["sobol", "halton"]


SamplerConfig = Annotated[TPEConfig | RandomConfig | GridConfig | CMAESConfig | QMCConfig, Field(discriminator="kind")]


# --- pruner: what ends hopeless trials -------------------------------------------------------------------------


@dataclass(config=_STRICT, frozen=True)
class NoPrunerConfig:
    """conf/hydra/sweeper/pruner/none.yaml."""

    kind: Literal["none"]


@dataclass(config=_STRICT, frozen=True)
class MedianConfig:
    """conf/hydra/sweeper/pruner/median.yaml."""

    kind: Literal["median"]
    warmup_steps: NonNegative
    startup_trials: NonNegative


@dataclass(config=_STRICT, frozen=True)
class SuccessiveHalvingConfig:
    """conf/hydra/sweeper/pruner/successive_halving.yaml."""

    kind: Literal["successive_halving"]
    min_steps: Positive
    reduction_factor: Annotated[int, Field(ge=2)]


@dataclass(config=_STRICT, frozen=True)
class HyperbandConfig:
    """conf/hydra/sweeper/pruner/hyperband.yaml."""

    kind: Literal["hyperband"]
    min_steps: Positive
    reduction_factor: Annotated[int, Field(ge=2)]


PrunerConfig = Annotated[
    NoPrunerConfig | MedianConfig | SuccessiveHalvingConfig | HyperbandConfig, Field(discriminator="kind")
]


# --- the sweeps ------------------------------------------------------------------------------------------------


@dataclass(config=_STRICT, frozen=True)
class OptunaConfig:
    """conf/hydra/sweeper/optuna.yaml."""

    trials: Positive
    trials_per_batch: Positive | None
    seeds_per_trial: Positive
    first_seed: NonNegative
    aggregate: Aggregate
    objectives: Annotated[list[Objective], Field(min_length=1, max_length=2)]
    sampler: SamplerConfig
    pruner: PrunerConfig
    storage: str | None
    study_name: Annotated[str, Field(min_length=1)]


@dataclass(config=_STRICT, frozen=True)
class PBTConfig:
    """conf/hydra/sweeper/pbt.yaml."""

    population: Annotated[int, Field(ge=2)]
    first_seed: NonNegative
    every_steps: Positive
    replaced_share: Annotated[float, Field(gt=0, le=0.5)]
    factors: Annotated[list[PositiveFloat], Field(min_length=1)]
    seed: NonNegative
