"""Playing whole episodes to measure a policy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from dqn.algorithms.base import QFunction
from dqn.envs.base import Array, Environment
from dqn.envs.stack import ObservationStack
from dqn.exploration import epsilon_greedy
from dqn.interruption import PlayInterruptedError
from dqn.randomness import Stream, derive_seed

OnObservations = Callable[[Tensor, Array], None]

# An episode's return is optimal if it misses the best one by no more than rounding.
_RETURN_TOLERANCE = 1e-6


@dataclass
class Played:
    """The episodes of one member, in order of their environments."""

    returns: list[float] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    optimal: list[bool] | None = None


def play(
    environment: Environment,
    q_function: QFunction,
    seeds: Sequence[int],
    episodes: int,
    epsilon: float,
    purpose: str,
    device: torch.device,
    on_observations: OnObservations | None = None,
    on_step: Callable[[], None] | None = None,
    interrupted: Callable[[], bool] = lambda: False,
) -> list[Played]:
    """Let each member play `episodes` full games, acting epsilon-greedily.

    Every environment plays a fixed share of the episodes, however long they last: taking the first to end would
    favour short ones.

    Args:
        environment: of M x E environments; environment m * E + e plays for member m.
        q_function: see `QFunction`.
        seeds: the run seeds of the M members.
        episodes: per member.
        epsilon: the probability of a random action.
        purpose: names the random numbers, so that two evaluations differ.
        device: where observations are wanted.
        on_observations: is shown the observations (M, E, *observation) before each step, and who still has episodes
            to play, (M,) bool.
        on_step: is called after each reset and step, e.g. to film.
        interrupted: is asked before each step.

    Raises:
        PlayInterruptedError: the answer was yes.
    """
    members, total = len(seeds), environment.num_envs
    num_envs = total // members
    shares = np.array([episodes // num_envs + (e < episodes % num_envs) for e in range(num_envs)])
    left = np.tile(shares, (members, 1))  # (M, E) episodes still to play
    games: list[list[list[tuple[float, int, bool]]]] = [[[] for _ in range(num_envs)] for _ in seeds]
    returns, lengths = np.zeros((members, num_envs)), np.zeros((members, num_envs), dtype=np.int64)
    stack = ObservationStack(environment.spec, members, num_envs, device)
    uniforms = Stream(seeds, purpose, (num_envs, 2), device)

    def to_tensor(array: Array) -> Tensor:
        return torch.from_numpy(array).view(members, num_envs, *array.shape[1:]).to(device)

    stack.start(
        to_tensor(environment.reset([derive_seed(seed, purpose, e) for seed in seeds for e in range(num_envs)]))
    )
    best = environment.optimal_returns()
    if on_step:
        on_step()
    step = 0
    while left.any():
        if interrupted():
            raise PlayInterruptedError
        if on_observations:
            playing: Array = np.asarray(left.any(axis=1))
            on_observations(stack.observations, playing)
        q = q_function(stack.observations)
        actions = epsilon_greedy(q, uniforms.at(step), torch.tensor(epsilon, device=device))
        result = environment.step(actions.cpu().numpy().reshape(-1))
        stack.push(to_tensor(result.frames), to_tensor(result.was_reset))
        step += 1
        if on_step:
            on_step()
        returns += result.raw_rewards.reshape(members, num_envs)
        lengths += ~result.was_reset.reshape(members, num_envs)
        for m, e in zip(*np.nonzero(result.ended.reshape(members, num_envs)), strict=True):
            if left[m, e]:
                is_optimal = best is not None and bool(returns[m, e] >= best[m * num_envs + e] - _RETURN_TOLERANCE)
                games[m][e].append((float(returns[m, e]), int(lengths[m, e]), is_optimal))
                left[m, e] -= 1
            returns[m, e], lengths[m, e] = 0.0, 0
        if best is not None and result.was_reset.any():
            best = environment.optimal_returns()
    played = []
    for member in games:
        flat = [game for env in member for game in env]
        optimal = None if best is None else [game[2] for game in flat]
        played.append(Played([game[0] for game in flat], [game[1] for game in flat], optimal))
    return played


@dataclass
class Evaluator:
    """Plays the periodic evaluations of a run, in environments of their own.

    Args:
        make_environment: builds the M x E environments, at the first evaluation.
        seeds: the run seeds of the M members.
        episodes: per member and evaluation.
        epsilon: of the evaluation policy.
        device: where observations are wanted.
    """

    make_environment: Callable[[], Environment]
    seeds: Sequence[int]
    episodes: int
    epsilon: float
    device: torch.device
    _environment: Environment | None = None

    def __call__(
        self,
        q_function: QFunction,
        index: int,
        interrupted: Callable[[], bool],
        on_observations: OnObservations | None = None,
    ) -> list[Played]:
        """Play evaluation number `index`; see `play`."""
        if self._environment is None:
            self._environment = self.make_environment()
        return play(
            self._environment,
            q_function,
            self.seeds,
            self.episodes,
            self.epsilon,
            f"evaluation {index}",
            self.device,
            on_observations,
            interrupted=interrupted,
        )

    def close(self) -> None:
        """Close the environments."""
        if self._environment is not None:
            self._environment.close()
