"""Who is replaced by whom in population-based training (Jaderberg et al. 2017, arXiv 1711.09846)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dqn.breeding import Child
from dqn.config import Config
from dqn.randomness import derive_seed
from dqn.sweep.config import PBTConfig
from dqn.sweep.grouping import value_at
from dqn.sweep.lineage import Birth, add_births, forget_births
from dqn.sweep.parameters import Range


class TruncationBreeder:
    """A `dqn.breeding.Breeder`: truncation selection and perturbation (section 4.1 of the paper), and their record.

    Of the members that go on, the worst `replaced_share` become copies of a random one of as many best, unless that
    has no higher score. A copy's traits are the parent's, each multiplied by a random one of the factors and kept in
    its range. Draws are a function of (seed, step, member): a sweep that goes on decides as without a pause.

    Args:
        ranges: of the traits, by config key.
        settings: the sweep's.
        folder: of the sweep, where the lineage is written.
    """

    def __init__(self, ranges: Mapping[str, Range], settings: PBTConfig, folder: Path) -> None:
        self._ranges, self._settings, self._folder = ranges, settings, folder

    def first_values(self, member: int) -> dict[str, Any]:
        """The traits with which a member begins, uniform in their ranges."""
        draws = self._draws("first values", member)
        return {key: trait.at(draws.random()) for key, trait in self._ranges.items()}

    def go_back_to(self, step: int) -> None:
        """Training goes on from this agent step: what has been written of later ones will be written anew."""
        forget_births(self._folder, step)

    def __call__(
        self, since: int, step: int, scores: Mapping[int, float], configs: Mapping[int, Config]
    ) -> dict[int, Child]:
        """See `dqn.breeding.Breeder`."""
        period = self._settings.every_steps
        if step // period == since // period or len(scores) < 2:
            return {}
        ranking = sorted(scores, key=lambda member: (scores[member], -member))
        replaced = max(1, int(self._settings.replaced_share * len(ranking)))
        children: dict[int, Child] = {}
        births: list[Birth] = []
        for member in ranking[:replaced]:
            draws = self._draws("replacement", step, member)
            parent = ranking[-1 - int(draws.integers(replaced))]
            if scores[parent] <= scores[member]:
                continue
            child = Child(parent, self._perturbed(self._values(configs[parent]), draws))
            children[member] = child
            before = self._values(configs[member])
            births.append(Birth(step, member, parent, scores[member], scores[parent], before, child.values))
        add_births(self._folder, step, births)
        return children

    def _values(self, config: Config) -> dict[str, Any]:
        return {key: value_at(config, key) for key in self._ranges}

    def _perturbed(self, values: Mapping[str, Any], draws: np.random.Generator) -> dict[str, Any]:
        factors = self._settings.factors
        return {key: self._ranges[key].fitted(value * float(draws.choice(factors))) for key, value in values.items()}

    def _draws(self, purpose: str, *indices: int) -> np.random.Generator:
        return np.random.default_rng(derive_seed(self._settings.seed, purpose, *indices))
