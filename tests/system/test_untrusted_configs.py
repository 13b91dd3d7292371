"""Configs that somebody else has written, run from the shell: attacks that Hydra alone would let through.

Each does its harm if `dqn.trusted` is left out. What it would leave behind is a file or folder `mark`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from shell import SHORT, run_script

from dqn.compose import compose_config
from dqn.run_folder import primary_config

FOREIGN = ("--config-path", "foreign", "--config-name", "config")
LOG = {"version": 1, "root": {"handlers": ["file"]}, "handlers": {"file": {"class": "logging.FileHandler"}}}


def write_foreign(folder: Path, **changes: Any) -> None:
    """The config of a run, changed: `a__b` is the dotted key a.b."""
    config = OmegaConf.create(primary_config(compose_config([*SHORT[:-1], "logger.wandb.mode=offline"]), ""))
    for key, value in changes.items():
        OmegaConf.update(config, key.replace("__", "."), value, force_add=True)
    (folder / "foreign").mkdir()
    OmegaConf.save(config, folder / "foreign" / "config.yaml")


def log_to(**handler: Any) -> dict[str, Any]:
    return {**LOG, "handlers": {"file": {**LOG["handlers"]["file"], **handler}}}


def of_executor(name: str) -> dict[str, Any]:
    """The groups that the config chooses, with an executor."""
    groups = ["_self_", {"sweep": "none"}, {"override hydra/launcher": "population"}]
    return {"defaults": [*groups, {"override hydra/launcher/executor": name}]}


ATTACKS: dict[str, tuple[dict[str, Any], list[str], str]] = {
    "a callback": (
        {"hydra__callbacks": {"x": {"_target_": "builtins.open", "file": "mark", "mode": "w"}}},
        [],
        "hydra.callbacks.x._target_=builtins.open: is no class of this project; if you trust it, give "
        "modules=[builtins]",
    ),
    "a callback put in from elsewhere": (
        {
            "hydra__callbacks": "${sweep.more}",
            "sweep__more": {"x": {"_target_": "builtins.open", "file": "mark", "mode": "w"}},
        },
        [],
        "sweep.more.x._target_=builtins.open: is no class of this project",
    ),
    "a callback made of text": (
        {"hydra__callbacks": "${oc.create:{x: {_target_: builtins.open, file: mark, mode: w}}}"},
        [],
        "hydra.callbacks=${oc.create:{x: {_target_: builtins.open, file: mark, mode: w}}}: a file may put in other "
        "values, as ${key}, and the time, as ${now:...}, only",
    ),
    "in the arguments of a sweeper": (
        {"hydra__sweeper__params": {"_target_": "builtins.open", "file": "mark", "mode": "w"}},
        ["-m", "seed=0,1"],
        "hydra.sweeper.params._target_=builtins.open: is no class of this project",
    ),
    "a function that a registered module knows": (
        {
            "hydra__callbacks": {
                "x": {"_target_": "hydra.experimental.callbacks.logging.FileHandler", "filename": "mark"}
            }
        },
        [],
        "hydra.callbacks.x._target_=hydra.experimental.callbacks.logging.FileHandler: is no class of this project",
    ),
    "a factory in the logging": (
        {"hydra__job_logging": {**LOG, "handlers": {"file": {"()": "logging.FileHandler.__class__"}}}},
        [],
        "hydra.job_logging.handlers.file.()=logging.FileHandler.__class__: is no class that logs",
    ),
    "logging that imports": (
        {"hydra__hydra_logging": log_to(**{"class": "logging.StreamHandler", "stream": "ext://antigravity.x"})},
        [],
        "hydra.hydra_logging.handlers.file.stream=ext://antigravity.x: must be ext://sys.stdout or ext://sys.stderr",
    ),
    "logging to a file elsewhere": (
        {"hydra__hydra_logging": log_to(filename="mark")},
        [],
        "hydra.hydra_logging.handlers.file.filename=mark: must be in the run's folder, ${hydra.runtime.output_dir}/",
    ),
    "logging to a file that a value leads to": (
        {
            "hydra__job__name": "../../../mark",
            "hydra__job_logging": log_to(filename="${hydra.runtime.output_dir}/${hydra.job.name}"),
        },
        [],
        "hydra.job.name=../../../mark: is a part of hydra.job_logging.handlers.file.filename, and must not lead out",
    ),
    "logging put in from elsewhere": (
        {"hydra__job_logging": "${sweep.more}", "sweep__more": log_to(filename="mark")},
        [],
        "hydra.job_logging=${sweep.more}: must be written out",
    ),
    "a run's folder elsewhere": (
        {"hydra__run__dir": "../mark"},
        [],
        "hydra.run.dir=../mark: must be inside the folder that you are in, or be on the command line",
    ),
    "a run's folder at the root": (
        {"hydra__run__dir": "/tmp/mark"},
        [],
        "hydra.run.dir=/tmp/mark: must be inside the folder that you are in",
    ),
    "a run's folder in place of a new one": (
        {"hydra__run__dir": "${run_folder:${resume},../mark}"},
        [],
        "hydra.run.dir=${run_folder:${resume},../mark}: must be inside the folder that you are in",
    ),
    "dots in the time": (
        {"hydra__run__dir": "${now:../mark}"},
        [],
        "hydra.run.dir=${now:../mark}: must be inside the folder that you are in",
    ),
    "dots that come together": (
        {"hydra__run__dir": "runs/.${logger.wandb.group}./../mark", "logger__wandb__group": ""},
        [],
        "logger.wandb.group=: is a part of hydra.run.dir, and must not lead out of that folder",
    ),
    "a name of dots": ({"name": ".."}, [], "name=..: is a part of hydra.run.dir, and must not lead out"),
    "a seed that is a path": (
        {"seed": "0/../../../mark"},
        [],
        "seed=0/../../../mark: is a part of hydra.run.dir, and must not lead out of that folder",
    ),
    "a value in the user's own path": (
        {"logger__wandb__group": "../mark"},
        ["hydra.run.dir=runs/${logger.wandb.group}"],
        "logger.wandb.group=../mark: is a part of hydra.run.dir, and must not lead out of that folder",
    ),
    "a sweep's folder elsewhere": (
        {"hydra__sweep__dir": "../mark"},
        ["-m", "seed=0,1"],
        "hydra.sweep.dir=../mark: must be inside the folder that you are in",
    ),
    "a job's folder outside the sweep's": (
        {"hydra__sweep__subdir": "../../mark"},
        ["-m", "seed=0,1", "hydra.sweep.dir=sweep", "hydra/launcher=basic"],
        "hydra.sweep.subdir=../../mark: must be inside the sweep's folder",
    ),
    "Hydra's notes elsewhere": (
        {"hydra__output_subdir": "../mark"},
        ["hydra.run.dir=run"],
        "hydra.output_subdir=../mark: comes from a file, but counts only on the command line",
    ),
    "environment variables": (
        {"hydra__job__env_set": {"LD_PRELOAD": "evil.so"}},
        [],
        "hydra.job.env_set.LD_PRELOAD=evil.so: comes from a file, but counts only on the command line",
    ),
    "secrets by name": (
        {"hydra__job__env_copy": ["PATH"]},
        [],
        "hydra.job.env_copy.0=PATH: comes from a file, but counts only on the command line",
    ),
    "secrets in a value": (
        {"logger__wandb__group": "${oc.env:PATH}"},
        [],
        "logger.wandb.group=${oc.env:PATH}: a file may put in other values",
    ),
    "secrets in a value that is put together": (
        {"logger__wandb__group": "a$", "logger__wandb__project": "${logger.wandb.group}{oc.env:PATH}"},
        [],
        "logger.wandb.group=a$: a file may put in other values",
    ),
    "secrets by a resolver whose name is put together": (
        {"logger__wandb__group": "env", "logger__wandb__project": "${oc.${logger.wandb.group}:PATH}"},
        [],
        "logger.wandb.project=${oc.${logger.wandb.group}:PATH}: a file may put in other values",
    ),
    "secrets in a space to search": (
        {"sweep__space": {"env.id": {"type": "categorical", "choices": ["\\${oc.env:PATH}", "x"]}}},
        ["-m", "hydra/sweeper=optuna"],
        "sweep.space.env.id.choices.0=\\${oc.env:PATH}: a file may put in other values",
    ),
    "secrets in words for the jobs": (
        {"hydra__overrides__task": ["logger.wandb.group=${oc.env:PATH}"]},
        ["-m", "seed=0,1"],
        "hydra.overrides.task.0=${oc.env:PATH}: a file may put in other values",
    ),
    "a run to go on with": (
        {"resume": "/tmp/mark"},
        [],
        "resume=/tmp/mark: comes from a file, but counts only on the command line",
    ),
    "modules for itself": (
        {
            "modules": ["builtins"],
            "hydra__callbacks": {"x": {"_target_": "builtins.open", "file": "mark", "mode": "w"}},
        },
        [],
        "hydra.callbacks.x._target_=builtins.open: is no class of this project",
    ),
    "a database elsewhere": (
        {"hydra__sweeper__storage": "sqlite:///mark"},
        ["-m", "hydra/sweeper=optuna", "optimizer.learning_rate=interval(1e-4,1e-2)"],
        "hydra.sweeper.storage=sqlite:///mark: comes from a file, but counts only on the command line",
    ),
    "another's cluster": (
        {"hydra__launcher__executor": {"kind": "ray", "address": "ray://evil:1"}, **of_executor("ray")},
        ["-m", "seed=0,1"],
        "hydra.launcher.executor.address=ray://evil:1: comes from a file, but counts only on the command line",
    ),
    "words for a cluster's shell": (
        {
            "hydra__launcher__executor": {"kind": "slurm", "parameters": {"comment": "x\ntouch mark #"}},
            **of_executor("slurm"),
        },
        ["-m", "seed=0,1"],
        "hydra.launcher.executor.parameters.comment=x\\ntouch mark #: comes from a file, but counts only on",
    ),
    "an environment's module": (
        {"env__id": "antigravity:Env-v0"},
        [],
        "env.id=antigravity:Env-v0: imports antigravity; if you trust that, give modules=[antigravity]",
    ),
    "an evaluation's module": (
        {"evaluation__env": {"id": "antigravity:Env-v0"}},
        [],
        "evaluation.env.id=antigravity:Env-v0: imports antigravity; if you trust that, give modules=[antigravity]",
    ),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_is_one_clear_line(attack, tmp_path):
    changes, words, message = ATTACKS[attack]
    inside = tmp_path / "here" / "below"
    inside.mkdir(parents=True)
    write_foreign(inside, **changes)
    done = run_script("train", [*FOREIGN, *words], inside, tmp_path)
    assert done.returncode == 2, done.stderr
    assert (done.stdout, done.stderr.count("\n")) == ("", 1), done.stderr
    assert done.stderr.startswith(f"error: {message}")
    assert not list(tmp_path.rglob("*mark*"))
    assert not Path("/tmp/mark").exists()


MARKING = "open('mark', 'w').close()\n"


def train(words, folder, script="train"):
    """A script in a folder in which Python finds modules."""
    beside = folder.parent / "printed"
    beside.mkdir(exist_ok=True)
    paths = f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    return run_script(script, words, folder, beside, {"PYTHONPATH": paths})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"hydra__searchpath": ["pkg://package"]},
            "hydra.searchpath.0=pkg://package: comes from a file, but counts only on the command line",
        ),
        (
            {"hydra__hydra_logging": log_to(**{"class": "logging.StreamHandler", "stream": "ext://package.x"})},
            "hydra.hydra_logging.handlers.file.stream=ext://package.x: must be ext://sys.stdout or ext://sys.stderr",
        ),
        (
            {"hydra__callbacks": {"x": {"_target_": "package.X"}}},
            "hydra.callbacks.x._target_=package.X: is no class of this project; if you trust it, give "
            "modules=[package]",
        ),
        (
            {"env__id": "package:Env-v0"},
            "env.id=package:Env-v0: imports package; if you trust that, give modules=[package]",
        ),
        (
            {"evaluation__env": {"id": "package:Env-v0"}},
            "evaluation.env.id=package:Env-v0: imports package; if you trust that, give modules=[package]",
        ),
        (
            {"algorithm__loss": {"kind": "custom", "_target_": "package.X", "arguments": {}, "threshold": None}},
            "algorithm.loss._target_=package.X: is no class of this project; if you trust it, give modules=[package]",
        ),
    ],
    ids=["searchpath", "logging", "target", "environment", "evaluation", "loss"],
)
def test_nothing_is_imported(changes, message, tmp_path):
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text(MARKING)
    write_foreign(tmp_path, **changes)
    done = train(FOREIGN, tmp_path)
    assert (done.returncode, done.stderr) == (2, f"error: {message}\n")
    assert not (tmp_path / "mark").exists()


MINE = """
import os
import hydra_plugins.dqn_sweeps
from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.experimental.callback import Callback

