"""What `hydra/launcher=population` leaves of a sweep: each run as if it had been alone."""

from __future__ import annotations

import json
import shutil
import signal
import threading

import pytest
import torch
from filelock import FileLock
from group_work import wait_until
from launched import JudgeOf, Launch, config, contents, manifest, metrics, summary, train_alone, weights

from dqn import run
from dqn.errors import UserError
from dqn.sweep import launch as launcher

RATES = ["optimizer.learning_rate=0.001", "optimizer.learning_rate=0.0003"]


BATCHES = [["trainer.batch_size=8", "seed=0"], ["trainer.batch_size=8", "seed=1"], ["trainer.batch_size=6", "seed=0"],
           ["trainer.batch_size=6", "seed=1"], ["trainer.batch_size=4", "seed=0"]]  # fmt: skip
FOLDERS = ["0-seed0", "1-seed1", "2-seed0", "3-seed1", "4-seed0"]


def stops(job, at_step, how):
    """A judge that prunes nothing and calls `how` at an evaluation of the job."""

    def judge(step, scores):
        if job in scores and step == at_step:
            how()
        return {}

    return judge


def ctrl_c():
    signal.raise_signal(signal.SIGINT)


def killed():
    raise SystemExit


@pytest.fixture(scope="module")
def launch(config_loader) -> Launch:
    return Launch(config_loader)


@pytest.fixture(scope="module")
def whole(launch, tmp_path_factory):
    """The folder of a sweep of `BATCHES` that nothing has stopped."""
    folder = tmp_path_factory.mktemp("sweeps") / "whole"
    launch(folder, BATCHES)
    return folder


def assert_same_run(one, other):
    """Episodes and evaluations to the digit, means over updates and weights up to rounding."""
    left, right = metrics(one), metrics(other)
    assert [record["kind"] for record in left] == [record["kind"] for record in right]
    for a, b in zip(left, right, strict=True):
        if a["kind"] == "learning" and a["loss"] is not None:
            a, b = ({key: value for key, value in record.items() if isinstance(value, float)} for record in (a, b))
            assert a == pytest.approx(b, rel=1e-4, abs=1e-6)
        else:
            assert a == b
    assert_same_weights(one, other)


def assert_same_weights(one, other):
    torch.testing.assert_close(weights(one), weights(other), rtol=0, atol=1e-5)


def test_each_job_leaves_the_run_that_it_would_have_been_alone(launch, tmp_path):
    jobs = [["seed=0", RATES[0]], ["seed=0", RATES[1]], ["seed=1", RATES[0]]]
    returned = launch(tmp_path / "sweep", jobs)
    folders = [tmp_path / "sweep" / name for name in ("0-seed0", "1-seed0", "2-seed1")]
    assert sorted(path.name for path in (tmp_path / "sweep").iterdir()) == [*(f.name for f in folders), "sweep.json"]
    for job, folder, answer in zip(jobs, folders, returned, strict=True):
        alone = train_alone(tmp_path / "alone" / folder.name, *job)
        assert sorted(contents(folder)) == sorted(contents(alone))
        assert {"config.yaml", "metrics.jsonl", "summary.json", "export/policy.safetensors"} <= contents(folder).keys()
        assert config(folder) == config(alone)
        assert summary(folder) == summary(alone)
        assert_same_run(folder, alone)
        assert answer.return_value == summary(alone)["final_evaluation"]["mean_return"]
    assert len({metrics(folder)[0]["episode_return"] for folder in folders}) > 1


