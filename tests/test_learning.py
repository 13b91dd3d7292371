"""Learning is tested by learning: the grid world's optimum, which is known, and CartPole's 500."""

from __future__ import annotations

import torch

from dqn.conclusion import evaluate_network
from dqn.envs.gridworld_model import value_iteration
from dqn.events import End, Evaluation
from dqn.experiment import build_trainer, make_environment
from dqn.networks.population import member_network

QUIET = ("logger=none", "checkpoint.every_steps=null", "trainer.compile=auto")  # and else as users have it


def test_the_q_table_becomes_the_optimum_that_value_iteration_computes(make_config):
    config = make_config("experiment=gridworld_q_table", *QUIET)
    trainer = build_trainer([config])
    events = list(trainer.run())
    world = make_environment(config.env, 1, 1).unwrapped[0]
    trainer.close()
    assert isinstance(events[-1], End)
    assert events[-1].status == "converged"
    table = trainer.parts.learner.parameters.view(4, -1).T.double().numpy()  # (S, A)
    optimum = value_iteration(world.model, config.algorithm.discount)
    for start in world.starts:  # the greedy policy's way, and the value of every step on it
        state, steps, total = start, 0, 0.0
        while True:
            action = int(table[state].argmax())
            assert abs(table[state, action] - optimum[state].max()) < 0.02
            total += world.model.rewards[state, action, 0]
            steps += 1
            if world.model.terminated[state, action, 0]:
                break
            state = int(world.model.next_states[state, action, 0])
            assert steps < world.max_steps
        assert abs(total - world.optimal_return(start)) < 1e-9


def test_the_default_preset_solves_cartpole(make_config):
    config = make_config("experiment=cartpole", *QUIET, "seed=8")
    trainer = build_trainer([config])
    best = max(event.mean_return for event in trainer.run() if isinstance(event, Evaluation))
    trainer.close()
    assert best >= 475
    network = member_network(trainer.parts.learner.template, trainer.standing.best_parameters[0])
    assert evaluate_network(config, network, torch.device("cpu"), lambda: False)["mean_return"] >= 475
