"""Whole sweeps of population-based training, on a world of one step: its episodes end before every checkpoint."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
from hydra._internal.callbacks import Callbacks
from hydra.core.plugins import Plugins
from hydra.types import HydraContext, RunMode

from dqn.checkpoint import Checkpoints
from dqn.errors import UserError
from dqn.report.sweep import report_sweep
from dqn.report.sweep_runs import read_jobs
from dqn.run_folder import RunFolder
from dqn.sweep.breeder import TruncationBreeder
from dqn.sweep.lineage import LINEAGE, read_lineage
from dqn.sweep.pbt_sweeper import PopulationTraining
from dqn.verification import VerifyOptions, verify_run

pytestmark = pytest.mark.search

RATE, TARGET = "optimizer.learning_rate", "target.rate"
SPACE = [f"{RATE}=tag(log,interval(1e-4,1e-2))", f"{TARGET}=interval(0.01,0.5)"]
WORLD = [
    "experiment=gridworld_q_table", "env.map='HSG'", "env.max_steps=1", "env.start=fixed", "evaluation.env={}",
    "optimizer=adam", "target=polyak", "memory.capacity_steps=1000", "trainer.batch_size=4",
    "trainer.total_steps=240", "trainer.log_every_steps=40", "trainer.learn_every_steps=4", "trainer.compile=never",
    "exploration.schedule.value=1", "evaluation.every_steps=40", "evaluation.episodes=1", "evaluation.num_envs=1",
    "evaluation.final_episodes=1", "evaluation.video=false", "evaluation.stop.optimal=false",
    "evaluation.stop.max_value_change=null", "checkpoint.every_steps=40", "export.formats=[]", "logger=none",
    "hydra.sweeper.population=8",
]  # fmt: skip


def population_training(config_loader, *words):
    words = ["hydra/sweeper=pbt", *WORLD, *words]
    config = config_loader.load_configuration("config", words, run_mode=RunMode.MULTIRUN)
    context = HydraContext(config_loader=config_loader, callbacks=Callbacks())
    launcher = Plugins.instance().instantiate_launcher(context, lambda _: None, config)
    return PopulationTraining(config, launcher, config_loader, list(config.hydra.overrides.task))


@pytest.fixture
def make_training(config_loader, tmp_path, monkeypatch):
    """make_training("optimizer.learning_rate=interval(1e-4,1e-2)"): a training in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return partial(population_training, config_loader)


