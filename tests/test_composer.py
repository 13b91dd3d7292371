"""A config that is a copy with other values is the config that Hydra composes."""

from __future__ import annotations

import copy

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.utils import setup_globals
from hydra.errors import ConfigCompositionException, HydraException
from hydra.types import RunMode
from omegaconf import OmegaConf

from dqn.compose import CONF, register_resolvers
from dqn.composer import compose_jobs_faster

JOBS = [
    ["seed=3"],
    ["seed=4", "trainer.batch_size=7"],
    ["trainer.batch_size=8", "experiment=pong", "seed=4"],
    ["experiment=pong", "trainer.batch_size=null", "seed=4"],
    ["experiment=cartpole", "seed=1", "network.hidden_sizes=[16, 8]"],
    ["network=mlp", "network.hidden_sizes=[4]", "network=tabular"],
    ["seed=1", "seed=2"],
    ["trainer.batch_size=3", "++trainer.batch_size=4"],
    ["env=gymnasium", "env.id=A", "++env.kwargs.a=1", "+env.kwargs.b={c: [1, x]}"],
    ["hydra.verbose=true", "seed=${trainer.batch_size}", "name='a=b, c'"],
    ["~evaluation.stop", "seed=5"],
    ["env.num_envs=2", "env={num_envs: 4}"],
    ["network.hidden_sizes=[1]", "network={hidden_sizes: [2]}", "seed=3"],
    ["evaluation.stop={mean_return: 3}", "evaluation={stop: {mean_return: 4}}"],
]


@pytest.fixture
def loaders():
    """Hydra's own, one made faster, the overrides that this one leaves to Hydra, and a multirun's config."""
    register_resolvers()
    setup_globals()
    own = ConfigLoaderImpl(create_config_search_path(str(CONF)))
    words = ["hydra.sweep.dir=x-${now:%f}", "seed=1,2"]
    master = own.load_configuration("config", words, run_mode=RunMode.MULTIRUN)
    faster, left_to_hydra = copy.copy(own), []

    def load(config, overrides):
        left_to_hydra.append(overrides)
        return own.load_sweep_config(config, overrides)

    faster.load_sweep_config = load
    compose_jobs_faster(faster)
    return own, faster, left_to_hydra, master


def test_every_job_is_what_hydra_composes(loaders):
    own, faster, left_to_hydra, master = loaders
    assert master.hydra.sweep.dir.startswith("x-")
    composed = [own.load_sweep_config(master, overrides) for overrides in JOBS]
    for overrides, expected in [*zip(JOBS, composed, strict=True)] * 2:
        config = faster.load_sweep_config(master, overrides)
        assert OmegaConf.to_container(config) == OmegaConf.to_container(expected)
        assert config.hydra.sweep.dir == master.hydra.sweep.dir  # the time was taken once
        assert OmegaConf.is_struct(config)
        config.trainer.batch_size = 99  # which must reach no other
    assert left_to_hydra.count(["experiment=pong"]) == 1


def test_options_are_composed_once(loaders):
    _, faster, left_to_hydra, master = loaders
    first, second = (faster.load_sweep_config(master, ["target=hard", f"seed={seed}"]) for seed in (3, 4))
    assert left_to_hydra == [["target=hard"]]
    assert (first.seed, second.seed) == (3, 4)
    assert list(second.hydra.overrides.task) == ["target=hard", "seed=4"]
    other = copy.deepcopy(master)
    other.hydra.overrides.hydra = ["hydra.sweep.dir=y"]  # another multirun
    assert faster.load_sweep_config(other, ["target=hard"]).hydra.sweep.dir == "y"


@pytest.mark.parametrize(
    "overrides", [["sed=3"], ["trainer.sed=3"], ["network=mpl", "seed=1"], ["seed"], ["a.b/c=3"], ["name@x=a"]]
)
def test_what_is_wrong_is_said_by_hydra(loaders, overrides):
    own, faster, _, master = loaders
    with pytest.raises(HydraException) as expected:
        own.load_sweep_config(master, overrides)
    with pytest.raises(type(expected.value)) as raised:
        faster.load_sweep_config(master, overrides)
    assert str(raised.value) == str(expected.value)
    assert isinstance(raised.value, ConfigCompositionException) or "parse" in type(raised.value).__name__.lower()
