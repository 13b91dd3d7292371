from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys

import pytest

from dqn.config import TensorboardConfig
from dqn.errors import UserError
from dqn.observers.tensorboard import TensorboardObserver

CONFIG = TensorboardConfig(flush_seconds=60.0)


def read_back(folder, tag):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return [(scalar.step, scalar.value) for scalar in events.Scalars(tag)]


def test_numbers_are_at_their_steps_and_a_resumed_run_replaces_what_it_repeats(
    tmp_path, clock, episode, learning, evaluation
):
    observer = TensorboardObserver(CONFIG, tmp_path, clock)
    clock.now += 10.0
    observer.on_event(episode(50, 12.5))
    observer.on_event(learning(100, loss=1.0))
    observer.on_event(evaluation(100))
    state = json.loads(json.dumps(observer.state_dict()))
    observer.on_event(learning(200, loss=2.0))
    observer.close()
    assert read_back(tmp_path, "train/episode_return") == [(50, 12.5)]
    assert read_back(tmp_path, "learning/steps_per_second")[0] == (100, 10.0)
    assert read_back(tmp_path, "evaluation/mean_return") == [(100, 20.0)]
    assert read_back(tmp_path, "learning/loss") == [(100, 1.0), (200, 2.0)]

    resumed = TensorboardObserver(CONFIG, tmp_path, clock)
    resumed.load_state_dict(state)
    resumed.on_event(learning(150, loss=3.0))
    resumed.close()
    assert read_back(tmp_path, "learning/loss") == [(100, 1.0), (150, 3.0)]


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(UserError, match=r"logger=tensorboard: needs .* pip install -e '.\[tensorboard\]'"):
        TensorboardObserver(CONFIG, tmp_path)


def test_a_run_that_ends_before_its_first_event_leaves_nothing(tmp_path):
    TensorboardObserver(CONFIG, tmp_path).close()
    assert list(tmp_path.iterdir()) == []


def test_training_outlives_a_folder_that_vanishes(tmp_path, clock, learning, capfd):
    observer = TensorboardObserver(CONFIG, tmp_path, clock)
    for step in (100, 200, 300):
        clock.now += 60.0
        observer.on_event(learning(step))
        if step == 100:
            shutil.rmtree(tmp_path / "tensorboard")
    observer.state_dict()
    observer.close()
    lost = "TensorBoard: gave up (No such file or directory); metrics.jsonl has everything\n"
    assert capfd.readouterr() == ("", lost)
    assert list(tmp_path.iterdir()) == []


def fill_up(observer, clock, learning):
    """Until nothing more can be written, which takes fewer than these."""
    for step in range(1, 2000):
        clock.now += 60.0
        observer.on_event(learning(step, loss=float(step)))
    observer.close()


def check_kept(folder, capfd, why):
    kept = read_back(folder, "learning/loss")
    assert 10 < len(kept) < 1500
    assert kept == [(step, float(step)) for step in range(1, len(kept) + 1)]
    assert capfd.readouterr() == ("", f"TensorBoard: gave up ({why}); metrics.jsonl has everything\n")


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_training_outlives_a_full_disk(tmp_path, clock, learning, capfd):
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)], check=False)
    if mounted.returncode != 0:
        pytest.skip("this machine does not let root mount")
    try:
        fill_up(TensorboardObserver(CONFIG, tmp_path, clock), clock, learning)
        check_kept(tmp_path, capfd, "No space left on device")
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_training_outlives_a_limit_on_files(tmp_path, clock, learning, capfd):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, hard))
    try:
        fill_up(TensorboardObserver(CONFIG, tmp_path, clock), clock, learning)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    check_kept(tmp_path, capfd, "File too large")
