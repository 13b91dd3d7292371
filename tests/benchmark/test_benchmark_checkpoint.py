"""What is measured of checkpoints is there, for a small memory."""

from __future__ import annotations

import pytest

from dqn.benchmark import checkpoint


@pytest.mark.long
def test_bytes_of_the_first_checkpoint_and_of_later_ones(monkeypatch, tmp_path):
    monkeypatch.setattr(checkpoint, "_SECONDS", 0.2)
    monkeypatch.setattr(checkpoint, "_BEGUN_STEPS", 1200)
    monkeypatch.setattr(checkpoint, "_CALLS_PLAYED", 50)
    measured = checkpoint.measure_checkpoints(4000, "none", tmp_path / "run")
    saved_again = measured["first"]["bytes"] - measured["later"]["bytes"]  # not the three quarters that were there
    assert measured["first"]["bytes"] > 4000 * 84 * 84
    assert saved_again > 0.7 * 4000 * 84 * 84
    assert all(value > 0 for value in measured["first"].values())
    assert measured["later"]["seconds"] > 0
    monkeypatch.setattr(checkpoint.AtariEnvironment, "calls_per_seed", 20)
    resumed = checkpoint.measure_resume(tmp_path / "run")
    assert resumed["resume_seconds"] > 0 < resumed["replay_seconds"]