@pytest.fixture(scope="module")
def trained(config_loader, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "whole"
    population_training(config_loader, *SPACE, f"hydra.sweep.dir={folder}").run()
    return folder


@pytest.fixture
def whole(trained, tmp_path):
    """The folder of a sweep that is over."""
    return shutil.copytree(trained, tmp_path / "whole")


def last_state(folder: Path, member: int):
    return Checkpoints(RunFolder(folder / f"{member}-seed{member}").checkpoints).load_last("")[0]


def evaluations(folder: Path, member: int):
    lines = (folder / f"{member}-seed{member}" / "metrics.jsonl").read_text().splitlines()
    records = [record for record in map(json.loads, lines) if record["kind"] == "evaluation"]
    return [{key: value for key, value in record.items() if key != "seconds"} for record in records]


def learned(folder: Path, member: int):
    return last_state(folder, member)["trainer"]["learner"]


def test_members_begin_in_the_space_and_end_with_what_the_lineage_says(whole):
    births = read_lineage(whole)
    assert [(birth.step, birth.member, birth.parent) for birth in births[:8]] == [(0, m, None) for m in range(8)]
    copies = births[8:]
    assert len({birth.step for birth in copies}) >= 2
    assert {birth.step for birth in copies} <= set(range(40, 240, 40))  # after the last there is nothing to learn
    now = {birth.member: birth.values for birth in births[:8]}
    scores = {m: {record["step"]: record["mean_return"] for record in evaluations(whole, m)} for m in range(8)}
    for birth in copies:
        assert birth.before == now[birth.member]
        for key, value in birth.values.items():
            low, high = {RATE: (1e-4, 1e-2), TARGET: (0.01, 0.5)}[key]
            assert low <= value <= high
            factors = [value / now[birth.parent][key]]
            assert value in (low, high) or factors[0] in (pytest.approx(0.8), pytest.approx(1.2))
        assert (birth.score, birth.parent_score) == (scores[birth.member][birth.step], scores[birth.parent][birth.step])
        now[birth.member] = birth.values
    for member in range(8):
        config = RunFolder(whole / f"{member}-seed{member}").load_config()
        assert {RATE: config.optimizer.learning_rate, TARGET: config.target.rate} == births[member].values
        changed = dict(now[member]) if now[member] != births[member].values else {}
        assert last_state(whole, member)["traits"] == changed
        summary = json.loads((whole / f"{member}-seed{member}" / "summary.json").read_text())
        assert summary.get("traits", {}) == changed


def test_the_same_seed_gives_the_same_lineage(whole, make_training):
    make_training(*SPACE, "hydra.sweep.dir=again").run()
    assert Path("again", LINEAGE).read_bytes() == (whole / LINEAGE).read_bytes()
    make_training(*SPACE, "hydra.sweep.dir=other", "hydra.sweeper.seed=1").run()
    assert Path("other", LINEAGE).read_bytes() != (whole / LINEAGE).read_bytes()


@pytest.mark.parametrize("lost", [[], [3]], ids=["after the lineage was written", "between checkpoints"])
def test_killed_and_resumed_is_as_never_killed(lost, whole, make_training, monkeypatch):
    decide = TruncationBreeder.__call__

    def killed_at_160(self, since, step, scores, configs):
        children = decide(self, since, step, scores, configs)
        if step == 160:
            raise KeyboardInterrupt
        return children

    with monkeypatch.context() as patch:
        patch.setattr(TruncationBreeder, "__call__", killed_at_160)
        with pytest.raises(KeyboardInterrupt):
            make_training(*SPACE, "hydra.sweep.dir=killed").run()
    folder = Path("killed")
    for member in lost:
        shutil.rmtree(folder / f"{member}-seed{member}" / "checkpoints" / f"step-{120:012d}")
    make_training(*SPACE, f"sweep.resume={folder}").run()
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == [f"{m}-seed{m}" for m in range(8)]
    assert (folder / LINEAGE).read_bytes() == (whole / LINEAGE).read_bytes()
    assert [birth for birth in read_lineage(folder) if birth.step >= 160]
    for member in range(8):
        assert evaluations(folder, member) == evaluations(whole, member)
        assert last_state(folder, member)["traits"] == last_state(whole, member)["traits"]
        for name, tensor in learned(whole, member).items():
            assert torch.equal(learned(folder, member)[name], tensor), (member, name)


def test_killed_before_the_first_checkpoint_it_begins_anew(whole, make_training, monkeypatch):
    def killed(self, since, step, scores, configs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(TruncationBreeder, "__call__", killed)
        with pytest.raises(KeyboardInterrupt):
            make_training(*SPACE, "hydra.sweep.dir=killed").run()
    make_training(*SPACE, "sweep.resume=killed").run()
    assert Path("killed", LINEAGE).read_bytes() == (whole / LINEAGE).read_bytes()


def test_a_member_is_verified_up_to_the_first_replacement(whole, capsys):
    first = min(birth.step for birth in read_lineage(whole) if birth.parent is not None)
    assert verify_run(VerifyOptions(str(whole / "2-seed2"))) == 0
    out, err = capsys.readouterr()
    assert f"members were replaced from step {first:,} on, which is not made again" in err
    assert f"up to step {first - 1:,} are the same" in out


def test_a_complete_sweep_has_nothing_left_to_do(whole, make_training):
    before = {path: path.stat().st_mtime_ns for path in whole.glob("*/*")}
    births = read_lineage(whole)
    make_training(*SPACE, f"sweep.resume={whole}").run()
    assert {path: path.stat().st_mtime_ns for path in whole.glob("*/*")} == before
    assert read_lineage(whole) == births


def test_what_the_report_makes_of_it(whole, capsys):
    report_sweep(whole)
    assert (whole / "lineage.png").stat().st_size > 20_000
    births = read_lineage(whole)
    ends = {birth.member: birth.values for birth in births}
    for job in read_jobs(whole):
        assert float(job.overrides[RATE]) == ends[job.number][RATE]
        assert job.run.config["optimizer"]["learning_rate"] == ends[job.number][RATE]
    assert "Values are those at the end." in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["algorithm.discount=0.9,0.99"], "sweep.space.algorithm.discount.type=categorical: choices cannot be"),
        (["trainer.updates_per_learn=interval(1,3)"], "sweep.space=trainer.updates_per_learn: cannot change while"),
        (["memory.warmup_steps=interval(20,80)"], "sweep.space=memory.warmup_steps: cannot change while"),
        ([*SPACE, "evaluation.every_steps=null"], "evaluation.every_steps=null: population-based training compares"),
        ([*SPACE, "hydra.sweeper.population=1"], "hydra.sweeper.population=1: must be greater than or equal to 2"),
        ([*SPACE, "hydra/launcher=basic"], "hydra/sweeper=pbt: needs a launcher that trains all members as one"),
        ([*SPACE, "hydra.sweeper.population=65"], "hydra.sweeper.population=65: trains as one stack"),
        ([*SPACE, "hydra.sweeper.replaced_share=0.6"], "hydra.sweeper.replaced_share=0.6: must be less than or"),
        ([f"{TARGET}=interval(0.5,1.5)"], "target.rate=1.5: must be less than or equal to 1"),
        ([], "sweep.space={}: nothing to search"),
    ],
)
def test_a_mistake_is_refused_before_anything_is_written(words, message, make_training, tmp_path):
    with pytest.raises(UserError) as error:
        make_training(*words)
    assert str(error.value).startswith(message)
    assert list(tmp_path.iterdir()) == []


def test_only_the_sweep_that_began_can_be_resumed(whole, make_training):
    with pytest.raises(UserError, match=r"sweep.resume=runs/none: there is no sweep in this place"):
        make_training(*SPACE, "sweep.resume=runs/none").run()
    with pytest.raises(UserError, match=r"sweep.resume=.*whole: this sweep began with another space, seed or config"):
        make_training(*SPACE, f"sweep.resume={whole}", "hydra.sweeper.seed=1").run()
    with pytest.raises(UserError, match=r"hydra.sweep.dir=whole: exists and is not empty"):
        make_training(*SPACE, "hydra.sweep.dir=whole").run()
