"""What may change when a run is resumed, and what not."""

from __future__ import annotations

import pytest

from dqn.changes import changed
from dqn.compose import compose_config, with_values
from dqn.errors import UserError

RUN = ("experiment=cartpole", "seed=3", "logger=none", "env.num_envs=4")


def go_on(*overrides: str, run: tuple[str, ...] = RUN) -> tuple[dict, dict]:
    """The config of a run, and with what it goes on."""
    values = compose_config(run)
    return values, changed(values, compose_config(["resume=there", *overrides]), ["resume=there", *overrides], "there")


def test_without_overrides_nothing_changes():
    before, after = go_on()
    assert after == before


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("trainer.total_steps=90000", "trainer.total_steps", 90000),
        ("trainer.total_episodes=70", "trainer.total_episodes", 70),
        ("trainer.log_every_steps=50", "trainer.log_every_steps", 50),
        ("evaluation.stop.mean_return=100", "evaluation.stop.mean_return", 100),
        ("evaluation.every_steps=null", "evaluation.every_steps", None),
        ("checkpoint.memory=false", "checkpoint.memory", False),
        ("export.formats=[h5]", "export.formats", ["h5"]),
    ],
)
def test_what_the_past_does_not_depend_on_may_change(override, key, value):
    before, after = go_on(override)
    assert after == with_values(before, {key: value})


def test_another_logger():
    before, after = go_on("logger=tensorboard")
    assert before["logger"] == {}
    assert after["logger"] == {"tensorboard": {"flush_seconds": 10.0}}
    assert with_values(after, {"logger": {}}) == before
    before, after = go_on("logger=none", run=("experiment=cartpole", "logger=wandb"))
    assert list(before["logger"]) == ["wandb"]
    assert after["logger"] == {}


def test_the_same_command_with_resume_goes_on():
    before, after = go_on(*RUN, "trainer.total_steps=60000")
    assert after == with_values(before, {"trainer.total_steps": 60000})


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("seed=4", "seed (3 in the run, 4 given)"),
        ("network.hidden_sizes=[8]", "network.hidden_sizes ([64, 64] in the run, [8] given)"),
        ("env.num_envs=8", "env.num_envs (4 in the run, 8 given)"),
        ("memory.capacity_steps=10", "memory.capacity_steps (50000 in the run, 10 given)"),
        ("trainer.batch_size=7", "trainer.batch_size"),
        ("experiment=cartpole", "env.num_envs (4 in the run, 8 given), seed (3 in the run, 0 given)"),
        ("network=nature_cnn", "network.activation (relu in the run, absent given)"),
        ("exploration/schedule=constant", "exploration.schedule.value (absent in the run"),
    ],
)
def test_what_the_past_depends_on_is_refused_by_name(override, named):
    with pytest.raises(UserError) as error:
        go_on(override, "trainer.total_steps=90000")
    assert named in str(error.value)
    assert "resume=there: the run was begun otherwise" in str(error.value)
    assert "trainer.total_steps (" not in str(error.value)
    assert "\n" not in str(error.value)


def test_a_schedule_over_the_whole_run_ends_where_it_would_have_ended():
    """A longer run with the longer schedule would have had another past."""
    run = (*RUN, "optimizer/learning_rate_schedule=linear", "optimizer.learning_rate_schedule.end=0.1")
    run = (*run, "optimizer.learning_rate_schedule.duration_steps=${trainer.total_steps}")
    before, after = go_on("trainer.total_steps=90000", run=run)
    assert before["optimizer"]["learning_rate_schedule"]["duration_steps"] == before["trainer"]["total_steps"] != 90000
    assert after == with_values(before, {"trainer.total_steps": 90000})
