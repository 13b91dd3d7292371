"""Playing what a run has left, and exporting it again: what scripts/evaluate.py and scripts/export.py do."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from rich.table import Table
from torch import Tensor, nn

from dqn.algorithms.base import QFunction
from dqn.checkpoint import Checkpoints
from dqn.conclusion import describe, export_network, q_function_of
from dqn.config import Config
from dqn.envs.base import Environment
from dqn.errors import UserError
from dqn.evaluation import play
from dqn.experiment import make_evaluation_environment, make_network, make_readout
from dqn.export import Policy, load_policy, read_policy
from dqn.faults import disk_errors_explained
from dqn.files import write_json
from dqn.networks.population import member_network
from dqn.options import MODULES, RUN
from dqn.pretrained import pretrained_names, take_out
from dqn.run_folder import RunFolder
from dqn.terminal import make_console, say
from dqn.trusted import read_run_config
from dqn.validation import validate
from dqn.video import Film


@dataclass(config=ConfigDict(extra="forbid"), frozen=True)
class EvaluateOptions:
    """What scripts/evaluate.py can be asked."""

    run: Annotated[str | None, RUN] = None
    pretrained: Annotated[
        str | None,
        Field(description="instead of a run: a policy that comes with the project", examples=pretrained_names()),
    ] = None
    policy: Annotated[
        str,
        Field(
            description="what plays: export; best or last, of the last checkpoint; or an exported file",
            examples=["best", "runs/breakout/.../export/policy.h5"],
        ),
    ] = "export"
    episodes: Annotated[int, Field(ge=1, description="how many episodes are played")] = 100
    seed: Annotated[int, Field(ge=0, description="another seed plays other episodes")] = 0
    epsilon: Annotated[
        float | None,
        Field(ge=0, le=1, description="probability of a random action; null: the run's exploration.evaluation_epsilon"),
    ] = None
    video: Annotated[bool, Field(description="film the first episode: videos/*.mp4 and *.gif")] = False
    show: Annotated[bool, Field(description="watch the first episode in a window")] = False
    modules: Annotated[tuple[str, ...], MODULES] = ()


@dataclass(config=ConfigDict(extra="forbid"), frozen=True)
class ExportOptions:
    """What scripts/export.py can be asked."""

    run: Annotated[str, RUN]
    network: Annotated[
        Literal["best", "last"] | None, Field(description="which network; null: as the run's export.network says")
    ] = None
    formats: Annotated[
        tuple[Literal["safetensors", "onnx", "pt2", "h5"], ...] | None,
        Field(description="null: the run's export.formats", examples=[["onnx", "h5"]]),
    ] = None
    modules: Annotated[tuple[str, ...], MODULES] = ()


def evaluate_run(options: EvaluateOptions) -> None:
    """Play, print statistics, and leave them as evaluation.json in the run's folder.

    Raises:
        UserError: there is no such run or policy.
    """
    folder = _folder_to_play(options)
    config = validate(Config, read_run_config(folder, "run", options.modules))
    epsilon = config.exploration.evaluation_epsilon if options.epsilon is None else options.epsilon
    torch.set_num_threads(config.trainer.threads or torch.get_num_threads())
    with closing(make_evaluation_environment(config, 1, options.episodes)) as environment:
        q_function, chosen = _chosen_policy(folder, config, environment, options.policy)
        purpose = f"evaluate {options.seed}"
        cpu = torch.device("cpu")
        (played,) = play(environment, q_function, [config.seed], options.episodes, epsilon, purpose, cpu)
    result = {"policy": options.policy, **chosen, "seed": options.seed, **describe(played, epsilon)}
    with disk_errors_explained(folder):
        if options.video or options.show:
            result["video"] = _perform(options, folder, config, q_function, epsilon)
        write_json(folder.path / "evaluation.json", {**result, "returns": played.returns, "lengths": played.lengths})
        _print(result, folder)
        _draw_path(folder, config, q_function)


def _folder_to_play(options: EvaluateOptions) -> RunFolder:
    if options.run is not None and options.pretrained is None:
        return RunFolder(Path(options.run))
    if options.pretrained is not None and options.run is None:
        return take_out(options.pretrained)
    names = "|".join(pretrained_names())
    raise UserError("", None, f"say what plays: run=<folder>, or pretrained={names}")


def export_run(options: ExportOptions) -> None:
    """Export a run's network again from its last checkpoint.

    Raises:
        UserError: there is no such run, or it has no checkpoint.
        TrainingError: a written file does not agree with the network.
    """
    folder = RunFolder(Path(options.run))
    config = validate(Config, read_run_config(folder, "run", options.modules))
    export = replace(
        config.export,
        network=options.network or config.export.network,
        formats=list(options.formats or config.export.formats),
    )
    config = replace(config, export=export)
    environment = make_evaluation_environment(config, 1, 1)
    environment.close()
    network, chosen = _network_from_checkpoint(folder, config, environment, export.network, options.network is None)
    with disk_errors_explained(folder):
        written = export_network(config, network, folder.export, chosen)
    console = make_console()
    for name, file in written["files"].items():
        difference = file["largest_q_value_difference"]
        console.print(f"{folder.export / name}  largest difference of a Q-value {difference:.1e}")
    for name, reason in written["skipped"].items():
        console.print(f"{name} skipped: {reason}")


def _chosen_policy(
    folder: RunFolder, config: Config, environment: Environment, policy: str
) -> tuple[QFunction, dict[str, Any]]:
    """The Q-function that `policy` names, and what it is."""
    if policy in ("best", "last"):
        network, chosen = _network_from_checkpoint(folder, config, environment, policy, or_last=False)
        return q_function_of(network, torch.device("cpu")), chosen
    if policy == "export":
        if not folder.export.is_dir():
            raise UserError("policy", policy, f"{folder} has no export; python scripts/export.py run={folder}")
        return _q_function(load_policy(folder.export), environment), {}
    path = Path(policy)
    if not path.is_file():
        raise UserError("policy", policy, "must be export, best, last or an exported file that exists")
    return _q_function(read_policy(path), environment), {}


def _network_from_checkpoint(
    folder: RunFolder, config: Config, environment: Environment, which: str, or_last: bool
) -> tuple[nn.Module, dict[str, Any]]:
    """The best or last network of the last checkpoint; without any evaluation so far, the last if `or_last`."""
    state, _, damages = Checkpoints(folder.checkpoints).load_last(str(folder), memory=False, key="run")
    for damage in damages:
        say(f"{damage}; the one before is used")
    trained = state["trainer"]
    best_step = trained["best_step"][0]
    if which == "best" and best_step < 0:
        if not or_last:
            raise UserError("policy", "best", "the run has had no evaluations to choose by; last is there")
        which = "last"
    parameters = trained["best_parameters"] if which == "best" else trained["learner"]["parameters"]
    readout = make_readout(config, torch.device("cpu"))
    network = member_network(make_network(config, environment.spec), parameters[0], readout)
    return network, {"network": which, "step": best_step if which == "best" else trained["steps"]}


def _q_function(policy: Policy, environment: Environment) -> QFunction:
    """An exported policy as a population of one."""
    num_actions = environment.spec.num_actions

    def q_function(observations: Tensor) -> Tensor:
        q = policy(observations[0].numpy())
        if q.shape != (observations.shape[1], num_actions):
            problem = f"gives Q-values of shape {q.shape}, but the environment has {num_actions} actions"
            raise UserError("", "", f"the policy {problem}")
        return torch.from_numpy(q).unsqueeze(0)

    return q_function


def _perform(
    options: EvaluateOptions, folder: RunFolder, config: Config, q_function: QFunction, epsilon: float
) -> list[str]:
    """Play one episode before the camera, on the screen or both; returns the films' paths within the folder."""
    from dqn.screen import Screen

    with ExitStack() as stack:
        environment = stack.enter_context(closing(make_evaluation_environment(config, 1, 1, render=True)))
        rate = environment.spec.render_fps
        watchers: list[Callable[[], None]] = []
        film: Film | None = None
        if options.video:
            film = stack.enter_context(Film(folder.videos, f"evaluation-seed{options.seed}", rate))
            watchers.append(partial(film.add, environment.render))
        if options.show:
            screen = stack.enter_context(closing(Screen(rate, config.name)))
            watchers.append(lambda: screen.show(environment.render()))

        def on_step() -> None:
            for watch in watchers:
                watch()

        cpu = torch.device("cpu")
        play(environment, q_function, [config.seed], 1, epsilon, f"film {options.seed}", cpu, on_step=on_step)
    return [str(path.relative_to(folder.path)) for path in film.paths] if film else []


