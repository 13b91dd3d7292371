"""Random numbers as a function of (run seed, purpose, index)."""

from __future__ import annotations

import random
from collections import Counter

import pytest
import torch
from torch import Tensor

from dqn.randomness import Stream, derive_seed

CPU = torch.device("cpu")


def draw(seeds: list[int], purpose: str = "test", shape: tuple[int, ...] = (3,), indices: range = range(600)) -> Tensor:
    stream = Stream(seeds, purpose, shape, CPU)
    return torch.stack([stream.at(i) for i in indices])  # (indices, M, *shape)


def test_a_member_draws_the_same_alone_or_in_a_population() -> None:
    seeds = [5, 0, 2**31, 12345678901234567890]
    together = draw(seeds)
    assert together.shape == (600, 4, 3)
    assert together.dtype == torch.float64
    for m, seed in enumerate(seeds):
        assert torch.equal(together[:, m], draw([seed])[:, 0])
    assert torch.equal(draw(seeds[::-1]), together.flip(1))


def test_members_of_one_seed_draw_the_same() -> None:
    first, second = draw([7, 7]).unbind(1)
    assert torch.equal(first, second)


@pytest.mark.parametrize("shape", [(), (3,), (4, 2)])
def test_every_order_of_access_gives_the_same(shape: tuple[int, ...]) -> None:
    """Forwards, backwards, at random, with repeats, from a fresh stream in the middle (as after a resume)."""
    expected = draw([1, 2], shape=shape)
    stream = Stream([1, 2], "test", shape, CPU)
    order = [*range(599, -1, -1), *random.Random(0).choices(range(600), k=300), 255, 256, 255, 512, 0]
    for index in order:
        assert torch.equal(stream.at(index), expected[index])
    for start in (1, 255, 256, 599):
        assert torch.equal(Stream([1, 2], "test", shape, CPU).at(start), expected[start])


def test_numbers_once_given_stay() -> None:
    stream = Stream([1], "test", (3,), CPU)
    first = stream.at(0)
    copy = first.clone()
    stream.at(1000)
    assert torch.equal(first, copy)


def test_seeds_purposes_and_indices_all_differ() -> None:
    streams = [draw([seed], purpose) for seed in (0, 1, 2**32, 2**32 + 1) for purpose in ("sampling", "exploration")]
    numbers = torch.cat(streams).flatten().tolist()
    assert len(set(numbers)) == len(numbers)


def test_later_blocks_are_far_from_earlier_ones() -> None:
    """At ten million steps as at the first ones."""
    numbers = torch.cat([draw([0], indices=range(start, start + 300)) for start in (0, 10**7, 10**10)])
    assert numbers.unique().numel() == numbers.numel()


# Of 99 degrees of freedom, at a probability of 0.001.
CHI_SQUARED_99 = 148.2


@pytest.mark.parametrize("over", ["indices", "seeds"])
def test_uniform_over(over: str) -> None:
    """Along one seed's stream, and across the first numbers of many seeds."""
    if over == "indices":
        numbers = draw([3], shape=(4,), indices=range(5000)).flatten()
    else:
        numbers = draw(list(range(2000)), shape=(10,), indices=range(1)).flatten()
    assert numbers.numel() == 20_000
    assert numbers.min() >= 0.0
    assert numbers.max() < 1.0
    counts = torch.histc(numbers, bins=100, min=0.0, max=1.0)
    assert ((counts - 200) ** 2 / 200).sum() < CHI_SQUARED_99
    # A correlation of independent numbers has a deviation of 1 / sqrt(20,000).
    neighbours = torch.corrcoef(torch.stack([numbers[:-1], numbers[1:]]))[0, 1]
    assert neighbours.abs() < 4 / 20_000**0.5


def test_numbers_have_more_than_single_precision() -> None:
    numbers = draw([0])
    assert (numbers.float().double() != numbers).double().mean() > 0.99


# --- derived seeds ---


def test_derived_seeds_fit_31_bits_and_use_them() -> None:
    seeds = [derive_seed(seed, "environment", e, 0) for seed in range(100) for e in range(100)]
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert sum(seed >= 2**30 for seed in seeds) == pytest.approx(5000, abs=200)
    assert max(Counter(seeds).values()) <= 2  # of 10,000 out of 2^31, 0.02 pairs are expected


def test_derived_seeds_depend_on_everything_given() -> None:
    """A missing index is not a zero, nor do indices run into each other or into a large seed."""
    arguments = [
        (0, "a"),
        (1, "a"),
        (2**32, "a"),
        (2**64 + 1, "a"),
        (0, "b"),
        (0, "a", 0),
        (0, "a", 0, 0),
        (0, "a", 1),
        (0, "a", 1, 0),
        (0, "a", 0, 1),
        (1, "a", 0),
    ]
    seeds = [derive_seed(seed, purpose, *indices) for seed, purpose, *indices in arguments]
    assert len(set(seeds)) == len(arguments)
    assert seeds == [derive_seed(seed, purpose, *indices) for seed, purpose, *indices in arguments]
