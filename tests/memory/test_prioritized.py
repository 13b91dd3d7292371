"""Prioritized memories against the paper's formulas on random streams."""

from __future__ import annotations

import copy
from typing import Any, Literal

import numpy as np
import pytest
import torch
from random_stream import RandomStream, make_spec
from scipy import stats
from torch import Tensor

from dqn.memory.prioritized import Priorities, PrioritizedMemory, RankedMemory
from dqn.memory.stream import Experience
from dqn.memory.uniform import UniformMemory

CPU = torch.device("cpu")
EXPONENT = 0.6
Kind = Literal["proportional", "ranked"]


def make_memory(
    kind: Kind = "proportional",
    every_calls: int = 1,
    uniform_share: float = 0.0,
    stratified: bool = False,
    normalization: Literal["batch", "memory"] = "batch",
    capacity_steps: int = 30,
    n_step: int = 1,
    stack: int = 1,
    num_envs: int = 2,
) -> PrioritizedMemory:
    offset = 0.01 if kind == "proportional" else 0.0
    priorities = Priorities(EXPONENT, offset, uniform_share, stratified, normalization)
    settings: dict[str, Any] = {
        "spec": make_spec(stack=stack),
        "num_envs": num_envs,
        "capacity_steps": capacity_steps,
        "discount": torch.tensor([0.9, 0.99]),
        "device": CPU,
        "n_step": n_step,
    }
    if kind == "ranked":
        return RankedMemory(priorities, every_calls, **settings)
    return PrioritizedMemory(priorities, **settings)


def started(memory: PrioritizedMemory, stack: int = 1, num_envs: int = 2, seed: int = 0) -> RandomStream:
    stream = RandomStream(make_spec(stack=stack), 2, num_envs, seed)
    memory.start(stream.frames())
    return stream


def put(memory: PrioritizedMemory, experience: Experience) -> None:
    """As the agent does."""
    memory.add(experience)
    if isinstance(memory, RankedMemory):
        memory.rank_if_due()


def all_places(memory: UniformMemory, m: int) -> list[int]:
    """Of everything that can be drawn of a member, oldest first."""
    size = memory.size.unsqueeze(-1)
    ranks = (torch.arange(int(size.max())) % size.clamp(min=1) + 0.5) / size.clamp(min=1)
    return UniformMemory.draw(memory, ranks.double())[m, : int(size[m])].tolist()


def weights_by_place(memory: PrioritizedMemory, m: int) -> dict[int, float]:
    weights = memory._tree.weights[m]
    return {place: float(weights[place]) for place in weights.nonzero().ravel().tolist()}


@pytest.mark.parametrize(("n_step", "stack", "num_envs"), [(1, 1, 2), (3, 1, 2), (1, 4, 1), (3, 4, 3)])
@pytest.mark.parametrize("kind", ["proportional", "ranked"])
def test_what_has_a_weight_is_what_can_be_drawn(kind: Kind, n_step: int, stack: int, num_envs: int) -> None:
    """And each weight follows from the last priority that was given, or from the highest of all before."""
    memory = make_memory(kind, 10**9, n_step=n_step, stack=stack, num_envs=num_envs)
    stream = started(memory, stack, num_envs)
    rng = np.random.default_rng(1)
    expected: list[dict[int, float]] = [{}, {}]  # priorities
    highest = [1.0, 1.0]
    for _ in range(80):
        memory.add(stream.step())
        for m in range(2):
            places = all_places(memory, m)
            assert len(set(places)) == len(places)
            expected[m] = {place: expected[m].get(place, highest[m]) for place in places}
        if (memory.size > 0).all():
            drawn = memory.draw(torch.from_numpy(rng.random((2, 6))))
            priorities = torch.from_numpy((rng.random((2, 6)) * 3).astype(np.float32))
            memory.prioritize(drawn, priorities)
            for m in range(2):
                given: dict[int, float] = {}
                for place, priority in zip(drawn[m].tolist(), priorities[m].tolist(), strict=True):
                    given[place] = max(given.get(place, 0.0), priority)
                assert given.keys() <= expected[m].keys()
                expected[m] |= given
                highest[m] = max(highest[m], *given.values())
        for m in range(2):
            if kind == "ranked":  # never ranked, so that everything has the first rank
                weights = dict.fromkeys(expected[m], 1.0)
            else:
                weights = {place: (p + 0.01) ** EXPONENT for place, p in expected[m].items()}
            assert weights_by_place(memory, m) == pytest.approx(weights, rel=1e-6)


