"""How closely two orders agree."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

from analysis.stats import Estimate
from sweeps.scores import CONFIDENCE


def rank_correlation(values: Sequence[float], others: Sequence[float]) -> Estimate:
    """Spearman's rho of pairs, with the 95 % interval of Bonett and Wright 2000 (Psychometrika 65,
    23-28).

    tanh(atanh(rho) +- z sqrt((1 + rho^2 / 2) / (n - 3))). No interval where n < 4 or rho is +-1,
    not even a value where one side does not vary: then it is NaN.
    """
    x, y = np.asarray(values, float), np.asarray(others, float)
    nothing = float("nan")
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return Estimate(nothing, nothing, nothing)
    rho = float(np.clip(stats.spearmanr(x, y).statistic, -1, 1))
    if len(x) < 4 or 1 - abs(rho) < 1e-12:
        return Estimate(rho, nothing, nothing)
    z = stats.norm.ppf((1 + CONFIDENCE) / 2)
    reach = z * np.sqrt((1 + rho**2 / 2) / (len(x) - 3))
    low, high = np.tanh(np.arctanh(rho) + np.array([-reach, reach]))
    return Estimate(rho, float(low), float(high))