def test_jobs_that_differ_in_more_than_traits_train_in_groups(launch, tmp_path, capsys):
    jobs = [*BATCHES[:2], ["trainer.batch_size=8", "seed=2"], *BATCHES[2:4]]
    returned = launch(tmp_path, jobs, "hydra.launcher.max_members=2", "trainer.total_steps=100")
    lines = capsys.readouterr().err.splitlines()
    titles = [line.split(":")[0] for line in lines if "/100" in line]
    assert titles == ["cartpole, 2 jobs from 0", "cartpole, job 2", "cartpole, 2 jobs from 3"]
    assert [line.partition(", 0:")[0] for line in lines if line.startswith("sweep:")] == [
        "sweep: 2 of 5 jobs over, 2 completed, 3 running or to come",
        "sweep: 3 of 5 jobs over, 3 completed, 2 running or to come",
        "sweep: 5 of 5 jobs over, 5 completed",
    ]
    folders = [tmp_path / name for name in ("0-seed0", "1-seed1", "2-seed2", "3-seed0", "4-seed1")]
    assert [config(folder)["trainer"]["batch_size"] for folder in folders] == [8, 8, 8, 6, 6]
    assert [answer.return_value for answer in returned] == [
        summary(folder)["final_evaluation"]["mean_return"] for folder in folders
    ]


def test_processes_share_a_group_and_change_nothing(launch, tmp_path, capfd):
    jobs, words = [[f"seed={seed}"] for seed in range(9)], ["trainer.total_steps=100"]
    launch(tmp_path / "shared", jobs, *words, "hydra.launcher.executor.num_workers=2")
    titles = {line.split(":")[0] for line in capfd.readouterr().err.splitlines() if "/100" in line}
    assert titles == {"cartpole, 4 jobs from 0", "cartpole, 5 jobs from 4"}
    launch(tmp_path / "alone", jobs, *words, "hydra.launcher.executor.num_workers=1")
    assert "cartpole, 9 jobs from 0" in capfd.readouterr().err
    for seed in range(9):
        assert_same_run(tmp_path / "shared" / f"{seed}-seed{seed}", tmp_path / "alone" / f"{seed}-seed{seed}")


