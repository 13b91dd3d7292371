"""Members that go on as copies of others: exact copies by index, traits changed in place, and nothing else touched."""

from __future__ import annotations

import copy

import pytest
import torch

from dqn.events import Pause
from dqn.experiment import build_trainer, make_traits
from dqn.trainer import Succession

# On the torch backend, whose environments can be copied in mid-episode.
SHORT = [
    "experiment=cartpole", "env.backend=torch", "env.num_envs=2", "logger=none", "trainer.total_steps=240",
    "trainer.log_every_steps=60", "trainer.learn_every_steps=2", "trainer.updates_per_learn=1", "trainer.batch_size=8",
    "trainer.compile=never", "network.hidden_sizes=[16]", "memory.warmup_steps=20", "memory.capacity_steps=500",
    "evaluation.every_steps=60", "evaluation.episodes=2", "evaluation.num_envs=2", "checkpoint.every_steps=60",
    "evaluation.stop.mean_return=null",
]  # fmt: skip
BEFORE = "optimizer.learning_rate=1e-3"
KINDS = {
    "polyak": [
        "optimizer.learning_rate=3e-3 algorithm.discount=0.8 target.rate=0.1 exploration.schedule.end=0.4 "
        "optimizer.max_gradient_norm=0.5 algorithm.loss.threshold=0.1 optimizer.beta1=0.5 trainer.terminal_reward=-3"
    ],
    "hard": ["target=hard", "target.period_steps=14 optimizer.learning_rate_schedule.end=0.1"],
    "boltzmann": [
        *("exploration=max_boltzmann", "algorithm=dqn", "target=none"),
        "exploration.temperature=0.3 optimizer.beta2=0.9",
    ],
}


def configs_of(make_config, shared, traits):
    return [make_config(*SHORT, *shared, f"seed={seed}", *words.split()) for seed, words in enumerate(traits)]


def stopped_after(trainer, rule):
    """Run to the pause after the first evaluation, for which there is a succession; returns the events to come."""
    trainer.succession_rule = rule
    events = trainer.run()
    next(event for event in events if isinstance(event, Pause) and event.step == 60)
    trainer.succession_rule = None
    return events


def assert_equal(one, other, path=""):
    """To the bit."""
    if isinstance(one, dict):
        assert one.keys() == other.keys(), path
        for key in one:
            assert_equal(one[key], other[key], f"{path}/{key}")
    elif isinstance(one, list):
        assert len(one) == len(other), path
        for i, value in enumerate(one):
            assert_equal(value, other[i], f"{path}/{i}")
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other), path
    else:
        assert one == other, path


def test_a_copy_is_exact_and_leaves_all_else_as_it_was(make_config):
    configs = configs_of(make_config, [], [BEFORE] * 4)
    trainer = build_trainer(configs)
    before, told = {}, []

    def rule(since, step, scores):
        told.append((since, step, sorted(scores)))
        before.update(copy.deepcopy(trainer.state_dict()))
        return Succession([2, 1, 2, 1], make_traits(configs))

    stopped_after(trainer, rule)
    assert told == [(0, 60, [0, 1, 2, 3])]
    after = trainer.state_dict()
    assert set(after["learner"]) == {
        "parameters", "target_parameters", "optimizer.mean", "optimizer.square", "optimizer.count",
    }  # fmt: skip
    for name, tensor in after["learner"].items():
        assert torch.equal(tensor, before["learner"][name][[2, 1, 2, 1]]), name
        if name != "optimizer.count":
            assert not torch.equal(tensor[0], before["learner"][name][0]), name
    assert_equal(
        {k: v for k, v in after.items() if k != "learner"}, {k: v for k, v in before.items() if k != "learner"}
    )


@pytest.mark.parametrize("kind", KINDS)
def test_changed_traits_do_what_they_would_in_a_population_built_with_them(kind, make_config):
    *shared, traits = KINDS[kind]
    trainer = build_trainer(configs_of(make_config, shared, [BEFORE] * 3))
    changed = configs_of(make_config, shared, [BEFORE, traits, BEFORE])
    events = stopped_after(trainer, lambda since, step, scores: Succession([0, 2, 2], make_traits(changed)))

    other = build_trainer(changed, trainer.parts.environment.select(range(6)))
    other.load_state_dict(copy.deepcopy(trainer.state_dict()), environment=False)
    list(events)
    list(other.run())
    assert_equal(trainer.state_dict(), other.state_dict())
    assert trainer.steps == 240

    plain = build_trainer(configs_of(make_config, shared, [BEFORE] * 3))
    list(stopped_after(plain, lambda since, step, scores: Succession([0, 2, 2], make_traits(changed[:1] * 3))))
    parameters = [one.parts.learner.parameters for one in (trainer, plain)]
    assert torch.equal(parameters[0][0], parameters[1][0])
    assert not torch.equal(parameters[0][1], parameters[1][1])


def test_compiled_code_sees_changed_traits(make_config):
    """What is compiled holds on to tensors: they must keep their places."""
    configs = configs_of(make_config, [], [BEFORE] * 2)
    trainer = build_trainer(configs)
    traits, learner = trainer.parts.traits, trainer.parts.learner
    held = [traits.discount, traits.max_gradient_norm, traits.plan.learning_rate, traits.optimizer.beta1]
    held += [learner.parameters, learner.target_parameters]
    places = [tensor.data_ptr() for tensor in held]
    changed = configs_of(make_config, [], [BEFORE, "optimizer.learning_rate=0.5 optimizer.beta1=0.1"])
    stopped_after(trainer, lambda since, step, scores: Succession([0, 0], make_traits(changed)))
    traits, learner = trainer.parts.traits, trainer.parts.learner
    now = [traits.discount, traits.max_gradient_norm, traits.plan.learning_rate, traits.optimizer.beta1]
    now += [learner.parameters, learner.target_parameters]
    assert [tensor.data_ptr() for tensor in now] == places
    assert traits.plan.learning_rate.tolist() == [1e-3, 0.5]
    assert traits.optimizer.beta1.tolist() == pytest.approx([0.9, 0.1])


def test_a_copy_has_yet_to_converge(make_config):
    """Evaluations in a row that met a criterion were another network's."""
    stop = ["evaluation.stop.mean_return=0", "evaluation.stop.evaluations=3"]
    configs = configs_of(make_config, stop, [BEFORE] * 2)
    trainer = build_trainer(configs)
    rows = []

    def rule(since, step, scores):
        rows.append((since, step, list(scores)))
        return Succession([0, 0], make_traits(configs)) if step == 120 else None

    trainer.succession_rule = rule
    ends = {event.member: (event.step, event.status) for event in trainer.run() if event.kind == "end"}
    assert ends == {0: (180, "converged"), 1: (240, "completed")}
    assert rows == [(0, 60, [0, 1]), (60, 120, [0, 1]), (120, 180, [1]), (180, 240, [])]
