"""One clear line, exit status 2, nothing written: the mistakes that people make, made in the shell."""

from __future__ import annotations

import json
import resource
import shutil

import optuna
import pytest
from shell import SHORT, Script, start_script

from dqn.provenance import installed_memory

RATES = "optimizer.learning_rate=interval(1e-4,1e-2)"
SEARCH = ["hydra/sweeper=optuna", RATES]
STORED = ["hydra.sweeper.storage=sqlite:///there.db", "hydra.sweeper.study_name=mine"]
MISTAKES = {
    "unknown key": (["trainer.bach_size=3"], "trainer.bach_size=3: no such key; did you mean trainer.batch_size?"),
    "unknown key at the top": (["sed=3"], "sed=3: no such key; did you mean seed?"),
    "unknown option": (["network=mpl"], "network=mpl: no such option; did you mean mlp?"),
    "unknown preset": (["experiment=cartpol"], "experiment=cartpol: no such option; did you mean cartpole?"),
    "unknown group": (["netwrk=mlp"], "netwrk=mlp: no such key; did you mean network?"),
    "no key=value": (["cartpole"], "cannot read the override 'cartpole'; overrides look like key=value"),
    "key of another option": (
        ["env.game=pong"],
        "env.game=pong: no such key in this env; there is one with env=atari or env=",
    ),
    "needed value": (["env=atari"], "env.game=???: must be given, e.g. env.game=seaquest"),
    "wrong type": (["trainer.batch_size=abc"], "trainer.batch_size=abc: must be a whole number"),
    "out of range": (["algorithm.discount=1.5"], "algorithm.discount=1.5: must be less than or equal to 1"),
    "epsilon above one": (["exploration.schedule.start=2"], "exploration.schedule.start=2.0: is an epsilon"),
    "no end": (
        ["trainer.total_steps=null", "optimizer/learning_rate_schedule=constant"],
        "trainer.total_steps=null: set this",
    ),
    "learning never starts": (
        ["memory.warmup_steps=200000"],
        "memory.warmup_steps=200000: the run ends at 100000 steps",
    ),
    "no batch to learn from": (
        ["memory.replacement=false", "memory.warmup_steps=10"],
        "memory.warmup_steps=10: learning cannot start before a batch of",
    ),
    "no batch of several steps to learn from": (
        ["memory.replacement=false", "memory.n_step=40", "memory.warmup_steps=320"],
        "memory.warmup_steps=320: learning cannot start before a batch of 128 different transitions is there; at least "
        "568",
    ),
    "two networks that are one": (
        ["algorithm=double_dqn", "target=none"],
        "algorithm.double=True: one network would pick the next action and value it, as without; use false, or "
        "target=hard or polyak for target=none",
    ),
    "quantiles of a table": (
        ["experiment=gridworld_dqn", "network=tabular", "algorithm=iqn"],
        "network=tabular: a table has no features, which algorithm=iqn needs; use mlp, or algorithm=qr_dqn",
    ),
    "more than all of the importance": (
        ["memory=prioritized", "memory.importance_exponent.start=7"],
        "memory.importance_exponent.start=7.0: at most 1",
    ),
    "importance where there is none": (
        ["memory.importance_exponent.start=0.5"],
        "memory.importance_exponent",
    ),
    "atoms too close": (
        ["algorithm=c51", "algorithm.min_value=0", "algorithm.max_value=1e-50"],
        "algorithm.max_value=1e-50: with algorithm.min_value=0 its atoms are not 51 different numbers in float32",
    ),
    "a rollout of parts": (
        ["experiment=cartpole_pqn", "trainer.learn_every_steps=1024"],
        "trainer.learn_every_steps=1024: what comes of memory=rollout is learned once, when it is whole",
    ),
    "epochs of parts": (
        ["experiment=cartpole_pqn", "trainer.updates_per_learn=10"],
        "trainer.updates_per_learn=10: epochs are whole: a multiple of memory.capacity_steps / trainer.batch_size = 16",
    ),
    "returns without a rollout": (["algorithm=pqn"], "algorithm=pqn: learns returns as they are"),
    "a rollout for others": (
        ["experiment=cartpole_pqn", "algorithm=dqn"],
        "algorithm=dqn: memory=rollout makes returns for algorithm=pqn only",
    ),
    "images needed": (["network=nature_cnn"], "network=nature_cnn: needs images, but observations are float32 (4,)"),
    "states needed": (["network=tabular"], "network=tabular: needs discrete states, but observations are float32 (4,)"),
    "unknown game": (["env=atari", "env.game=breakot"], "env.game=breakot: "),
    "unknown environment": (["env=gymnasium", "env.id=CartPol-v1"], "env.id=CartPol-v1: "),
    "continuous actions": (["env=gymnasium", "env.id=Pendulum-v1"], "env.id=Pendulum-v1: has continuous actions"),
    "bad map": (["env=gridworld", "env.map=S.X"], "env.map="),
    "too large a memory": (["memory.capacity_steps=1e13"], "memory.capacity_steps=10000000000000: needs"),
    "no such GPU": (["trainer.device=cuda:7"], "trainer.device=cuda:7: CUDA devices here: 0; use auto or cpu"),
    "group without an option": (
        ["algorithm=null"],
        "algorithm=null: no such option; choose one of c51, double_dqn, dqn, fqf, iqn, munchausen_dqn, ",
    ),
    "separator of Hydra's": (
        ["hydra.job.config.override_dirname.kv_sep='\\\\'"],
        "hydra.job.config.override_dirname.kv_sep='\\\\': cannot be part of a regular expression: bad escape",
    ),
    "cycle": (["seed=${seed}"], "seed=${seed}: Recursive interpolation detected"),
    "numbers for a group": (["-m", "algorithm=range(1,3)"], "algorithm=range(1,3): no such option; choose one of"),
    "interval without a search": (["-m", "seed=interval(0,1)"], "seed=interval(0,1): an interval is for a search"),
    "unknown flag": (["--nope", "seed=1"], "unrecognized arguments: --nope; see --help"),
    "colours": (["trainer.batch_size='\x1b[31m'"], r"trainer.batch_size=\x1b[31m: must be a whole number"),
    "too large a network": (
        ["network.hidden_sizes=[1000000,1000000]"],
        "network.hidden_sizes=[1000000, 1000000]: needs 12,000.",
    ),
    "too large a batch": (["trainer.batch_size=1000000000000"], "trainer.batch_size=1000000000000: needs "),
    "two levels to make": (["hydra.run.dir=a/b/c", "seed=-1"], "seed=-1: must be greater than or equal to 0"),
    "two levels to resume": (["resume=a/b/c"], "resume=a/b/c: there is no run in this place"),
    "a name with a slash": (["name=a/b/c"], "name=a/b/c: must match pattern"),
    "Hydra's own notes": (["hydra.output_subdir=.hydra"], "hydra.output_subdir=.hydra: must be null"),
    "long name": (["hydra.run.dir=" + "x" * 300], f"hydra.run.dir={'x' * 197}...: no folder can be made there: File n"),
    "long name of a sweep": (
        ["-m", "seed=0,1", "hydra.sweep.dir=" + "x" * 300],
        f"hydra.sweep.dir={'x' * 197}...: there can be no such folder: File name too long",
    ),
    "search that cannot be built": (
        ["-m", *SEARCH, "experiment=gridworld_dqn", "env=pong"],
        "evaluation.stop.optimal=True: this environment does not know its optimum",
    ),
    "long name of a run": (
        ["seed=" + "x" * 300],
        f"seed={'x' * 197}...: no folder can be made there: File name too long",
    ),
    "value in the place of a group": (
        ["-m", "seed=0,1", "hydra.sweeper=optuna"],
        "hydra.sweeper=optuna: is a group of settings, of which one is chosen as hydra/sweeper=name",
    ),
    "long name of a job": (
        ["-m", "seed=" + "x" * 300],
        f"hydra.sweep.subdir=0-seed{'x' * 191}...: there can be no such folder: File name too long",
    ),
    "bad job of Hydra's own launcher": (
        ["-m", "hydra/launcher=basic", "seed=-1,0"],
        "seed=-1: must be greater than or equal to 0",
    ),
    "no run to resume": (["resume=runs/none"], "resume=runs/none: there is no run in this place"),
}
HINTS = {"unknown game": "breakout", "unknown environment": "CartPole-v1"}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_clear_line(mistake, shell, tmp_path):
    words, message = MISTAKES[mistake]
    done = shell("train", *words)
    assert done.returncode == 2, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith(f"error: {message}")
    assert HINTS.get(mistake, "") in lines[0]
    assert done.stdout == ""
    assert list(tmp_path.rglob("*")) == []