@pytest.mark.parametrize(
    ("jobs", "words", "share"),
    [
        (20, [], 10),
        (7, [], 7),  # less than four each
        (20, ["trainer.threads=2"], 20),  # which are all the cores
        (20, ["trainer.threads=null"], 10),
        (9, ["hydra.launcher.executor.num_workers=8"], 5),
        (20, ["hydra.launcher.executor.num_workers=1"], 20),
    ],
)
def test_a_group_is_shared_by_as_many_processes_as_there_are_cores(jobs, words, share, make_config, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    first = make_config("experiment=cartpole", *(word for word in words if not word.startswith("hydra")))
    num_workers = next((int(word.split("=")[1]) for word in words if word.startswith("hydra")), None)
    group = launcher.Group(first, tuple(range(jobs)), None, None)
    assert launcher._share(group, num_workers) == share
    judged = launcher.Group(first, tuple(range(jobs)), JudgeOf(lambda step, scores: {}), None)
    assert launcher._share(judged, num_workers) == jobs


def test_a_member_that_diverges_touches_no_other(launch, tmp_path):
    calm = [["seed=0", RATES[0]], ["seed=1", RATES[0]], ["seed=2", RATES[1]]]
    wild = ["seed=3", "optimizer.learning_rate=1e30", "optimizer.max_gradient_norm=null"]
    answers = launch(tmp_path / "with", [calm[0], wild, *calm[1:]], "algorithm/loss=mse")
    launch(tmp_path / "without", calm, "algorithm/loss=mse")
    diverged = tmp_path / "with" / "1-seed3"
    assert summary(diverged)["status"] == "diverged"
    assert "the loss stopped being a finite number between steps" in summary(diverged)["reason"]
    assert metrics(diverged)[-1]["kind"] == "end"
    assert not (diverged / "export").exists()
    assert answers[1].return_value is None
    for one, other in (("0-seed0", "0-seed0"), ("2-seed1", "1-seed1"), ("3-seed2", "2-seed2")):
        left, right = tmp_path / "with" / one, tmp_path / "without" / other
        assert metrics(left) == metrics(right)
        assert (left / "export/policy.safetensors").read_bytes() == (right / "export/policy.safetensors").read_bytes()


def test_a_group_that_fails_keeps_no_other_from_training(launch, tmp_path, capsys, monkeypatch):
    build = run.build_trainer

    def sometimes(configs, *rest):
        if configs[0].trainer.batch_size == 6:
            raise ArithmeticError("no room for\nsuch a stack")
        return build(configs, *rest)

    monkeypatch.setattr(run, "build_trainer", sometimes)
    answers = launch(tmp_path, BATCHES, "trainer.total_steps=100")
    assert [answer.return_value is None for answer in answers] == [False, False, True, True, False]
    failures = {number: job["error"] for number, job in manifest(tmp_path).items() if job["error"]}
    assert failures.keys() == {2, 3}
    assert all(reason.startswith("ArithmeticError: no room for such a stack (") for reason in failures.values())
    assert "cartpole, 2 jobs from 2 failed: ArithmeticError: no room for such a stack" in capsys.readouterr().err
    assert [(tmp_path / name / "summary.json").exists() for name in FOLDERS] == [True, True, False, False, True]

    before = {name: contents(tmp_path / name) for name in ("0-seed0", "1-seed1", "4-seed0")}
    monkeypatch.setattr(run, "build_trainer", build)
    again = launch(tmp_path, BATCHES, "trainer.total_steps=100", resume=True)
    assert [answer.return_value for answer in again[:2]] == [answer.return_value for answer in answers[:2]]
    assert all(answer.return_value is not None for answer in again)
    assert {name: contents(tmp_path / name) for name in before} == before
    assert [job["error"] for job in manifest(tmp_path).values()] == [None] * 5


@pytest.mark.parametrize(("how", "error", "gets_to"), [(ctrl_c, KeyboardInterrupt, 200), (killed, SystemExit, 100)])
def test_a_sweep_that_was_stopped_goes_on_with_what_is_unfinished(how, error, gets_to, launch, whole, tmp_path, capsys):
    sweep = tmp_path / "sweep"
    with pytest.raises(error):
        launch(sweep, BATCHES, judge=stops(3, 200, how))
    finished = {name: contents(sweep / name) for name in FOLDERS[:2]}
    assert all("summary.json" in files for files in finished.values())
    assert not (sweep / "4-seed0").exists()
    assert {place.name for place in (sweep / "2-seed0" / "checkpoints").iterdir()} == {
        f"step-{step:012}" for step in range(100, gets_to + 1, 100)
    }
    capsys.readouterr()

    def watch(step, scores):
        assert not any((sweep / FOLDERS[job] / "summary.json").exists() for job in scores)
        return {}

    judge = JudgeOf(watch)
    answers = launch(sweep, BATCHES, resume=True, judge=judge)
    assert {job: list(steps) for job, steps in judge.recalled.items()} == {
        **{job: [100, 200, 300, 400] for job in (0, 1)},
        **{job: list(range(100, gets_to + 1, 100)) for job in (2, 3)},
        4: [],
    }
    told = capsys.readouterr().err
    assert "2 of 5 jobs are over already" in told
    assert "2 jobs from 0" not in told
    assert sorted(path.name for path in sweep.iterdir()) == [*FOLDERS, "sweep.json"]
    assert {name: contents(sweep / name) for name in finished} == finished
    assert [job["folder"] for job in manifest(sweep).values()] == FOLDERS

    for name, answer in zip(FOLDERS, answers, strict=True):
        assert answer.return_value == summary(sweep / name)["final_evaluation"]["mean_return"]
        assert summary(sweep / name)["status"] == "completed"
        assert [record["step"] for record in metrics(sweep / name)] == sorted(r["step"] for r in metrics(sweep / name))
        assert before_step(metrics(sweep / name), gets_to) == before_step(metrics(whole / name), gets_to)
    assert_same_run(sweep / "4-seed0", whole / "4-seed0")
    assert sum(record["kind"] == "evaluation" for record in metrics(sweep / "2-seed0")) == 4


def test_a_group_whose_process_has_died_goes_on_with_what_is_unfinished(launch, tmp_path, monkeypatch):
    """Job 0 has diverged, job 2 has been pruned when the process dies at step 300 of 400."""
    left = {}

    class TriesTwice:
        def run(self, work, groups):
            for index, group in enumerate(groups):
                try:
                    result = work(group)
                except SystemExit:
                    left.update({path.name: contents(path) for path in tmp_path.iterdir() if path.is_dir()})
                    result = work(group)
                yield index, result

    def judge(step, scores):
        if step == 300 and not left:
            raise SystemExit
        return {2: "no hope"} if step == 100 and 2 in scores else {}

    judge = JudgeOf(judge)
    monkeypatch.setattr(launcher, "make_executor", lambda config: TriesTwice())
    wild = ["seed=0", "optimizer.learning_rate=1e30", "optimizer.max_gradient_norm=null"]
    jobs = [wild, ["seed=1", RATES[0]], ["seed=2", RATES[0]], ["seed=3", RATES[0]]]
    launch(tmp_path, jobs, "algorithm/loss=mse", judge=judge)
    folders = [tmp_path / f"{seed}-seed{seed}" for seed in range(4)]
    assert [summary(folder)["status"] for folder in folders] == ["diverged", "completed", "pruned", "completed"]
    for folder in (folders[0], folders[2]):
        assert contents(folder) == left[folder.name]
    for folder in (folders[1], folders[3]):
        whole = [record for record in metrics(folder) if record["kind"] == "evaluation"]
        assert [record["step"] for record in whole] == [100, 200, 300, 400]
    for job, folder in enumerate(folders):  # step 300 was evaluated, but not saved
        scores = {r["step"]: r["mean_return"] for r in metrics(folder) if r["kind"] == "evaluation"}
        assert judge.recalled[job] == {step: score for step, score in scores.items() if step <= 200}


@pytest.mark.ray
def test_a_sweep_survives_the_loss_of_a_node_of_its_ray_cluster(launch, two_nodes, tmp_path):
    cluster, doomed = two_nodes

    def kill_a_node_when_both_are_at_work():
        wait_until(lambda: len(list(tmp_path.glob("*/checkpoints/*"))) > 0 and at_work(tmp_path) == 2)
        cluster.remove_node(doomed, allow_graceful=False)

    killer = threading.Thread(target=kill_a_node_when_both_are_at_work)
    killer.start()
    on_ray = "hydra/launcher/executor=ray", f"hydra.launcher.executor.address={cluster.address}"
    launch(tmp_path, BATCHES, *on_ray, "trainer.total_steps=6000")
    killer.join()
    for name in FOLDERS:
        assert summary(tmp_path / name)["status"] == "completed"
        steps = [record["step"] for record in metrics(tmp_path / name) if record["kind"] == "evaluation"]
        assert steps == list(range(100, 6001, 100))


def at_work(sweep):
    """How many groups of `BATCHES` have begun but not ended."""
    begun = [(sweep / name / "metrics.jsonl").exists() for name in FOLDERS]
    ended = [(sweep / name / "summary.json").exists() for name in FOLDERS]
    return sum(begun[first] and not ended[first] for first in (0, 2, 4))


def before_step(records, step):
    return [record for record in records if record["step"] <= step]


def test_a_sweep_is_extended_without_touching_what_it_has(launch, tmp_path):
    short = "trainer.total_steps=100"
    launch(tmp_path, [["seed=0", RATES[0]], ["seed=1", RATES[0]]], short)
    before = {name: contents(tmp_path / name) for name in ("0-seed0", "1-seed1")}
    jobs = [[rate, f"seed={seed}"] for seed in (0, 1, 2) for rate in RATES]  # the words in another order, too
    answers = launch(tmp_path, jobs, short, resume=True)
    folders = [answer.working_dir.rpartition("/")[2] for answer in answers]
    assert folders == ["0-seed0", "2-seed0", "1-seed1", "3-seed1", "4-seed2", "5-seed2"]
    assert {name: contents(tmp_path / name) for name in before} == before
    for folder, (rate, seed) in zip(folders, jobs, strict=True):
        values = config(tmp_path / folder)
        assert f"optimizer.learning_rate={values['optimizer']['learning_rate']}" == rate
        assert f"seed={values['seed']}" == seed
    assert all(answer.return_value is not None for answer in answers)


def test_a_group_that_is_stopped_in_its_own_process_stops_no_other(launch, tmp_path, monkeypatch, capsys):
    class StopsTheFirst:
        def run(self, work, groups):
            yield 0, {job.number: {"status": "interrupted"} for job in groups[0].jobs}
            for index, group in list(enumerate(groups))[1:]:
                yield index, work(group)

    monkeypatch.setattr(launcher, "make_executor", lambda config: StopsTheFirst())
    with pytest.raises(KeyboardInterrupt):
        launch(tmp_path, BATCHES, "trainer.total_steps=100", "hydra/launcher/executor=processes")
    assert "cartpole, 2 jobs from 0: stopped by a signal of its own; the others go on" in capsys.readouterr().err
    assert [(tmp_path / name / "summary.json").exists() for name in FOLDERS] == [False, False, True, True, True]


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["memory.replacement=false memory.warmup_steps=100", "memory.warmup_steps=10"], "memory.warmup_steps=10: lea"),
        (["memory.warmup_steps=100", "memory.warmup_steps=2000"], "memory.warmup_steps=2000: the run ends at 1000 st"),
        (["exploration.schedule.start=1", "exploration.schedule.start=5"], "exploration.schedule.start=5.0: is an eps"),
    ],
)
def test_every_job_of_a_stack_is_checked(launch, tmp_path, words, problem):
    first, second = (word.split() for word in words)
    shared = [word for word in first if word.startswith("memory.replacement")]
    for jobs in ([first, [*shared, *second]], [[*shared, *second], first]):
        with pytest.raises(UserError, match=f"^{problem}"):
            launch(tmp_path / "sweep", jobs, "trainer.total_steps=1000", "trainer.batch_size=8")
    assert not (tmp_path / "sweep").exists()


