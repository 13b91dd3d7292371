"""Losses that users write: made for a population, or refused in one line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from dqn.algorithms.custom_loss import make_custom_loss
from dqn.config import Config
from dqn.errors import UserError
from dqn.experiment import build_trainer, check_buildable
from dqn.validation import validate

CPU = torch.device("cpu")
MODULE = """
import math
from dataclasses import dataclass
from typing import Any
import torch
from torch import Tensor
from dqn.algorithms.losses import Huber as Ours

@dataclass(frozen=True)
class Huber:
    threshold: Tensor

    def __call__(self, td_error):
        return Ours(self.threshold)(td_error)

@dataclass(frozen=True)
class Anything:
    number: Any
    flag: Any
    text: Any
    more: Any

    def __call__(self, td_error):
        return td_error.square()

class Plain:
    def __init__(self, scale):
        self.scale = scale

    def __call__(self, td_error):
        return td_error.square()

@dataclass
class Mean:
    def __call__(self, td_error):
        return td_error.mean()

@dataclass
class Number:
    def __call__(self, td_error):
        return 1.0

@dataclass
class Raises:
    def __call__(self, td_error):
        raise KeyError("x")

@dataclass
class NoLoss:
    pass

@dataclass
class Refuses:
    scale: Tensor

    def __post_init__(self):
        raise RuntimeError("not so\\nat all")
"""


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_losses.py").write_text(MODULE)
    (tmp_path / "broken_losses.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)


def custom(config: Config, target: str, arguments: Mapping[str, Any]) -> Config:
    values = asdict(config)
    values["algorithm"]["loss"] = {"kind": "custom", "_target_": target, "arguments": arguments}
    return validate(Config, values)


def test_numbers_arrive_as_tensors_and_all_else_as_it_stands() -> None:
    others = {"flag": True, "text": "a", "more": [1, 2]}
    loss: Any = make_custom_loss("own_losses.Anything", [{"number": 1, **others}, {"number": 2.5, **others}], CPU)
    torch.testing.assert_close(loss.number, torch.tensor([1.0, 2.5]), rtol=0, atol=0)
    assert (loss.flag, loss.text, loss.more) == (True, "a", [1, 2])


@pytest.mark.parametrize(
    ("name", "arguments", "problem"),
    [
        ("own_losses.Hubert", {}, "cannot be imported: module 'own_losses' has no attribute 'Hubert'"),
        ("no_losses.Huber", {}, "cannot be imported: No module named 'no_losses'"),
        ("broken_losses.Huber", {}, "cannot be imported: ZeroDivisionError: division by zero"),
        ("own_losses.Ours", {"threshold": 1}, "is no class that own_losses defines"),
        ("own_losses.math.sqrt", {}, "is no class that own_losses defines"),
        ("own_losses", {}, "is no class that own_losses defines"),
        (
            "own_losses.Huber",
            {},
            "cannot be made with these arguments: TypeError: Huber.__init__() missing 1 required positional argument: "
            "'threshold'",
        ),
        (
            "own_losses.Huber",
            {"threshold": 1, "size": 2},
            "cannot be made with these arguments: TypeError: Huber.__init__() got an unexpected keyword argument "
            "'size'",
        ),
        ("own_losses.Refuses", {"scale": 1}, "cannot be made with these arguments: RuntimeError: not so"),
        ("own_losses.Plain", {"scale": 1}, "must be a dataclass whose fields are its arguments"),
        ("own_losses.Mean", {}, "must give one loss for each error: a tensor (M, B) for a tensor (M, B)"),
        ("own_losses.Number", {}, "must give one loss for each error: a tensor (M, B) for a tensor (M, B)"),
        ("own_losses.Raises", {}, "raised KeyError for errors of shape (M, B): 'x'"),
        ("own_losses.NoLoss", {}, "raised TypeError for errors of shape (M, B): 'NoLoss' object is not callable"),
    ],
)
def test_what_is_no_loss_is_refused(name: str, arguments: dict[str, Any], problem: str, make_config: Any) -> None:
    """By itself, and before a sweep begins."""
    message = f"algorithm.loss._target_={name}: {problem}"
    with pytest.raises(UserError) as refused:
        make_custom_loss(name, [arguments], CPU)
    assert str(refused.value) == message
    with pytest.raises(UserError) as refused:
        check_buildable([custom(make_config(), name, arguments)])
    assert str(refused.value) == message


ROLLOUTS = ["memory=rollout", "memory.capacity_steps=10", "target=none"]
ROLLOUTS += ["trainer.learn_every_steps=10", "trainer.batch_size=5", "trainer.updates_per_learn=6"]


@pytest.mark.parametrize("algorithm", ["dqn", "double_dqn", "munchausen_dqn", "pqn"])
def test_a_population_with_a_users_loss_is_the_one_with_ours(algorithm: str, make_config: Any) -> None:
    """Each member with its own threshold, bit by bit."""
    shared = ["trainer.total_steps=150", "memory.warmup_steps=50", "evaluation.every_steps=null", "logger=none"]
    shared += ["evaluation.stop.mean_return=null"]
    shared += [f"algorithm={algorithm}", "env.num_envs=2", "trainer.learn_every_steps=2"]
    shared += ROLLOUTS if algorithm == "pqn" else []
    ours = [make_config(*shared, f"seed={m}", f"algorithm.loss.threshold={t}") for m, t in enumerate((0.2, 0.6))]
    theirs = [custom(c, "own_losses.Huber", {"threshold": c.algorithm.loss.threshold}) for c in ours]
    alike = [custom(c, "own_losses.Huber", {"threshold": 0.2}) for c in ours]
    trained = []
    for configs in (ours, theirs, alike):
        trainer = build_trainer(configs)
        list(trainer.run())
        trainer.close()
        assert trainer.updates.min() >= 50
        trained.append(trainer.parts.learner.parameters.clone())
    assert torch.equal(trained[0], trained[1])
    assert not torch.equal(trained[1][1], trained[2][1])
