"""A trainer that is stopped at any pause and goes on from its state ends as one that was never stopped, to the bit."""

from __future__ import annotations

import copy
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from states import assert_same_state

from dqn import members
from dqn.envs.atari import AtariEnvironment
from dqn.envs.gymnasium_env import GymnasiumEnvironment
from dqn.events import Episode, Event, Pause
from dqn.experiment import build_trainer
from dqn.trainer import Trainer

SHORT = (
    "logger=none",
    "trainer.threads=1",
    "trainer.total_steps=400",
    "trainer.log_every_steps=30",
    "checkpoint.every_steps=28",
    "evaluation.every_steps=150",
    "evaluation.episodes=2",
    "evaluation.num_envs=2",
    "evaluation.stop.mean_return=null",
    "evaluation.stop.optimal=false",
    "evaluation.stop.max_value_change=null",
    "memory.warmup_steps=60",
    "memory.capacity_steps=150",
    "trainer.batch_size=8",
)
ATARI = ("experiment=pong", "network=nips_cnn", "env.game=breakout", "env.repeat_action_probability=0.25")
KINDS = {
    "grid world": ("experiment=gridworld_dqn", "env.start=random", "env.slip_probability=0.2", "env.max_steps=20"),
    "grid world, every start": ("experiment=gridworld_dqn", "env.start=every", "env.num_envs=3", "env.max_steps=9"),
    "grid world in torch": ("experiment=gridworld_dqn", "env.start=random", "env.backend=torch", "env.max_steps=20"),
    "cartpole": ("experiment=cartpole", "env.backend=gymnasium", "env.num_envs=2", "network.hidden_sizes=[8]"),
    "cartpole in torch": ("experiment=cartpole", "env.backend=torch", "network.hidden_sizes=[8]", "memory.n_step=3"),
    "learning while stepping": ("experiment=cartpole", "env.backend=gymnasium", "trainer.learn_while_stepping=true"),
    "learning at episode ends": ("experiment=cartpole_blog", "trainer.total_steps=400", "trainer.total_episodes=null"),
    "c51": ("experiment=cartpole", "algorithm=c51", "network/head=dueling", "network.hidden_sizes=[8]"),
    "noise and fractions": (
        "experiment=cartpole",
        "algorithm=iqn",
        "network.noise_std=0.5",
        "network.hidden_sizes=[8]",
    ),
    "rollouts": (
        *("experiment=cartpole_pqn", "network.hidden_sizes=[8]", "env.num_envs=2", "trainer.learn_every_steps=32"),
        *("memory.capacity_steps=32", "trainer.updates_per_learn=8"),
    ),
    "priorities": ("experiment=cartpole", "env.backend=torch", "memory=prioritized", "network.hidden_sizes=[8]"),
    "ranks": ("experiment=cartpole", "memory=ranked", "memory.rank_every_steps=40", "network.hidden_sizes=[8]"),
    "a state machine": ("env=gymnasium", "env.id=Taxi-v4", "env.max_steps=15", "network=tabular"),
    "atari": (*ATARI, "env.num_envs=2", "env.max_frames_per_episode=160", "env.terminal_on_life_loss=true"),
    "atari, compressed": (*ATARI, "env.num_envs=1", "memory.compression=lz4", "env.max_frames_per_episode=160"),
}


# Kinds of which populations, too, are tried each time.
TOGETHER = ("grid world", "cartpole", "cartpole in torch", "noise and fractions", "priorities", "rollouts")


def traced(trainer: Trainer) -> tuple[list[Event], dict[int, tuple[int, Any]]]:
    """All events of a run, and of each pause how many were before it and the state."""
    events: list[Event] = []
    pauses: dict[int, tuple[int, Any]] = {}
    for event in trainer.run():
        if isinstance(event, Pause):
            pauses[event.step] = len(events), copy.deepcopy(trainer.state_dict())
        else:
            events.append(event)
    trainer.close()
    return events, pauses


