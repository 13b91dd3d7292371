"""Every file in conf/ composes, validates and builds; every config field is read by code that acts on it."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import dqn.config
from dqn import run
from dqn.compose import CONF, WANDB_SWEEPS
from dqn.errors import UserError
from dqn.experiment import build_trainer

EXPERIMENTS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))

# What an option needs beside itself to make a whole config.
COMPANIONS = {
    "env/atari": ["env.game=seaquest"],
    "env/gymnasium": ["env.id=Acrobot-v1"],
    "network/nips_cnn": ["env=pong"],
    "network/nature_cnn": ["env=pong"],
    "network/impala_cnn": ["env=pong"],
    "memory/rollout": ["experiment=cartpole_pqn"],
    "algorithm/pqn": ["experiment=cartpole_pqn"],
    "target/none": ["algorithm=dqn"],
    "network/tabular": ["env=gridworld"],
    **{f"memory/importance_exponent/{name}": ["memory=ranked"] for name in ("constant", "linear", "piecewise")},
}


def options() -> Iterator[str]:
    for path in sorted(CONF.rglob("*.yaml")):
        name = str(path.relative_to(CONF).with_suffix(""))
        if "/" in name and not name.startswith(("hydra/", "experiment/", f"{WANDB_SWEEPS}/")):
            yield name


OWN_LOSS = """
from dataclasses import dataclass

@dataclass(frozen=True)
class Loss:
    def __call__(self, td_error):
        return td_error.abs()