def test_a_stack_whose_memories_do_not_fit_together_is_refused(launch, tmp_path, monkeypatch):
    monkeypatch.setattr("dqn.checks.installed_memory", lambda: 2_000_000_000)
    problem = r"=20000000: needs 3\.4 GB for 5 members of one population \(.*\), but .*; at most 11,000,000 would fit"
    with pytest.raises(UserError, match=problem):
        launch(tmp_path / "sweep", [[f"seed={seed}"] for seed in range(5)], "memory.capacity_steps=2e7")


def test_jobs_that_were_put_together_stay_together(launch, tmp_path, monkeypatch):
    """As planned, not as far as they have come: of two processes one may be killed before its first checkpoint."""
    jobs, words = [[f"seed={seed}"] for seed in range(10)], ["trainer.total_steps=100"]
    words.append("hydra.launcher.executor.num_workers=2")
    launch(tmp_path, jobs, *words)
    planned = [[list(range(5)), list(range(5, 10))]]
    assert json.loads((tmp_path / "sweep.json").read_text())["rounds"] == planned
    for seed in (3, 4):
        (tmp_path / f"{seed}-seed{seed}" / "summary.json").unlink()
    for seed in range(5, 10):  # as if never saved
        shutil.rmtree(tmp_path / f"{seed}-seed{seed}")
    begun = []

    def executions(rounds, config):
        begun.extend([[job.number for job in group.jobs] for group in groups] for groups in rounds)
        raise KeyboardInterrupt

    monkeypatch.setattr(launcher, "_executions", executions)
    with pytest.raises(KeyboardInterrupt):
        launch(tmp_path, [*reversed(jobs), ["seed=10"]], *words, resume=True)
    assert begun == [[[3, 4], [5, 6, 7, 8, 9]], [[10]]]
    assert json.loads((tmp_path / "sweep.json").read_text())["rounds"] == [*planned, [[10]]]


