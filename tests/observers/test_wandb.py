from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import wandb
from wandb_file import offline_folders, read_offline_run
from wandb_process import wandb_process
from wandb_server import Server, unreachable

import dqn.observers.wandb
from dqn import run
from dqn.compose import compose_config
from dqn.config import WandbConfig
from dqn.errors import UserError
from dqn.events import End
from dqn.observers.wandb import WandbObserver
from dqn.observers.wandb_service import WandbService

CONFIG = WandbConfig(project="dqn-tests", entity=None, group="cartpole", tags=["a", "b"], mode="auto")
RUN_CONFIG = {"seed": 3, "env": {"id": "CartPole-v1"}, "network": {"hidden_sizes": [64, 64]}}
SUMMARY = {
    "status": "completed",
    "steps": 300,
    "final_evaluation": {"mean_return": 475.5, "network": "best"},
    "best_evaluation": None,
}


@pytest.fixture(autouse=True)
def alone(tmp_path_factory, monkeypatch):
    """Everything of W&B in a temporary folder, nobody logged in."""
    home = tmp_path_factory.mktemp("home")
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    for name in ("DIR", "CACHE_DIR", "CONFIG_DIR", "DATA_DIR", "ARTIFACT_DIR"):
        monkeypatch.setenv(f"WANDB_{name}", str(home))
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("NETRC", str(home / ".netrc"))
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setattr(WandbObserver, "_told_how_to_sync", False)
    monkeypatch.setattr(WandbObserver, "_offline_until_seconds", -math.inf)
    yield home
    wandb.teardown()


@pytest.fixture
def observe(tmp_path, clock):
    """Makes observers, and closes those that are still open at the end."""
    observers = []

    def make(config=CONFIG, folder=tmp_path, name="seed3", **options):
        folder.mkdir(exist_ok=True)
        observers.append(WandbObserver(config, RUN_CONFIG, folder, name, 4, clock, **options))
        return observers[-1]

    yield make
    for observer in observers:
        observer.close()


def recorded(folder):
    """The offline runs under the folder, once the package has written all of them."""
    wandb.teardown()
    return [read_offline_run(offline_folder) for offline_folder in offline_folders(folder)]


def without_own(record):
    """A record without the fields that W&B adds."""
    return {key: value for key, value in record.items() if not key.startswith("_")}


def test_an_offline_run_holds_config_metrics_and_policy(
    observe, tmp_path, clock, episode, learning, evaluation, capfd, monkeypatch
):
    monkeypatch.chdir(tmp_path.parent)
    observer = observe()
    clock.now += 1.0
    observer.on_event(episode(50, 12.5, 20))
    observer.on_event(learning(100))
    observer.on_event(evaluation(150))
    observer.on_event(episode(290, 8.0, 9))
    observer.on_event(End(member=0, step=300, status="completed", reason=""))
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "policy.onnx").write_bytes(b"onnx")
    (tmp_path / "export" / "policy.json").write_text("{}")
    (tmp_path / "videos").mkdir()
    for name in ("final.gif", "final.mp4", "first.gif"):
        (tmp_path / "videos" / name).write_bytes(name.encode())
    observer.on_run_end(SUMMARY, tmp_path)
    observer.close()

    (run,) = recorded(tmp_path)
    assert (run.name, run.project, run.group, run.tags) == ("seed3", "dqn-tests", "cartpole", ["a", "b"])
    assert run.config.items() >= RUN_CONFIG.items()
    assert run.exit_code == 0
    # Every metric is drawn over our own steps.
    assert [(metric.name or metric.glob_name, metric.step_metric) for metric in run.metrics[:2]] == [
        ("step", ""),
        ("*", "step"),
    ]
    *history, videos = [without_own(record) for record in run.history]
    assert history == [
        {"step": 50, "frames": 200, "train/episode_return": 12.5, "train/episode_length": 20},
        {"step": 100, "frames": 400}
        | {"learning/updates": 7, "learning/loss": 0.25, "learning/mean_q": 2.0, "learning/td_error": 0.5}
        | {"learning/gradient_norm": 4.0, "learning/epsilon": 0.125, "learning/learning_rate": 0.001}
        | {"learning/steps_per_second": 100.0},
        {"step": 150, "frames": 600, "evaluation/returns": [10.0, 30.0]}
        | {"evaluation/mean_return": 20.0, "evaluation/min_return": 10.0, "evaluation/max_return": 30.0}
        | {"evaluation/mean_length": 6.5, "evaluation/epsilon": 0.05, "evaluation/optimal_fraction": 0.5}
        | {"evaluation/is_best": 1.0},
        {"step": 290, "frames": 1160, "train/episode_return": 8.0, "train/episode_length": 9},
    ]
    assert (videos["step"], videos["videos/final"]["path"][-4:]) == (300, ".mp4")
    assert videos["videos/first"]["path"].endswith(".gif")
    (media,) = offline_folders(tmp_path)
    assert (media / "files" / videos["videos/final"]["path"]).read_bytes() == b"final.mp4"
    assert run.summary["final_evaluation/mean_return"] == 475.5
    assert run.summary["status"] == "completed"

    (artifact,) = run.artifacts
    assert (artifact.type, artifact.name) == ("policy", f"policy-{run.id}")
    assert {file.path: file.local_path for file in artifact.manifest.contents} == {
        name: str(tmp_path / "export" / name) for name in ("policy.json", "policy.onnx")
    }

    out, err = capfd.readouterr()
    assert out == ""
    assert err == f"W&B: offline; to upload: wandb sync {tmp_path.name}/wandb/offline-run-*\n"