def _print(result: dict[str, Any], folder: RunFolder) -> None:
    table = Table.grid(padding=(0, 3))
    table.add_column(style="dim")
    table.add_row("policy", " ".join(str(result[key]) for key in ("policy", "step") if key in result))
    table.add_row("episodes", f"{result['episodes']}, epsilon {result['epsilon']:g}")
    error = result["standard_error"]  # None of a single episode
    spread = "" if error is None else f" ± {error:.2f} (standard error)"
    table.add_row("mean", f"{result['mean_return']:.2f}{spread}")
    for name in ("median", "iqm", "min", "max"):
        table.add_row(name, f"{result[f'{name}_return']:.2f}")
    if "optimal_fraction" in result:
        table.add_row("optimal", f"{result['optimal_fraction']:.0%} of the episodes")
    for path in result.get("video", []):
        table.add_row("video", str(folder.path / path))
    table.add_row("written", str(folder.path / "evaluation.json"))
    make_console().print(table)


def _draw_path(folder: RunFolder, config: Config, q_function: QFunction) -> None:
    """Where the environment is a map, the greedy path on it: in the terminal and as path.png."""
    from PIL import Image

    drawings: list[Any] = []
    with closing(make_evaluation_environment(config, 1, 1, draws_path=True)) as environment:
        if environment.path_drawing() is None:
            return
        play(
            environment,
            q_function,
            [config.seed],
            1,
            epsilon=0.0,
            purpose="path",
            device=torch.device("cpu"),
            on_step=lambda: drawings.append(environment.path_drawing()),
        )
    text, picture = drawings[-1]
    make_console().print(text, highlight=False)
    Image.fromarray(picture).save(folder.path / "path.png")
