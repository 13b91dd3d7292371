"""Some of the environments that were made together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dqn.envs.base import Array, EnvironmentSpec, ReseedableEnvironment, StepResult


class Selection:
    """Environments that go on alone; implements `dqn.envs.base.ReseedableEnvironment`.

    What steps environments together often cannot leave any out, so the others go on unseen, with the first action.

    Args:
        environment: all of them.
        chosen: numbers of those that are wanted, in this order.
    """

    def __init__(self, environment: ReseedableEnvironment, chosen: Sequence[int]) -> None:
        self.spec: EnvironmentSpec = environment.spec
        self.num_envs = len(chosen)
        self.is_deterministic, self.calls_per_seed = environment.is_deterministic, environment.calls_per_seed
        self._all, self._chosen = environment, np.array(chosen)

    def reset(self, seeds: Sequence[int]) -> Array:
        """Start new episodes, see `Environment.reset`."""
        all_seeds = np.zeros(self._all.num_envs, dtype=np.int64)
        all_seeds[self._chosen] = seeds
        frames: Array = self._all.reset(all_seeds.tolist())[self._chosen]
        return frames

    def begin_anew(self, chosen: Array, seeds: Sequence[int], episodes: Array) -> Array:
        """See `ReseedableEnvironment.begin_anew`."""
        chosen_of_all = np.zeros(self._all.num_envs, dtype=np.bool_)
        chosen_of_all[self._chosen] = chosen
        episodes_of_all = np.zeros(self._all.num_envs, dtype=np.int64)
        episodes_of_all[self._chosen] = episodes
        # In the order of all, in which the seeds are handed out.
        order = np.argsort(self._chosen[chosen])
        frames = self._all.begin_anew(chosen_of_all, [seeds[i] for i in order], episodes_of_all)
        return np.asarray(frames[self._chosen])

    def step(self, actions: Array) -> StepResult:
        """Take actions (N,) int64; see `StepResult`."""
        all_actions = np.zeros(self._all.num_envs, dtype=np.int64)
        all_actions[self._chosen] = actions
        return StepResult(*(array[self._chosen] for array in self._all.step(all_actions)))

    def render(self) -> Array:
        """Not of a part."""
        raise NotImplementedError

    def optimal_returns(self) -> Array | None:
        """See `Environment.optimal_returns`."""
        returns = self._all.optimal_returns()
        return None if returns is None else returns[self._chosen]

    def path_drawing(self) -> tuple[str, Array] | None:
        """Not of a part."""
        return None

    def select(self, chosen: Sequence[int]) -> Selection:
        """See `Environment.select`."""
        return Selection(self._all, self._chosen[list(chosen)].tolist())

    def close(self) -> None:
        """Close all."""
        self._all.close()
