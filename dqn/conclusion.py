"""What is done with a trained network: measure it, film it, export it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dqn.algorithms.base import QFunction
from dqn.config import Config
from dqn.envs.base import Array, Environment
from dqn.envs.stack import ObservationStack
from dqn.evaluation import Played, play
from dqn.experiment import make_evaluation_environment
from dqn.randomness import Stream, derive_seed

_EXPORT_OBSERVATIONS = 32


def q_function_of(network: nn.Module, device: torch.device) -> QFunction:
    """A single network as a population of one."""
    network = network.to(device)

    @torch.no_grad()
    def q_function(observations: Tensor) -> Tensor:
        q: Tensor = network(observations.squeeze(0))
        return q.unsqueeze(0)

    return q_function


def evaluate_network(
    config: Config, network: nn.Module, device: torch.device, interrupted: Callable[[], bool]
) -> dict[str, Any]:
    """Play `evaluation.final_episodes` fresh episodes; returns statistics of the returns."""
    with closing(make_evaluation_environment(config, 1, config.evaluation.final_episodes)) as environment:
        (played,) = play(
            environment,
            q_function_of(network, device),
            [config.seed],
            config.evaluation.final_episodes,
            config.exploration.evaluation_epsilon,
            "final evaluation",
            device,
            interrupted=interrupted,
        )
    return describe(played, config.exploration.evaluation_epsilon)


def describe(played: Played, epsilon: float) -> dict[str, Any]:
    """Statistics of episodes, as they stand in summary.json."""
    from dqn.report.statistics import summarize

    result = {"epsilon": epsilon, **asdict(summarize(played.returns)), "mean_length": float(np.mean(played.lengths))}
    if played.optimal is not None:
        result["optimal_fraction"] = float(np.mean(played.optimal))
    return result


def film_network(
    config: Config, network: nn.Module, folder: Path, device: torch.device, interrupted: Callable[[], bool]
) -> list[str]:
    """Film one episode; returns the files' paths relative to the run's folder."""
    from dqn.video import Film

    with (
        closing(make_evaluation_environment(config, 1, 1, render=True)) as environment,
        Film(folder, "final", environment.spec.render_fps) as film,
    ):
        play(
            environment,
            q_function_of(network, device),
            [config.seed],
            1,
            config.exploration.evaluation_epsilon,
            "film",
            device,
            on_step=lambda: film.add(environment.render),
            interrupted=interrupted,
        )
    return [str(path.relative_to(folder.parent)) for path in film.paths]


def export_network(config: Config, network: nn.Module, folder: Path, chosen: dict[str, Any]) -> dict[str, Any]:
    """Export a network and check every file on real observations; see `dqn.export.export_policy`."""
    from dqn.export import export_policy

    with closing(make_evaluation_environment(config, 1, episodes=8)) as environment:
        observations = real_observations(environment, config.seed, _EXPORT_OBSERVATIONS)
        return export_policy(
            network.cpu(),
            environment.spec,
            observations,
            folder,
            config.export.formats,
            {"run": config.name, "seed": config.seed, **chosen},
        )


def real_observations(environment: Environment, seed: int, count: int) -> Array:
    """So many observations (count, *observation) of a uniformly random player."""
    num_envs, spec, device = environment.num_envs, environment.spec, torch.device("cpu")
    stack = ObservationStack(spec, 1, num_envs, device)
    draws = Stream([seed], "export", (num_envs,), device)
    seeds = [derive_seed(seed, "export", e) for e in range(num_envs)]
    stack.start(torch.from_numpy(environment.reset(seeds)).unsqueeze(0))
    observations: list[Array] = []
    step = 0
    while sum(len(o) for o in observations) < count:
        actions = (draws.at(step)[0] * spec.num_actions).to(torch.int64)
        result = environment.step(actions.numpy())
        stack.push(torch.from_numpy(result.frames).unsqueeze(0), torch.from_numpy(result.was_reset).unsqueeze(0))
        step += 1
        if step % 4 == 0:  # neighbouring frames are too alike
            observations.append(stack.observations[0].numpy().copy())
    return np.concatenate(observations)[:count]