def test_folders_that_are_no_runs(shell, tmp_path):
    run = tmp_path / "run"
    assert shell("train", *SHORT, f"hydra.run.dir={run}").returncode == 0
    before = sorted(tmp_path.rglob("*"))

    again = shell("train", *SHORT, f"hydra.run.dir={run}")
    assert (again.returncode, again.stderr.count("\n")) == (2, 1)
    assert "exists and is not empty; resume=run goes on with" in again.stderr
    assert sorted(tmp_path.rglob("*")) == before

    over = shell("train", f"resume={run}")
    assert (over.returncode, over.stderr.count("\n")) == (2, 1)
    assert "is complete after 300 steps; to go on, give a larger trainer.total_steps" in over.stderr

    changed = shell("train", f"resume={run}", "algorithm.discount=0.5")
    assert changed.returncode == 2
    assert "the run was begun otherwise: algorithm.discount (0.995 in the run, 0.5 given); only" in changed.stderr
    assert sorted(tmp_path.rglob("*")) == before

    # Damage the last checkpoint: the one before is used. Damage all: nothing is left.
    last, first = sorted((run / "checkpoints").iterdir(), reverse=True)
    for place in (last, first):
        content = bytearray((place / "tensors.safetensors").read_bytes())
        content[-5] ^= 1
        (place / "tensors.safetensors").write_bytes(bytes(content))
        if place == last:
            copy = tmp_path / "copy"
            shutil.copytree(run, copy)
            resumed = shell("train", f"resume={copy}", "trainer.total_steps=400")
            assert resumed.returncode == 0, resumed.stderr
            assert f"checkpoint {last.name} is damaged" in resumed.stderr
            assert "resuming copy at step 200" in resumed.stderr
    damaged = shell("train", f"resume={run}", "trainer.total_steps=400")
    assert (damaged.returncode, damaged.stderr.count("\n")) == (2, 1)
    assert f"checkpoint {first.name} is damaged" in damaged.stderr

    shutil.rmtree(run / "checkpoints")
    without = shell("train", f"resume={run}", "trainer.total_steps=400")
    assert (without.returncode, without.stderr) == (2, "error: resume=run: has no checkpoint to go on from\n")


