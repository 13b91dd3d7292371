"""What is measured of sampling is there, for small memories."""

from __future__ import annotations

import pytest

from dqn.benchmark.report import sampling_lines
from dqn.benchmark.sampling import KINDS, measure_sampling


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_is_sampled_and_given_priorities(kind):
    measured = measure_sampling(2000, kind)
    assert measured["sample"] > 0
    assert ("prioritize" in measured) == (kind != "uniform")
    (line,) = sampling_lines([{**measured, "sample": 1e-3}])
    assert line.startswith(f"memory={kind}: of 2,000 steps of CartPole a batch of 32 is sampled in 1.00 ms")
    assert ("given priorities in" in line) == (kind != "uniform")
    assert ("all are ranked in" in line) == (kind == "ranked")
