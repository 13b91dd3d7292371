"""A member is the same alone, among 8 and among 64: its draws, its experience and what it learns."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from scipy.stats import ks_2samp
from states import assert_same_state

from dqn.events import Evaluation
from dqn.experiment import build_trainer
from dqn.members import select

pytestmark = pytest.mark.search

LENGTH = [
    "logger=none", "env.num_envs=2", "memory.capacity_steps=150", "memory.warmup_steps=50", "network.hidden_sizes=[16]",
    "trainer.total_steps=248", "trainer.learn_every_steps=2", "trainer.updates_per_learn=1", "trainer.batch_size=8",
    "trainer.log_every_steps=248", "evaluation.every_steps=null", "evaluation.stop.mean_return=null",
    "checkpoint.every_steps=null", "trainer.compile=never",
]  # fmt: skip


def variant(config, number):
    """A config of its own traits for each number."""
    return replace(
        config,
        seed=number,
        optimizer=replace(config.optimizer, learning_rate=1e-3 * (1 + number % 7)),
        algorithm=replace(config.algorithm, discount=0.9 + 0.001 * number),
        memory=replace(config.memory, warmup_steps=50 if number == 5 else 40 + number % 3),
    )


def trained(config, numbers):
    """A population after its run, with the draws of every update: (updates, M, B)."""
    trainer = build_trainer([variant(config, number) for number in numbers])
    agent, draws = trainer._agent, []
    learn = agent.learn

    def recorded(of_updates):
        draws.extend(draw.clone() for draw in of_updates)
        learn(of_updates)

    agent.learn = recorded
    list(trainer.run())
    return trainer, torch.stack(draws)


@pytest.mark.parametrize(("backend", "compiles"), [("gymnasium", "never"), ("torch", "never"), ("torch", "always")])
def test_a_member_is_the_same_alone_and_among_others(make_config, backend, compiles):
    config = make_config("env=cartpole", *LENGTH, f"env.backend={backend}", f"trainer.compile={compiles}")
    alone, draws_alone = trained(config, [5])
    assert alone.updates.tolist() == [100]
    for size, place in ((8, 5), (64, 37)):
        numbers = list(range(size))
        numbers[5], numbers[place] = numbers[place], 5
        together, draws = trained(config, numbers)
        assert together.updates[place] == 100
        # The others may begin to learn a little earlier.
        assert torch.equal(draws[-100:, place], draws_alone[:, 0])
        assert together.episodes[place] == alone.episodes[0]
        assert_same_state(select(together.state_dict(), [place]), alone.state_dict(), learned)


def final_scores(make_config, seeds, *words):
    """The mean return of each seed's last evaluation, of runs that train together."""
    training = [
        "experiment=cartpole", "logger=none", "trainer.compile=never", "trainer.total_steps=6000",
        "evaluation.every_steps=6000", "evaluation.episodes=20", "evaluation.stop.mean_return=null",
        "checkpoint.every_steps=null", *words,
    ]  # fmt: skip
    trainer = build_trainer([make_config(*training, f"seed={seed}") for seed in seeds])
    evaluations = [event for event in trainer.run() if isinstance(event, Evaluation)]
    trainer.close()
    return [event.mean_return for event in evaluations]


def test_final_scores_of_thirty_seeds_cannot_be_told_from_those_of_lone_runs(make_config):
    together = final_scores(make_config, range(30))
    alone = [score for seed in range(30) for score in final_scores(make_config, [seed])]
    otherwise = final_scores(make_config, range(30), "optimizer.learning_rate=3e-4")
    assert len(together) == len(alone) == 30
    assert ks_2samp(together, alone).pvalue > 0.05
    assert ks_2samp(otherwise, alone).pvalue < 0.01  # so many scores can tell what does differ


def learned(path):
    """Tensors of learning up to rounding, experience to the bit."""
    relative = 1e-5 if "average_sums" in path else 0.0  # over a hundred updates
    return relative, 0.0 if "/memory/" in path else 1e-5