class Note(Callback):
    def __init__(self, text):
        self.text = text

    def on_job_start(self, config, **kwargs):
        open("note", "w").write(self.text)
"""
PLUGIN = """
from hydra._internal.core_plugins.basic_launcher import BasicLauncher

class Mine(BasicLauncher):
    def launch(self, *args, **kwargs):
        open("note", "a").write("launched")
        return super().launch(*args, **kwargs)
"""


def test_classes_of_the_users_own_modules(tmp_path):
    """A callback by `modules`, a launcher by `modules` or by being chosen; what they import is not theirs."""
    (tmp_path / "mine.py").write_text(MINE)
    write_foreign(tmp_path, hydra__callbacks={"x": {"_target_": "mine.Note", "text": "hello"}})
    done = train([*FOREIGN, "modules=[mine]", "hydra.run.dir=run", "logger.wandb=null"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "note").read_text() == "hello"
    assert "modules" not in (tmp_path / "run" / "config.yaml").read_text()
    for name, modules, problem in (
        ("mine.os.system", "mine", "is no class that mine defines"),
        ("mine.BasicLauncher", "mine", "is no class that mine defines"),
        ("mine.nothing", "mine", "cannot be imported: module 'mine' has no attribute 'nothing'"),
        ("mine.Note", "min", "is no class of this project; if you trust it, give modules=[mine]"),
    ):
        words = [f"++hydra.callbacks.x._target_={name}", f"modules={modules}", "hydra.run.dir=other"]
        refused = train([*FOREIGN, *words], tmp_path)
        assert (refused.returncode, refused.stderr) == (2, f"error: hydra.callbacks.x._target_={name}: {problem}\n")
    no_name = train([*FOREIGN, "modules=[mine/x]"], tmp_path)
    assert no_name.stderr == "error: modules=[mine/x]: must be names of modules, e.g. modules=[my_package]\n"


def test_a_launcher_from_a_plug_in(tmp_path):
    plugin = tmp_path / "hydra_plugins" / "mine"
    plugin.mkdir(parents=True)
    (plugin / "__init__.py").write_text(PLUGIN)
    group = tmp_path / "options" / "hydra" / "launcher"
    group.mkdir(parents=True)
    (group / "mine.yaml").write_text("_target_: hydra_plugins.mine.Mine\n")
    chosen = ["-m", "--config-dir", "options", "hydra/launcher=mine", *SHORT, "seed=0"]
    done = train([*chosen, "hydra.sweep.dir=sweep"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "note").read_text() == "launched"
    write_foreign(tmp_path, hydra__launcher={"_target_": "hydra_plugins.mine.Mine"})
    words = ["-m", *FOREIGN, "~hydra.launcher.executor", "~hydra.launcher.max_members", "seed=0", "logger.wandb=null"]
    refused = train(words, tmp_path)
    target = "hydra.launcher._target_=hydra_plugins.mine.Mine"
    advice = "is no class of this project; if you trust it, give modules=[hydra_plugins.mine]"
    assert (refused.returncode, refused.stderr) == (2, f"error: {target}: {advice}\n")
    allowed = train([*words, "modules=[hydra_plugins.mine]", "hydra.sweep.dir=other"], tmp_path)
    assert allowed.returncode == 0, allowed.stderr
    assert (tmp_path / "note").read_text() == "launchedlaunched"


ENVIRONMENT = """
import gymnasium
from gymnasium.envs.classic_control import CartPoleEnv
gymnasium.register("Mine-v0", entry_point=CartPoleEnv, max_episode_steps=20)
"""


def test_an_environment_of_the_users_own(tmp_path):
    """By its name on the command line, or where that comes from a file, by `modules`: to train, resume and play."""
    (tmp_path / "mine.py").write_text(ENVIRONMENT)
    done = train([*SHORT, "env=gymnasium", "env.id=mine:Mine-v0", "hydra.run.dir=run"], tmp_path)
    assert done.returncode == 0, done.stderr
    message = "error: env.id=mine:Mine-v0: imports mine; if you trust that, give modules=[mine]\n"
    longer = "trainer.total_steps=400"
    for script, words in (
        ("train", ["--config-path", "run", "--config-name", "config", "hydra.run.dir=again"]),
        ("train", ["resume=run", longer]),
        ("evaluate", ["run=run", "episodes=2", "policy=best"]),
        ("export", ["run=run"]),
    ):
        refused = train(words, tmp_path, script)
        assert (refused.returncode, refused.stderr) == (2, message), script
        allowed = train([*words, "modules=[mine]"], tmp_path, script)
        assert allowed.returncode == 0, allowed.stderr


def test_no_config_but_text(tmp_path):
    """Pickles in YAML's own way, and by the one flag of Hydra's that reads them."""
    write_foreign(tmp_path)
    evil = tmp_path / "foreign" / "config.yaml"
    good = evil.read_text()
    evil.write_text(f"{good}\nx: !!python/object/apply:os.system ['touch mark']\n")
    done = train(FOREIGN, tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "could not determine a constructor for the tag" in done.stderr
    (tmp_path / "foreign" / "x.pickle").write_bytes(b"cos\nsystem\n(S'touch mark'\ntR.")
    for flag in ("--experimental-rerun", "--exp"):
        for words in ([flag, "foreign/x.pickle"], [f"{flag}=foreign/x.pickle"]):
            done = train(words, tmp_path)
            assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
            assert done.stderr.startswith("error: --experimental-rerun would read a pickle; ")
    evil.write_text("[]")
    for script, key in (("train", "resume"), ("evaluate", "run")):
        done = train([f"{key}=foreign"], tmp_path, script)
        assert done.stderr == f"error: {key}=foreign: config.yaml cannot be read: it holds no settings\n"
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("flag", ["--help", "--hydra-help", "--info=all", "--cfg=all", "--cfg=job"])
def test_what_hydra_shows_of_a_config_does_not_command_the_terminal(flag, tmp_path):
    nasty = "\x1b]0;x\x07\x9b2Jtitle"
    write_foreign(tmp_path, hydra__help={"header": nasty, "footer": nasty}, name=nasty)
    (tmp_path / "foreign" / nasty).mkdir()
    (tmp_path / "foreign" / nasty / "a.yaml").write_text("")
    shown = train([*FOREIGN, flag], tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert not any(character in shown.stdout + shown.stderr for character in "\x1b\x07\x9b")
    assert "title" in shown.stdout or flag == "--hydra-help"


def test_a_folder_with_a_nasty_name(tmp_path, tmp_path_factory):
    """Shown as it is by every script."""
    nasty = "[/a] [red]b \x1b[2J"
    (tmp_path / nasty).mkdir(parents=True)  # a folder [ and one in it
    beside = tmp_path_factory.mktemp("printed")
    for script, words in (
        ("train", [*SHORT, "hydra.run.dir=run"]),
        ("export", ["run=run", "formats=[onnx]"]),
        ("evaluate", ["run=run", "episodes=2"]),
        ("verify", ["run=run"]),
        ("compare", ["runs=*/*/run", "all=true"]),
        ("train", ["--config-path", "run", "--config-name", "config", "--help"]),
    ):
        folder = tmp_path if script == "compare" else tmp_path / nasty
        done = run_script(script, words, folder, beside)
        assert done.returncode == 0, done.stderr
        assert "\x1b" not in done.stdout + done.stderr
    (tmp_path / "[" / "b]").symlink_to(tmp_path / nasty / "run")
    words = ["run=./[/b]", "episodes=2", "policy=./[/b]/export/policy.onnx"]
    played = run_script("evaluate", words, tmp_path, beside)
    assert played.returncode == 0, played.stderr
    assert "./[/b]/export/policy.onnx" in played.stdout
    assert "[/b]/evaluation.json" in played.stdout
    missing = run_script("evaluate", [*words[:2], f"policy={nasty}\nx"], tmp_path, beside)
    assert (missing.returncode, missing.stderr.count("\n")) == (2, 1)
    assert "\x1b" not in missing.stderr
