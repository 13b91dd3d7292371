"""Plain CartPole runs, whatever the preset's own settings are."""

from __future__ import annotations

from dqn.events import Event
from dqn.trainer import Trainer

PLAIN = (
    "experiment=cartpole",
    "env.num_envs=1",
    "memory.warmup_steps=1000",
    "target=hard",
    "target.period_steps=200",
    "optimizer.learning_rate=1e-3",
    "algorithm=dqn",
    "trainer.learn_every_steps=2",
    "trainer.updates_per_learn=1",
    "trainer.batch_size=16",
    "evaluation.episodes=2",
    "evaluation.num_envs=2",
    "evaluation.stop.mean_return=null",
)
QUIET = ("logger=none", "evaluation.every_steps=null", "checkpoint.every_steps=null")
# Of three members, unlike in everything that they may be.
TRAITS = [
    (
        "seed=1 optimizer.learning_rate=1e-3 algorithm.discount=0.9 memory.warmup_steps=20 target.period_steps=30 "
        "exploration.schedule.end=0.5 optimizer.max_gradient_norm=0.5"
    ),
    (
        "seed=2 optimizer.learning_rate=3e-3 algorithm.discount=0.99 memory.warmup_steps=50 target.period_steps=7 "
        "exploration.schedule.start=0.7 trainer.terminal_reward=-5"
    ),
    (
        "seed=3 optimizer.learning_rate=1e-4 algorithm.discount=0.5 memory.warmup_steps=20 target.period_steps=11 "
        "exploration.schedule.duration_steps=50 algorithm.loss.threshold=0.2"
    ),
]


def run(trainer: Trainer) -> list[Event]:
    events = list(trainer.run())
    trainer.close()
    return events