def test_several_runs_in_one_process_stay_several(observe, tmp_path, clock, learning, capfd):
    first, second = (observe(folder=tmp_path / name, name=name) for name in ("first", "second"))
    for step in (100, 200):
        first.on_event(learning(step, loss=1.0))
        second.on_event(learning(step + 1, loss=2.0))
    first.close()
    second.on_event(learning(300, loss=3.0))
    second.close()
    runs = recorded(tmp_path / "first") + recorded(tmp_path / "second")
    assert runs[0].id != runs[1].id
    assert [run.name for run in runs] == ["first", "second"]
    assert [[(r["step"], r["learning/loss"]) for r in run.history] for run in runs] == [
        [(100, 1.0), (200, 1.0)],
        [(101, 2.0), (201, 2.0), (300, 3.0)],
    ]
    assert [run.exit_code for run in runs] == [1, 1]  # neither came to its end
    assert capfd.readouterr().err.count("\n") == 1  # said once, not per run


@pytest.fixture
def train_members():
    """train_members(folders): three short runs together, and what the package has recorded of each."""

    def train(folders, *words):
        short = [
            "env.num_envs=1", "trainer.total_steps=120", "memory.warmup_steps=60", "memory.capacity_steps=100",
            "trainer.learn_every_steps=20", "trainer.batch_size=4", "network.hidden_sizes=[4]", "trainer.compile=never",
            "evaluation.every_steps=null", "evaluation.final_episodes=1", "evaluation.video=false", "logger=wandb",
            "evaluation.stop.mean_return=null", "export.formats=[safetensors]", "trainer.log_every_steps=60", *words,
        ]  # fmt: skip
        run.train([compose_config([*short, f"seed={seed}"]) for seed in range(3)], folders)
        return [recorded(folder)[0] for folder in folders]

    return train


def test_members_are_runs_of_their_own_in_the_group_of_their_sweep(train_members, tmp_path, capfd):
    sweep = tmp_path / "runs" / "today-sweep"
    sweep.mkdir(parents=True)
    (sweep / "sweep.json").write_text('{"jobs": []}')
    runs = train_members([sweep / f"{seed}-seed{seed}" for seed in range(3)])
    assert len({one.id for one in runs}) == 3
    assert [one.name for one in runs] == ["0-seed0", "1-seed1", "2-seed2"]
    assert [one.config["seed"] for one in runs] == [0, 1, 2]
    assert {one.group for one in runs} == {"today-sweep"}
    for seed, one in enumerate(runs):
        assert (one.exit_code, one.summary["seed"], len(one.artifacts)) == (0, seed, 1)
        assert [record["step"] for record in one.history if "learning/epsilon" in record] == [60, 120]
    assert runs[0].history != runs[1].history
    err = capfd.readouterr().err
    assert err.count("wandb sync") == 1
    assert "today-sweep/*/wandb/offline-run-*" in err


