"""Weights & Biases: configuration, curves, exported policy and videos; offline where nobody is logged in.

Settings of the wandb package that matter here are documented at https://docs.wandb.ai/ref/python/init.
"""

from __future__ import annotations

import math
import netrc
import os
import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, cast
from urllib.parse import urlsplit

from dqn.config import WandbConfig
from dqn.errors import UserError, first_line
from dqn.events import Event
from dqn.files import write_text
from dqn.observers.result_table import shown
from dqn.observers.scalars import Record, ScalarRecords
from dqn.observers.wandb_service import WandbService
from dqn.run_folder import RunFolder
from dqn.terminal import say

_INIT_TIMEOUT_SECONDS = 30.0
_FINISH_TIMEOUT_SECONDS = 300.0
_OFFLINE_SECONDS = 600.0  # after a failure to go online: the members of a population do not wait for it one by one


class WandbObserver:
    """Sends a run to W&B over an axis of its own, `step`: agent steps, which a resume continues.

    If W&B fails or hangs during training, that is said once and training goes on.

    Args:
        config: the logger.wandb part of the configuration. In mode auto the run is online if an API key is
            configured, unless WANDB_MODE or `wandb offline` say otherwise; nothing is ever prompted for.
        run_config: the whole configuration as plain values.
        folder: the run's folder; W&B's own files go into its subfolder wandb. Runs of a sweep are a group of its name.
        name: the run's name on the page.
        frames_per_step: frames of the environment per agent step.
        clock: seconds on a clock that never goes back.

    Raises:
        UserError: mode is online, but there is no API key or the server does not answer.
    """

    _service: ClassVar[WandbService] = WandbService()
    _told_how_to_sync: ClassVar[bool] = False
    _offline_until_seconds: ClassVar[float] = -math.inf  # on the observers' clock

    def __init__(
        self,
        config: WandbConfig,
        run_config: Mapping[str, Any],
        folder: Path,
        name: str,
        frames_per_step: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._run_config = dict(run_config)
        self._folder = folder
        self._sweep = RunFolder(folder).sweep
        self._name = name
        self._frames_per_step = frames_per_step
        self._clock = clock
        self._scalars = ScalarRecords(clock)
        self._exit_code = 1  # until on_run_end knows better
        # A file besides state_dict, because the run's id is older than its first checkpoint.
        self._id_file = folder / "wandb" / "run_id.txt"
        self._run: Any = self._start(self._id_file.read_text() if self._id_file.exists() else None)

    def on_event(self, event: Event) -> None:
        """Logs the event's numbers at its step, within about a second."""
        self._scalars.add(event)
        self._log(self._scalars.due())

    def on_run_end(self, summary: Mapping[str, Any], folder: Path) -> None:
        """Adds the summary, the exported policy as an artifact of type policy, and the videos."""
        self._log(self._scalars.rest())
        if summary["status"] in ("completed", "converged"):
            self._exit_code = 0
        self._tell(lambda: self._log_result(summary, folder))

    def close(self) -> None:
        """Logs what is pending and ends the W&B run, uploading the rest if it is online."""
        self._log(self._scalars.rest())
        self._finish()

    def state_dict(self) -> dict[str, Any]:
        """The id under which W&B knows the run, and the episodes that wait for a record."""
        self._log(self._scalars.rest())
        return {"run_id": self._run.id if self._run is not None else None, **self._scalars.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on as the run of that id; the file in the folder has named it already, unless it was lost."""
        self._scalars.load_state_dict(state)
        if self._run is not None and state["run_id"] not in (None, self._run.id):
            self._finish()
            self._run = self._start(state["run_id"])

    def _payload(self, step: int, numbers: Mapping[str, Any]) -> dict[str, Any]:
        return {"step": step, "frames": step * self._frames_per_step, **numbers}

    def _log(self, records: list[Record]) -> None:
        if records:
            self._tell(lambda: self._log_at_once(records))

    def _log_at_once(self, records: list[Record]) -> None:
        if self._run.offline:
            self._id_file.stat()  # the package's process would go on writing to files that were removed
        for step, numbers in records:
            self._run.log(self._payload(step, numbers))

    def _log_result(self, summary: Mapping[str, Any], folder: Path) -> None:
        self._run.summary.update(dict(_flat(summary)))
        self._log_policy(summary, folder / "export")
        self._log_videos(summary["steps"], folder / "videos")

    def _log_policy(self, summary: Mapping[str, Any], export: Path) -> None:
        files = sorted(path for path in export.glob("*") if path.is_file())
        if not files:
            return
        import wandb

        artifact = wandb.Artifact(f"policy-{self._run.id}", type="policy", metadata=dict(_flat(summary)))
        for path in files:
            # The run's folder keeps the files, so W&B needs no second copy of them in the home directory.
            artifact.add_file(str(path), policy="immutable", skip_cache=True)
        self._run.log_artifact(artifact)

    def _log_videos(self, step: int, videos: Path) -> None:
        import wandb

        # In this order, so that of a video in both formats the mp4 is taken.
        paths = {path.stem: path for extension in ("gif", "mp4") for path in videos.glob(f"*.{extension}")}
        if paths:
            media = {f"videos/{stem}": wandb.Video(str(path)) for stem, path in sorted(paths.items())}
            self._run.log(self._payload(step, media))

    def _finish(self) -> None:
        if self._run is None:
            return
        network_seconds = 0.0 if self._run.offline else _FINISH_TIMEOUT_SECONDS
        self._tell(lambda: self._run.finish(exit_code=self._exit_code), network_seconds)
        self._run = None

    def _tell(self, work: Callable[[], object], network_seconds: float = 0.0) -> None:
        """Do something with the W&B run; without it from then on if that fails."""
        if self._run is None:
            return
        try:
            self._service.ask(work, network_seconds)
        except Exception as error:  # no failure of a tracker is worth a training
            self._run = None
            if self._service.has_failed(first_line(error)):
                _say(f"gave up ({first_line(error)}); metrics.jsonl has everything")

    def _start(self, run_id: str | None) -> Any:
        """A new W&B run, or the one of that id, online if it may and can be."""
        try:
            run = self._run_online_or_offline(run_id)
        except UserError:
            raise
        except Exception as error:  # whatever the package, its process or the server come up with
            problem = f"W&B does not start: {first_line(error)}"
            raise UserError("logger.wandb.mode", self._config.mode, problem) from error
        if run.disabled:
            return run
        self._id_file.parent.mkdir(exist_ok=True)
        write_text(self._id_file, run.id)  # never through a link
        if run.offline and not WandbObserver._told_how_to_sync:
            WandbObserver._told_how_to_sync = True
            # With a star, because every resume adds a folder.
            place = self._folder if self._sweep is None else self._folder.parent
            runs = shlex.quote(shown(place)) + ("" if self._sweep is None else "/*")
            _say(f"offline; to upload: wandb sync {runs}/wandb/offline-run-*")
        return run

    def _run_online_or_offline(self, run_id: str | None) -> Any:
        settings = self._settings()
        has_credentials = _has_credentials(settings)
        mode = _mode(self._config.mode, settings.mode, has_credentials)
        if mode == "online" and not has_credentials:
            expectation = "needs an API key; run `wandb login` first, or choose offline"
            raise UserError("logger.wandb.mode", "online", expectation)
        if mode != "online" or self._config.mode == "online":
            return self._init(mode, run_id)
        if self._clock() >= WandbObserver._offline_until_seconds:
            try:
                return self._init("online", run_id)
            except Exception as error:
                _say(f"cannot go online ({first_line(error)}); this run is recorded offline")
                WandbObserver._offline_until_seconds = self._clock() + _OFFLINE_SECONDS
        self._settings()  # once more, in case that the process hangs
        return self._init("offline", run_id)

    def _settings(self) -> Any:
        """The package's own settings; after this its process is there, and well."""
        # Without this the package sends usage data and crash reports at its exit, offline runs' too.
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        self._service.replace_if_failed()
        setup = self._service.ask(lambda: wandb.setup(wandb.Settings(silent=True, console="off")))
        self._service.end_at_exit()
        return setup.settings

    def _init(self, mode: str, run_id: str | None) -> Any:
        import wandb

        settings = wandb.Settings(init_timeout=_INIT_TIMEOUT_SECONDS)
        if "finish_timeout" in type(settings).model_fields:  # else we alone limit how long it waits for the network
            settings.finish_timeout = _FINISH_TIMEOUT_SECONDS
            settings.finish_timeout_raises = True

        def init() -> Any:
            run = wandb.init(
                project=self._config.project,
                entity=self._config.entity,
                group=self._config.group or self._sweep or self._run_config["name"],
                tags=self._config.tags,
                name=self._name,
                config=self._run_config,
                dir=str(self._folder),
                mode=cast(Any, mode),
                id=run_id,
                resume="allow",
                reinit="create_new",  # never the global run: several runs in one process stay several
                settings=settings,
            )
            run.define_metric("step")
            run.define_metric("*", step_metric="step")
            return run

        return self._service.ask(init, 0.0 if mode == "offline" else _INIT_TIMEOUT_SECONDS)


def _mode(configured: str, in_environment: str, has_credentials: bool) -> str:
    """What to ask the package for; `in_environment` is its own setting, from WANDB_MODE or its files."""
    if configured != "auto":
        return configured
    if "WANDB_MODE" in os.environ or in_environment != "online":
        return in_environment
    return "online" if has_credentials else "offline"


def _has_credentials(settings: Any) -> bool:
    """Whether the package would find an API key without asking: in the environment, its files or ~/.netrc."""
    if settings.api_key or settings.identity_token_file:
        return True
    # The default server has had other names, under which `wandb login` may have left the key.
    hosts = {urlsplit(settings.base_url).netloc}
    if settings.base_url == type(settings)().base_url:
        hosts.add("api.wandb.ai")
    path = os.environ.get("NETRC") or Path.home() / (".netrc" if (Path.home() / ".netrc").exists() else "_netrc")
    try:
        return not hosts.isdisjoint(netrc.netrc(str(Path(path).expanduser())).hosts)
    except (OSError, netrc.NetrcParseError):
        return False


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The values of nested mappings under names like final_evaluation/mean_return."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}/")
        elif value is not None:
            yield f"{prefix}{key}", value


def _say(text: str) -> None:
    say(f"W&B: {text}")
