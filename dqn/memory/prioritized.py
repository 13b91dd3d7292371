"""Replay memory that is sampled by priority (Schaul et al. 2016, arXiv 1511.05952)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from dqn.memory.stream import Experience
from dqn.memory.sum_tree import SumTree
from dqn.memory.uniform import UniformMemory

_LEAST = torch.finfo(torch.float32).tiny  # a weight: 0 means that nothing is there


@dataclass(frozen=True)
class Priorities:
    """How priorities become probabilities, and these the importance of what is drawn.

    Attributes:
        exponent: the paper's alpha; 0 is uniform.
        offset: added to every priority, so that none is 0.
        uniform_share: of the draws that ignore priorities.
        stratified: whether a batch has one draw from each of B equal shares of the probability (appendix B.2.1).
        normalization: whether the greatest importance, which is to be 1, is taken over the batch or all of the memory.
    """

    exponent: float
    offset: float
    uniform_share: float
    stratified: bool
    normalization: Literal["batch", "memory"]


class PrioritizedMemory(UniformMemory):
    """The last `capacity_steps` agent steps of each member, each transition as likely as its weight is large.

    The weight is (priority + offset)^exponent, the paper's proportional variant. What is new has the highest priority
    that there ever was, 1 at first.

    Args:
        priorities: see there.
        memory: as for `UniformMemory`, but for `replacement`, which is always.
    """

    def __init__(self, priorities: Priorities, **memory: Any) -> None:
        super().__init__(**memory, replacement=True)
        members = len(self._joined)
        self._priorities = priorities
        self._tree = SumTree(members, self._length, self.device)
        self._highest = torch.ones((members, 1), device=self.device)

    def add(self, experience: Experience) -> None:
        """Put what a step call brought; the transitions that are complete now have the highest priority."""
        complete = (self._storage.slot - (self._n_step - 1)) % self._storage.slots
        super().add(experience)
        leaving = (self._storage.slot + self._lead) % self._storage.slots
        places = torch.cat([self._env_offsets + complete, self._env_offsets + leaving], dim=1)
        joins = self._storage.is_transition(complete)
        joins = torch.cat([joins, torch.zeros_like(joins)], dim=1)
        priorities = torch.where(joins, self._highest, -1.0)
        self._keep(places, priorities, torch.where(joins, self._weights(self._highest), 0.0), active=None)

    def draw(self, uniforms: Tensor) -> Tensor:
        """Places (M, B) of transitions, chosen by uniforms (M, B) in [0, 1) float64; of an empty memory, of nothing."""
        share, batch_size = self._priorities.uniform_share, uniforms.shape[1]
        if self._priorities.stratified:
            uniforms = (torch.arange(batch_size, device=uniforms.device) + uniforms) / batch_size
        if share == 0.0:
            return self._tree.draw(uniforms)
        # Of the same numbers: those below the share are uniform below it, the others above it.
        chosen = self._tree.draw(((uniforms - share) / (1.0 - share)).clamp(min=0.0)) if share < 1.0 else None
        anyone = super().draw((uniforms / share).clamp(max=1.0 - 2.0**-52))
        return anyone if chosen is None else torch.where(uniforms < share, anyone, chosen)

    def importance(self, places: Tensor) -> Tensor:
        """1 / (N P(i)) of transitions at places (M, B), over the greatest: (M, B) float32 in (0, 1].

        To the power of the paper's beta it is the weight of their losses (section 3.4), however these are made of
        errors.
        """
        per_weight = self.size.unsqueeze(-1) / self._tree.total
        likelihood = self._likelihood(self._tree.weights.gather(1, places) * per_weight)  # times N
        if self._priorities.normalization == "batch":
            least = likelihood.amin(1, keepdim=True)
        else:
            least = self._likelihood(self._tree.least * per_weight)
        return (least / likelihood).to(torch.float32)

    def prioritize(self, places: Tensor, priorities: Tensor, active: Tensor | None = None) -> None:
        """Give the transitions at places (M, B), just drawn, priorities (M, B); of active members (M,) bool only.

        Of several for the same transition the highest counts.
        """
        same = places.unsqueeze(2) == places.unsqueeze(1)  # (M, B, B)
        priorities = torch.where(same, priorities.unsqueeze(1), 0.0).amax(2)
        highest = torch.maximum(self._highest, priorities.amax(1, keepdim=True))
        self._highest.copy_(_of_active(highest, self._highest, active))
        self._keep(places, priorities, self._weights(priorities), active)

    def _keep(self, places: Tensor, priorities: Tensor, weights: Tensor, active: Tensor | None) -> None:
        """Take in the weights (M, K) of places (M, K), equal at equal ones, of active members (M,) or of all.

        Args:
            places: where.
            priorities: of which the weights are made, (M, K); -1 where nothing can be drawn.
            weights: 0 there.
            active: whose.
        """
        self._tree.put(places, _of_active(weights, self._tree.weights.gather(1, places), active))

    def _weights(self, priorities: Tensor) -> Tensor:
        """Of priorities (M, K) float32 -> (M, K) float64, above 0."""
        return ((priorities.to(torch.float64) + self._priorities.offset) ** self._priorities.exponent).clamp(min=_LEAST)

    def _likelihood(self, by_weight: Tensor) -> Tensor:
        share = self._priorities.uniform_share
        return (1.0 - share) * by_weight + share

    def state_dict(self, since: Sequence[int] | None = None) -> dict[str, Any]:
        """See `UniformMemory.state_dict`; and the tree's, with weights (M, E, slots)."""
        tree = self._tree.state_dict()
        tree["weights"] = tree["weights"].view(len(self._joined), -1, self._storage.slots)
        return {**super().state_dict(since), "tree": tree, "highest_priority": self._highest}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave; of a smaller memory too, if that was never full."""
        super().load_state_dict(state)
        tree = dict(state["tree"])
        if tree["weights"].shape[-1] == self._storage.slots:
            self._tree.load_state_dict({**tree, "weights": tree["weights"].flatten(1)})
        else:
            self._widen(self._tree.weights, tree["weights"], 0.0)
            self._tree.sum_up()
        self._highest.copy_(state["highest_priority"])

    def _widen(self, by_place: Tensor, saved: Tensor, elsewhere: float) -> None:
        """Take over into (M, E * slots) what was saved as (M, E, as many slots or fewer)."""
        by_place.fill_(elsewhere)
        by_place.view(*saved.shape[:2], self._storage.slots)[..., : saved.shape[-1]] = saved


class RankedMemory(PrioritizedMemory):
    """A transition's weight is rank^-exponent, its rank that of its priority: the paper's rank-based variant.

    All are ranked anew every so many step calls. In between a changed priority has the rank that it would have had
    then, and what is new the first, as the paper's heap, too, is sorted from time to time only (appendix B.2.1).

    Args:
        priorities: see there; with an offset of 0.
        every_calls: after how many step calls all are ranked anew.
        memory: as for `UniformMemory`, but for `replacement`, which is always.
    """

    def __init__(self, priorities: Priorities, every_calls: int, **memory: Any) -> None:
        super().__init__(priorities, **memory)
        self._every_calls, self._calls_made = every_calls, 0
        # Where nothing can be drawn -1, which is below all of them.
        self._by_place = torch.full(self._tree.weights.shape, -1.0, device=self.device)
        self._ascending = self._by_place.clone()  # as of when all were ranked

    def rank_if_due(self) -> None:
        """After each step call has been added: rank all, if it is time."""
        self._calls_made += 1
        if self._calls_made % self._every_calls == 0:
            self.rank()

    def rank(self) -> None:
        """Rank all; of equals that with the greater place comes first."""
        ascending, order = self._by_place.sort(stable=True, dim=1)
        self._ascending.copy_(ascending)
        ranks = torch.arange(order.shape[1], 0, -1, dtype=torch.float64, device=self.device).expand(order.shape)
        weights = (ranks**-self._priorities.exponent).masked_fill(ascending < 0, 0.0)
        self._tree.weights.scatter_(1, order, weights)
        self._tree.sum_up()

    def _keep(self, places: Tensor, priorities: Tensor, weights: Tensor, active: Tensor | None) -> None:
        super()._keep(places, priorities, weights, active)
        priorities = _of_active(priorities, self._by_place.gather(1, places), active)
        self._by_place[self._rows, places] = priorities

    def _weights(self, priorities: Tensor) -> Tensor:
        higher = self._ascending.shape[1] - torch.searchsorted(self._ascending, priorities.contiguous(), right=True)
        return (higher + 1).to(torch.float64) ** -self._priorities.exponent

    def state_dict(self, since: Sequence[int] | None = None) -> dict[str, Any]:
        """See `PrioritizedMemory.state_dict`; and the priorities, by place and as they were when they were ranked."""
        by_place = self._by_place.view(len(self._joined), -1, self._storage.slots)
        ranking = {"priorities": by_place, "ascending_priorities": self._ascending, "calls_made": self._calls_made}
        return {**super().state_dict(since), **ranking}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave; of a smaller memory too, if that was never full."""
        super().load_state_dict(state)
        self._calls_made = state["calls_made"]
        self._widen(self._by_place, state["priorities"], -1.0)
        self._ascending.fill_(-1.0)
        self._ascending[:, -state["ascending_priorities"].shape[1] :] = state["ascending_priorities"]


def _of_active(new: Tensor, old: Tensor, active: Tensor | None) -> Tensor:
    """The new values (M, K) of active members (M,), the old of the others."""
    return new if active is None else torch.where(active.unsqueeze(-1), new, old)
