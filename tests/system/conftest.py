"""The scripts as a user calls them: in a shell, in a folder of one's own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from shell import ROOT, environment

Shell = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """shell("train", "seed=1") runs scripts/train.py in an empty folder."""

    def call(script: str, *words: str, **kwargs: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / "scripts" / f"{script}.py"), *words]
        options = {"cwd": tmp_path, "env": environment(), "timeout": 300, **kwargs}
        return subprocess.run(command, capture_output=True, text=True, check=False, **options)

    return call
