"""Population-based training, as a run sees it: somebody says which members go on as copies of others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from dqn.config import Config


@dataclass(frozen=True)
class Child:
    """What a member goes on as: a copy of `parent`, with these values of traits by their dotted keys."""

    parent: int
    values: Mapping[str, Any]


class Breeder(Protocol):
    """Says which members go on as copies of others."""

    def __call__(
        self, since: int, step: int, scores: Mapping[int, float], configs: Mapping[int, Config]
    ) -> Mapping[int, Child]:
        """Who is to be replaced, with what; by the members' numbers.

        Args:
            since: the agent step of the evaluation before, 0 at the first.
            step: of this evaluation.
            scores: its mean returns, of the members that go on.
            configs: theirs, as they stand now.
        """