def test_a_stack_that_is_found_to_be_too_large_is_divided_before_its_first_checkpoint(launch, tmp_path, capsys):
    with pytest.raises(KeyboardInterrupt):
        launch(tmp_path, BATCHES, judge=stops(0, 200, ctrl_c))
    capsys.readouterr()
    launch(tmp_path, BATCHES, "hydra.launcher.max_members=1", resume=True)
    lines = capsys.readouterr().err.splitlines()
    titles = [line.split(":")[0] for line in lines if "/400" in line]
    assert list(dict.fromkeys(titles)) == ["cartpole, 2 jobs from 0", *(f"cartpole, job {job}" for job in (4, 2, 3))]
    rounds = [[[0, 1]], [[4]], [[2]], [[3]]]
    assert json.loads((tmp_path / "sweep.json").read_text())["rounds"] == rounds


def test_no_run_gets_a_folder_that_is_not_its_own(launch, tmp_path):
    def refused(sweep, job, subdir, problem, resume=False):
        before = contents(tmp_path)
        with pytest.raises(UserError, match=rf"^hydra.sweep.subdir={subdir}: {problem}"):
            launch(sweep, [job], f"hydra.sweep.subdir={subdir}", "trainer.total_steps=100", resume=resume)
        assert contents(tmp_path) == before

    sweep, mine = tmp_path / "sweep", tmp_path / "mine"
    launch(sweep, [["seed=0"]], "hydra.sweep.subdir=only", "trainer.total_steps=100")
    refused(sweep, ["seed=1"], "only", "is the folder of jobs 0 and 1", resume=True)
    (sweep / "notes").mkdir()
    (sweep / "notes" / "mine.txt").touch()
    refused(sweep, ["seed=1"], "notes", "exists and is not empty", resume=True)
    mine.mkdir()
    (mine / "thesis.txt").touch()
    refused(tmp_path / "other", ["seed=0"], "../mine", "a run's folder must be inside the sweep's")
    refused(tmp_path / "other", ["seed=0"], ".", "a run's folder must be inside the sweep's")


