"""What is said of a list of returns, and how sure a mean over a few seeds is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

CONFIDENCE = 0.95
_RESAMPLES = 2000


@dataclass(frozen=True)
class ReturnStatistics:
    """A summary of episode returns; what needs two episodes is None for one."""

    episodes: int
    mean_return: float
    standard_error: float | None
    standard_deviation: float | None
    median_return: float
    iqm_return: float
    min_return: float
    max_return: float


def summarize(returns: Sequence[float] | npt.NDArray[Any]) -> ReturnStatistics:
    """The statistics of at least one episode return; the standard deviation is the sample's (n - 1).

    Raises:
        ValueError: there are no returns.
    """
    values = np.asarray(returns, dtype=np.float64)
    if values.size == 0:
        raise ValueError("no returns to summarize")
    deviation = float(values.std(ddof=1)) if values.size > 1 else None
    return ReturnStatistics(
        episodes=values.size,
        mean_return=float(values.mean()),
        standard_error=None if deviation is None else deviation / values.size**0.5,
        standard_deviation=deviation,
        median_return=float(np.median(values)),
        iqm_return=interquartile_mean(values),
        min_return=float(values.min()),
        max_return=float(values.max()),
    )


def interquartile_mean(values: Sequence[float] | npt.NDArray[Any]) -> float:
    """The mean without the lowest and the highest quarter of the values.

    A quarter is rounded down to whole values, as by scipy's `trim_mean(values, 0.25)`, which Agarwal et al.
    use (2021, arXiv 2108.13264).
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    cut = int(0.25 * ordered.size)
    return float(ordered[cut : ordered.size - cut].mean())


def mean_interval(samples: npt.ArrayLike) -> tuple[Array, Array]:
    """A 95 % interval of the mean over seeds by the percentile bootstrap; of fewer than 3 seeds, their range.

    The samples are (seeds,) or (seeds, points), NaN where a seed has no value at a point (each point needs
    one). Whole seeds are drawn, so that a curve stays a curve, and the same ones at each call. Returns the
    lower and the upper ends, shape () or (points,).
    """
    values = np.asarray(samples, dtype=np.float64)
    num_seeds = len(values)
    draws = np.random.default_rng(0).multinomial(num_seeds, [1 / num_seeds] * num_seeds, size=_RESAMPLES)
    counts = draws @ (~np.isnan(values)).astype(np.float64)  # (resamples, ...)
    sums = draws @ np.nan_to_num(values)
    means = np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)
    tail = 50 * (1 - CONFIDENCE)
    lower, upper = np.nanpercentile(means, [tail, 100 - tail], axis=0)
    return lower, upper
