"""The same on a GPU: training there is training here, captured or not. Run with `pytest -m cuda` where there is one."""

from __future__ import annotations

import pytest
import torch

from dqn.cuda_graphs import Captured
from dqn.experiment import build_trainer, make_environment

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
]

QUIET = (
    "logger=none",
    "evaluation.every_steps=null",
    "evaluation.stop.mean_return=null",
    "checkpoint.every_steps=null",
)
MEMORY = ("memory.capacity_steps=200", "memory.warmup_steps=40")
RUNS = {
    "vectors": ("experiment=cartpole", "network.hidden_sizes=[16]", "trainer.batch_size=8", "trainer.total_steps=400"),
    "all parts of Rainbow": (
        *("experiment=cartpole_rainbow", "trainer.batch_size=8", "trainer.total_steps=400", "env.num_envs=2"),
        "network.hidden_sizes=[16]",
    ),
    "ranks, fractions": (
        *("experiment=cartpole_iqn", "memory=ranked", "memory.rank_every_steps=50", "trainer.batch_size=8"),
        *("trainer.total_steps=400", "network.hidden_sizes=[16]"),
    ),
    "proposed fractions": (
        *(
            "experiment=cartpole_fqf",
            "algorithm.proposal_rate=1",
            "trainer.batch_size=8",
            "trainer.total_steps=400",
            "network.hidden_sizes=[16]",
        ),
    ),
    "shifted images": (
        *("experiment=breakout", "network=impala_cnn", "trainer.random_shift_pixels=4", "trainer.total_steps=120"),
        "optimizer.learning_rate=1e-3",
    ),
    "rollouts": (
        *("experiment=cartpole_pqn", "network.hidden_sizes=[16]", "env.num_envs=2", "trainer.learn_every_steps=20"),
        *(
            "memory.capacity_steps=20",
            "trainer.updates_per_learn=10",
            "trainer.batch_size=4",
            "trainer.total_steps=200",
        ),
    ),
    "images": ("experiment=breakout", "trainer.total_steps=120", "optimizer.learning_rate=1e-3"),
}


@pytest.mark.parametrize("kind", RUNS)
@pytest.mark.parametrize("compiles", ["never", "always"])
@pytest.mark.parametrize("ahead", ["false", "true"])
def test_training_on_the_gpu_is_training_on_the_cpu(make_config, kind, compiles, ahead):
    parameters = []
    for device in ("cpu", "cuda"):
        how = (f"trainer.device={device}", f"trainer.compile={compiles if device == 'cuda' else 'never'}")
        trainer = build_trainer(
            [make_config(*RUNS[kind], *MEMORY, *QUIET, *how, f"trainer.learn_while_stepping={ahead}")]
        )
        list(trainer.run())
        trainer.close()
        assert trainer.updates[0] > 0
        parameters.append(trainer.parts.learner.parameters.cpu())
    torch.testing.assert_close(parameters[1], parameters[0], atol=1e-3, rtol=1e-3)


def test_a_captured_function_does_its_work_once_a_call():
    total = torch.zeros(3, device="cuda")

    def add(values: torch.Tensor) -> torch.Tensor:
        total.add_(values)
        return total * 2

    captured = Captured(add)
    values = torch.arange(3.0, device="cuda")
    for times in range(1, 8):
        result = captured(values)
        assert torch.equal(total, times * values)
        assert torch.equal(result, 2 * total)


@pytest.mark.parametrize("env", ["cartpole", "gridworld"])
def test_captured_environments_step_as_on_the_cpu(make_config, env):
    config = make_config("experiment=gridworld_dqn", f"env={env}", "env.backend=torch", "env.num_envs=6").env
    streams = []
    for device in ("cpu", "cuda"):
        environment = make_environment(config, 1, 1, device=torch.device(device))

        def packed(actions, step=environment.step_tensors):
            return torch.cat([part.double().view(6, -1) for part in step(actions)], dim=1)

        step = Captured(packed) if device == "cuda" else packed
        environment.reset(range(6))
        draws = torch.Generator().manual_seed(0)
        stream = []
        for _ in range(2000):  # longer than the tables
            environment.prepare(1)
            actions = torch.randint(2, (6,), generator=draws)
            stream.append(step(actions.to(device)).cpu())
        streams.append(torch.stack(stream))
    torch.testing.assert_close(streams[1], streams[0], atol=1e-6, rtol=1e-6)
