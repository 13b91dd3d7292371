"""What the README tells a reader to write, written and run."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from shell import ROOT, SHORT, run_script

MINE = "modules=[my_losses]"
REFUSED = (
    "error: algorithm.loss._target_=my_losses.LogCosh: is no class of this project; if you trust it, give "
    "modules=[my_losses]\n"
)


def blocks() -> list[tuple[str, str]]:
    """The blocks of code about a loss: their languages and texts."""
    section = (ROOT / "README.md").read_text().partition("**A loss**")[2].partition("An algorithm subclasses")[0]
    return re.findall(r"```(\w*)\n(.*?)```", section, re.DOTALL)


@pytest.fixture
def word_for_word(tmp_path: Path) -> tuple[dict[str, str], list[str]]:
    """The files of the README in a folder; what its command sets, and the words for scripts/train.py."""
    (_, code), (_, yaml), (_, command) = blocks()
    for text in (code, yaml):
        path = tmp_path / text.splitlines()[0].removeprefix("# ")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    variable, python, script, *words = shlex.split(command)
    assert (python, script) == ("python", "scripts/train.py")
    name, _, value = variable.partition("=")
    return {name: f"{value}{os.pathsep}{os.environ.get(name, '')}"}, words


@pytest.fixture
def run(word_for_word, tmp_path, tmp_path_factory):
    changes, _ = word_for_word
    return lambda script, words: run_script(script, words, tmp_path, tmp_path_factory.mktemp("printed"), changes)


def policy(folder: Path) -> bytes:
    return (folder / "export" / "policy.safetensors").read_bytes()


def test_the_files_are_in_the_languages_that_they_are_said_to_be_in():
    assert [language for language, _ in blocks()] == ["python", "yaml", ""]


def test_a_loss_is_one_file_and_one_yaml(word_for_word, run, tmp_path):
    _, words = word_for_word
    done = run("train", [*words, *SHORT, "hydra.run.dir=run"])
    assert done.returncode == 0, done.stderr
    config = OmegaConf.load(tmp_path / "run" / "config.yaml")
    assert OmegaConf.to_container(config.algorithm.loss) == {
        "kind": "custom",
        "_target_": "my_losses.LogCosh",
        "arguments": {"scale": 2},
    }
    mine = {str(path.relative_to(tmp_path)) for path in (tmp_path / "mine").rglob("*.*") if path.suffix != ".pyc"}
    assert mine == {"mine/algorithm/loss/log_cosh.yaml", "mine/my_losses.py"}
    # The loss is what is in the file: another one there makes another policy, and so does another scale.
    by_readme, file = policy(tmp_path / "run"), tmp_path / "mine" / "my_losses.py"
    assert run("train", [*words[:-1], *SHORT, "hydra.run.dir=scale_1"]).returncode == 0
    assert policy(tmp_path / "scale_1") != by_readme
    code = file.read_text()
    file.write_text(re.sub(r"return .*", "return 0.5 * td_error.square() + 0.0 * scale", code))
    assert run("train", [*words, *SHORT, "hydra.run.dir=squares"]).returncode == 0
    plain = run("train", ["algorithm/loss=mse", "algorithm.loss.factor=0.5", *SHORT, "hydra.run.dir=mse"])
    assert plain.returncode == 0, plain.stderr
    assert policy(tmp_path / "squares") == policy(tmp_path / "mse") != by_readme


def test_a_run_with_it_resumes_plays_and_runs_again(word_for_word, run, tmp_path):
    """With the module's name each time; without it, it is refused."""
    _, words = word_for_word
    words = [*words, *SHORT, "export.network=last"]
    assert run("train", [*words, "hydra.run.dir=whole", "trainer.total_steps=400"]).returncode == 0
    done = run("train", [*words, "hydra.run.dir=run"])
    assert done.returncode == 0, done.stderr
    at_first = policy(tmp_path / "run")
    for script, more in (
        ("train", ["--config-path", "run", "--config-name", "config", "hydra.run.dir=again"]),
        ("verify", ["run=run"]),
        ("evaluate", ["run=run", "episodes=2", "policy=best"]),
        ("export", ["run=run", "formats=[safetensors]"]),
        ("train", ["resume=run", "trainer.total_steps=400"]),
    ):
        refused = run(script, more)
        assert (refused.returncode, refused.stderr) == (2, REFUSED), script
        allowed = run(script, [*more, MINE])
        assert allowed.returncode == 0, (script, allowed.stderr)
    assert policy(tmp_path / "again") == at_first
    assert policy(tmp_path / "run") == policy(tmp_path / "whole") != at_first


