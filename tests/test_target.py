"""Target rules, step by step: at which steps the target moves, and how far."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dqn.target import NoTarget, PeriodicTarget


def online_at(step: int) -> Tensor:
    """Parameters of three members that are different at every step."""
    return torch.tensor([[1.0, -2.0], [0.5, 3.0], [2.0, 0.25]]) * (1 + step)


def naive_step(target: list[list[float]], online: list[list[float]], m: int, rate: float) -> None:
    target[m] = [t + rate * (o - t) for t, o in zip(target[m], online[m], strict=True)]


# num_envs steps at a time, from a first step at which nothing else begins.
@pytest.mark.parametrize("steps_per_call", [1, 2, 3, 5, 7, 24])
@pytest.mark.parametrize("start", [0, 5])
@pytest.mark.parametrize("rates", [(1.0, 1.0, 1.0), (1.0, 0.25, 0.005)], ids=["copies", "rates"])
def test_moves_once_for_each_period_that_ends(rates: tuple[float, ...], start: int, steps_per_call: int) -> None:
    """Where a call takes several steps and so ends several periods, the target moves as often."""
    periods = (4, 1, 6)
    rule = PeriodicTarget(periods, torch.tensor(rates))
    target = torch.zeros(3, 2)
    expected = target.tolist()
    for before in range(start, 120, steps_per_call):
        after, online = before + steps_per_call, online_at(before)
        rule.update_(target, online, before, after)
        for step in range(before + 1, after + 1):
            for m, period in enumerate(periods):
                if step % period == 0:
                    naive_step(expected, online.tolist(), m, rates[m])
        torch.testing.assert_close(target, torch.tensor(expected), rtol=1e-4, atol=1e-6)
        assert torch.equal(online, online_at(before))


def test_a_copy_is_exact_and_a_rest_leaves_every_bit() -> None:
    generator = torch.Generator().manual_seed(0)
    online, target = torch.randn(2, 1000, generator=generator), torch.randn(2, 1000, generator=generator)
    before = target.clone()
    rule = PeriodicTarget((10, 4), torch.tensor([1.0, 1.0]))
    rule.update_(target, online, 7, 8)
    assert torch.equal(target[0], before[0])
    assert torch.equal(target[1], online[1])
    rule.update_(target, online, 8, 10)
    assert torch.equal(target, online)


def test_nothing_moves_before_the_first_period_is_over() -> None:
    target = torch.zeros(1, 2)
    rule = PeriodicTarget((500,), torch.ones(1))
    for step in range(499):
        rule.update_(target, torch.ones(1, 2), step, step + 1)
        assert (target == 0).all()
    rule.update_(target, torch.ones(1, 2), 499, 500)
    assert (target == 1).all()


def test_polyak_averaging_is_a_running_mean() -> None:
    """Towards a constant, after n moves: 1 - (1 - rate)^n of the way."""
    rates, target = [0.005, 0.1, 1.0], torch.zeros(3, 1)
    rule = PeriodicTarget((1, 1, 1), torch.tensor(rates))
    for step in range(200):
        rule.update_(target, torch.ones(3, 1), step, step + 1)
    expected = torch.tensor([[1 - (1 - rate) ** 200] for rate in rates])
    torch.testing.assert_close(target, expected, rtol=1e-4, atol=0)


def test_without_a_target_network_nothing_moves() -> None:
    target = torch.zeros(1, 2)
    NoTarget().update_(target, torch.ones(1, 2), 0, 10_000)
    assert (target == 0).all()
    assert NoTarget().shares_online
    assert not PeriodicTarget((1,), torch.ones(1)).shares_online