@pytest.mark.parametrize("words", [["hydra.run.dir={}"], ["resume={}"], ["-m", "hydra.sweep.dir={}", *SEARCH]])
def test_a_file_in_the_place_of_a_folder(words, shell, tmp_path):
    (tmp_path / "file").write_text("of the user")
    key = words[0] if "-m" not in words else words[1]
    for place in ("file", "file/below"):
        done = shell("train", *SHORT, *[word.format(place) for word in words])
        assert done.returncode == 2, done.stderr
        assert done.stderr.startswith(f"error: {key.format(place)}: "), done.stderr
        assert done.stderr.count("\n") == 1
    assert (tmp_path / "file").read_text() == "of the user"
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


@pytest.mark.parametrize(("sweeper", "stored"), [("optuna", []), ("optuna", STORED), ("pbt", [])])
def test_a_stack_for_which_there_is_no_memory(sweeper, stored, shell, tmp_path):
    """Of a lone run it would be a quarter, so that only the launcher can tell."""
    capacity = installed_memory() // 4 // 34  # bytes of one step in CartPole
    members = ["hydra.sweeper.trials=8", "hydra.sweeper.seeds_per_trial=1"]
    members = members if sweeper == "optuna" else ["hydra.sweeper.population=8"]
    words = ["-m", f"hydra/sweeper={sweeper}", RATES, *members, *stored, f"memory.capacity_steps={capacity}"]
    done = shell("train", *SHORT, *words)
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1].startswith(f"error: memory.capacity_steps={capacity}: needs ")
    assert "for 8 members of one population" in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.rglob("*")] == (["there.db"] if stored else [])
    if stored:
        assert optuna.get_all_study_names(f"sqlite:///{tmp_path / 'there.db'}") == []


