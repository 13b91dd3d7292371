"""Sweeps without training: Hydra composes, a made-up launcher scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_launcher import FakeLauncher
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.utils import setup_globals
from hydra.types import RunMode

from dqn.compose import CONF, register_resolvers
from dqn.sweep.optuna_sweeper import OptunaSearch

MakeSearch = Callable[..., tuple[OptunaSearch, FakeLauncher]]


@pytest.fixture(scope="session")
def config_loader() -> ConfigLoaderImpl:
    register_resolvers()
    setup_globals()
    return ConfigLoaderImpl(create_config_search_path(str(CONF)))


@pytest.fixture
def two_nodes() -> Iterator[tuple[Any, Any]]:
    """A Ray cluster of two nodes with one core each, and the node that is not its head."""
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    quickly = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 3}
    small = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
    cluster = cluster_utils.Cluster(
        initialize_head=True, head_node_args={**small, "include_dashboard": False, "_system_config": quickly}
    )
    try:
        yield cluster, cluster.add_node(**small)
    finally:
        cluster.shutdown()


@pytest.fixture
def make_search(config_loader: ConfigLoaderImpl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeSearch:
    """make_search("sweep=cartpole", stop_at_batch=3): a search in an empty folder, and its launcher."""
    monkeypatch.chdir(tmp_path)

    def make(*words: str, **launcher_options: Any) -> tuple[OptunaSearch, FakeLauncher]:
        config = config_loader.load_configuration("config", ["hydra/sweeper=optuna", *words], run_mode=RunMode.MULTIRUN)
        launcher = FakeLauncher(Path(config.hydra.sweep.dir), **launcher_options)
        arguments = list(config.hydra.overrides.task)
        return OptunaSearch(config, launcher, config_loader, arguments), launcher  # type: ignore[arg-type]

    return make