def test_a_run_in_which_another_process_trains_is_left_alone(launch, tmp_path, capfd):
    launch(tmp_path, [["seed=0"]], "trainer.total_steps=100")
    begun = tmp_path / "1-seed1"
    begun.mkdir()
    (begun / "metrics.jsonl").write_text("of the other process")
    record = json.loads((tmp_path / "sweep.json").read_text())
    overrides = [word.replace("seed=0", "seed=1") for word in record["jobs"][0]["overrides"]]
    record["jobs"].append({"number": 1, "overrides": overrides, "folder": "1-seed1", "error": None})
    (tmp_path / "sweep.json").write_text(json.dumps(record))
    with FileLock(begun / ".lock"):
        launch(tmp_path, [["seed=0"], ["seed=1"]], "trainer.total_steps=100", resume=True)
        assert "1-seed1: another process is training in this folder; only one can" in capfd.readouterr().err
        assert (begun / "metrics.jsonl").read_text() == "of the other process"
    launch(tmp_path, [["seed=0"], ["seed=1"]], "trainer.total_steps=100", resume=True)
    assert summary(begun)["status"] == "completed"
    assert not (begun / ".lock").exists()


@pytest.mark.parametrize("rounds", [5, None, [5], [[5]], [[["x"]]], [[[0], [0]]]])
def test_a_record_that_is_no_plan_is_called_damaged(rounds, launch, tmp_path):
    launch(tmp_path, [["seed=0"]], "trainer.total_steps=100")
    record = json.loads((tmp_path / "sweep.json").read_text())
    (tmp_path / "sweep.json").write_text(json.dumps({**record, "rounds": rounds}))
    with pytest.raises(UserError, match=r"sweep.json is damaged"):
        launch(tmp_path, [["seed=0"]], "trainer.total_steps=100", resume=True)


def test_a_stack_goes_on_from_the_last_step_that_is_whole_in_all(launch, tmp_path, capfd):
    with pytest.raises(KeyboardInterrupt):
        launch(tmp_path, [["seed=0"], ["seed=1"]], judge=stops(0, 200, ctrl_c))
    (tmp_path / "1-seed1" / "checkpoints" / "step-000000000200" / "tensors.safetensors").write_bytes(b"")
    capfd.readouterr()
    launch(tmp_path, [["seed=0"], ["seed=1"]], resume=True)
    assert "checkpoint step-000000000200 is damaged" in capfd.readouterr().err
    assert [summary(tmp_path / f"{seed}-seed{seed}")["status"] for seed in (0, 1)] == ["completed"] * 2
    resumed = [json.loads((tmp_path / f"{n}-seed{n}" / "provenance.json").read_text())["resumed"] for n in (0, 1)]
    assert [[one["step"] for one in of_member] for of_member in resumed] == [[100], [100]]


