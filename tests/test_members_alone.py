"""Members of a population are the runs they would be alone, whatever happens to the others."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from plain_runs import PLAIN, QUIET, TRAITS, run

from dqn.events import End, Episode, Learning, Pause
from dqn.experiment import build_trainer

MEMORIES = ("uniform", "prioritized")
KINDS = {
    "vectors": ["env=cartpole", "env.num_envs=2", "trainer.learn_every_steps=2", "trainer.total_steps=300"],
    "states": ["env=gridworld", "env.start=random", "env.slip_probability=0.2", "trainer.total_steps=260"],
    "learning at episode ends": [
        "env=cartpole",
        "trainer.learn_every_steps=null",
        "trainer.updates_per_learn=16",
        "trainer.total_steps=260",
    ],
    "double Q-learning": ["env=cartpole", "algorithm=double_dqn", "trainer.total_steps=260"],
    "three steps, dueling": ["env=cartpole", "memory.n_step=3", "network/head=dueling", "trainer.total_steps=260"],
    "c51": ["env=cartpole", "algorithm=c51", "algorithm.double=true", "trainer.total_steps=260"],
    "munchausen": ["env=cartpole", "algorithm=munchausen_dqn", "trainer.total_steps=260"],
    "quantiles": ["env=cartpole", "algorithm=qr_dqn", "network/head=shared_bias", "trainer.total_steps=260"],
    "implicit quantiles": ["env=cartpole", "env.num_envs=2", "algorithm=iqn", "trainer.total_steps=460"],
    "proposed fractions": ["env=cartpole", "algorithm=fqf", "algorithm.proposal_rate=1", "trainer.total_steps=260"],
    "munchausen, implicit": ["env=cartpole", "algorithm=munchausen_iqn", "trainer.total_steps=260"],
    "noise": ["env=cartpole", "env.num_envs=2", "network.noise_std=0.5", "trainer.total_steps=460"],
    "rainbow": [
        *("env=cartpole", "algorithm=c51", "algorithm.double=true", "network/head=dueling", "network.noise_std=0.5"),
        *("memory=prioritized", "memory.n_step=3", "trainer.total_steps=260"),
    ],
    "priorities": ["env=cartpole", "memory=prioritized", "memory.uniform_share=0.1", "trainer.total_steps=260"],
    "ranks": ["env=cartpole", "memory=ranked", "memory.rank_every_steps=50", "trainer.total_steps=260"],
}


# What others have parts of.
WITHOUT_LOSS = ("c51", "quantiles", "implicit quantiles", "munchausen, implicit", "proposed fractions", "rainbow")
SELDOM = ("ranks", "priorities", "munchausen, implicit", "double Q-learning", "munchausen", "quantiles", "c51")


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=[pytest.mark.long] * (kind in SELDOM)) for kind in KINDS])
def test_members_of_a_population_are_the_runs_they_would_be_alone(make_config, kind):
    shared = [*PLAIN, *QUIET, "trainer.batch_size=8", *KINDS[kind]]
    shared += ["trainer.log_every_steps=40", "network.hidden_sizes=[16, 8]"]
    has_priorities = kind in ("priorities", "ranks", "rainbow")
    if not has_priorities:
        shared.append("memory.replacement=false")
    has_loss = kind not in WITHOUT_LOSS
    words = [[word for word in of_one.split() if has_loss or "algorithm.loss" not in word] for of_one in TRAITS]
    configs = [make_config(*shared, *traits) for traits in words]
    population = build_trainer(configs)
    together = run(population)
    assert population.updates.min() >= 100
    for m, config in enumerate(configs):
        lone = build_trainer([config])
        alone = run(lone)
        assert lone.updates[0] == population.updates[m]
        assert lone.steps == population.steps
        for ours, theirs in (
            (population.parts.learner.parameters, lone.parts.learner.parameters),
            (population.parts.learner.target_parameters, lone.parts.learner.target_parameters),
        ):
            torch.testing.assert_close(ours[m], theirs[0], atol=1e-5, rtol=1e-5)
        of_member = [event for event in together if event.member == m]
        assert [e for e in of_member if isinstance(e, Episode)] == [
            Episode(m, e.step, e.episode_return, e.episode_length) for e in alone if isinstance(e, Episode)
        ]
        for ours, theirs in zip(
            [e for e in of_member if isinstance(e, Learning)],
            [e for e in alone if isinstance(e, Learning)],
            strict=True,
        ):
            assert (ours.step, ours.updates, ours.epsilon) == (theirs.step, theirs.updates, theirs.epsilon)
            if theirs.loss is not None:
                assert ours.loss == pytest.approx(theirs.loss, rel=1e-3, abs=1e-5)
                assert ours.gradient_norm == pytest.approx(theirs.gradient_norm, rel=1e-3, abs=1e-5)


def test_members_that_learn_from_rollouts_are_the_runs_they_would_be_alone(make_config):
    """One begins later, one has another lambda."""
    shared = ["experiment=cartpole_pqn", *QUIET, "env.num_envs=2", "memory.capacity_steps=20", "trainer.batch_size=4"]
    shared += ["trainer.learn_every_steps=20", "trainer.updates_per_learn=10", "trainer.total_steps=400"]
    traits = [[], ["memory.warmup_steps=100"], ["memory.trace_decay=0.2", "optimizer.learning_rate=1e-3"]]
    configs = [make_config(*shared, f"seed={seed}", *words) for seed, words in enumerate(traits)]
    population = build_trainer(configs)
    run(population)
    assert population.updates.tolist() == [200, 160, 200]
    for m, config in enumerate(configs):
        lone = build_trainer([config])
        run(lone)
        ours, theirs = population.parts.learner.parameters[m], lone.parts.learner.parameters[0]
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("words", [[], ["evaluation.stop.max_value_change=1e-9"]])
def test_a_member_that_has_made_its_episodes_changes_nothing_for_the_others(make_config, words):
    """They end at steps of their own, where one alone is evaluated and reported once more."""
    shared = [*PLAIN, "logger=none", "trainer.total_steps=null", "trainer.total_episodes=12", *words]
    shared += ["evaluation.every_steps=90", "trainer.log_every_steps=70", "memory.warmup_steps=50"]
    shared += ["network.hidden_sizes=[8]"]
    configs = [make_config(*shared, f"seed={seed}") for seed in range(4)]
    population = build_trainer(configs)
    population.endings._shrinks_for_updates = float("inf")  # the last one stays in it, too
    together = run(population)
    ends = {event.member: event.step for event in together if isinstance(event, End)}
    assert len(set(ends.values())) == 4
    for m, config in enumerate(configs):
        ours = [e for e in together if e.member == m]
        alone = [dataclasses.replace(e, member=m) for e in run(build_trainer([config])) if not isinstance(e, Pause)]
        assert [type(e) for e in ours] == [type(e) for e in alone]
        for mine, theirs in zip(ours, alone, strict=True):
            for name, value in vars(theirs).items():
                expected = pytest.approx(value, rel=1e-3, abs=1e-5) if isinstance(value, float) else value
                assert getattr(mine, name) == expected


def test_members_differ(make_config):
    configs = [make_config(*PLAIN, *QUIET, "trainer.total_steps=1100", f"seed={s}") for s in (0, 1)]
    trainer = build_trainer(configs)
    run(trainer)
    assert not torch.allclose(trainer.parts.learner.parameters[0], trainer.parts.learner.parameters[1], atol=1e-2)


@pytest.mark.parametrize("memory", MEMORIES)
def test_a_diverged_member_leaves_the_others_alone(memory, make_config):
    overrides = [*PLAIN, *QUIET, "trainer.total_steps=1300", "optimizer=sgd", "algorithm/loss=mse", f"memory={memory}"]
    overrides += ["optimizer.max_gradient_norm=null"]
    sane, mad = make_config(*overrides, "seed=1"), make_config(*overrides, "optimizer.learning_rate=1e30")
    trainer = build_trainer([mad, sane])
    events = run(trainer)
    assert [(e.member, e.status) for e in events if isinstance(e, End)] == [(0, "diverged"), (1, "completed")]
    lone = build_trainer([sane])
    run(lone)
    torch.testing.assert_close(
        trainer.parts.learner.parameters[1], lone.parts.learner.parameters[0], rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("memory", MEMORIES)
def test_a_member_whose_memory_is_empty_waits(memory, make_config):
    """A memory of one step call holds nothing right after an autoreset."""
    words = [*PLAIN, *QUIET, "env.backend=gymnasium", "env.num_envs=1", f"memory={memory}"]
    words += ["memory.n_step=4", "memory.capacity_steps=1", "memory.warmup_steps=5", "trainer.learn_every_steps=1"]
    configs = [make_config(*words, "trainer.total_steps=150", "trainer.batch_size=2", f"seed={s}") for s in range(3)]
    trainer = build_trainer(configs)
    run(trainer)
    assert len(set(trainer.updates.tolist())) > 1
    assert torch.isfinite(trainer.parts.learner.parameters).all()


@pytest.mark.parametrize(("shrinks_for_updates", "steps"), [(0, 1200), (150, 1500), (10_000, 2000)])
def test_a_population_shrinks_when_waiting_has_cost_as_much(make_config, shrinks_for_updates, steps):
    overrides = [*PLAIN, "logger=none", "checkpoint.every_steps=null", "evaluation.every_steps=100"]
    config = make_config(*overrides, "trainer.total_steps=2000", "trainer.log_every_steps=100")
    trainer = build_trainer([dataclasses.replace(config, seed=seed) for seed in range(3)])
    trainer.judge = lambda step, scores: {0: "no hope", 1: "no hope"} if step == 1200 else {}
    trainer.endings._shrinks_for_updates = shrinks_for_updates
    events = run(trainer)
    assert trainer.steps == steps
    assert [event.member for event in events if isinstance(event, End)] == ([0, 1] if steps < 2000 else [0, 1, 2])
