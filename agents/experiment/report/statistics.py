"""Interquartile means and stratified bootstrap intervals, for few seeds and heavy tails.

After Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice" (NeurIPS 2021): the
interquartile mean (IQM) is less noisy than the median and less swayed by one bad seed than the mean, and the interval
comes from resampling the seeds of each task by themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESAMPLES = 2000
CONFIDENCE = 0.95

_VALUES_AT_ONCE = 10_000_000


def interquartile_mean(values: ArrayLike) -> NDArray[np.float64]:
    """Mean of the middle half along the first axis.

    A quarter of the values, rounded down, is cut off at each end, so that up to three values give their mean.

    Args:
        values: float64[n, ...], n >= 1; infinities are allowed.

    Returns:
        float64[...].
    """
    ordered = np.sort(np.asarray(values, np.float64), axis=0)
    if not len(ordered):
        raise ValueError("the interquartile mean needs at least one value")
    cut = len(ordered) // 4
    return ordered[cut : len(ordered) - cut].mean(axis=0)


def bootstrap_interval(
    strata: Sequence[ArrayLike],
    *,
    statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]] = interquartile_mean,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Percentile bootstrap interval of a statistic over all values of all strata.

    Each resample draws, within every stratum (task), as many runs with replacement as the stratum has.

    Args:
        strata: one float64[runs, ...] for each task; the trailing shape is the same for all.
        statistic: of float64[runs of all tasks, ...] along the first axis.
        resamples: number of bootstrap resamples.
        confidence: probability mass of the interval.
        seed: of the resampling, so that a report is the same each time.

    Returns:
        Lower and upper ends, float64[...] each. A single run gives an interval of width 0.
    """
    values = [np.asarray(stratum, np.float64) for stratum in strata]
    shape = values[0].shape[1:]
    columns = [array.reshape(len(array), -1) for array in values]
    rng = np.random.default_rng(seed)
    draws = [rng.integers(0, len(array), (len(array), resamples)) for array in values]
    tail = (1.0 - confidence) / 2.0
    runs, width = sum(map(len, values)), columns[0].shape[1]
    # All resamples of many runs at many budgets together would fill the memory.
    at_once = max(1, _VALUES_AT_ONCE // (runs * resamples))
    ends = []
    for first in range(0, width, at_once):
        part = slice(first, first + at_once)
        resampled = np.concatenate([array[:, part][draw] for array, draw in zip(columns, draws, strict=True)])
        # The inverted distribution function returns values that occur, so infinities do not turn into not-a-number.
        ends.append(np.quantile(statistic(resampled), (tail, 1.0 - tail), axis=0, method="inverted_cdf"))
    low, high = np.concatenate(ends, axis=1)
    return low.reshape(shape), high.reshape(shape)


def expected_samples_to_target(spent: ArrayLike, reached: ArrayLike) -> float:
    """Samples spent by all runs for each time that the target was reached (the "expected running time" of COCO).

    Unlike a mean over the successful runs, it charges for the failures of an agent that rarely succeeds.

    Args:
        spent: float64[runs], samples until the target was reached, or all samples of a run that never reached it.
        reached: bool[runs].

    Returns:
        Infinity when no run reached the target.
    """
    successes = int(np.count_nonzero(reached))
    return float(np.sum(spent)) / successes if successes else float("inf")
