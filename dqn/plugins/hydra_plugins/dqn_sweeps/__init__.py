"""What Hydra finds of this project: it takes plug-ins from the package `hydra_plugins` only.

Hydra imports this module in every run, for --help too, so these are shells, which import their work when it is there.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from hydra.plugins.launcher import Launcher
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

if TYPE_CHECKING:
    from dqn.sweep.breeder import TruncationBreeder
    from dqn.sweep.launch import JobJudge


class PopulationLauncher(Launcher):
    """conf/hydra/launcher/population.yaml; see `dqn.sweep.launch`.

    Args:
        settings: fields of the config, which are read and checked where the jobs are launched.

    Attributes:
        judge: ends jobs early, by their numbers; set by a sweeper that prunes.
        breeder: makes jobs copies of others, by their numbers; set by a sweeper whose jobs are one population.
        keeps_numbers: whether a job is known again by its number; set by a sweeper that may repeat overrides.
    """

    def __init__(self, **settings: Any) -> None:
        self.judge: JobJudge | None = None
        self.breeder: TruncationBreeder | None = None
        self.keeps_numbers = False
        self._context: HydraContext | None = None
        self._config: DictConfig | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Hydra's first call, before it writes; the task function is for launchers that run one job at a time."""
        from dqn.composer import compose_jobs_faster
        from dqn.sweep.launch import prepare

        prepare(config)
        compose_jobs_faster(hydra_context.config_loader)
        self._context, self._config = hydra_context, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Train the jobs with these overrides."""
        from dqn.sweep.launch import launch

        assert self._context is not None
        assert self._config is not None
        return launch(
            self._context,
            self._config,
            job_overrides,
            initial_job_idx,
            self.judge,
            self.breeder,
            keeps_numbers=self.keeps_numbers,
        )


class ConfigFiles(SearchPathPlugin):
    """Makes conf/ known also where the config is a run's own, which names a launcher from there."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Add conf/ behind what is there."""
        from dqn.compose import CONF

        search_path.append(provider="dqn", path=f"file://{CONF}")


class NewFolders(Callback):
    """Tells `dqn.new_folders` what Hydra is about to make."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Before the folder of a single run is made."""
        _expect(config, "hydra.run.dir")

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Before the folder of a multirun is made."""
        _expect(config, "hydra.sweep.dir")


def _expect(config: DictConfig, key: str) -> None:
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from dqn import new_folders

    try:
        HydraConfig.instance().set_config(config)  # for ${hydra:...}, as Hydra does a moment later
        new_folders.expect(Path(str(OmegaConf.select(config, key))).absolute())
    except (OmegaConfBaseException, OSError, ValueError):
        return  # Hydra comes across the same, and has its own say


class _Sweeper(Sweeper):
    """What our sweepers share.

    Args:
        settings: fields of the config, which are read and checked where the sweep starts.
    """

    def __init__(self, **settings: Any) -> None:
        self.hydra_context: HydraContext | None = None
        self.config: DictConfig | None = None
        self.launcher: Any = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep Hydra's context and make the launcher."""
        from hydra.core.plugins import Plugins

        self.hydra_context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(hydra_context, task_function, config)


class OptunaSweeper(_Sweeper):
    """conf/hydra/sweeper/optuna.yaml; see `dqn.sweep.optuna_sweeper`."""

    def sweep(self, arguments: list[str]) -> None:
        """Search."""
        from dqn.sweep.checks import check_installed

        check_installed("hydra/sweeper=optuna", "optuna")
        from dqn.sweep.optuna_sweeper import OptunaSearch

        assert self.hydra_context is not None
        assert self.config is not None
        OptunaSearch(self.config, self.launcher, self.hydra_context.config_loader, arguments).run()


class PBTSweeper(_Sweeper):
    """conf/hydra/sweeper/pbt.yaml; see `dqn.sweep.pbt_sweeper`."""

    def sweep(self, arguments: list[str]) -> None:
        """Train."""
        from dqn.sweep.pbt_sweeper import PopulationTraining

        assert self.hydra_context is not None
        assert self.config is not None
        PopulationTraining(self.config, self.launcher, self.hydra_context.config_loader, arguments).run()
