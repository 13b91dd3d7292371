from __future__ import annotations

import json
from pathlib import Path

import pytest

from dqn.errors import TrainingError
from dqn.events import End, Pause
from dqn.observers.metrics_file import MetricsFile


def lines(folder: Path):
    def no_constants(name):
        raise AssertionError(f"{name} is not JSON")

    text = (folder / "metrics.jsonl").read_text()
    assert text == "" or text.endswith("\n")
    return [json.loads(line, parse_constant=no_constants) for line in text.splitlines()]


def test_every_event_is_a_line_with_its_own_fields(tmp_path, clock, episode, learning, evaluation):
    metrics = MetricsFile(tmp_path, 4, clock)
    clock.now += 2.0
    metrics.on_event(episode(50, 12.5, 20))
    metrics.on_event(learning(100))
    clock.now += 0.5
    metrics.on_event(learning(200, temperature=0.3, epsilon=None))
    metrics.on_event(Pause(member=-1, step=200))
    metrics.on_event(evaluation(250))
    metrics.on_event(End(member=0, step=300, status="completed", reason=""))
    metrics.close()
    numbers = {
        "updates": 7,
        "loss": 0.25,
        "mean_q": 2.0,
        "td_error": 0.5,
        "gradient_norm": 4.0,
        "epsilon": 0.125,
        "temperature": None,
        "learning_rate": 0.001,
    }
    assert lines(tmp_path) == [
        {"kind": "episode", "step": 50, "frames": 200, "seconds": 2.0} | {"episode_return": 12.5, "episode_length": 20},
        {"kind": "learning", "step": 100, "frames": 400, "seconds": 2.0} | {"steps_per_second": 50.0, **numbers},
        {"kind": "learning", "step": 200, "frames": 800, "seconds": 2.5}
        | {"steps_per_second": 200.0, **numbers, "temperature": 0.3, "epsilon": None},
        {"kind": "evaluation", "step": 250, "frames": 1000, "seconds": 2.5}
        | {"mean_return": 20.0, "returns": [10.0, 30.0], "lengths": [5, 8], "epsilon": 0.05}
        | {"optimal": [True, False], "value_change": None, "is_best": True},
        {"kind": "end", "step": 300, "frames": 1200, "seconds": 2.5, "status": "completed", "reason": ""},
    ]


def test_what_is_not_finite_becomes_null(tmp_path, clock, learning, evaluation):
    metrics = MetricsFile(tmp_path, 1, clock)
    metrics.on_event(learning(1, loss=float("nan"), mean_q=float("inf")))
    metrics.on_event(evaluation(2, returns=(float("-inf"), 1.0)))
    metrics.close()
    first, second = lines(tmp_path)
    assert (first["loss"], first["mean_q"], first["td_error"]) == (None, None, 0.5)
    assert first["steps_per_second"] is None  # no time has passed
    assert (second["returns"], second["mean_return"]) == ([None, 1.0], None)


@pytest.mark.parametrize("kind", ["learning", "evaluation"])
def test_learning_and_evaluation_reach_the_file_at_once(tmp_path, clock, episode, request, kind):
    metrics = MetricsFile(tmp_path, 1, clock)
    metrics.on_event(episode(1, 0.0))
    assert lines(tmp_path) == []
    metrics.on_event(request.getfixturevalue(kind)(2))
    assert [line["kind"] for line in lines(tmp_path)] == ["episode", kind]
    metrics.on_event(episode(3, 0.0))
    metrics.close()
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3]


def test_many_episodes_do_not_wait_for_learning(tmp_path, clock, episode):
    metrics = MetricsFile(tmp_path, 1, clock)
    for step in range(1500):
        metrics.on_event(episode(step, 0.0))
    assert [line["step"] for line in lines(tmp_path)] == list(range(1000))
    metrics.close()


def test_a_resumed_run_goes_on_exactly_where_its_checkpoint_was(tmp_path, clock, episode, learning):
    metrics = MetricsFile(tmp_path, 1, clock)
    clock.now += 2.0
    metrics.on_event(learning(100))
    clock.now += 1.0
    metrics.on_event(episode(150, 1.0))
    state = json.loads(json.dumps(metrics.state_dict()))
    at_checkpoint = (tmp_path / "metrics.jsonl").read_bytes()
    assert state["bytes"] == len(at_checkpoint)
    assert state["seconds"] == 3.0
    metrics.on_event(learning(180))
    metrics.on_event(episode(190, 9.0))
    metrics.close()
    assert len((tmp_path / "metrics.jsonl").read_bytes()) > len(at_checkpoint)

    clock.now += 5000.0
    resumed = MetricsFile(tmp_path, 1, clock)
    resumed.load_state_dict(state)
    assert (tmp_path / "metrics.jsonl").read_bytes() == at_checkpoint
    clock.now += 1.0
    assert resumed.seconds == 4.0
    resumed.on_event(learning(200))
    resumed.close()
    assert [(line["step"], line["seconds"]) for line in lines(tmp_path)] == [
        (100, 2.0),
        (150, 3.0),
        (200, 4.0),
    ]
    assert lines(tmp_path)[-1]["steps_per_second"] == 50.0  # 100 steps in the 2 s since the line of step 100


def test_a_file_shorter_than_the_checkpoint_knows_is_refused(tmp_path, clock, learning):
    metrics = MetricsFile(tmp_path, 1, clock)
    metrics.on_event(learning(100))
    state = metrics.state_dict()
    metrics.close()
    (tmp_path / "metrics.jsonl").write_text("{}\n")
    resumed = MetricsFile(tmp_path, 1, clock)
    with pytest.raises(TrainingError, match=rf"metrics.jsonl has 3 bytes, its checkpoint knows {state['bytes']}"):
        resumed.load_state_dict(state)
    resumed.close()
    assert (tmp_path / "metrics.jsonl").read_text() == "{}\n"


def test_a_full_disk_is_reported_once_and_the_file_can_still_be_closed(tmp_path, clock, learning):
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    metrics = MetricsFile(tmp_path, 1, clock)
    with pytest.raises(OSError, match="No space left"):
        metrics.on_event(learning(1))
    metrics.close()


def test_a_file_that_was_removed_is_an_error_and_not_made_again(tmp_path, clock, learning):
    metrics = MetricsFile(tmp_path, 1, clock)
    metrics.on_event(learning(1))
    metrics.path.unlink()
    with pytest.raises(FileNotFoundError, match=r"metrics.jsonl"):
        metrics.on_event(learning(2))
    with pytest.raises(FileNotFoundError, match=r"metrics.jsonl"):
        metrics.state_dict()
    metrics.close()
    assert list(tmp_path.iterdir()) == []


def test_the_end_is_written_at_once(tmp_path, clock):
    metrics = MetricsFile(tmp_path, 1, clock)
    metrics.on_event(End(member=0, step=7, status="completed", reason="7 steps"))
    assert [record["kind"] for record in lines(tmp_path)] == ["end"]
    metrics.close()
