"""Environments that come back to where they were: by their seeds, and the actions since.

A simulator has no state that could be saved (ale-py's vector environment, most of Gymnasium's), but it does the same
again after the same seed and actions. So that these do not become too many, environments get a new seed now and then,
at an episode's start, in every run at the same step: a run that was never stopped is the run that was.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from dqn.envs.base import Array, NotReplayableError, ReseedableEnvironment, StepResult
from dqn.randomness import derive_seed


class ReplayedEnvironment:
    """Environments with a state; implements `dqn.envs.base.StatefulEnvironment`.

    Args:
        environment: N environments, which have this one as their only user.
    """

    def __init__(self, environment: ReseedableEnvironment) -> None:
        self.spec, self.num_envs = environment.spec, environment.num_envs
        self._environment = environment
        self._columns = {
            "actions": np.uint8 if self.spec.num_actions <= 256 else np.int32,
            "rewards": np.float64,
            "ends": np.bool_,
        }
        self._log: list[tuple[Array, Array, Array]] = []  # of the last step calls the columns, (N,) each
        # Of each environment, (N,): its seed at `reset`, and how many seeds and episodes it has had since; of the
        # present seed the place in the log, and how many episodes there were before.
        self._seeds, self._reseeds, self._episodes = np.zeros((3, self.num_envs), dtype=np.int64)
        self._begins, self._episodes_before = np.zeros((2, self.num_envs), dtype=np.int64)
        self._frames: Array = np.zeros(self.num_envs)  # the newest, (N, *frame_shape)

    def reset(self, seeds: Sequence[int]) -> Array:
        """Start N new episodes; see `Environment.reset`."""
        self._seeds = np.array(seeds, dtype=np.int64)
        self._reseeds, self._episodes = np.zeros((2, self.num_envs), dtype=np.int64)
        self._begins, self._episodes_before = np.zeros((2, self.num_envs), dtype=np.int64)
        self._log.clear()
        self._frames = self._environment.reset(seeds)
        return self._frames

    def step(self, actions: Array) -> StepResult:
        """Take actions (N,) int64; see `StepResult`."""
        before = self._frames
        result = self._step(actions)
        if result.was_reset.any():
            due = result.was_reset & (len(self._log) - self._begins >= self._environment.calls_per_seed)
            if due.any():
                self._reseeds += due
                try:
                    return result._replace(frames=self._begin_anew(due))
                except Exception:  # this step call has not been made, then: what is saved ends before it
                    self._reseeds -= due
                    self._episodes -= result.was_reset
                    del self._log[-1]
                    self._frames = before
                    raise
        return result

    def render(self) -> Array:
        """See `Environment.render`."""
        return self._environment.render()

    def optimal_returns(self) -> Array | None:
        """See `Environment.optimal_returns`."""
        return self._environment.optimal_returns()

    def path_drawing(self) -> tuple[str, Array] | None:
        """See `Environment.path_drawing`."""
        return self._environment.path_drawing()

    def select(self, chosen: Sequence[int]) -> ReplayedEnvironment:
        """See `Environment.select`."""
        places = list(chosen)
        selected = ReplayedEnvironment(self._environment.select(places))
        for name in ("_seeds", "_reseeds", "_episodes", "_begins", "_episodes_before", "_frames"):
            setattr(selected, name, getattr(self, name)[places])
        for actions, rewards, ended in self._log:
            selected._log.append((actions[places], rewards[places], ended[places]))
        return selected

    def close(self) -> None:
        """Close the environments."""
        self._environment.close()

    def state_dict(self) -> dict[str, Any]:
        """What a replay needs, and what it must come to; nothing of environments that are not deterministic."""
        if not self._environment.is_deterministic:
            return {}
        state: dict[str, Any] = {
            "seeds": torch.from_numpy(self._seeds.copy()),
            "reseeds": torch.from_numpy(self._reseeds.copy()),
            "episodes_before": torch.from_numpy(self._episodes_before.copy()),
            "frames": torch.from_numpy(np.array(self._frames)),
        }
        for i, (name, dtype) in enumerate(self._columns.items()):
            column: Array = np.array([row[i] for row in self._log], dtype=dtype).reshape(-1, self.num_envs)
            state[name] = [torch.from_numpy(column[begin:, n].copy()) for n, begin in enumerate(self._begins)]
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Play again what has happened since the last seeds.

        Raises:
            NotReplayableError: the environments are not deterministic, as they say or as it turns out.
        """
        if not (state and self._environment.is_deterministic):
            raise NotReplayableError("the environment is registered as nondeterministic")
        actions = [tensor.numpy().astype(np.int64) for tensor in state["actions"]]
        lengths = np.array([len(of_one) for of_one in actions])
        longest = int(lengths.max())
        self.reset(state["seeds"].tolist())
        self._reseeds = state["reseeds"].numpy().copy()
        for call in range(longest + 1):  # those with less to replay begin later, and all come to the end together
            begins = lengths == longest - call
            if begins.any():
                self._episodes[begins] = state["episodes_before"].numpy()[begins]
                self._begin_anew(begins)
            if call < longest:
                at = call - (longest - lengths)
                self._step(np.array([of_one[i] if i >= 0 else 0 for of_one, i in zip(actions, at, strict=True)]))
        replayed = self.state_dict()
        is_same = replayed["frames"].numpy().tobytes() == state["frames"].numpy().tobytes()
        for name in ("rewards", "ends"):
            pairs = zip(replayed[name], state[name], strict=True)
            is_same = is_same and all(torch.equal(now, then) for now, then in pairs)
        if not is_same:
            raise NotReplayableError("after the same seeds and actions the environment was not where it had been")

    def _step(self, actions: Array) -> StepResult:
        result = self._environment.step(actions)
        # In few operations: this is done at every step, for small environments, too.
        self._log.append((actions.astype(self._columns["actions"]), result.raw_rewards, result.ended))
        self._episodes += result.was_reset
        self._frames = result.frames
        return result

    def _begin_anew(self, chosen: Array) -> Array:
        """Start episodes with the current seeds where chosen (N,) bool; returns all frames (N, *frame_shape)."""
        seeds = [
            derive_seed(int(seed), "reseed", int(count)) if count else int(seed)
            for seed, count in zip(self._seeds[chosen], self._reseeds[chosen], strict=True)
        ]
        self._frames = self._environment.begin_anew(chosen, seeds, self._episodes)
        self._begins[chosen] = len(self._log)
        self._episodes_before[chosen] = self._episodes[chosen]
        unused = int(self._begins.min())
        del self._log[:unused]
        self._begins -= unused
        return self._frames
