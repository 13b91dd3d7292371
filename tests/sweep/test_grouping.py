"""Which runs can be stacked."""

from __future__ import annotations

import pytest

from dqn.sweep.grouping import differing_only_in_traits, pieces

TRAITS = [
    "seed=7",
    "optimizer.learning_rate=0.5",
    "optimizer.max_gradient_norm=null",
    "algorithm.discount=0.5",
    "algorithm.loss.threshold=3",
    "exploration.schedule.end=0.3",
    "exploration.schedule.duration_steps=77",
    "target.rate=0.5",
    "memory.warmup_steps=5",
    "trainer.terminal_reward=-1",
]
OTHERS = [
    "trainer.batch_size=7",
    "network.hidden_sizes=[3]",
    "env.num_envs=3",
    "memory.capacity_steps=1234",
    "target=hard",
    "algorithm=dqn",
    "algorithm/loss=mse",
    "exploration=boltzmann",
    "exploration/schedule=constant",
    "trainer.learn_every_steps=9",
    "trainer.total_steps=12345",
]


@pytest.mark.parametrize("override", TRAITS)
def test_runs_that_differ_in_a_trait_are_stacked(make_config, override):
    assert differing_only_in_traits([make_config(), make_config(override)]) == [[0, 1]]


@pytest.mark.parametrize("override", OTHERS)
def test_runs_that_differ_in_anything_else_are_not(make_config, override):
    assert differing_only_in_traits([make_config(), make_config(override)]) == [[0], [1]]


def test_points_of_a_schedule_are_stacked_if_they_are_as_many(make_config):
    def of(steps, values):
        schedule = f"exploration.schedule.steps={steps}", f"exploration.schedule.values={values}"
        return make_config("exploration/schedule=piecewise", *schedule)

    configs = [of([0, 10], [1, 0.1]), of([0, 10, 20], [1, 0.5, 0.1]), of([0, 30], [1, 0.2])]
    assert differing_only_in_traits(configs) == [[0, 2], [1]]


def test_pieces_are_few_and_alike_in_size():
    assert [len(piece) for piece in pieces(range(130), 64)] == [43, 44, 43]
    assert pieces([1, 2, 3], 64) == [[1, 2, 3]]
    assert [list(piece) for piece in pieces(range(4), 1)] == [[0], [1], [2], [3]]