@pytest.mark.long
def test_a_sweep_over_its_argument_trains_as_one_population(word_for_word, run, tmp_path):
    _, words = word_for_word
    swept = [*words[:-1], "algorithm.loss.arguments.scale=1,2"]
    done = run("train", ["-m", *swept, *SHORT, "hydra.sweep.dir=sweep"])
    assert done.returncode == 0, done.stderr
    folders = [tmp_path / "sweep" / name for name in ("0-seed0", "1-seed0")]
    assert [OmegaConf.load(one / "config.yaml").algorithm.loss.arguments.scale for one in folders] == [1, 2]
    populations = [json.loads((one / "provenance.json").read_text())["population"] for one in folders]
    assert populations == [["0-seed0", "1-seed0"]] * 2
    policies = [policy(one) for one in folders]
    assert policies[0] != policies[1]
    for one in folders:  # as after a kill, just before the end
        (one / "summary.json").unlink()
        shutil.rmtree(one / "export")
        shutil.rmtree(max(one.glob("checkpoints/step-*")))
    refused = run("train", ["-m", "sweep.resume=sweep", *(word for word in swept if word != MINE), *SHORT])
    assert (refused.returncode, refused.stderr) == (2, REFUSED)
    done = run("train", ["-m", "sweep.resume=sweep", *swept, *SHORT])
    assert done.returncode == 0, done.stderr
    assert [policy(one) for one in folders] == policies


@pytest.mark.long
def test_population_based_training_changes_its_argument(word_for_word, run, tmp_path):
    _, words = word_for_word
    space = [
        "algorithm.loss.arguments.scale=interval(0.5,5)",
        "hydra.sweeper.population=3",
        "hydra.sweeper.every_steps=100",
    ]
    short = [word for word in SHORT if not word.startswith("evaluation.every_steps")]
    swept = ["-m", "hydra/sweeper=pbt", *words[:-1], *space, *short, "evaluation.every_steps=100"]
    done = run("train", [*swept, "trainer.total_steps=600", "hydra.sweep.dir=sweep"])
    assert done.returncode == 0, done.stderr
    births = [json.loads(line) for line in (tmp_path / "sweep" / "lineage.jsonl").read_text().splitlines()]
    assert any(birth["parent"] is not None for birth in births)
    assert all(list(birth["values"]) == ["algorithm.loss.arguments.scale"] for birth in births)


@pytest.mark.long
@pytest.mark.parametrize(
    ("word", "message"),
    [
        (
            "algorithm.loss.arguments.scal=3",
            "algorithm.loss.arguments.scal=3: the loss's YAML file has no such argument; "
            "+algorithm.loss.arguments.scal=... gives it one more",
        ),
        (
            "+algorithm.loss.arguments.scal=3",
            "algorithm.loss._target_=my_losses.LogCosh: cannot be made with these arguments: "
            "TypeError: LogCosh.__init__() got an unexpected keyword argument 'scal'",
        ),
        ("trainer.total_step=3", "trainer.total_step=3: no such key; did you mean trainer.total_steps?"),
        ("algorithm/loss=log_cosch", "algorithm/loss=log_cosch: no such option; did you mean log_cosh?"),
        (
            "algorithm.loss._target_=my_losses.LogCos",
            "algorithm.loss._target_=my_losses.LogCos: cannot be imported: module 'my_losses' has no attribute",
        ),
        (
            "algorithm.loss._target_=os.system",
            "algorithm.loss._target_=os.system: is no class of this project; if you trust it, give modules=[os]",
        ),
        ("algorithm.loss.threshold=3", "algorithm.loss.threshold=3: no such key where algorithm.loss.kind=custom"),
    ],
)
def test_what_is_wrong_is_one_line(word, message, word_for_word, run, tmp_path):
    _, words = word_for_word
    kept = [one for one in words if not word.startswith(one.partition("=")[0])]
    done = run("train", [*kept, *SHORT, word, "hydra.run.dir=run"])
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert done.stderr.startswith(f"error: {message}")
    assert not (tmp_path / "run").exists()


@pytest.mark.long
def test_a_sweep_names_no_class_that_the_command_line_does_not_allow(word_for_word, run, tmp_path):
    """The values of its jobs are put in after the config was composed and looked at."""
    _, words = word_for_word
    done = run("train", ["-m", *words, *SHORT, "algorithm.loss._target_=my_losses.LogCosh,os.system"])
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "algorithm.loss._target_=os.system: is no class of this project" in done.stderr
