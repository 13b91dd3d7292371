"""The sum tree against sums over plain lists."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dqn.memory.sum_tree import SumTree

CPU = torch.device("cpu")


@pytest.mark.parametrize("places", [1, 2, 3, 9, 10, 11, 101, 1000])
def test_it_draws_as_a_naive_one_whatever_was_done_to_it(places: int) -> None:
    """Weights are whole numbers, so that all sums are exact."""
    rng, members = np.random.default_rng(places), 3
    tree, weights = SumTree(members, places, CPU), np.zeros((members, places))
    for _ in range(50):
        count = int(rng.integers(1, 9))
        where = rng.integers(0, places, (members, count))
        new = np.take_along_axis(rng.integers(0, 5, (members, places)).astype(float), where, 1)  # equal at equal places
        tree.put(torch.from_numpy(where), torch.from_numpy(new))
        np.put_along_axis(weights, where, new, 1)
        assert np.array_equal(tree.weights.numpy(), weights)
        assert np.array_equal(tree.total.numpy(), weights.sum(1, keepdims=True))
        above = [row[row > 0] for row in weights]
        assert tree.least.ravel().tolist() == [row.min() if len(row) else np.inf for row in above]
        if all(row.any() for row in weights):
            uniforms = rng.random((members, 40))
            naive = [
                np.searchsorted(row.cumsum(), u * row.sum(), side="right")
                for row, u in zip(weights, uniforms, strict=True)
            ]
            assert np.array_equal(tree.draw(torch.from_numpy(uniforms)).numpy(), np.array(naive))


def test_at_both_ends_of_the_uniforms_it_draws_what_has_a_weight() -> None:
    """Weights whose sums depend on how they are taken: rounding must lead to no place beyond or without a weight."""
    rng = np.random.default_rng(0)
    ends = torch.tensor([[0.0, 2.0**-53, 0.5, 1.0 - 2.0**-53]], dtype=torch.float64)
    for _ in range(200):
        weights = rng.random(50) ** 20 * (rng.random(50) < 0.3)
        weights[rng.integers(50)] = 1e-30
        tree = SumTree(1, 50, CPU)
        tree.put(torch.arange(50).unsqueeze(0), torch.from_numpy(weights).unsqueeze(0))
        drawn = tree.draw(ends)[0].tolist()
        assert all(weights[place] > 0 for place in drawn)
        assert drawn[0] == np.flatnonzero(weights)[0]


def test_sums_do_not_depend_on_what_was_there_before() -> None:
    rng = np.random.default_rng(0)
    tree, fresh = SumTree(1, 300, CPU), SumTree(1, 300, CPU)
    for _ in range(500):
        tree.put(torch.from_numpy(rng.permutation(300)[None, :4].copy()), torch.from_numpy(rng.random((1, 4)) * 1e6))
    fresh.weights.copy_(tree.weights)
    fresh.sum_up()
    uniforms = torch.from_numpy(rng.random((1, 1000)))
    assert torch.equal(tree.total, fresh.total)
    assert torch.equal(tree.draw(uniforms), fresh.draw(uniforms))
