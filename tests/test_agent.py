"""What the agent hands on: to the learner, to the memory, and to each call of a network."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dqn.experiment import build_trainer
from dqn.memory.prioritized import RankedMemory
from dqn.networks.noisy import noise_of
from dqn.networks.population import Population, member_network

SMALL = (
    "experiment=cartpole", "logger=none", "env.num_envs=2", "network.hidden_sizes=[8]", "memory.warmup_steps=20",
    "trainer.total_steps=80", "trainer.learn_every_steps=4", "trainer.updates_per_learn=3", "trainer.batch_size=6",
    "evaluation.every_steps=null", "evaluation.stop.mean_return=null", "checkpoint.every_steps=null",
)  # fmt: skip
ROLLOUTS = (
    "experiment=cartpole_pqn", "logger=none", "env.num_envs=2", "network.hidden_sizes=[8]",
    "memory.capacity_steps=12", "trainer.learn_every_steps=12", "trainer.updates_per_learn=6", "trainer.batch_size=4",
    "trainer.total_steps=96", "evaluation.every_steps=null", "checkpoint.every_steps=null",
)  # fmt: skip
PRIORITIES = {
    "prioritized": ["memory=prioritized", "memory.priority_exponent=0.5", "memory.priority_offset=0.01"],
    "ranked": ["memory=ranked", "memory.rank_every_steps=4"],
}


def run(trainer):
    list(trainer.run())
    trainer.close()


def record_updates(trainer):
    """Every update as it happens: what was drawn, what the learner was handed, and what it returned."""
    memory, learner = trainer.parts.memory, trainer.parts.learner
    draw, update = memory.draw, learner.update
    drawn, updates = [], []

    def drawing(uniforms):
        drawn.append((uniforms, draw(uniforms)))
        return drawn[-1][1]

    def updating(batch, rate, active, weights, draws):
        uniforms, places = drawn[-1]
        tree = memory._tree.weights.double().numpy().copy() if hasattr(memory, "_tree") else None
        metrics, priorities = update(batch, rate, active, weights, draws)
        handed = {"batch": batch, "rate": rate, "active": active, "weights": weights}
        updates.append(
            SimpleNamespace(
                step=trainer.steps, uniforms=uniforms, places=places, tree=tree, priorities=priorities, **handed
            )
        )
        return metrics, priorities

    memory.draw, learner.update = drawing, updating
    return updates


def on_line(start, end, delay, duration, step):
    return start + (end - start) * min(max((step - delay) / duration, 0.0), 1.0)


def words_of_line(schedule, line):
    names = ("start", "end", "delay_steps", "duration_steps")
    return [f"{schedule}.{name}={value}" for name, value in zip(names, line, strict=True)]


@pytest.mark.parametrize("kind", PRIORITIES)
def test_losses_have_the_papers_weights_with_the_exponent_of_their_step(kind, make_config):
    """(N P)^-beta over the greatest of the batch (arXiv 1511.05952, section 3.4), beta by each member's own line."""
    lines = [(0.4, 1.0, 0, 80), (0.1, 0.5, 40, 20)]
    trainer = build_trainer(
        [
            make_config(
                *(*SMALL, *PRIORITIES[kind], f"seed={seed}"), *words_of_line("memory.importance_exponent", line)
            )
            for seed, line in enumerate(lines)
        ]
    )
    updates = record_updates(trainer)
    run(trainer)
    assert len(updates) == 16 * 3
    for update in updates:
        for m, line in enumerate(lines):
            probabilities = update.tree[m] / update.tree[m].sum()
            importance = 1 / (np.count_nonzero(probabilities) * probabilities[update.places[m]])
            expected = (importance / importance.max()) ** on_line(*line, update.step)
            np.testing.assert_allclose(update.weights[m], expected, rtol=1e-5)
    assert len({on_line(*lines[0], update.step) for update in updates}) == 16
    least = [update.weights.amin(1) for update in updates]
    assert (torch.stack(least) < 0.9).sum(0).min() > 10


