"""A population's state taken apart and put together."""

from __future__ import annotations

from states import assert_same_state

from dqn.experiment import build_trainer
from dqn.members import join, select

SHORT = [
    "env=cartpole", "logger=none", "trainer.total_steps=120", "trainer.log_every_steps=120", "env.num_envs=2",
    "memory.warmup_steps=20", "memory.capacity_steps=50", "evaluation.every_steps=60", "evaluation.episodes=2",
    "evaluation.num_envs=2", "evaluation.stop.mean_return=null", "checkpoint.every_steps=null",
]  # fmt: skip


def trained(make_config, seeds):
    trainer = build_trainer([make_config(*SHORT, f"seed={seed}") for seed in seeds])
    list(trainer.run())
    return trainer


def learned(path):
    """Up to the rounding of learning together."""
    return 1e-4, 1e-5


def test_a_members_state_is_that_of_its_run_alone(make_config):
    together = trained(make_config, [0, 1, 2]).state_dict()
    for m in range(3):
        assert_same_state(select(together, [m]), trained(make_config, [m]).state_dict(), learned)


def test_members_put_together_again_are_the_population(make_config):
    population = trained(make_config, [0, 1, 2])
    state = population.state_dict()
    apart = [select(state, [m]) for m in range(3)]
    assert_same_state(join(apart), state)
    assert_same_state(select(state, [2, 0]), join([apart[2], apart[0]]))


def test_a_state_made_of_members_goes_on_like_each_of_them(make_config):
    longer = [*SHORT, "trainer.total_steps=200"]
    states = [trained(make_config, [seed]).state_dict() for seed in (0, 1)]
    population = build_trainer([make_config(*longer, f"seed={seed}") for seed in (0, 1)])
    population.load_state_dict(join(states))
    list(population.run())
    for m, state in enumerate(states):
        lone = build_trainer([make_config(*longer, f"seed={m}")])
        lone.load_state_dict(state)
        list(lone.run())
        assert_same_state(select(population.state_dict(), [m]), lone.state_dict(), learned)
