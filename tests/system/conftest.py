"""The scripts as a user calls them: with words, in a folder of one's own."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mounts import Mounts, own_mounts
from shell import run_script

Shell = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def shell(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """shell("train", "seed=1") runs scripts/train.py in an empty folder."""
    beside = tmp_path_factory.mktemp("printed")

    def call(script: str, *words: str) -> subprocess.CompletedProcess[str]:
        return run_script(script, words, tmp_path, beside)

    return call


@pytest.fixture
def mounts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mounts]:
    """Mounts that only scripts see which are started with them."""
    with own_mounts(tmp_path_factory.mktemp("trial")) as mounts:
        if mounts is None:
            pytest.skip("this machine does not let us mount")
        yield mounts
