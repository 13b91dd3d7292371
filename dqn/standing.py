"""What evaluations have shown of the members of a population: their best networks, and which have converged."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dqn.algorithms.base import QFunction
from dqn.config import StopConfig
from dqn.convergence import Convergence, ValueProbe
from dqn.envs.base import Array
from dqn.evaluation import OnObservations, Played
from dqn.events import Evaluation


class Standing:
    """The results of the evaluations so far, M members each.

    Attributes:
        evaluations: how many there have been of each member, (M,).
        last_step: the agent step of each member's last, (M,); 0 before the first.
        best_step: of each member's best evaluation, (M,); -1 before the first.
        best_parameters: at that step, (M, P).

    Args:
        parameters: of the members, (M, P); whatever changes them in place is seen here.
        stop: when a member has converged.
    """

    def __init__(self, parameters: Tensor, stop: StopConfig) -> None:
        members = len(parameters)
        self.evaluations, self.last_step = np.zeros((2, members), dtype=np.int64)
        self.best_step = np.full(members, -1, dtype=np.int64)
        self.best_parameters = torch.zeros_like(parameters)
        self._best_score = np.full(members, -np.inf)
        self._in_a_row = np.zeros(members, dtype=np.int64)  # evaluations that met the criterion, up to the last
        self._parameters = parameters
        self._convergence = Convergence(stop)
        self._probe = ValueProbe()
        self._probes = stop.max_value_change is not None

    @property
    def wants_observations(self) -> OnObservations | None:
        """What is to be shown the observations of an evaluation of all members, if anything is; see `play`."""
        return self._probe.collect if self._probes else None

    def take_in(
        self, step: int, games: Sequence[Played], members: Sequence[int], epsilon: float, q_function: QFunction
    ) -> list[Evaluation]:
        """Take in an evaluation of some of the members, and tell what it was.

        Args:
            step: the agent step.
            games: of each of the M members.
            members: who were to be evaluated; about the others nothing changes.
            epsilon: with which they were played.
            q_function: that played.
        """
        changes = self._probe.change(q_function, members) if self._probes else None
        self.evaluations[members] += 1
        self.last_step[members] = step
        events = []
        for m in members:
            score, change = fmean(games[m].returns), None if changes is None else changes[m]
            is_best = bool(score >= self._best_score[m])  # of equals the later, which has learned longer
            if is_best:
                self._best_score[m], self.best_step[m] = score, step
                self.best_parameters[m] = self._parameters[m]
            self._in_a_row[m] = self._in_a_row[m] + 1 if self._convergence.meets(games[m], change) else 0
            optimal = games[m].optimal
            events.append(
                Evaluation(
                    member=m,
                    step=step,
                    returns=tuple(games[m].returns),
                    lengths=tuple(games[m].lengths),
                    epsilon=epsilon,
                    optimal=None if optimal is None else tuple(optimal),
                    value_change=change,
                    is_best=is_best,
                )
            )
        return events

    def convergence(self, m: int) -> str | None:
        """Why member m has converged, if it has."""
        return self._convergence.reason(int(self._in_a_row[m]))

    def begin_anew(self, members: Array) -> None:
        """Members (M,) bool are others now: it takes them as many evaluations as anybody to converge."""
        self._in_a_row[members] = 0

    def state_dict(self) -> dict[str, Any]:
        """Everything."""
        return {
            "evaluations": self.evaluations.tolist(),
            "last_evaluation": self.last_step.tolist(),
            "best_score": self._best_score.tolist(),
            "best_step": self.best_step.tolist(),
            "in_a_row": self._in_a_row.tolist(),
            "best_parameters": self.best_parameters,
            "probe": self._probe.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        self.evaluations[:], self.last_step[:] = state["evaluations"], state["last_evaluation"]
        self._best_score[:] = state["best_score"]
        self.best_step[:] = state["best_step"]
        self._in_a_row[:] = state["in_a_row"]
        self.best_parameters.copy_(state["best_parameters"])
        device = self._parameters.device
        self._probe.load_state_dict({name: tensor.to(device) for name, tensor in state["probe"].items()})
