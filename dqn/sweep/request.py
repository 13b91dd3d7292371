"""What a sweeper of ours is asked for: the settings that all jobs share, the space to search, and a job's config."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from dqn.compose import explain_composition, leave_out_strays, resolve
from dqn.errors import UserError
from dqn.run_folder import empty
from dqn.sweep.arguments import read_arguments
from dqn.sweep.jobs import check_place

if TYPE_CHECKING:
    from hydra.core.config_loader import ConfigLoader


class SweepRequest:
    """A sweep's command line and what Hydra composed from it.

    Args:
        config: what Hydra composed.
        loader: composes the config of a job.
        arguments: the words of the command line that are not for Hydra itself.

    Attributes:
        folder: the sweep's.
        is_resumed: whether there should be a sweep in it already.
        sweeper: the settings of the sweeper, as plain values.
        run_values: what its runs share, likewise.
        shared: the overrides that all jobs share.
        space: what differs.

    Raises:
        UserError: something on the command line cannot work.
    """

    def __init__(self, config: DictConfig, loader: ConfigLoader, arguments: Sequence[str]) -> None:
        self._config, self._loader = config, loader
        self.folder, self.is_resumed = Path(config.hydra.sweep.dir), config.sweep.resume is not None
        self.sweeper = {k: v for k, v in _plain(config.hydra.sweeper).items() if k != "_target_"}
        self.run_values = _plain(
            OmegaConf.masked_copy(config, [str(key) for key in config if key not in ("hydra", "sweep")])
        )
        self.shared, self.space = read_arguments(arguments, _plain(config.sweep.space), loader)
        leave_out_strays(self.run_values, self.shared)

    def make_folder(self) -> None:
        """Make the folder of a new sweep.

        Raises:
            UserError: there is something in it, or no folder can be there.
        """
        check_place(self.folder, is_resumed=False)
        self._was_there = self.folder.exists()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError("hydra.sweep.dir", self.folder, f"no folder can be made there: {error.strerror}") from error

    def take_back(self) -> bool:
        """Take away what a new sweep has made, if no job has a folder yet, nor another process works; says whether."""
        if self.is_resumed or any(path.is_dir() or path.name == ".lock" for path in self.folder.iterdir()):
            return False
        empty(self.folder)
        if not self._was_there:
            self.folder.rmdir()
        return True

    def compose(self, overrides: Sequence[str]) -> DictConfig:
        """The whole config of a job with these overrides, Hydra's own part included."""
        try:
            return self._loader.load_sweep_config(self._config, list(overrides))
        except (HydraException, OmegaConfBaseException) as error:
            raise explain_composition(error, overrides) from error

    def run_config(self, overrides: Sequence[str]) -> dict[str, Any]:
        """What a run with these overrides, beside those that all share, would have as its config."""
        overrides = [*self.shared, *overrides]
        config = self.compose(overrides)
        with open_dict(config):
            del config["hydra"]
        return resolve(config, overrides)


def _plain(node: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", OmegaConf.to_container(node, resolve=True))
