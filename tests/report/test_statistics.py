from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from dqn.report.statistics import ReturnStatistics, interquartile_mean, mean_interval, summarize


def test_summary_of_returns_by_hand() -> None:
    # mean 6, deviations -5 -3 -1 1 8: squares 25 9 1 1 64 = 100, over n - 1 = 25
    assert summarize([14, 1, 3, 7, 5]) == ReturnStatistics(
        episodes=5,
        mean_return=6.0,
        standard_error=5 / math.sqrt(5),
        standard_deviation=5.0,
        median_return=5.0,
        iqm_return=5.0,  # of 3, 5, 7
        min_return=1.0,
        max_return=14.0,
    )


def test_one_return_has_no_spread() -> None:
    statistics = summarize([3.0])
    assert (statistics.standard_error, statistics.standard_deviation) == (None, None)
    assert statistics.mean_return == statistics.median_return == statistics.iqm_return == 3.0


def test_no_returns_are_an_error() -> None:
    with pytest.raises(ValueError, match="no returns"):
        summarize([])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([9, 1, 2], 4.0),  # a quarter of 3 is no whole value: nothing is cut
        ([100, 1, 2, -50], 1.5),
        ([100, 1, 2, 4, -50, 0, 3], 2.0),  # one of each end
        ([100, 99, 1, 2, 4, 5, -50, -51], 3.0),  # two of each end
    ],
)
def test_interquartile_mean_cuts_a_quarter_of_each_end(values: list[float], expected: float) -> None:
    assert interquartile_mean(values) == expected


def test_interval_is_that_of_all_resamples() -> None:
    scores = [1.0, 2.0, 4.0, 9.0, 11.0]
    means = [np.mean(resample) for resample in itertools.product(scores, repeat=len(scores))]
    lower, upper = mean_interval(scores)
    assert lower == pytest.approx(np.percentile(means, 2.5), abs=0.3)
    assert upper == pytest.approx(np.percentile(means, 97.5), abs=0.3)
    assert lower.shape == upper.shape == ()


def test_interval_is_the_same_each_time_and_the_same_for_each_point() -> None:
    curves = np.random.default_rng(1).normal(size=(5, 7))
    together = mean_interval(curves)
    np.testing.assert_array_equal(together, mean_interval(curves))
    np.testing.assert_allclose(together, np.transpose([mean_interval(curves[:, i]) for i in range(7)]))


def test_interval_shifts_and_scales_with_the_values() -> None:
    scores = np.array([1.0, 2.0, 4.0, 9.0])
    np.testing.assert_allclose(mean_interval(10 * scores - 3), 10 * np.array(mean_interval(scores)) - 3)


def test_fewer_than_three_seeds_have_their_range() -> None:
    np.testing.assert_array_equal(mean_interval([[1.0, 8.0], [5.0, 2.0]]), [[1.0, 2.0], [5.0, 8.0]])
    np.testing.assert_array_equal(mean_interval([3.0]), (3.0, 3.0))


def test_missing_values_are_left_out_point_by_point() -> None:
    full = np.array([[1.0, 10.0], [2.0, 20.0], [4.0, 40.0], [9.0, np.nan]])
    lower, upper = mean_interval(full)
    np.testing.assert_allclose((lower[0], upper[0]), mean_interval(full[:, 0]))
    assert 10 <= lower[1] < np.mean([10, 20, 40]) < upper[1] <= 40
    few = np.array([[1.0, np.nan], [2.0, 20.0], [4.0, 40.0]])
    assert [end[1] for end in mean_interval(few)] == [20.0, 40.0]
