"""Who is replaced by whom, with which traits, and what is written about it."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest

from dqn.sweep.breeder import TruncationBreeder
from dqn.sweep.config import PBTConfig
from dqn.sweep.lineage import LINEAGE, Birth, read_lineage
from dqn.sweep.parameters import FloatRange, IntRange

RATE, DURATION = "optimizer.learning_rate", "exploration.schedule.duration_steps"
RANGES = {
    RATE: FloatRange(type="float", low=1e-4, high=1e-2, log=True),
    DURATION: IntRange(type="int", low=1000, high=2000, step=100),
}


@pytest.fixture
def make_breeder(tmp_path):
    def make(ranges=RANGES, **settings):
        defaults = {"population": 8, "first_seed": 0, "every_steps": 100, "replaced_share": 0.25, "seed": 0}
        return TruncationBreeder(ranges, PBTConfig(**defaults | {"factors": [0.5, 2.0]} | settings), tmp_path)

    return make


@pytest.fixture(scope="module")
def configs(make_config):
    """Eight members, number m with a learning rate of 1e-3 x (1 + m / 10)."""
    return {m: make_config(f"{RATE}={1e-3 * (1 + m / 10)}", f"{DURATION}=1500") for m in range(8)}


SCORES = {0: 10.0, 1: 80.0, 2: 30.0, 3: 5.0, 4: 50.0, 5: 60.0, 6: 70.0, 7: 20.0}  # worst 3, 0; best 6, 1


def test_the_worst_become_copies_of_the_best_with_perturbed_traits(make_breeder, configs, tmp_path):
    children = make_breeder()(0, 100, SCORES, configs)
    assert list(children) == [3, 0]
    for child in children.values():
        assert child.parent in (1, 6)
        parents = 1e-3 * (1 + child.parent / 10)
        assert child.values[RATE] in (pytest.approx(parents / 2), pytest.approx(parents * 2))
        assert child.values[DURATION] in (1000, 2000)  # 750 and 3000 lie outside
    assert read_lineage(tmp_path) == [
        Birth(
            step=100,
            member=m,
            parent=child.parent,
            score=SCORES[m],
            parent_score=SCORES[child.parent],
            before={RATE: pytest.approx(1e-3 * (1 + m / 10)), DURATION: 1500},
            values=child.values,
        )
        for m, child in children.items()
    ]


def test_every_factor_and_every_parent_is_drawn(make_breeder, configs):
    drawn = [child for seed in range(40) for child in make_breeder(seed=seed)(0, 100, SCORES, configs).values()]
    assert {child.parent for child in drawn} == {1, 6}
    factors = {round(child.values[RATE] / (1e-3 * (1 + child.parent / 10)), 6) for child in drawn}
    assert factors == {0.5, 2.0}


def test_decisions_are_a_function_of_seed_step_and_member(make_breeder, configs):
    def decisions(breeder):
        return [breeder(step - 100, step, SCORES, configs) for step in range(100, 1100, 100)]

    first = decisions(make_breeder())
    assert decisions(pickle.loads(pickle.dumps(make_breeder()))) == first
    assert decisions(make_breeder(seed=1)) != first
    assert make_breeder()(400, 500, SCORES, configs) == first[4]
    assert first[0] != first[1]


@pytest.mark.parametrize(
    ("since", "step", "is_due"), [(0, 99, False), (0, 100, True), (99, 104, True), (100, 199, False), (199, 301, True)]
)
def test_the_first_evaluation_that_reaches_a_period_counts(since, step, is_due, make_breeder, configs):
    assert bool(make_breeder()(since, step, SCORES, configs)) == is_due


def test_nobody_is_replaced_by_one_that_is_no_better(make_breeder, configs, tmp_path):
    assert make_breeder()(0, 100, dict.fromkeys(range(8), 9.0), configs) == {}
    assert make_breeder()(0, 100, {3: 1.0}, configs) == {}
    assert list(make_breeder()(0, 100, {3: 1.0, 5: 2.0}, configs)) == [3]
    assert len(read_lineage(tmp_path)) == 1


def test_first_values_fill_the_ranges(make_breeder):
    breeder = make_breeder()
    values = [breeder.first_values(m) for m in range(400)]
    assert values[:8] == [make_breeder().first_values(m) for m in range(8)]
    assert {value[DURATION] for value in values} == set(range(1000, 2001, 100))
    rates = np.array([value[RATE] for value in values])
    assert rates.min() >= 1e-4
    assert rates.max() <= 1e-2
    assert np.mean(rates < 1e-3) == pytest.approx(0.5, abs=0.08)  # in the logarithm


def test_going_back_forgets_what_came_later(make_breeder, configs, tmp_path):
    breeder = make_breeder()
    for step in (100, 200, 300):
        breeder(step - 100, step, SCORES, configs)
    whole = read_lineage(tmp_path)
    with (tmp_path / LINEAGE).open("a") as file:
        file.write('{"step": 400, "mem')  # killed while it wrote
    breeder.go_back_to(200)
    assert read_lineage(tmp_path) == whole[:4]
    breeder(200, 300, SCORES, configs)
    assert read_lineage(tmp_path) == whole


def test_an_evaluation_that_is_played_again_is_written_once(make_breeder, configs, tmp_path):
    """A signal in mid-evaluation saves the step before it, so that going back there keeps what was written since."""
    breeder = make_breeder()
    breeder(0, 100, SCORES, configs)
    breeder(100, 200, SCORES, configs)
    whole = read_lineage(tmp_path)
    breeder.go_back_to(200)
    breeder(100, 200, SCORES, configs)
    assert read_lineage(tmp_path) == whole
    assert [birth.step for birth in whole] == [100, 100, 200, 200]


def test_a_population_finds_the_learning_rate(make_breeder, make_config):
    """Progress per period is best at 3e-3 and lost far from it; nobody begins within a factor of 5."""
    breeder = make_breeder({RATE: FloatRange(type="float", low=1e-6, high=1e-1, log=True)}, factors=[0.8, 1.2])
    base = make_config()
    rates = {m: 1e-6 * 3**m for m in range(6)}  # up to 2.4e-4
    scores = dict.fromkeys(rates, 0.0)
    for step in range(100, 8100, 100):
        for m, rate in rates.items():
            scores[m] += np.exp(-(np.log(rate / 3e-3) ** 2) / 20)
        configs = {m: replace(base, optimizer=replace(base.optimizer, learning_rate=r)) for m, r in rates.items()}
        for m, child in breeder(step - 100, step, scores, configs).items():
            rates[m], scores[m] = child.values[RATE], scores[child.parent]
    assert all(1.5e-3 < rate < 6e-3 for rate in rates.values())
