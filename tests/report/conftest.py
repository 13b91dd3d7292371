from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from made_up_runs import WriteRun, make_up_run


@pytest.fixture
def write_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WriteRun:
    """A function that writes a run folder below an empty current folder."""
    monkeypatch.chdir(tmp_path)
    return partial(make_up_run, tmp_path)