def test_a_group_by_choice_and_the_group_of_runs_of_their_own(train_members, tmp_path):
    (tmp_path / "multirun.yaml").touch()  # of one of Hydra's own launchers
    place = tmp_path / "somewhere" / "else"
    for name, folder, words, group in (
        ("chosen", tmp_path, ["logger.wandb.group=mine"], "mine"),
        ("by_hydra", tmp_path, [], tmp_path.name),
        ("alone", place, ["name=preset"], "preset"),
    ):
        runs = train_members([folder / f"{name}{seed}" for seed in range(3)], *words)
        assert [one.group for one in runs] == [group] * 3


@pytest.mark.parametrize("lost", ["nothing", "file"])
def test_a_resumed_run_keeps_its_id(observe, tmp_path, clock, episode, learning, lost):
    observer = observe()
    observer.on_event(learning(100))
    observer.on_event(episode(120, 5.0))
    state = json.loads(json.dumps(observer.state_dict()))
    observer.on_event(learning(180))
    observer.close()
    (before,) = recorded(tmp_path)
    if lost == "file":
        (tmp_path / "wandb" / "run_id.txt").unlink()

    resumed = observe()
    resumed.load_state_dict(state)
    clock.now += 1.0
    resumed.on_event(learning(150))
    resumed.close()
    runs = recorded(tmp_path)
    assert before in runs
    (after,) = [run for run in runs if run.id == state["run_id"] and run != before]
    assert [record["step"] for record in after.history] == [120, 150]


def test_the_id_is_not_written_through_a_link(observe, tmp_path):
    elsewhere, id_file = tmp_path / "elsewhere", tmp_path / "wandb" / "run_id.txt"
    id_file.parent.mkdir()
    id_file.symlink_to(elsewhere)
    run_id = observe().state_dict()["run_id"]
    assert not elsewhere.exists()
    assert id_file.read_text() == run_id


def test_records_reach_w_and_b_once_a_second_and_before_a_checkpoint(observe, clock, learning, monkeypatch):
    observer = observe()
    logged = []
    monkeypatch.setattr(observer._run, "log", lambda payload: logged.append(payload["step"]))
    observer.on_event(learning(1))
    assert logged == []
    clock.now += 1.0
    observer.on_event(learning(2))
    assert logged == [1, 2]
    observer.on_event(learning(3))
    observer.state_dict()
    assert logged == [1, 2, 3]


def test_training_outlives_w_and_b(observe, tmp_path, clock, learning, monkeypatch, capfd):
    observer = observe()
    capfd.readouterr()

    def fail(*_, **__):
        raise wandb.errors.CommError("the server is gone\nsecond line")

    monkeypatch.setattr(observer._run, "log", fail)
    clock.now += 5.0
    observer.on_event(learning(100))
    clock.now += 5.0
    observer.on_event(learning(200))
    observer.state_dict()
    observer.on_run_end(SUMMARY, tmp_path)
    observer.close()
    assert capfd.readouterr().err == "W&B: gave up (the server is gone); metrics.jsonl has everything\n"


class Init:
    """Stands in for wandb.init: notes the modes and refuses to go online."""

    def __init__(self, monkeypatch):
        self.modes = []
        self.really = wandb.init
        monkeypatch.setattr(wandb, "init", self)

    def __call__(self, *, mode, **options):
        self.modes.append(mode)
        if mode == "online":
            raise wandb.errors.CommError("no such host")
        return self.really(mode=mode, **options)


def key_in_environment(home, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)


