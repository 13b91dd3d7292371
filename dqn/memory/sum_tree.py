"""Sampling in proportion to weights that change, in time that grows with the square root of how many there are."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_JUST_BELOW_ONE = 1 - 2.0**-52


class SumTree:
    """For each of M members a weight at each of N places, and the sums of neighbouring ones.

    Two levels, each of about the square root of N, are faster than the twenty of a binary tree: a batch of draws is two
    cumulative sums over rows that lie in memory as they are read. Sums are always taken over all of their weights,
    never brought up to date by differences: they do not drift.

    Args:
        members: M.
        places: N.
        device: where the weights are.
    """

    def __init__(self, members: int, places: int, device: torch.device) -> None:
        self._width = max(math.isqrt(places), 1)
        blocks = math.ceil(places / self._width)
        self._weights = torch.zeros((members, blocks * self._width), dtype=torch.float64, device=device)
        # Tensors of their own, none a view of another: what is traced may not change one by two names.
        self._sums = torch.zeros((members, blocks), dtype=torch.float64, device=device)
        self._least = torch.zeros((members, blocks), dtype=torch.float64, device=device)
        self._places = places
        self._members = torch.arange(members, device=device).unsqueeze(-1)

    @property
    def weights(self) -> Tensor:
        """At each place, (M, N) float64; whoever changes them calls `sum_up`."""
        return self._weights[:, : self._places]

    @property
    def total(self) -> Tensor:
        """Of all weights, (M, 1)."""
        return self._sums.sum(1, keepdim=True)

    @property
    def least(self) -> Tensor:
        """The least weight above 0, (M, 1); inf if there is none."""
        return _least(self._least)

    def state_dict(self) -> dict[str, Tensor]:
        """Weights and sums, whose last bits depend on who took them: compiled code adds in another order."""
        return {"weights": self.weights, "sums": self._sums, "least": self._least}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take over what `state_dict` gave, of a tree of as many places."""
        for mine, saved in ((self.weights, "weights"), (self._sums, "sums"), (self._least, "least")):
            mine.copy_(state[saved])

    def sum_up(self) -> None:
        """Take all sums anew."""
        blocks = self._weights.view(*self._sums.shape, self._width)
        self._sums.copy_(blocks.sum(-1))
        self._least.copy_(_least(blocks).squeeze(-1))

    def put(self, places: Tensor, weights: Tensor) -> None:
        """Change the weights at places (M, K) int64 to (M, K), which are equal where places are."""
        # Not scatter_: compiled, that copies all weights.
        self._weights[self._members, places] = weights
        blocks = places // self._width
        rows = self._rows(blocks)
        self._sums[self._members, blocks] = rows.sum(-1)
        self._least[self._members, blocks] = _least(rows).squeeze(-1)

    def draw(self, uniforms: Tensor) -> Tensor:
        """Places (M, K) int64 by uniforms (M, K) in [0, 1): each with the probability of its share of the total.

        Of a member all of whose weights are 0, or one of whose weights is no number, the places are without meaning.
        """
        sums = self._sums.cumsum(-1)
        wanted, blocks = _search(sums, uniforms * sums[:, -1:])
        before = sums.gather(1, (blocks - 1).clamp(min=0)).masked_fill(blocks == 0, 0.0)
        _, within = _search(self._rows(blocks).cumsum(-1), (wanted - before).unsqueeze(-1))
        return (blocks * self._width + within.squeeze(-1)).clamp(max=self._places - 1)

    def _rows(self, blocks: Tensor) -> Tensor:
        """The weights of blocks (M, K) -> (M, K, width)."""
        rows = self._weights.view(-1, self._width).index_select(
            0, (self._members * self._sums.shape[1] + blocks).flatten()
        )
        return rows.view(*blocks.shape, self._width)


def _least(weights: Tensor) -> Tensor:
    """Of weights (..., K) the least above 0, (..., 1)."""
    return weights.masked_fill(weights == 0.0, torch.inf).amin(-1, keepdim=True)


def _search(sums: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Where cumulative sums (..., N) first exceed what is wanted (..., K), which is kept below the last of them.

    What is found so has a weight above 0.
    """
    wanted = torch.minimum(wanted, sums[..., -1:] * _JUST_BELOW_ONE)
    found = torch.searchsorted(sums, wanted, right=True)
    return wanted, found.clamp(max=sums.shape[-1] - 1)