def filled(memory: PrioritizedMemory, calls: int = 40) -> None:
    """With priorities of all sizes."""
    stream = started(memory)
    rng = np.random.default_rng(2)
    for _ in range(calls):
        put(memory, stream.step())
        if (memory.size > 0).all():
            drawn = memory.draw(torch.from_numpy(rng.random((2, 8))))
            memory.prioritize(drawn, torch.from_numpy(rng.exponential(size=(2, 8)).astype(np.float32)))


def exact_probabilities(memory: PrioritizedMemory, m: int, share: float) -> dict[int, float]:
    weights = weights_by_place(memory, m)
    total = sum(weights.values())
    return {place: (1 - share) * w / total + share / len(weights) for place, w in weights.items()}


@pytest.mark.parametrize("stratified", [False, True])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("kind", ["proportional", "ranked"])
def test_frequencies_are_the_exact_probabilities(kind: Kind, share: float, stratified: bool) -> None:
    memory = make_memory(kind, every_calls=40, uniform_share=share, stratified=stratified)
    filled(memory)
    rng = np.random.default_rng(3)
    drawn = [memory.draw(torch.from_numpy(rng.random((2, 32)))) for _ in range(1000)]
    for m in range(2):
        probabilities = exact_probabilities(memory, m, share)
        assert len(probabilities) > 20
        counts = np.bincount(torch.cat([d[m] for d in drawn]).numpy(), minlength=memory._length)
        assert counts.sum() == sum(counts[place] for place in probabilities)
        observed = [counts[place] for place in probabilities]
        expected = [p * counts.sum() for p in probabilities.values()]
        assert stats.chisquare(observed, expected).pvalue > 0.001  # of stratified draws it is larger than by chance
        if share < 1:  # that the test can tell
            assert stats.chisquare(observed, [counts.sum() / len(observed)] * len(observed)).pvalue < 1e-6


def test_a_stratified_batch_has_one_draw_from_each_share() -> None:
    memory = make_memory(stratified=True)
    filled(memory)
    rng = np.random.default_rng(4)
    for _ in range(50):
        drawn = memory.draw(torch.from_numpy(rng.random((2, 8))))
        for m in range(2):
            ends = np.cumsum(memory._tree.weights[m].numpy())
            for k, place in enumerate(drawn[m].tolist()):
                below, above = (ends[place - 1] if place else 0.0) / ends[-1], ends[place] / ends[-1]
                assert below < (k + 1) / 8 + 1e-12
                assert above > k / 8 - 1e-12


@pytest.mark.parametrize("share", [0.0, 0.3])
@pytest.mark.parametrize("normalization", ["batch", "memory"])
@pytest.mark.parametrize("kind", ["proportional", "ranked"])
def test_importance_is_the_papers(kind: Kind, normalization: Literal["batch", "memory"], share: float) -> None:
    memory = make_memory(kind, every_calls=10, uniform_share=share, normalization=normalization)
    filled(memory)
    drawn = memory.draw(torch.from_numpy(np.random.default_rng(5).random((2, 8))))
    found = memory.importance(drawn)
    for m in range(2):
        probabilities = exact_probabilities(memory, m, share)
        of_all = {place: 1 / (len(probabilities) * p) for place, p in probabilities.items()}
        expected = [of_all[place] for place in drawn[m].tolist()]
        most = max(of_all.values()) if normalization == "memory" else max(expected)
        assert found[m].tolist() == pytest.approx([one / most for one in expected], rel=1e-5)


def test_ranks_are_exact_where_all_are_ranked_anew() -> None:
    memory = make_memory("ranked", every_calls=1)
    assert isinstance(memory, RankedMemory)
    filled(memory)
    put(memory, started(memory).step())
    for m in range(2):
        priorities = {place: float(memory._by_place[m, place]) for place in all_places(memory, m)}
        order = sorted(priorities, key=lambda place: (priorities[place], place))
        expected = {place: (len(order) - i) ** -EXPONENT for i, place in enumerate(order)}
        assert weights_by_place(memory, m) == pytest.approx(expected)


