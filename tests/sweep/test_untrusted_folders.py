"""A sweep's folder that somebody else has changed."""

from __future__ import annotations

import sys

import pytest
from launched import Launch, manifest

from dqn.errors import UserError
from dqn.trusted import check_run, modules_of


def test_a_job_that_goes_on_imports_nothing_new(config_loader, tmp_path, capsys):
    launch = Launch(config_loader)
    launch(tmp_path, [["seed=0"]], "trainer.total_steps=200")
    run = tmp_path / "0-seed0"
    (run / "summary.json").unlink()  # as if it had been killed
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("id: CartPole-v1", "id: antigravity:CartPole-v1"))
    launch(tmp_path, [["seed=0"]], "trainer.total_steps=200", resume=True)
    message = "env.id=antigravity:CartPole-v1: imports antigravity; if you trust that, give modules=[antigravity]"
    assert manifest(tmp_path)[0]["error"] == message
    assert message in capsys.readouterr().err
    assert "antigravity" not in sys.modules


def test_workers_import_what_the_command_line_allowed() -> None:
    """They are told by the values of their jobs, of which the environment and the loss may be the user's."""
    values = {
        "env": {"id": "antigravity:CartPole-v1"},
        "evaluation": {"env": {"id": "this:CartPole-v1"}},
        "algorithm": {"loss": {"kind": "custom", "_target_": "turtle.shapes.Loss", "arguments": {}}},
    }
    assert modules_of(values) == {"antigravity", "this", "turtle.shapes"}
    check_run(values, modules_of(values))
    message = (
        r"algorithm\.loss\._target_=turtle\.shapes\.Loss: is no class of this project; if you trust it, give modules="
    )
    with pytest.raises(UserError, match=message):
        check_run(values, ["antigravity", "this", "turtle.shape", "turtle.shapes.Loss"])
    assert modules_of({"algorithm": {"loss": {"kind": "huber", "threshold": 1.0}}}) == set()
