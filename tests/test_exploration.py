"""Schedules against their definitions, policies against exact probabilities."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import Tensor

from dqn import exploration
from dqn.exploration import (
    Boltzmann,
    Constant,
    EpsilonGreedy,
    Exponential,
    Greedy,
    Linear,
    MaxBoltzmann,
    Piecewise,
    Policy,
    Schedule,
)


def trait(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def values(schedule: Schedule, counts: list[int], members: int, per: str = "step") -> Tensor:
    """The schedule's values at each count, (len(counts), M); what it must not look at is far off."""
    rows = []
    for count in counts:
        counted = torch.full((members,), count, dtype=torch.int64)
        other = torch.full((members,), 987_654, dtype=torch.int64)
        rows.append(schedule(counted, other) if per == "step" else schedule(other, counted))
    stacked = torch.stack(rows)
    assert stacked.dtype == torch.float64
    return stacked


# --- schedules ---


def test_constant_stays() -> None:
    assert values(Constant(trait(0.1, 0.2)), [0, 1, 10**9], members=2).tolist() == [[0.1, 0.2]] * 3


def test_linear_at_its_corners_and_between() -> None:
    """Members: down after a delay, up without one, and one that stays."""
    schedule = Linear(trait(1.0, 0.2, 0.5), trait(0.1, 0.6, 0.5), trait(100, 0, 7), trait(900, 4, 1))
    at = values(schedule, [0, 1, 2, 4, 99, 100, 101, 550, 999, 1000, 1001, 10**9], members=3)
    down, up, flat = at.T.tolist()
    expected = [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.999, 0.55, 0.101, 0.1, 0.1, 0.1]
    assert down == pytest.approx(expected, abs=1e-12)
    assert down[5] == 1.0
    assert down[9:] == [0.1, 0.1, 0.1]  # exactly, for ever
    assert up == pytest.approx([0.2, 0.3, 0.4] + [0.6] * 9, abs=1e-12)
    assert flat == [0.5] * 12


@pytest.mark.parametrize("per", ["step", "episode"])
def test_exponential_is_the_loop(per: str) -> None:
    """`if epsilon > end: epsilon *= decay` after each step or episode, each member with numbers of its own."""
    start, end, decay = [1.0, 1.0, 0.37, 0.2, 2.0, 0.1], [0.1, 0.01, 0.05, 0.2, 0.3, 0.5], [0.995, 0.9] * 3
    schedule = Exponential(trait(*start), trait(*end), trait(*decay), per)  # type: ignore[arg-type]
    at = values(schedule, list(range(600)), members=6, per=per)
    for m in range(6):
        epsilon, path = start[m], []
        for _ in range(600):
            path.append(epsilon)
            if epsilon > end[m]:
                epsilon *= decay[m]
        assert at[:, m].tolist() == pytest.approx(path, rel=1e-11)
        assert path[-1] <= end[m]
    assert values(schedule, [10**7], members=6, per=per).tolist() == [at[-1].tolist()]


@pytest.mark.parametrize("decay", ["0.5", "0.9", "0.99", "0.995", "0.8", "0.7", "0.1"])
def test_exponential_stops_where_it_meets_its_end(decay: str) -> None:
    """A whole number of multiplications hits the end: the loop in exact arithmetic takes no further one."""
    powers = range(1, 13)
    ends = trait(*[float(Fraction(decay) ** k) for k in powers])
    schedule = Exponential(torch.ones_like(ends), ends, torch.full_like(ends, float(decay)), "step")
    torch.testing.assert_close(values(schedule, [12, 13, 1000], members=12), ends.expand(3, 12), rtol=1e-12, atol=0)


def test_piecewise_is_interpolation() -> None:
    points = np.array([[0, 10, 11, 400], [5, 6, 90, 100]])
    heights = np.array([[1.0, 0.5, 0.1, 0.7], [0.0, 1.0, 1.0, 0.2]])
    counts = list(range(450))
    at = values(Piecewise(trait(*points.ravel()).view(2, 4), trait(*heights.ravel()).view(2, 4)), counts, members=2)
    for m in range(2):
        np.testing.assert_allclose(at[:, m], np.interp(counts, points[m], heights[m]), rtol=0, atol=1e-12)


def test_piecewise_of_one_point_is_constant() -> None:
    schedule = Piecewise(trait(50).view(1, 1), trait(0.3).view(1, 1))
    assert values(schedule, [0, 49, 50, 51, 1000], members=1).flatten().tolist() == [0.3] * 5


# --- policies: on a grid of uniform numbers, frequencies are probabilities ---

Q = torch.tensor([0.3, -1.0, 2.0, 1.9])
BEST = 2


def grid(size: int) -> Tensor:
    """Pairs of uniform numbers, (size^2, 2) float64, the middles of equal squares."""
    middles = (torch.arange(size, dtype=torch.float64) + 0.5) / size
    return torch.cartesian_prod(middles, middles)