def test_an_update_learns_with_the_rate_of_its_step(make_config):
    lines = [(1.0, 0.1, 0, 80), (0.7, 0.2, 40, 20)]
    trainer = build_trainer(
        [
            make_config(
                *(*SMALL, f"seed={seed}", f"optimizer.learning_rate={1e-3 * (1 + seed)}"),
                *words_of_line("optimizer.learning_rate_schedule", line),
            )
            for seed, line in enumerate(lines)
        ]
    )
    updates = record_updates(trainer)
    run(trainer)
    assert len(updates) == 16 * 3
    for update in updates:
        rates = [1e-3 * (1 + m) * on_line(*line, update.step) for m, line in enumerate(lines)]
        assert update.rate.tolist() == pytest.approx(rates, rel=1e-6)
        assert update.weights is None


def kept_priorities(memory):
    """By place, as the memory has them now; of what is no transition none that could be given."""
    if isinstance(memory, RankedMemory):
        return memory._by_place.double().numpy().copy()
    return memory._tree.weights.double().numpy() ** (1 / 0.5) - 0.01


@pytest.mark.parametrize("active", [None, [True, False]])
@pytest.mark.parametrize("kind", PRIORITIES)
def test_priorities_go_where_the_batch_came_from_and_nowhere_else(kind, active, make_config):
    """Of members that learn; of a transition drawn twice the greater counts."""
    words = [*SMALL, *PRIORITIES[kind], "memory.stratified=false"]
    trainer = build_trainer([make_config(*words, f"seed={seed}") for seed in range(2)])
    run(trainer)
    memory, agent, updates = trainer.parts.memory, trainer._agent, record_updates(trainer)
    generator, twice = torch.Generator().manual_seed(0), 0
    for _ in range(20):
        draws = torch.rand(2, agent.draws_to_update, dtype=torch.float64, generator=generator)
        expected = kept_priorities(memory)
        before = expected.copy()
        if active is None:
            agent.learn([draws])
        else:
            agent.learn_some(draws, torch.tensor(active))
        update = updates[-1]
        for m in range(2):
            given = defaultdict(float)
            for place, priority in zip(update.places[m].tolist(), update.priorities[m].tolist(), strict=True):
                given[place] = max(given[place], priority)
            twice += len(given) < len(update.places[m])
            if active is None or active[m]:
                for place, priority in given.items():
                    expected[m, place] = priority
        np.testing.assert_allclose(kept_priorities(memory), expected, rtol=1e-5, atol=1e-7)
        changes = (~np.isclose(before, expected, rtol=1e-3)).sum(1)
        assert changes[0] > 0
        assert (changes[1] > 0) == (active is None)
    assert len(updates) == 20
    assert twice > 0


def test_what_the_learner_is_handed_is_what_lies_where_was_drawn(make_config):
    trainer = build_trainer([make_config(*SMALL, f"seed={seed}") for seed in range(2)])
    run(trainer)
    updates = record_updates(trainer)
    draws = torch.rand(
        2, trainer._agent.draws_to_update, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )
    trainer._agent.learn([draws])
    (update,) = updates
    assert torch.equal(update.uniforms, draws[:, :6])
    for ours, theirs in zip(update.batch, trainer.parts.memory.read(update.places), strict=True):
        assert torch.equal(ours, theirs)


