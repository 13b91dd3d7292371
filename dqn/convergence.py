"""When a run has converged: its evaluations have met a criterion for so many times in a row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor

from dqn.algorithms.base import QFunction
from dqn.config import StopConfig
from dqn.envs.base import Array
from dqn.evaluation import Played

_MOST_STATES = 512


class ValueProbe:
    """How far Q-values move between evaluations, on the observations of the first evaluation."""

    def __init__(self) -> None:
        self._collected: list[Tensor] = []
        self._collected_counts: list[Tensor] = []
        self._states: Tensor | None = None  # (M, N, *observation)
        self._counts: Tensor | None = None  # (M, N) bool: each member's own, which it would have had alone
        self._q: Tensor | None = None  # (M, N, A)

    def collect(self, observations: Tensor, playing: Array) -> None:
        """Keep observations (M, E, *observation) until there are enough; of members that still play, (M,) bool."""
        if self._states is None and sum(o.shape[1] for o in self._collected) < _MOST_STATES:
            self._collected.append(observations.clone())
            own = torch.from_numpy(playing).to(observations.device)
            self._collected_counts.append(own.unsqueeze(1).expand(observations.shape[:2]))

    def change(self, q_function: QFunction, members: Sequence[int]) -> list[float] | None:
        """Each member's largest change of a Q-value since its last call; None before there is one to compare with.

        Args:
            q_function: of all members.
            members: whose values of now the next call compares with.
        """
        if self._states is None or self._counts is None:
            if not self._collected:  # until now some have been evaluated by themselves
                return None
            self._states, self._counts = (torch.cat(c, dim=1) for c in (self._collected, self._collected_counts))
            self._collected, self._collected_counts = [], []
        q = q_function(self._states)
        if self._q is None:
            self._q = q
            return None
        moved = (q - self._q).abs().amax(dim=2)
        changes: list[float] = moved.masked_fill(~self._counts, 0.0).amax(dim=1).tolist()
        self._q[members] = q[members]
        return changes

    def state_dict(self) -> dict[str, Tensor]:
        """The states and their last values, once there are any."""
        if self._states is None or self._counts is None or self._q is None:
            return {}
        return {"states": self._states, "counts": self._counts, "q": self._q}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take over what `state_dict` gave."""
        self._states, self._counts, self._q = (state.get(name) for name in ("states", "counts", "q"))


@dataclass(frozen=True)
class Convergence:
    """Counts evaluations in a row that meet every criterion that is set."""

    settings: StopConfig

    @property
    def wanted(self) -> bool:
        """Whether any criterion is set."""
        stop = self.settings
        return stop.mean_return is not None or stop.optimal or stop.max_value_change is not None

    def meets(self, played: Played, value_change: float | None) -> bool:
        """Whether one evaluation meets every criterion."""
        stop = self.settings
        met = self.wanted
        if stop.mean_return is not None:
            met &= fmean(played.returns) >= stop.mean_return
        if stop.optimal:
            met &= played.optimal is not None and all(played.optimal)
        if stop.max_value_change is not None:
            met &= value_change is not None and value_change <= stop.max_value_change
        return met

    def reason(self, evaluations_in_a_row: int) -> str | None:
        """Why the run has converged, if it has."""
        if not self.wanted or evaluations_in_a_row < self.settings.evaluations:
            return None
        stop = self.settings
        criteria = [
            f"mean return at least {stop.mean_return:g}" if stop.mean_return is not None else "",
            "every episode optimal" if stop.optimal else "",
            f"values moved by at most {stop.max_value_change:g}" if stop.max_value_change is not None else "",
        ]
        count = evaluations_in_a_row
        times = "one evaluation" if count == 1 else f"{count} evaluations in a row"
        return f"{' and '.join(filter(None, criteria))} in {times}"
