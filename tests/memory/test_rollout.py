"""Rollouts against loops over environments and step calls, in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from random_stream import RandomStream, make_spec
from torch import Tensor

from dqn.memory.rollout import RolloutMemory
from dqn.memory.stream import Experience

CPU = torch.device("cpu")
M, E, T = 2, 3, 6
DISCOUNTS, DECAYS = [0.9, 0.99], [0.65, 0.95]


def make_memory(stack: int = 1) -> RolloutMemory:
    return RolloutMemory(
        torch.tensor(DECAYS),
        spec=make_spec(stack=stack),
        num_envs=E,
        capacity_steps=E * T,
        discount=torch.tensor(DISCOUNTS),
        device=CPU,
    )


class Played:
    """Step calls, remembered as they came."""

    def __init__(self, memory: RolloutMemory, stack: int, seed: int) -> None:
        self.memory, self.stream = memory, RandomStream(make_spec(stack=stack), M, E, seed)
        self.calls: list[Experience] = []
        frames = self.stream.frames()
        memory.start(frames)
        zeros = torch.zeros_like(frames)
        # Of each environment its last frames, zeros from before the episode: (M, E, stack, *frame).
        self.stacks = [torch.stack([zeros] * (stack - 1) + [frames], 2)]

    def step(self) -> None:
        experience = self.stream.step()
        self.memory.add(experience)
        self.calls.append(experience)
        kept = self.stacks[-1][:, :, 1:] * ~experience.was_reset.view(M, E, 1, 1)
        self.stacks.append(torch.cat([kept, experience.frames.unsqueeze(2)], 2))


def value(observations: Tensor) -> Tensor:
    """Of observations (M, E, ...): any function that tells them apart."""
    return torch.sin(7 * observations.flatten(2).double() @ torch.arange(1.0, 1 + observations[0, 0].numel()).double())


def naive_return(played: Played, m: int, e: int, t: int, last: int) -> float:
    """Q(lambda) of step call t by its definition: what is observed later counts by lambda, up to the episode's end."""
    call = played.calls[t]
    if call.terminated[m, e]:
        return float(call.rewards[m, e])
    bootstrap = float(value(played.stacks[t + 1].flatten(2))[m, e])
    ahead = bootstrap
    if t < last and not played.calls[t + 1].was_reset[m, e]:
        ahead = DECAYS[m] * naive_return(played, m, e, t + 1, last) + (1 - DECAYS[m]) * bootstrap
    return float(call.rewards[m, e]) + DISCOUNTS[m] * ahead


@pytest.mark.parametrize("stack", [1, 3])
def test_returns_are_those_of_the_definition(stack: int) -> None:
    memory = make_memory(stack)
    played = Played(memory, stack, seed=stack)
    cut = terminal = 0
    for rollout in range(20):
        for _ in range(T):
            played.step()
        memory.take_values(lambda observations: value(observations.flatten(2)).float())
        first, last = rollout * T, rollout * T + T - 1
        slots = [t % memory._storage.slots for t in range(first, last + 1)]
        for m in range(M):
            places = torch.tensor([e * memory._storage.slots + slot for e in range(E) for slot in slots])
            batch = memory.read(places.expand(M, -1))
            for i, (e, t) in enumerate((e, t) for e in range(E) for t in range(first, last + 1)):
                call = played.calls[t]
                if call.was_reset[m, e]:
                    continue
                assert batch.r_t[m, i].item() == pytest.approx(naive_return(played, m, e, t, last), abs=1e-5)
                assert batch.a_tm1[m, i] == call.actions[m, e]
                assert torch.equal(batch.obs_tm1[m, i].flatten(), played.stacks[t][m, e].flatten())
                terminal += bool(call.terminated[m, e])
                cut += t < last and bool(played.calls[t + 1].was_reset[m, e] & ~call.terminated[m, e])
    assert min(cut, terminal) > 50


def test_an_epoch_draws_everything_once_in_an_order_of_its_own() -> None:
    memory = make_memory()
    played = Played(memory, 1, seed=0)
    for _ in range(T):
        played.step()
    size = E * T
    in_turn = memory.in_turn(torch.from_numpy(np.random.default_rng(0).random((M, 3 * size))))
    places = memory.draw(in_turn).view(M, 3, size)
    for m in range(M):
        there = int(memory.size[m])
        assert size > there > size / 2
        for epoch in places[m]:
            counts = np.bincount(epoch.numpy())
            assert (counts > 0).sum() == there  # autoresets are no transitions
            assert counts.max() <= 2
        assert not torch.equal(places[m, 0], places[m, 1])
        assert not torch.equal(places[0, 0], places[1, 0])
