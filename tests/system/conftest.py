"""The scripts as a user calls them: with words, in a folder of one's own."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from shell import run_script

Shell = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def shell(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """shell("train", "seed=1") runs scripts/train.py in an empty folder."""
    beside = tmp_path_factory.mktemp("printed")

    def call(script: str, *words: str) -> subprocess.CompletedProcess[str]:
        return run_script(script, words, tmp_path, beside)

    return call
