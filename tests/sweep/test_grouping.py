"""Which runs can be stacked."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from dqn.config import Config
from dqn.sweep.grouping import differing_only_in_traits, is_trait, pieces, value_at
from dqn.validation import validate

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


def with_arguments(config, arguments, target="a.Loss"):
    loss = {"kind": "custom", "_target_": target, "arguments": arguments}
    values = asdict(config)
    return validate(Config, {**values, "algorithm": {**values["algorithm"], "loss": loss}})


def test_numbers_of_a_loss_of_the_users_are_traits(make_config):
    """Other arguments are none, nor is another set of them, or another class."""
    one = with_arguments(make_config(), {"scale": 1, "signed": True, "of": {"power": 2}})
    for others, expected in (
        ({"scale": 2.5, "signed": True, "of": {"power": 2}}, [[0, 1]]),
        ({"scale": 1, "signed": False, "of": {"power": 2}}, [[0], [1]]),
        ({"scale": 1, "signed": 1, "of": {"power": 2}}, [[0], [1]]),
        ({"scale": None, "signed": True, "of": {"power": 2}}, [[0], [1]]),
        ({"scale": 1, "signed": True, "of": {"power": 3}}, [[0], [1]]),
        ({"scale": 1, "signed": True}, [[0], [1]]),
    ):
        assert differing_only_in_traits([one, with_arguments(make_config(), others)]) == expected, others
    other_class = with_arguments(make_config(), {"scale": 1, "signed": True, "of": {"power": 2}}, "a.Other")
    assert differing_only_in_traits([one, other_class]) == [[0], [1]]


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("seed", True),
        ("name", False),
        ("optimizer", False),
        ("optimizer.learning_rate", True),
        ("optimizer.learning_rat", False),
        ("optimizer.kind", False),
        ("env.kwargs.x", False),
        ("algorithm.loss._target_", False),
        ("algorithm.loss.arguments.scale", True),
        ("algorithm.loss.arguments.signed", False),
        ("algorithm.loss.arguments.of", False),
        ("algorithm.loss.arguments.of.power", False),
        ("algorithm.loss.arguments.nothing", False),
    ],
)
def test_which_keys_are_traits(make_config, key, expected):
    config = with_arguments(make_config("env.kwargs.x=1"), {"scale": 1, "signed": True, "of": {"power": 2}})
    assert is_trait(config, key) is expected


def test_the_value_at_a_key(make_config):
    config = with_arguments(make_config("seed=3"), {"scale": 2.5})
    keys = [
        "seed",
        "algorithm.discount",
        "algorithm.loss.arguments.scale",
        "algorithm.loss.arguments.x",
        "algorithm.x.y",
    ]
    assert [value_at(config, key) for key in keys] == [3, 0.995, 2.5, None, None]


def test_pieces_are_few_and_alike_in_size():
    assert [len(piece) for piece in pieces(range(130), 64)] == [43, 44, 43]
    assert pieces([1, 2, 3], 64) == [[1, 2, 3]]
    assert [list(piece) for piece in pieces(range(4), 1)] == [[0], [1], [2], [3]]