@pytest.mark.parametrize(
    ("kind", "count"),
    [
        *(
            pytest.param(kind, 1, id=f"{kind}, alone", marks=[pytest.mark.long] * kind.startswith("atari"))
            for kind in KINDS
        ),
        *(
            pytest.param(
                kind,
                3,
                id=f"{kind}, population",
                marks=[pytest.mark.torture] * kind.startswith("atari") + [pytest.mark.long] * (kind not in TOGETHER),
            )
            for kind in KINDS
        ),
    ],
)
def test_a_resumed_trainer_ends_as_one_that_was_never_stopped(make_config, monkeypatch, kind, count):
    monkeypatch.setattr(GymnasiumEnvironment, "calls_per_seed", 50)
    monkeypatch.setattr(AtariEnvironment, "calls_per_seed", 90)
    own = {word.partition("=")[0] for word in KINDS[kind]}
    words = [*KINDS[kind], *(word for word in SHORT if word.partition("=")[0] not in own)]
    configs = [make_config(*words, f"seed={seed}") for seed in range(count)]
    whole = build_trainer(configs)
    events, pauses = traced(whole)
    assert sum(isinstance(event, Episode) for event in events) > 4
    steps = sorted(pauses)
    for step in {steps[0], steps[len(steps) // 2], steps[-2]}:
        before, state = pauses[step]
        # As checkpoints do it: each member's state on its own.
        states = [copy.deepcopy(members.select(state, [m])) for m in range(count)]
        resumed = build_trainer(configs)
        resumed.load_state_dict(members.join(states))
        assert resumed.gave_up is None
        assert_same_state(resumed.state_dict(), state)
        events_after, _ = traced(resumed)
        assert events_after == events[before:]
        assert_same_state(resumed.state_dict(), whole.state_dict())


class Moody(gymnasium.Env[Any, Any]):
    """Its rewards depend on how many of its kind there have been."""

    count = 0

    def __init__(self, forgets: str = "") -> None:
        Moody.count += 1
        self.mood = Moody.count
        self.observation_space = spaces.Box(-1, 1, (2,), np.float32)
        self.action_space = spaces.Discrete(2)
        self.forgets = forgets
        self.steps = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        frame = np.full(2, self.mood / 1000 if self.forgets == "frames" else 0.5, np.float32)
        length = 7 + (self.mood if self.forgets == "ends" else 0)
        return frame, float(self.mood if self.forgets == "rewards" else 1), self.steps >= length, False, {}


gymnasium.register("Moody-v0", Moody)
gymnasium.register("Random-v0", Moody, nondeterministic=True)


@pytest.mark.parametrize("forgets", ["frames", "rewards", "ends", "nothing", "declared"])
def test_what_cannot_be_replayed_begins_an_episode_and_says_so(make_config, forgets):
    env_id = "Random-v0" if forgets == "declared" else "Moody-v0"
    words = [
        "env=gymnasium",
        f"env.id={env_id}",
        f"++env.kwargs.forgets={forgets}",
        "network.hidden_sizes=[4]",
        "env.num_envs=1",
    ]
    config = make_config(*words, *SHORT, "env.num_envs=1", "evaluation.every_steps=null")
    whole = build_trainer([config])
    events, pauses = traced(whole)
    before, state = pauses[84]
    resumed = build_trainer([config])
    resumed.load_state_dict(copy.deepcopy(state))
    if forgets == "nothing":
        assert resumed.gave_up is None
    elif forgets == "declared":
        assert resumed.gave_up == "the environment is registered as nondeterministic"
    else:
        assert resumed.gave_up == "after the same seeds and actions the environment was not where it had been"
    events_after, _ = traced(resumed)
    assert (events_after == events[before:]) == (forgets == "nothing")
    if forgets != "nothing":
        first = next(event for event in events_after if isinstance(event, Episode))
        assert first.step == 84 + first.episode_length  # it began at the pause: nothing of the old one is in it
        assert resumed.updates.tolist() == whole.updates.tolist()


@pytest.mark.parametrize("kind", ["cartpole", "cartpole in torch", "learning at episode ends"])
def test_an_interruption_after_any_step_call_changes_nothing(make_config, kind):
    """Where something is due at that very step, too: it comes when the run goes on."""
    words = "trainer.total_steps=130", "trainer.log_every_steps=20", "evaluation.every_steps=40", "env.num_envs=2"
    own = {word.partition("=")[0] for word in (*KINDS[kind], *words)}
    config = make_config(*KINDS[kind], *words, *(word for word in SHORT if word.partition("=")[0] not in own))
    whole = build_trainer([config])
    events, _ = traced(whole)
    for step in [*range(2, 131, 6), 20, 40, 80, 130]:
        stopped, told = build_trainer([config]), []
        store = stopped.parts.memory.add

        def add(experience, stopped=stopped, store=store, step=step):
            store(experience)
            if stopped.steps + 2 == step:  # of this step call, which is not counted yet
                stopped.interrupted = True

        stopped.parts.memory.add = add
        for event in stopped.run():
            if isinstance(event, Pause):
                state, count = copy.deepcopy(stopped.state_dict()), len(told)
            else:
                told.append(event)
        assert stopped.steps == step
        resumed = build_trainer([config])
        resumed.load_state_dict(state)
        told_after, _ = traced(resumed)
        assert [*told[:count], *told_after] == events
        assert_same_state(resumed.state_dict(), whole.state_dict())
