"""Which members of a population are done with their runs, and why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from dqn.config import TrainerConfig
from dqn.envs.base import Array
from dqn.events import End
from dqn.standing import Standing


class Endings:
    """The members whose runs are over: first they learn no more, and when all about them is reported they are gone.

    Attributes:
        finished: who learns no more, (M,) bool.
        gone: of these, whose `End` has been told, (M,) bool.

    Args:
        settings: how long runs are.
        episodes: of each member so far, (M,); whatever counts them is seen here.
        standing: what evaluations have shown of the members.
        shrinks_for_updates: after so many a smaller population would have been faster.
    """

    def __init__(
        self, settings: TrainerConfig, episodes: Array, standing: Standing, shrinks_for_updates: float
    ) -> None:
        self.finished, self.gone = np.zeros((2, len(episodes)), dtype=bool)
        self._settings, self._episodes, self._standing = settings, episodes, standing
        self._shrinks_for_updates = shrinks_for_updates
        self._reasons: dict[int, tuple[str, str]] = {}
        self._updates_when_most_left: int | None = None

    @property
    def remaining(self) -> list[int]:
        """The members that are not gone."""
        remaining: list[int] = np.flatnonzero(~self.gone).tolist()
        return remaining

    @property
    def learning(self) -> list[int]:
        """The members that are not finished."""
        learning: list[int] = np.flatnonzero(~self.finished).tolist()
        return learning

    @property
    def are_due(self) -> bool:
        """Whether somebody's `End` is to be told."""
        return bool((self.finished & ~self.gone).any())

    def leave_out(self, members: Sequence[int]) -> None:
        """These only keep the places of members that were gone before."""
        self.finished[members] = self.gone[members] = True

    def finish(self, members: Sequence[int], status: str, reason: str) -> None:
        """These learn no more; their `End` follows when everything about them has been reported."""
        for m in members:
            self.finished[m] = True
            self._reasons[m] = (status, reason)

    def finish_if_over(self, m: int) -> None:
        """Finish a member that has made its episodes or has converged."""
        ending = self.of(m)
        if ending is not None and not self.finished[m]:
            self.finish([m], *ending)

    def of(self, m: int) -> tuple[str, str] | None:
        """Status and reason of a member that has made its episodes or has converged."""
        total = self._settings.total_episodes
        if total is not None and self._episodes[m] >= total:
            return "completed", f"{total:,} episodes"
        reason = self._standing.convergence(m)
        return None if reason is None else ("converged", reason)

    def are_all_at(self, steps: int) -> bool:
        """Whether after so many agent steps every member has reached the configured length or has converged."""
        total_steps = self._settings.total_steps
        enough = total_steps is not None and steps >= total_steps
        return enough or all(self.of(m) for m in self.remaining)

    def tell(self, steps: int, only: int | None = None) -> Iterator[End]:
        """The `End` of those who are finished, at this agent step; of all or of one."""
        for m in np.flatnonzero(self.finished & ~self.gone).tolist():
            if only is None or m == only:
                self.gone[m] = True
                yield End(m, steps, *self._reasons[m])

    def would_shrink(self, updates: Array) -> bool:
        """Whether most members have been gone for so long that those who remain had better go on alone.

        Nobody knows when they will be done. To wait until as much has been lost as shrinking costs, loses at
        most twice the least possible.

        Args:
            updates: that each member has made, (M,).
        """
        if 2 * int(self.gone.sum()) <= len(self.gone) or self.gone.all():
            return False
        made = int(updates[~self.gone].max())
        if self._updates_when_most_left is None:
            self._updates_when_most_left = made
        return made - self._updates_when_most_left >= self._shrinks_for_updates

    def state_dict(self) -> dict[str, Any]:
        """Who has just been pruned, and what makes a population of the same members shrink when this one would."""
        waiting = [m if self.finished[m] and not self.gone[m] else None for m in range(len(self.gone))]
        pruned = [None if m is None or self._reasons[m][0] != "pruned" else self._reasons[m][1] for m in waiting]
        return {"updates_when_most_left": self._updates_when_most_left, "pruned": pruned}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave; who is gone, `leave_out` says."""
        self._updates_when_most_left = state["updates_when_most_left"]
        for m, reason in enumerate(state["pruned"]):
            if reason is not None:
                self.finish([m], "pruned", reason)