@pytest.mark.parametrize(
    "words",
    [
        ["hydra.run.dir=mine", "logger=wandb", "logger.wandb.mode=online"],
        ["hydra.run.dir=."],
        ["-m", "seed=0,1", "hydra.sweep.dir=mine"],
        ["-m", "seed=0", "hydra.sweep.dir=sweep", "hydra.sweep.subdir=../mine"],
        ["-m", *SEARCH, "hydra.sweep.dir=mine", f"memory.capacity_steps={10**14}"],
        ["-m", *SEARCH, "hydra.sweep.dir=.", "hydra.sweeper.storage=sqlite:////nonexistent/there.db"],
        ["-m", "hydra/sweeper=pbt", RATES, "hydra.sweep.dir=mine", f"memory.capacity_steps={10**14}"],
    ],
    ids=str,
)
def test_a_folder_with_hidden_files_of_the_users_stays_as_it_was(words, shell, tmp_path):
    for folder in (tmp_path, tmp_path / "mine"):
        (folder / ".git").mkdir(parents=True)
        (folder / ".git" / "config").write_text("mine")
        (folder / ".env").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    done = shell("train", *SHORT, *words)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert sorted(tmp_path.rglob("*")) == before


def test_an_empty_folder_of_the_users_stays(shell, tmp_path):
    (tmp_path / "empty").mkdir()
    for place in ("empty", "empty/deeper"):
        assert shell("train", f"hydra.run.dir={place}", "seed=-1").returncode == 2
        assert list(tmp_path.rglob("*")) == [tmp_path / "empty"]


@pytest.mark.parametrize(
    ("script", "words", "message"),
    [
        ("evaluate", [], "say what plays: run=<folder>, or pretrained=breakout|cartpole|gridworld"),
        ("export", [], "run is missing"),
        ("evaluate", ["run=nowhere"], "run=nowhere: there is no run in this place"),
        ("evaluate", ["run=.", "episods=3"], "episods=3: no such option; did you mean episodes?"),
        ("evaluate", ["run=."], "run=.: there is no run in this place"),
        ("export", ["run=.", "formats=[tflite]"], "formats[0]=tflite"),
        ("compare", ["runs=[nothing/*]"], "runs=nothing/*"),
        ("compare", ["experiments=[cartpole,breakot]"], "experiment=breakot: no such option; did you mean breakout?"),
    ],
)
def test_mistakes_with_the_other_scripts(script, words, message, shell, tmp_path):
    done = shell(script, *words)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(f"error: {message}"), done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_loss_that_is_no_number(shell, tmp_path):
    words = ["optimizer=sgd", "optimizer.max_gradient_norm=null", "optimizer.learning_rate=1e30", "algorithm/loss=mse"]
    done = shell("train", *SHORT, *words, "memory.warmup_steps=250", "hydra.run.dir=run")
    assert done.returncode == 1
    assert "the loss stopped being a finite number between steps 200 and 300" in done.stderr
    assert "Traceback" not in done.stderr
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["status"], summary["export"]) == ("diverged", None)
    assert [place.name for place in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-000000000200"]


def test_files_that_may_not_grow(tmp_path):
    """A limit on file sizes stands in for a full disk where none can be had."""
    limit = 60_000  # bytes: enough for the config, not for a checkpoint

    def set_limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    process = start_script("train", [*SHORT, "hydra.run.dir=run"], tmp_path, preexec_fn=set_limit)
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "Traceback" not in stderr
    assert "could not write in run" in stderr.splitlines()[-1]
    assert not list((tmp_path / "run" / "checkpoints").glob("*"))


def test_a_full_disk(mounts, tmp_path, tmp_path_factory):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounts.mount("-t", "tmpfs", "-o", "size=150k", "tmpfs", str(disk))
    words = [*SHORT, f"hydra.run.dir={disk}/run"]
    done = Script("train", words, tmp_path, tmp_path_factory.mktemp("printed"), mounts=mounts).done()
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "the disk is full" in done.stderr.splitlines()[-1]
    assert (mounts.seen(disk) / "run" / "config.yaml").is_file()
    for place in (mounts.seen(disk) / "run" / "checkpoints").glob("*"):
        assert not place.name.startswith(".")
