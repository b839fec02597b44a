"""Intervals: thin over scipy.stats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean and where it may lie."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.1f} [{self.low:.1f}, {self.high:.1f}]"


def mean_estimate(values: Sequence[float]) -> Estimate:
    """Mean with Student's 95 % interval; values are independent, for example one per seed."""
    interval = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    return Estimate(float(np.mean(values)), float(interval.low), float(interval.high))
