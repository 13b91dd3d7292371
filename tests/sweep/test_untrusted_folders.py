"""A sweep's folder that somebody else has changed."""

from __future__ import annotations

import sys

from launched import Launch, manifest


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