def frequencies(actions: Tensor) -> Tensor:
    return torch.bincount(actions.flatten(), minlength=len(Q)).double() / actions.numel()


def softmax(q: Tensor, temperature: float) -> Tensor:
    weights = [np.exp((x - max(q.tolist())) / temperature) for x in q.tolist()]
    return trait(*weights) / sum(weights)


def act(policy: Policy, uniforms: Tensor, *levels: float) -> Tensor:
    """One member for each level, the uniforms (N, 2) as N environments of each: actions (M, N)."""
    members, num_envs = len(levels), len(uniforms)
    actions = policy(Q.expand(members, num_envs, -1), uniforms.expand(members, num_envs, 2), trait(*levels))
    assert actions.shape == (members, num_envs)
    assert actions.dtype == torch.int64
    return actions


def test_epsilon_greedy_has_exact_probabilities() -> None:
    levels = (0.0, 0.1, 0.5, 1.0)
    actions = act(EpsilonGreedy(), grid(100), *levels)
    for m, epsilon in enumerate(levels):
        expected = torch.full((4,), epsilon / 4, dtype=torch.float64)
        expected[BEST] += 1 - epsilon
        torch.testing.assert_close(frequencies(actions[m]), expected, rtol=0, atol=1e-12)


def test_epsilon_greedy_at_the_bounds_of_the_uniforms() -> None:
    lowest, highest = 0.0, 1.0 - 2.0**-53
    uniforms = trait(lowest, lowest, highest, highest, lowest, highest).view(3, 2)
    assert act(EpsilonGreedy(), uniforms, 0.0).tolist() == [[BEST, BEST, BEST]]
    assert act(EpsilonGreedy(), uniforms, 1.0).tolist() == [[0, 3, 3]]


def test_boltzmann_has_exact_probabilities() -> None:
    uniforms = grid(100)
    uniforms[:, 0] = (torch.arange(10_000, dtype=torch.float64) + 0.5) / 10_000
    levels = (0.05, 0.5, 1.0, 30.0)
    actions = act(Boltzmann(), uniforms, *levels)
    for m, temperature in enumerate(levels):
        # Each action takes an interval, whose two ends may cut a step of the grid.
        torch.testing.assert_close(frequencies(actions[m]), softmax(Q, temperature), rtol=0, atol=1.01e-4)


def test_boltzmann_draws_no_action_without_probability() -> None:
    q = torch.tensor([[-1e9, 1.0, -1e9, 1.0]] * 3, dtype=torch.float64)
    uniforms = trait(0.0, 0.5, 1.0 - 2.0**-53)
    assert exploration.boltzmann(q, uniforms, torch.ones(1)).tolist() == [1, 3, 3]


def test_boltzmann_of_huge_values_or_a_tiny_temperature_is_greedy() -> None:
    uniforms = trait(0.0, 0.3, 0.999)
    assert exploration.boltzmann((Q * 1e30).expand(3, 4), uniforms, torch.ones(1)).tolist() == [BEST] * 3
    assert exploration.boltzmann(Q.expand(3, 4), uniforms, trait(1e-6)).tolist() == [BEST] * 3


def test_max_boltzmann_has_exact_probabilities() -> None:
    """Each member has its temperature and its epsilon."""
    levels, temperatures = (0.0, 0.2, 0.2, 1.0), (1.0, 1.0, 5.0, 0.5)
    actions = act(MaxBoltzmann(trait(*temperatures)), grid(200), *levels)
    for m, (epsilon, temperature) in enumerate(zip(levels, temperatures, strict=True)):
        expected = epsilon * softmax(Q, temperature)
        expected[BEST] += 1 - epsilon
        torch.testing.assert_close(frequencies(actions[m]), expected, rtol=0, atol=epsilon * 1.01 / 200)


def test_greedy_takes_the_best_whatever_is_drawn() -> None:
    assert (act(Greedy(), grid(20), 0.0, 1.0) == BEST).all()


@pytest.mark.parametrize("policy", [EpsilonGreedy(), Boltzmann(), MaxBoltzmann(trait(1.0, 1.0)), Greedy()])
def test_every_environment_acts_on_its_own_values(policy: Policy) -> None:
    """Levels at which all are greedy, or nearly."""
    q = torch.randn(2, 50, 4, generator=torch.Generator().manual_seed(0))
    level = trait(1e-9, 1e-9)
    actions = policy(q, torch.full((2, 50, 2), 0.5, dtype=torch.float64), level)
    assert torch.equal(actions, q.argmax(-1))


def test_policies_name_what_their_schedule_means() -> None:
    names = [p.level_name for p in (EpsilonGreedy(), MaxBoltzmann(trait(1.0)), Boltzmann(), Greedy())]
    assert names == ["epsilon", "epsilon", "temperature", None]