def key_in_netrc(home, monkeypatch):
    (home / ".netrc").write_text(f"machine api.wandb.ai\n login user\n password {'k' * 40}\n")
    (home / ".netrc").chmod(0o600)


def key_in_settings(home, monkeypatch):
    (home / "settings").write_text(f"[default]\napi_key = {'k' * 40}\n")


KEYS = [key_in_environment, key_in_netrc, key_in_settings]


@pytest.mark.parametrize("key", KEYS)
def test_auto_tries_to_go_online_with_a_key_and_falls_back(observe, alone, monkeypatch, capfd, key):
    key(alone, monkeypatch)
    init = Init(monkeypatch)
    observe()
    assert init.modes == ["online", "offline"]
    assert "W&B: cannot go online (no such host); this run is recorded offline\n" in capfd.readouterr().err


@pytest.mark.parametrize("configured", ["auto", "offline"])
def test_without_a_key_nothing_goes_online(observe, alone, monkeypatch, configured):
    (alone / ".netrc").write_text("machine example.org\n login user\n password x\n")
    init = Init(monkeypatch)
    observe(replace(CONFIG, mode=configured))
    assert init.modes == ["offline"]


def test_wandb_mode_decides_where_the_config_leaves_it_open(observe, alone, tmp_path, monkeypatch, learning, capfd):
    key_in_environment(alone, monkeypatch)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    init = Init(monkeypatch)
    observer = observe()
    observer.on_event(learning(100))
    observer.on_run_end(SUMMARY, tmp_path)
    observer.close()
    assert init.modes == ["disabled"]
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr().err == ""
    observe(replace(CONFIG, mode="offline"))
    assert init.modes == ["disabled", "offline"]


def test_online_by_choice_is_online_or_an_error(observe, alone, monkeypatch):
    Init(monkeypatch)
    with pytest.raises(UserError, match=r"^logger.wandb.mode=online: needs an API key; run `wandb login`"):
        observe(replace(CONFIG, mode="online"))
    wandb.teardown()
    key_in_environment(alone, monkeypatch)
    with pytest.raises(UserError, match=r"^logger.wandb.mode=online: W&B does not start: no such host$"):
        observe(replace(CONFIG, mode="online"))


def test_the_package_sends_no_usage_data(observe, monkeypatch):
    monkeypatch.delenv("WANDB_ERROR_REPORTING")
    observe()
    assert not wandb.env.error_reporting_enabled()


def test_after_its_process_was_killed_there_is_one_line_and_the_next_run_has_another(
    observe, tmp_path, clock, learning, capfd
):
    members = [observe(folder=tmp_path / name, name=name) for name in ("first", "second")]
    killed = wandb_process(os.getpid())
    os.kill(killed, signal.SIGKILL)
    clock.now += 5.0
    for member in members:
        member.on_event(learning(100))
        member.on_run_end(SUMMARY, tmp_path)
        member.close()
    _, lost = capfd.readouterr().err.splitlines()
    assert lost.startswith("W&B: gave up (")
    assert lost.endswith("); metrics.jsonl has everything")

    next_one = observe(folder=tmp_path / "next", name="next")
    assert wandb_process(os.getpid()) != killed
    next_one.on_event(learning(100))
    next_one.close()
    (recorded_one,) = recorded(tmp_path / "next")
    assert [record["step"] for record in recorded_one.history] == [100]
    assert capfd.readouterr().err == ""


def test_nothing_waits_for_a_process_that_hangs(observe, tmp_path, learning, capfd, monkeypatch):
    monkeypatch.setattr(WandbObserver, "_service", WandbService())
    members = [observe(folder=tmp_path / name, name=name) for name in ("first", "second", "third")]
    monkeypatch.setattr(WandbObserver._service, "_patience_seconds", 2.0)
    hanging = wandb_process(os.getpid())
    os.kill(hanging, signal.SIGSTOP)
    try:
        began = time.monotonic()
        for member in members:
            member.on_event(learning(100))
            member.close()
        assert 2.0 <= time.monotonic() - began < 4.0  # the first has waited for all of them
    finally:
        os.kill(hanging, signal.SIGKILL)
        WandbObserver._service.replace_if_failed()
    _, lost = capfd.readouterr().err.splitlines()
    assert lost == "W&B: gave up (no answer from its process in 2 s); metrics.jsonl has everything"


