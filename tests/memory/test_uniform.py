"""The uniform memory against a naive one that keeps every transition whole, on random streams."""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from random_stream import RandomStream, make_spec
from states import assert_same_state
from torch import Tensor

from dqn.envs.base import EnvironmentSpec
from dqn.memory.batch import Batch
from dqn.memory.stream import Experience
from dqn.memory.uniform import UniformMemory
from dqn.randomness import Stream

CPU = torch.device("cpu")
Observation = tuple[float, ...]
Key = tuple[Observation, int, float, float, Observation]  # obs_tm1, a_tm1, r_t, discount_t, obs_t


@pytest.fixture(autouse=True)
def _poison_unwritten_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """`torch.empty` gives NaN and 99, so that it shows when something is read that was never written."""
    empty = torch.empty

    def poisoned(*args: Any, **kwargs: Any) -> Tensor:
        tensor = empty(*args, **kwargs)
        return tensor.fill_(float("nan") if tensor.is_floating_point() else 99)

    monkeypatch.setattr(torch, "empty", poisoned)


class NaiveMemory:
    """Every transition whole, in a list per member, with the number of the step call that made it."""

    def __init__(
        self, spec: EnvironmentSpec, num_envs: int, capacity_steps: int, discounts: list[float], n_step: int
    ) -> None:
        self.spec, self.num_envs, self.discounts, self.n_step = spec, num_envs, discounts, n_step
        self.calls_kept = -(-capacity_steps // num_envs)
        self.calls = 0
        self.transitions: list[list[list[tuple[int, Key]]]] = [[[] for _ in range(num_envs)] for _ in discounts]
        self.episodes: list[list[list[np.ndarray[Any, Any]]]] = []  # [m][e]: the frames since the episode's start

    def start(self, frames: Tensor) -> None:
        self.episodes = [[[frame.numpy().copy()] for frame in member] for member in frames]

    def observation(self, m: int, e: int) -> Observation:
        k = self.spec.frame_stack
        frames = self.episodes[m][e][-k:]
        missing = [np.zeros_like(frames[0])] * (k - len(frames))
        # Frames concatenated along their first axis lie one after another, as here.
        return tuple(np.stack(missing + frames).ravel().tolist())

    def add(self, experience: Experience) -> None:
        for m, e in product(range(len(self.discounts)), range(self.num_envs)):
            frame = experience.frames[m, e].numpy().copy()
            if experience.was_reset[m, e]:
                self.episodes[m][e] = [frame]
                continue
            before = self.observation(m, e)
            self.episodes[m][e].append(frame)
            discount = 0.0 if experience.terminated[m, e] else self.discounts[m]
            action, reward = int(experience.actions[m, e]), float(experience.rewards[m, e])
            self.transitions[m][e].append((self.calls, (before, action, reward, discount, self.observation(m, e))))
        self.calls += 1

    def contents(self, m: int) -> Counter[Key]:
        """Of the step calls that are kept, apart from the last, whose n steps are not over."""
        oldest, newest = self.calls - self.calls_kept - self.n_step + 1, self.calls - self.n_step
        return Counter(
            self.n_step_return(steps[i:])
            for steps in self.transitions[m]
            for i, (call, _) in enumerate(steps)
            if oldest <= call <= newest
        )

    def n_step_return(self, steps: list[tuple[int, Key]]) -> Key:
        """From the first of these steps on, those of an episode having neighbouring numbers."""
        (first, (before, action, _, _, _)), total, discount = steps[0], 0.0, 1.0
        for k in range(self.n_step):
            if k == len(steps) or steps[k][0] != first + k:
                break  # cut: learning bootstraps from what was observed last
            _, (_, _, reward, discount_t, after) = steps[k]
            total, discount = float(np.float32(total + np.float32(discount * reward))), discount * discount_t
            if discount_t == 0.0:
                break
        return before, action, total, discount, after


def keys(batch: Batch, m: int) -> list[Key]:
    """One member's part of a batch, as `NaiveMemory` writes it."""
    return [
        (tuple(obs_tm1.ravel().tolist()), int(a), float(r), float(discount), tuple(obs_t.ravel().tolist()))
        for obs_tm1, a, r, discount, obs_t in zip(*[tensor[m] for tensor in batch], strict=True)
    ]


def enumerate_ranks(memory: UniformMemory) -> list[list[Key]]:
    """Everything that can be sampled of each member, each rank once: a uniform meets each in its middle."""
    size = memory.size.unsqueeze(-1)
    ranks = torch.arange(int(size.max())) % size.clamp(min=1)  # members with fewer begin again
    batch = memory.sample((ranks.double() + 0.5) / size.clamp(min=1))
    return [keys(batch, m)[: int(size[m])] for m in range(len(size))]


def assert_same_contents(memory: UniformMemory, naive: NaiveMemory) -> None:
    expected = [naive.contents(m) for m in range(len(naive.discounts))]
    assert memory.size.tolist() == [contents.total() for contents in expected]
    if any(expected):
        assert [Counter(member) for member in enumerate_ranks(memory)] == expected


def experience_of_zeros(members: int, num_envs: int, was_reset: Tensor | None = None) -> Experience:
    no = torch.zeros(members, num_envs, dtype=torch.bool)
    nothing = torch.zeros(members, num_envs)
    frames = torch.zeros(members, num_envs, 2)
    return Experience(no.long(), nothing, no, no if was_reset is None else was_reset, frames)


@dataclass
class Setting:
    kind: str
    stack: int
    members: int
    num_envs: int
    capacity_steps: int
    num_actions: int = 4
    compressed: bool = False
    n_step: int = 1

    @property
    def discounts(self) -> list[float]:
        return [0.5, 0.75, 0.875][: self.members]

    def memory(self, replacement: bool = True) -> UniformMemory:
        discount = torch.tensor(self.discounts)
        spec = make_spec(self.kind, self.stack, self.num_actions)
        settings = (replacement, CPU, self.compressed, self.n_step)
        return UniformMemory(spec, self.num_envs, self.capacity_steps, discount, *settings)

    def started(self, seed: int = 0) -> tuple[UniformMemory, NaiveMemory, RandomStream]:
        spec = make_spec(self.kind, self.stack, self.num_actions)
        naive = NaiveMemory(spec, self.num_envs, self.capacity_steps, self.discounts, self.n_step)
        memory = self.memory()
        stream = RandomStream(spec, self.members, self.num_envs, seed)
        frames = stream.frames()
        naive.start(frames)
        memory.start(frames)
        return memory, naive, stream


def add_to_both(memory: UniformMemory, naive: NaiveMemory, experience: Experience) -> None:
    naive.add(experience)
    memory.add(experience)
    experience.frames.fill_(49)  # environments may write into what they handed out


@pytest.mark.parametrize(
    "setting",
    [
        Setting("image", stack=1, members=1, num_envs=1, capacity_steps=7),
        Setting("image", stack=2, members=2, num_envs=3, capacity_steps=20),  # 7 calls, rounded up
        Setting("image", stack=4, members=3, num_envs=2, capacity_steps=12),
        Setting("rgb", stack=4, members=1, num_envs=1, capacity_steps=3),  # shorter than a stack
        Setting("rgb", stack=2, members=2, num_envs=1, capacity_steps=1),
        Setting("vector", stack=1, members=3, num_envs=1, capacity_steps=10),
        Setting("vector", stack=2, members=1, num_envs=4, capacity_steps=4),
        Setting("vector", stack=4, members=2, num_envs=2, capacity_steps=25),
        Setting("discrete", stack=1, members=2, num_envs=2, capacity_steps=9),
        Setting("discrete", stack=1, members=1, num_envs=1, capacity_steps=13, num_actions=300),
        Setting("image", stack=4, members=3, num_envs=2, capacity_steps=12, compressed=True),
        Setting("rgb", stack=2, members=2, num_envs=1, capacity_steps=1, compressed=True),
        Setting("vector", stack=1, members=2, num_envs=2, capacity_steps=9, compressed=True),
        Setting("vector", stack=1, members=2, num_envs=1, capacity_steps=10, n_step=2),
        Setting("image", stack=4, members=2, num_envs=2, capacity_steps=12, n_step=3),
        Setting("image", stack=2, members=1, num_envs=3, capacity_steps=20, n_step=5, compressed=True),
        Setting("discrete", stack=1, members=1, num_envs=1, capacity_steps=3, n_step=10),
    ],
    ids=str,
)
def test_holds_exactly_the_last_steps_transitions(setting: Setting) -> None:
    memory, naive, stream = setting.started()
    assert memory.is_empty
    sizes = set()
    for call in range(250):
        add_to_both(memory, naive, stream.step())
        assert memory.is_empty == (call < setting.n_step - 1)
        assert_same_contents(memory, naive)
        sizes |= set(memory.size.tolist())
    assert len(sizes) > 1 or setting.capacity_steps == 1
    for m in range(setting.members):  # the stream had it all
        discounts = {key[3] for of_env in naive.transitions[m] for _, key in of_env}
        assert discounts == {0.0, setting.discounts[m]}


def test_the_bounds_of_the_uniforms_reach_the_first_and_the_last_rank_and_no_further() -> None:
    memory, naive, stream = Setting("vector", stack=1, members=2, num_envs=1, capacity_steps=11).started()
    for _ in range(40):
        add_to_both(memory, naive, stream.step())
        if (memory.size == 0).any():
            continue
        batch = memory.sample(torch.tensor([[0.0, 1.0 - 2.0**-53]] * 2, dtype=torch.float64))
        for m in range(2):
            ranks = enumerate_ranks(memory)[m]
            assert keys(batch, m) == [ranks[0], ranks[-1]]


def test_size_at_capacity_counts_every_step_that_is_no_reset() -> None:
    memory = Setting("vector", stack=2, members=1, num_envs=2, capacity_steps=10).memory()
    memory.start(torch.zeros(1, 2, 2))
    resets = [False, False, True, False, False, False, False, False, False]
    sizes = []
    for reset in resets:
        memory.add(experience_of_zeros(1, 2, was_reset=torch.tensor([[reset, False]])))
        sizes.append(memory.size.item())
    assert sizes == [2, 4, 5, 7, 9, 9, 9, 10, 10]


@pytest.mark.parametrize(
    ("num_envs", "capacity_steps", "may"), [(1, 1, True), (1, 2, False), (2, 2, True), (2, 3, False)]
)
def test_only_a_memory_of_one_step_call_may_run_empty(num_envs: int, capacity_steps: int, may: bool) -> None:
    memory = Setting("vector", stack=4, members=1, num_envs=num_envs, capacity_steps=capacity_steps).memory()
    memory.start(torch.zeros(1, num_envs, 2))
    assert memory.may_run_empty == may
    for was_reset in [False, True] * 4:  # episodes of one step
        memory.add(experience_of_zeros(1, num_envs, torch.full((1, num_envs), was_reset)))
        assert (memory.size.item() == 0) == (may and was_reset)


def test_only_termination_stops_bootstrapping_and_each_member_has_its_discount() -> None:
    """An episode that is merely cut looks like any other until the reset that follows, and bootstraps."""
    discounts = torch.tensor([0.9, 0.99, 0.0])
    memory = UniformMemory(make_spec(), 1, 4, discounts, replacement=True, device=CPU)
    memory.start(torch.zeros(3, 1, 2))
    for terminated, was_reset in [(False, False), (False, True), (True, False), (True, False)]:
        experience = experience_of_zeros(3, 1, torch.full((3, 1), was_reset))
        memory.add(experience._replace(terminated=torch.full((3, 1), terminated)))
    every_rank = torch.tensor([0.0, 0.4, 0.7], dtype=torch.float64).expand(3, 3)
    discount_t = memory.sample(every_rank).discount_t
    assert torch.equal(discount_t, torch.outer(discounts, torch.tensor([1.0, 0.0, 0.0])))


def test_batches_have_the_shapes_and_types_that_the_learner_expects() -> None:
    for kind, stack, shape, dtype in [
        ("image", 4, (4, 3, 2), torch.uint8),
        ("vector", 1, (2,), torch.float32),
        ("vector", 2, (4,), torch.float32),
        ("discrete", 1, (), torch.int64),
    ]:
        memory, naive, stream = Setting(kind, stack, members=2, num_envs=2, capacity_steps=8).started()
        add_to_both(memory, naive, stream.step())
        batch = memory.sample(torch.full((2, 5), 0.5, dtype=torch.float64))
        assert batch.obs_tm1.shape == batch.obs_t.shape == (2, 5, *shape)
        assert batch.obs_tm1.dtype == batch.obs_t.dtype == dtype
        assert batch.a_tm1.shape == batch.r_t.shape == batch.discount_t.shape == (2, 5)
        assert batch.a_tm1.dtype == torch.int64
        assert batch.r_t.dtype == batch.discount_t.dtype == torch.float32


# --- sampling ---


def numbered_memory(members: int, size: int, replacement: bool) -> UniformMemory:
    """A memory that has wrapped around; the rewards of its transitions are their ranks."""
    memory = UniformMemory(make_spec(), 1, size, torch.ones(members), replacement, CPU)
    memory.start(torch.zeros(members, 1, 2))
    for i in range(-size - 2, size):
        memory.add(experience_of_zeros(members, 1)._replace(rewards=torch.full((members, 1), float(i))))
    assert memory.size.tolist() == [size] * members
    return memory


@pytest.mark.parametrize(("size", "batch_size"), [(5, 3), (5, 5), (6, 2), (4, 1), (1, 1)])
def test_without_replacement_every_subset_is_equally_likely(size: int, batch_size: int) -> None:
    """Exactly so: on a grid on which each draw meets each of its outcomes equally often."""
    # The draws have size - batch_size + 1, ..., size outcomes.
    outcomes = range(size - batch_size + 1, size + 1)
    grid = torch.tensor(list(product(*[[(k + 0.5) / n for k in range(n)] for n in outcomes])), dtype=torch.float64)
    ranks = numbered_memory(len(grid), size, replacement=False).sample(grid).r_t.int().tolist()
    subsets = Counter(frozenset(row) for row in ranks)
    assert all(len(subset) == batch_size for subset in subsets)
    assert len(subsets) == int(np.prod(outcomes)) // int(np.prod(range(1, batch_size + 1)))
    assert len(set(subsets.values())) == 1


def test_without_replacement_members_of_different_size_draw_within_their_own() -> None:
    memory = UniformMemory(make_spec(), 1, 30, torch.ones(2), replacement=False, device=CPU)
    memory.start(torch.zeros(2, 1, 2))
    rewards: list[list[float]] = [[], []]
    draws = Stream([0], "test", (2, 6), CPU)
    for i in range(60):
        was_reset = torch.tensor([[i % 2 == 1], [i % 7 == 6]])  # member 0 has about half as many
        memory.add(experience_of_zeros(2, 1, was_reset)._replace(rewards=torch.full((2, 1), float(i))))
        for m in range(2):
            rewards[m] += [] if was_reset[m] else [float(i)]
        if i < 12:
            continue
        drawn = memory.sample(draws.at(i)[0]).r_t.tolist()
        for m, size in enumerate(memory.size.tolist()):
            assert len(set(drawn[m])) == 6
            assert set(drawn[m]) <= set(rewards[m][-size:])


# Of 14 degrees of freedom, at a probability of 0.001.
CHI_SQUARED_14 = 36.12


@pytest.mark.parametrize("replacement", [False, True])
def test_sampling_with_the_numbers_of_a_run_is_uniform(replacement: bool) -> None:
    """Pairs out of 6 without replacement (15 subsets), singles out of 15 with it."""
    size, batch_size = (15, 1) if replacement else (6, 2)
    members = 500
    memory = numbered_memory(members, size, replacement)
    draws = Stream(range(members), "sampling", (batch_size,), CPU)
    counts: Counter[frozenset[int]] = Counter()
    for i in range(20):
        counts.update(frozenset(row) for row in memory.sample(draws.at(i)).r_t.int().tolist())
    expected = members * 20 / 15
    assert len(counts) == 15
    assert sum((count - expected) ** 2 / expected for count in counts.values()) < CHI_SQUARED_14


def test_with_replacement_every_rank_takes_an_equal_part_of_the_unit_interval() -> None:
    grid = (torch.arange(700, dtype=torch.float64) + 0.5) / 700
    counts = Counter(numbered_memory(1, 7, replacement=True).sample(grid.unsqueeze(0)).r_t[0].int().tolist())
    assert counts == dict.fromkeys(range(7), 100)


# --- state ---


def state_copy(memory: UniformMemory) -> dict[str, Any]:
    return copy.deepcopy(memory.state_dict())


@pytest.mark.parametrize(
    ("compressed", "n_step"), [(False, 1), (True, 1), (False, 3)], ids=["dense", "compressed", "three steps"]
)
@pytest.mark.parametrize("used", [False, True], ids=["into_a_fresh_memory", "into_a_used_memory"])
@pytest.mark.parametrize("calls", [0, 1, 3, 9, 10, 11, 40])
def test_a_restored_memory_goes_on_as_the_one_that_was_saved(
    calls: int, used: bool, compressed: bool, n_step: int
) -> None:
    """Wherever its ring of 10 slots stands: empty, almost full, full, wrapped around."""
    setting = Setting("vector", stack=4, members=2, num_envs=2, capacity_steps=12, compressed=compressed, n_step=n_step)
    memory, naive, stream = setting.started()
    for _ in range(calls):
        add_to_both(memory, naive, stream.step())
    restored = setting.started(seed=1)[0] if used else setting.memory()
    if used:
        other = RandomStream(make_spec("vector", 4), 2, 2, seed=2)
        for _ in range(25):
            restored.add(other.step())
    restored.load_state_dict(state_copy(memory))
    assert restored.is_empty == memory.is_empty == (calls < n_step)
    assert_same_contents(restored, naive)
    draws = Stream([0, 1], "sampling", (5,), CPU)
    for i in range(30):
        experience = stream.step()
        restored.add(experience)
        add_to_both(memory, naive, experience)
        assert_same_contents(restored, naive)
        if (memory.size > 0).all():
            for mine, theirs in zip(restored.sample(draws.at(i)), memory.sample(draws.at(i)), strict=True):
                assert torch.equal(mine, theirs)


def test_the_state_leaves_out_what_was_never_written() -> None:
    memory = Setting("vector", stack=1, members=1, num_envs=1, capacity_steps=1000).memory()
    memory.start(torch.zeros(1, 1, 2))
    assert memory.state_dict()["recordings"] == [[]]
    for calls in range(1, 6):
        memory.add(experience_of_zeros(1, 1))
        ((recording,),) = memory.state_dict()["recordings"]
        assert recording["first"] == 0
        assert recording["frames.0"].shape == (calls, 2)
        assert recording["actions"].shape == recording["rewards"].shape == recording["flags"].shape == (1, calls)


@pytest.mark.parametrize("compressed", [False, True], ids=["dense", "compressed"])
@pytest.mark.parametrize("period", [1, 3, 9, 14])
def test_recordings_made_bit_by_bit_are_the_whole_memory(compressed: bool, period: int) -> None:
    """Each from where the last one ended, those that were overwritten left out; the ring has 10 slots."""
    setting = Setting("vector", stack=4, members=2, num_envs=2, capacity_steps=12, compressed=compressed)
    memory, naive, stream = setting.started()
    recorded: list[list[dict[str, Any]]] = [[], []]
    for calls in range(1, 41):
        add_to_both(memory, naive, stream.step())
        if calls % period:
            continue
        state = copy.deepcopy(memory.state_dict(since=[calls - period] * 2))
        for m in range(2):
            assert all(calls - period <= one["first"] < calls for one in state["recordings"][m])
            recorded[m] += state["recordings"][m]
            # As a checkpoint drops them: what ends before the oldest slot.
            recorded[m] = [one for one in recorded[m] if one["first"] + one["flags"].shape[1] > calls - 9]
        restored = setting.memory()
        restored.load_state_dict({**state, "recordings": recorded})
        assert_same_contents(restored, naive)
        assert_same_state(restored.state_dict(), memory.state_dict())