def test_between_rankings_a_priority_has_the_rank_that_it_would_have_had() -> None:
    memory = make_memory("ranked", every_calls=10**9)
    assert isinstance(memory, RankedMemory)
    filled(memory)
    memory.rank()
    then = memory._by_place.clone()
    drawn = memory.draw(torch.from_numpy(np.random.default_rng(6).random((2, 8))))
    priorities = torch.linspace(0.0, 5.0, 16).view(2, 8)
    memory.prioritize(drawn, priorities)
    for m in range(2):
        for place in set(drawn[m].tolist()):
            mine = float(priorities[m][drawn[m] == place].max())
            rank = 1 + int((then[m] > mine).sum())
            assert float(memory._tree.weights[m, place]) == pytest.approx(rank**-EXPONENT)


@pytest.mark.parametrize("kind", ["proportional", "ranked"])
def test_only_active_members_get_new_priorities(kind: Kind) -> None:
    memory = make_memory(kind, every_calls=5)
    filled(memory)
    before = copy.deepcopy(memory)
    drawn = memory.draw(torch.from_numpy(np.random.default_rng(7).random((2, 8))))
    memory.prioritize(drawn, torch.full((2, 8), 9.0), torch.tensor([True, False]))
    # Above all others: of ranks the first.
    expected = 1.0 if kind == "ranked" else 9.01**EXPONENT
    assert memory._tree.weights[0, drawn[0]].tolist() == pytest.approx([expected] * 8)
    assert (before._tree.weights[0, drawn[0]] < 0.9 * expected).sum() >= 4
    assert torch.equal(memory._tree.weights[1], before._tree.weights[1])
    assert memory._highest.ravel().tolist() == [9.0, float(before._highest[1])]
    if isinstance(memory, RankedMemory) and isinstance(before, RankedMemory):
        assert float(memory._by_place[0].max()) == 9.0
        assert torch.equal(memory._by_place[1], before._by_place[1])


@pytest.mark.parametrize("capacity_steps", [30, 60])
@pytest.mark.parametrize("calls", [0, 5, 12, 40])
@pytest.mark.parametrize("kind", ["proportional", "ranked"])
def test_a_restored_memory_goes_on_as_the_one_that_was_saved(kind: Kind, calls: int, capacity_steps: int) -> None:
    """In a larger one, too, if it was never full."""
    if capacity_steps > 30 and calls > 12:
        pytest.skip("it was full")
    memory = make_memory(kind, every_calls=7)
    filled(memory, calls)
    restored = make_memory(kind, every_calls=7, capacity_steps=capacity_steps)
    filled(restored, 33)
    restored.load_state_dict(copy.deepcopy(memory.state_dict()))
    stream, rng = RandomStream(make_spec(), 2, 2, seed=9), np.random.default_rng(8)
    for _ in range(30 if capacity_steps == 30 else 3):
        experience = stream.step()
        drawn: list[Tensor] = []
        uniforms, priorities = torch.from_numpy(rng.random((2, 8))), torch.from_numpy(rng.random((2, 8))).float() * 2
        for one in (memory, restored):
            put(one, experience)
            if (one.size > 0).all():
                drawn.append(one.draw(uniforms))
                one.prioritize(drawn[-1], priorities)
        if drawn and capacity_steps == 30:
            assert torch.equal(*drawn)
        elif drawn:  # at other places
            for mine, theirs in zip(memory.read(drawn[0]), restored.read(drawn[1]), strict=True):
                assert torch.equal(mine, theirs)
    for m in range(2):
        assert sorted(weights_by_place(restored, m).values()) == pytest.approx(
            sorted(weights_by_place(memory, m).values())
        )


def test_what_is_no_number_in_one_member_harms_no_other() -> None:
    """Its own places are those of slots that exist, whatever they hold."""
    memory, whole = make_memory(), make_memory()
    for one in (memory, whole):
        filled(one)
    uniforms = torch.from_numpy(np.random.default_rng(1).random((2, 8)))
    drawn = memory.draw(uniforms)
    priorities = torch.ones(2, 8)
    whole.prioritize(drawn, priorities)
    priorities[0] = float("nan")
    memory.prioritize(drawn, priorities)
    stream = RandomStream(make_spec(), 2, 2, seed=3)
    for _ in range(40):
        experience = stream.step()
        for one in (memory, whole):
            one.add(experience)
        places = memory.draw(uniforms)
        assert int(places.max()) < memory._length
        assert torch.equal(places[1], whole.draw(uniforms)[1])
        memory.read(places)