def test_a_process_that_hangs_does_not_keep_ours_from_its_end(tmp_path):
    script = """
import os, pathlib, signal
from dqn.config import WandbConfig
from dqn.observers.wandb import WandbObserver
from wandb_process import wandb_process

config = WandbConfig(project="dqn-tests", entity=None, group=None, tags=[], mode="offline")
observer = WandbObserver(config, {"name": "exit"}, pathlib.Path(), "exit", 1)
print(wandb_process(os.getpid()), flush=True)
os.kill(wandb_process(os.getpid()), signal.SIGSTOP)
observer._service._patience_seconds = 0.5
observer.close()
"""
    variables = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", script]
    process = subprocess.Popen(command, cwd=tmp_path, env=variables, stdout=-1, stderr=-1, text=True)
    hanging = int(process.stdout.readline())
    try:
        status = process.wait(timeout=60)
    finally:
        os.kill(hanging, signal.SIGKILL)  # only now do our pipes come to their end
        _, err = process.communicate()
    assert status == 0
    assert err.splitlines()[1:] == ["W&B: gave up (no answer from its process in 0.5 s); metrics.jsonl has everything"]


@pytest.mark.parametrize("kind", ["closed", "silent", "500"])
def test_of_many_runs_one_waits_for_a_server_that_cannot_be_reached(
    observe, alone, tmp_path, clock, learning, capfd, monkeypatch, kind
):
    key_in_environment(alone, monkeypatch)
    monkeypatch.setattr(dqn.observers.wandb, "_INIT_TIMEOUT_SECONDS", 1.0)
    with unreachable(kind) as url:
        monkeypatch.setenv("WANDB_BASE_URL", url)
        members = [observe(folder=tmp_path / name, name=name) for name in ("first", "second")]
        tried, told = capfd.readouterr().err.splitlines()
        assert tried.startswith("W&B: cannot go online (")
        assert tried.endswith("); this run is recorded offline")
        assert told.startswith("W&B: offline; to upload: ")
        for member in members:
            member.on_event(learning(100))
            member.close()
        (first,), (second,) = recorded(tmp_path / "first"), recorded(tmp_path / "second")
        assert [record["step"] for record in first.history + second.history] == [100, 100]
        assert capfd.readouterr().err == ""

        clock.now += 601.0  # it may be back
        observe(folder=tmp_path / "third", name="third")
        assert capfd.readouterr().err.startswith("W&B: cannot go online (")


def test_a_server_goes_away(observe, alone, clock, learning, capfd, monkeypatch):
    key_in_environment(alone, monkeypatch)
    monkeypatch.setattr(dqn.observers.wandb, "_FINISH_TIMEOUT_SECONDS", 1.0)
    server = Server()
    monkeypatch.setenv("WANDB_BASE_URL", server.url)
    observer = observe(replace(CONFIG, mode="online"))
    server.go_away()
    clock.now += 5.0
    observer.on_event(learning(100))
    observer.close()
    assert capfd.readouterr().err == "W&B: gave up (Timed out finishing run.); metrics.jsonl has everything\n"
    (kept,) = [read_offline_run(folder) for folder in (observer._folder / "wandb").glob("run-*")]
    assert [record["step"] for record in kept.history] == [100]


def test_a_run_that_is_online_is_uploaded(observe, alone, learning, capfd, monkeypatch):
    key_in_environment(alone, monkeypatch)
    server = Server()
    monkeypatch.setenv("WANDB_BASE_URL", server.url)
    observer = observe(replace(CONFIG, mode="online"))
    observer.on_event(learning(100))
    observer.close()
    server.go_away()
    assert [record["step"] for record in server.history] == [100]
    assert capfd.readouterr().err == ""