"""


@pytest.mark.parametrize("option", list(options()))
def test_every_option_composes_and_builds(option, make_config):
    group, _, name = option.rpartition("/")
    preset = [f"experiment={name}"] if group == "experiment" else ["experiment=cartpole"]
    config = make_config(*preset, f"{group}={name}", *COMPANIONS.get(option, []))
    build_trainer([config]).close()


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_preset_builds_and_is_called_by_its_name(name, make_config):
    few = ["env.num_envs=4"] if name in ("pqn", "breakout_pqn") else []  # to begin 128 games takes 15 s
    config = make_config(f"experiment={name}", *few)
    assert config.name == name
    build_trainer([config]).close()


def test_sweeps_of_wandb_are_no_group(make_config):
    with pytest.raises(UserError, match=r"wandb=cartpole: is no group; a sweep by W&B is begun with: wandb sweep"):
        make_config("wandb=cartpole")


def test_values_stand_once():
    """No dataclass of the schema has a default, but for the parts of the logger, which may be absent."""
    for cls in _schema_classes():
        defaults = [f.name for f in dataclasses.fields(cls) if f.default is not dataclasses.MISSING]
        assert defaults == (["wandb", "tensorboard"] if cls.__name__ == "LoggerConfig" else []), cls


def _schema_classes() -> list[type]:
    found = [v for v in vars(dqn.config).values() if isinstance(v, type) and dataclasses.is_dataclass(v)]
    return [cls for cls in found if cls is not dqn.config.Trait]


ROLLOUT = ["env.num_envs=2", "trainer.learn_every_steps=1000", "trainer.updates_per_learn=500"]


@pytest.mark.long
def test_no_field_is_dead(make_config, tmp_path, monkeypatch):
    """Whole runs over all kinds of parts read every field, in code that is more than a check."""
    read: set[tuple[str, str]] = set()
    package = str(Path(dqn.config.__file__).parent)

    def recording(cls):
        plain = cls.__getattribute__

        def getattribute(self, name):
            frame = sys._getframe(1)
            while frame.f_code.co_filename.endswith("dataclasses.py"):  # asdict: who asked for it?
                frame = frame.f_back
            caller = frame.f_code.co_filename
            if caller.startswith(package) and not caller.endswith(("checks.py", "validation.py", "config.py")):
                read.add((type(self).__name__, name))
            return plain(self, name)

        return getattribute

    for cls in _schema_classes():
        monkeypatch.setattr(cls, "__getattribute__", recording(cls))
    short = [
        "trainer.total_steps=60",
        "memory.warmup_steps=20",
        "evaluation.every_steps=30",
        "evaluation.episodes=1",
        "evaluation.final_episodes=1",
        "evaluation.num_envs=1",
        "evaluation.video=false",
        "trainer.batch_size=2",
        "export.formats=[]",
        "memory.capacity_steps=1000",
    ]
    runs = [
        ["experiment=cartpole", "logger=none", "optimizer=sgd", "exploration/schedule=piecewise", "algorithm=c51"],
        ["experiment=cartpole", "logger=[wandb,tensorboard]", "optimizer=rmsprop", "exploration=max_boltzmann"],
        [
            "experiment=cartpole",
            "logger=none",
            "algorithm=munchausen_dqn",
            "algorithm/loss=mse",
            "exploration=boltzmann",
            "target=none",
        ],
        ["experiment=cartpole", "logger=none", "algorithm=qr_dqn", "network/head=dueling", "memory=prioritized"],
        ["experiment=cartpole", "logger=none", "memory=ranked", "algorithm=iqn", "network.noise_std=0.5"],
        ["experiment=cartpole", "logger=none", "algorithm=munchausen_iqn"],
        ["experiment=cartpole", "logger=none", "algorithm=fqf"],
        ["experiment=cartpole_pqn", "logger=none", *ROLLOUT],
        ["experiment=cartpole_blog", "logger=none", "env.max_steps=20"],
        ["experiment=gridworld_q_table", "logger=none", "exploration=greedy"],
        ["experiment=pong", "logger=none", "env.max_frames_per_episode=100", "optimizer=rmsprop_centered"],
        ["experiment=pong", "logger=none", "env.max_frames_per_episode=100", "network=impala_cnn"],
        ["experiment=cartpole", "logger=none", "exploration/schedule=constant", "exploration.schedule.value=0.5"],
    ]
    monkeypatch.setenv("WANDB_MODE", "offline")
    for i, overrides in enumerate(runs):
        values = dataclasses.asdict(make_config(*overrides, *short))
        run.train([values], [tmp_path / str(i)])
    values["algorithm"]["loss"] = {"kind": "custom", "_target_": "own.Loss", "arguments": {}}
    (tmp_path / "own.py").write_text(OWN_LOSS)
    monkeypatch.syspath_prepend(tmp_path)
    run.train([values], [tmp_path / "own"])
    expected = {(cls.__name__, field.name) for cls in _schema_classes() for field in dataclasses.fields(cls)}
    # Base classes are read through their subclasses; `kind` says which class it is, where there is a choice of one.
    bases = {base.__name__ for cls in _schema_classes() for base in cls.__bases__}
    unread = {(c, f) for c, f in expected - read if c not in bases and f not in ("kind", "resume")}
    assert not unread


def test_check_names_the_key(make_config):
    with pytest.raises(UserError, match=r"algorithm\.discount=1\.5: must be less than or equal to 1"):
        make_config("algorithm.discount=1.5")


def test_a_presets_values_follow_only_where_they_fit(make_config):
    """The preset of cartpole sets target.rate and two values of a linear schedule."""
    config = make_config("experiment=cartpole", "target=hard", "exploration/schedule=exponential")
    assert dataclasses.asdict(config.target) == {"kind": "hard", "period_steps": 500}
    assert config.exploration.schedule.end == 0.02  # both schedules have an end
    with pytest.raises(UserError, match=r"target\.rate=0\.5: no such key where target\.kind=none"):
        make_config("experiment=cartpole", "target=none", "target.rate=0.5")
    with pytest.raises(UserError, match=r"loss\.arguments=\{x: 5\}: no such key where algorithm\.loss\.kind=huber"):
        make_config("experiment=cartpole", "+algorithm.loss.arguments.x=5")  # with all that is in a key
    with pytest.raises(UserError, match=r"target\.perod_steps=5: no such key"):
        make_config("experiment=cartpole", "target=none", "+target.perod_steps=5")