def test_seeds_that_are_judged_together_are_not_trained_apart(launch, tmp_path):
    jobs = [["seed=0", "trainer.batch_size=8"], ["seed=1", "trainer.batch_size=6"]]  # of one trial
    words = "hydra/launcher/executor=processes", "trainer.total_steps=100"
    with pytest.raises(
        UserError, match=r"^hydra.launcher.executor=processes: the seeds of a trial do not fit into one"
    ):
        launch(tmp_path / "sweep", jobs, *words, judge=lambda step, scores: {})
    assert not (tmp_path / "sweep").exists()


@pytest.mark.parametrize("keeps_numbers", [True, False])
def test_equal_jobs_are_two_where_numbers_say_so(keeps_numbers, launch, tmp_path):
    """A search may propose the same setting twice; with numbers that follow from overrides it is the job of before."""
    job = ["seed=0", "trainer.total_steps=100"]
    launch(tmp_path, [job], first=0, keeps_numbers=keeps_numbers)
    (again,) = launch(tmp_path, [job], resume=True, first=1, keeps_numbers=keeps_numbers)
    assert again.working_dir.endswith("1-seed0" if keeps_numbers else "0-seed0")
    assert sorted(manifest(tmp_path)) == ([0, 1] if keeps_numbers else [0])


def test_members_that_leave_the_stack_change_nothing_for_the_others(launch, tmp_path):
    """Of seven, job 0 diverges and four are pruned, one after the other, so that the stack shrinks in mid-run."""
    jobs = [["seed=0", "optimizer.learning_rate=1e30", "optimizer.max_gradient_norm=null"]]
    jobs += [[f"seed={seed}", RATES[seed % 2]] for seed in range(1, 7)]
    ends = {2: 100, 4: 200, 5: 200, 6: 300}

    def judge(step, scores):
        assert all(ends.get(job, 401) >= step for job in scores)
        return {job: f"pruned at {step}" for job in scores if ends.get(job) == step}

    answers = launch(tmp_path / "sweep", jobs, "algorithm/loss=mse", judge=judge)
    assert [answer.return_value is None for answer in answers] == [True, False, True, False, True, True, True]
    for job, step in ends.items():
        folder = tmp_path / "sweep" / f"{job}-seed{job}"
        assert [summary(folder)[key] for key in ("status", "reason", "steps")] == ["pruned", f"pruned at {step}", step]
    for job in (1, 3):
        alone = train_alone(tmp_path / f"{job}", *jobs[job], "algorithm/loss=mse")
        assert_same_run(tmp_path / "sweep" / f"{job}-seed{job}", alone)


def test_members_converge_each_at_its_own_time(launch, tmp_path):
    words = "evaluation.stop.mean_return=10", "evaluation.stop.evaluations=1"
    seeds = [5, 3, 4, 0, 1]
    launch(tmp_path / "sweep", [[f"seed={seed}"] for seed in seeds], *words)
    folders = [tmp_path / "sweep" / f"{number}-seed{seed}" for number, seed in enumerate(seeds)]
    ends = [(summary(folder)["status"], summary(folder)["steps"]) for folder in folders]
    assert ends == [*(("converged", steps) for steps in (100, 100, 200, 300)), ("completed", 400)]
    for seed, folder in zip(seeds, folders, strict=True):
        alone = train_alone(tmp_path / f"{seed}", f"seed={seed}", *words)
        assert summary(folder) == summary(alone)
        assert_same_run(folder, alone)


def test_environments_of_tensors_give_the_run_of_gymnasiums(launch, tmp_path):
    backends = ["gymnasium", "torch"]
    launch(tmp_path, [[f"seed={seed}", f"env.backend={backend}"] for backend in backends for seed in (0, 1)])
    for seed in (0, 1):
        assert_same_run(tmp_path / f"{2 + seed}-seed{seed}", tmp_path / f"{seed}-seed{seed}")
