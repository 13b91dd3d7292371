"""Configs as a user would compose them."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from dqn.compose import compose_config
from dqn.config import Config
from dqn.validation import validate

MakeConfig = Callable[..., Config]

LONG = (
    *("test_compilation.py", "test_learning.py", "test_whole_runs.py", "test_sweeps.py", "test_bad_input.py"),
    *("test_fuzz.py", "test_torture.py", "test_stopping.py", "test_conf.py"),
)


def pytest_configure() -> None:
    """Signals are what they are, also where pytest runs in a shell's background or under nohup, which ignore them."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those that take long come first, or one process would wait at the end for the last of the other."""
    items.sort(key=lambda item: item.path.name not in LONG)


@pytest.fixture(scope="session")
def make_config() -> MakeConfig:
    """make_config("experiment=cartpole", "seed=1") is the checked config of such a command line, but not compiled."""

    def make(*overrides: str) -> Config:
        return validate(Config, compose_config(["trainer.compile=never", *overrides]))

    return make
