"""What is measured: the same learning on both sides."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Workload:
    """A training run short enough to repeat; steps are those of one member.

    The first `segment_steps` fill the memory and begin to learn, the second warm up, those that follow are timed.
    Epsilon falls in a straight line over the first, so that both sides act greedily while they are timed.
    """

    name: str
    preset: str
    network: tuple[str, ...]  # our overrides
    batch_size: int
    learn_every_steps: int
    capacity_steps: int
    warmup_steps: int
    target_period_steps: int
    learning_rate: float
    threads: int
    segment_steps: int
    timed_segments: int
    num_envs: tuple[int, ...]  # either side takes what suits it better
    compile: tuple[str, ...]
    target_ratio: float
    members: int = 1  # that we train together
    processes: int = 1  # that they train in at the same time, one member each; we may have as many, or their threads
    backend: str = "gymnasium"  # of our environments

    @property
    def timed_steps(self) -> int:
        """Agent steps that are timed."""
        return self.timed_segments * self.segment_steps

    @property
    def total_steps(self) -> int:
        """Agent steps of the whole run."""
        return 2 * self.segment_steps + self.timed_steps

    @property
    def placings(self) -> list[dict[str, int]]:
        """Our ways to use the machine: all members in one process, or as many processes as they have."""
        one = {"processes": 1, "members": self.members, "threads": self.threads * self.processes}
        several = {"processes": self.processes, "members": self.members // self.processes, "threads": self.threads}
        return [one] if self.processes == 1 else [one, several]

    def updates_due(self, steps: int) -> int:
        """Gradient steps in so many agent steps."""
        return steps // self.learn_every_steps

    def overrides(self, num_envs: int, compiles: str, precision: str) -> list[str]:
        """Our configuration of it, of any member."""
        return [
            f"experiment={self.preset}",
            "logger=none",
            "algorithm=dqn",
            "algorithm.discount=0.99",
            "algorithm/loss=huber",
            "algorithm.loss.threshold=1",
            "exploration=epsilon_greedy",
            "exploration/schedule=linear",
            "exploration.schedule.start=1",
            "exploration.schedule.end=0.05",
            "exploration.schedule.delay_steps=0",
            f"exploration.schedule.duration_steps={self.segment_steps}",
            "target=hard",
            "optimizer/learning_rate_schedule=constant",
            *self.network,
            f"env.num_envs={num_envs}",
            f"memory.capacity_steps={self.capacity_steps}",
            f"memory.warmup_steps={self.warmup_steps}",
            f"target.period_steps={self.target_period_steps}",
            f"optimizer.learning_rate={self.learning_rate}",
            "optimizer.epsilon=1e-8",
            "optimizer.max_gradient_norm=10",
            f"trainer.batch_size={self.batch_size}",
            f"trainer.learn_every_steps={self.learn_every_steps}",
            "trainer.updates_per_learn=1",
            f"trainer.compile={compiles}",
            f"trainer.precision={precision}",
            "trainer.device=cpu",
            f"trainer.total_steps={self.total_steps}",
            f"trainer.log_every_steps={self.segment_steps}",
            "evaluation.every_steps=null",
            "evaluation.stop.mean_return=null",
            "checkpoint.every_steps=null",
        ]


CARTPOLE = Workload(
    name="cartpole",
    preset="cartpole",
    network=("network=mlp", "network.hidden_sizes=[120,84]"),
    batch_size=128,
    learn_every_steps=10,
    capacity_steps=10_000,
    warmup_steps=1000,
    target_period_steps=500,
    learning_rate=2.5e-4,
    threads=1,
    segment_steps=5000,
    timed_segments=4,
    num_envs=(1, 20),
    compile=("never", "always"),
    target_ratio=3.0,
)
CARTPOLE_EVERY_STEP = replace(
    CARTPOLE,
    name="cartpole_every_step",
    batch_size=32,
    learn_every_steps=1,
    segment_steps=2000,
    timed_segments=3,
    num_envs=(1, 10),
    target_ratio=5.0,
)
BREAKOUT = Workload(
    name="breakout",
    preset="breakout",
    network=(),
    batch_size=32,
    learn_every_steps=4,
    capacity_steps=10_000,
    warmup_steps=400,
    target_period_steps=1000,
    learning_rate=1e-4,
    threads=min(2, os.cpu_count() or 1),
    segment_steps=480,
    timed_segments=3,
    num_envs=(1, 8),
    compile=("never", "always"),
    target_ratio=3.5,
)
# Many members at once, beside two processes of theirs.
STACK = replace(CARTPOLE, name="stack", members=64, processes=2, backend="torch", compile=("always",), target_ratio=8.0)
STACK_EVERY_STEP = replace(
    CARTPOLE_EVERY_STEP,
    name="stack_every_step",
    members=64,
    processes=2,
    backend="torch",
    compile=("always",),
    target_ratio=13.0,
)
# One alone, whose environments are tensors too: so fast that fewer steps would be timed for less than half a second.
CARTPOLE_TORCH = replace(
    CARTPOLE, name="cartpole_torch", timed_segments=20, num_envs=(1, 10), backend="torch", target_ratio=10.0
)
_ALL = (CARTPOLE, CARTPOLE_EVERY_STEP, BREAKOUT, STACK, STACK_EVERY_STEP, CARTPOLE_TORCH)
WORKLOADS = {workload.name: workload for workload in _ALL}
# How the cost grows with the members: ours alone, so there is no ratio, and the run may be shorter.
GROWTH = replace(
    STACK_EVERY_STEP,
    name="growth",
    processes=1,
    warmup_steps=500,
    segment_steps=1000,
    timed_segments=1,
    num_envs=(10,),
    compile=("never", "always"),
)


def find(name: str) -> Workload:
    """A workload by its name, for the processes that run it."""
    return {**WORKLOADS, GROWTH.name: GROWTH}[name]
