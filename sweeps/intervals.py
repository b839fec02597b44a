"""A number with its interval, and how closely two orders agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy  # imports scipy.stats once it is used

from sweeps.scores import CONFIDENCE


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number and the ends of its interval, of 95 % unless another confidence was asked for; they
    are NaN if it rests on a single value."""

    value: float
    low: float
    high: float

    def __format__(self, spec: str) -> str:
        """The number with its interval, if it has one; `spec` formats each end, by default .1f."""
        spec = spec or ".1f"
        if not (np.isfinite(self.low) and np.isfinite(self.high)):
            return f"{self.value:{spec}}"
        return f"{self.value:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"

    def __str__(self) -> str:
        return format(self)


def rank_correlation(values: Sequence[float], others: Sequence[float]) -> Estimate:
    """How closely two orders agree: Spearman's rho of pairs, with the interval of Bonett and Wright
    2000 (Psychometrika 65, 23-28).

    tanh(atanh(rho) +- z sqrt((1 + rho^2 / 2) / (n - 3))). The interval is NaN if n < 4 or rho is
    +-1; so is the value if one side does not vary.
    """
    x, y = np.asarray(values, float), np.asarray(others, float)
    unknown = float("nan")
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return Estimate(unknown, unknown, unknown)
    rho = float(np.clip(scipy.stats.spearmanr(x, y).statistic, -1, 1))
    if len(x) < 4 or 1 - abs(rho) < 1e-12:
        return Estimate(rho, unknown, unknown)
    z = scipy.stats.norm.ppf((1 + CONFIDENCE) / 2)
    reach = z * np.sqrt((1 + rho**2 / 2) / (len(x) - 3))
    low, high = np.tanh(np.arctanh(rho) + np.array([-reach, reach]))
    return Estimate(rho, float(low), float(high))
