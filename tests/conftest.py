"""Configs as a user would compose them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dqn.compose import compose_config
from dqn.config import Config
from dqn.validation import validate

MakeConfig = Callable[..., Config]


@pytest.fixture(scope="session")
def make_config() -> MakeConfig:
    """make_config("experiment=cartpole", "seed=1") is the checked config of such a command line."""

    def make(*overrides: str) -> Config:
        return validate(Config, compose_config(overrides))

    return make