def test_returns_are_made_once_for_all_updates_of_a_rollout(make_config):
    """By the network before the first of them, also where one member begins later; each epoch draws everything."""
    trainer = build_trainer([make_config(*ROLLOUTS), make_config(*ROLLOUTS, "seed=1", "memory.warmup_steps=30")])
    updates, order, memory, learner = record_updates(trainer), [], trainer.parts.memory, trainer.parts.learner
    take_values, update = memory.take_values, learner.update

    def taking(value):
        order.append("returns")
        networks = [member_network(learner.template, row) for row in learner.parameters]

        def valuing(observations):
            values = value(observations)
            for m, network in enumerate(networks):
                torch.testing.assert_close(values[m], network(observations[m]).amax(-1).detach())
            return values

        take_values(valuing)

    def updating(*args):
        order.append("update")
        return update(*args)

    memory.take_values, learner.update = taking, updating
    sizes = []
    learner.update_target = lambda before, after: sizes.append(memory.size.tolist()) if after % 12 == 0 else None
    run(trainer)
    assert order == ["returns", *["update"] * 6] * 8
    assert [update.active is None for update in updates] == [False] * 12 + [True] * 36
    for i, size in enumerate(sizes):
        for epoch in (updates[6 * i : 6 * i + 3], updates[6 * i + 3 : 6 * i + 6]):
            places = torch.cat([update.places for update in epoch], 1)
            assert [len(row.unique()) for row in places] == size


@pytest.fixture
def network_calls(monkeypatch):
    """Every call of a population, as it happens: the population, and the noise that it was given."""
    calls, call = [], Population.__call__

    def recording(population, observations, noise=None, fractions=None):
        calls.append((population, noise))
        return call(population, observations, noise, fractions)

    monkeypatch.setattr(Population, "__call__", recording)
    return calls


def share_nothing(*numbers):
    """Whether no number is in two places, but for one or two that are equal by the chance of float32."""
    whole = torch.cat(numbers)
    return len(whole.unique()) >= len(whole) - 2


@pytest.mark.parametrize(
    ("algorithm", "of_online", "of_target"),
    [
        (["dqn"], 1, 1),
        (["double_dqn"], 2, 1),
        (["munchausen_dqn"], 1, 2),
        (["c51", "algorithm.double=true"], 2, 1),
        (["iqn"], 1, 1),
        (["munchausen_iqn"], 1, 2),
    ],
)
def test_every_network_call_has_noise_of_its_own(algorithm, of_online, of_target, make_config, network_calls):
    """Each that acts, and each of an update; no number of it has chosen actions or transitions as well."""
    name, *more = algorithm
    words = [*SMALL, f"algorithm={name}", *more, "network.noise_std=0.5"]
    trainer = build_trainer([make_config(*words, f"seed={seed}") for seed in range(2)])
    agent, learner = trainer._agent, trainer.parts.learner
    updates, policy, update = record_updates(trainer), agent._plan.policy, learner.update
    acts, of_updates = [], []

    def acting(q, uniforms, level):
        acts.append((network_calls[-1], noise_of(uniforms).flatten(1)))
        return policy(q, uniforms, level)

    def updating(*args):
        first = len(network_calls)
        returned = update(*args)
        of_updates.append(network_calls[first:])
        return returned

    agent._plan, learner.update = dataclasses.replace(agent._plan, policy=acting), updating
    run(trainer)
    assert (len(acts), len(of_updates)) == (40, 48)
    assert len(network_calls) == 40 + 48 * (of_online + of_target)
    for m in range(2):
        every = torch.stack([noise[m] for _, noise in network_calls])
        assert every.shape[1] == learner.online.noise_size > 0
        assert len(every.unique(dim=0)) == len(every)
        for (population, noise), others in acts:
            assert population is learner.online
            assert share_nothing(noise[m], others[m])
        for calls, of_one in zip(of_updates, updates, strict=True):
            populations = [population for population, _ in calls]
            assert (populations.count(learner.online), populations.count(learner.target)) == (of_online, of_target)
            assert share_nothing(*(noise[m] for _, noise in calls), noise_of(of_one.uniforms[m]))


def test_each_member_has_noise_of_its_own(make_config, network_calls):
    trainer = build_trainer([make_config(*SMALL, "network.noise_std=0.5", f"seed={seed}") for seed in range(3)])
    run(trainer)
    for _, noise in network_calls:
        assert share_nothing(*noise)
