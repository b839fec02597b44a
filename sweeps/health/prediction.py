"""Can the worth of a configuration be predicted from its parameters at all?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from sweeps.health.evidence import Evidence, Floats
from sweeps.health.finding import Finding, Remedy, TooLittle
from sweeps.health.model import columns, ranks
from sweeps.intervals import Estimate

FEWEST: Final = 12
"""Configurations without which nothing is predicted."""
FOLDS: Final = 10
PENALTIES: Final = (0.1, 1.0, 10.0, 100.0)
"""Of the squared coefficients; the one is taken that predicts best inside of what is learned
from."""
ENOUGH: Final = 0.25
"""The share of the ranks that a model should predict: charts of fields then show something."""
Z: Final = 1.96
"""Standard errors on either side in an interval of 95 %."""


def prediction(evidence: Evidence) -> Iterator[Finding]:
    """If a small model predicts little of configurations that it has not seen."""
    configurations = evidence.searched(at_least=FEWEST)
    every = [columns(range_, configurations) for range_ in evidence.study.space.values()]
    x, y = np.concatenate(every, axis=1), ranks(configurations)
    if not y.any() or not np.ptp(x, axis=0).any():
        raise TooLittle("all configurations are worth the same, or equal")
    predicted = cross_validated(x, y)
    if predicted.high < ENOUGH:
        yield Finding(
            "What a configuration is worth cannot be predicted from its parameters.",
            f"a ridge regression predicts {predicted:.2f} of the ranks of configurations that it "
            f"has not seen (cross-validated R2; 0: no better than their mean), {len(y)} "
            "configurations",
            Remedy("set under [study]", f"trials = {2 * evidence.trials.total}"),
        )


def cross_validated(x: Floats, y: Floats) -> Estimate:
    """R2 of predictions for the tenth of rows that is left out, and its interval.

    1 - sum b / sum a, with a and b the squared errors of the mean and of the model that the other
    rows give; the interval from the standard deviation of b - (1 - R2) a over rows.
    """
    order = np.random.default_rng(0).permutation(len(y))
    of_mean, of_model = np.empty(len(y)), np.empty(len(y))
    for fold in range(min(FOLDS, len(y))):
        out = order[fold::FOLDS]
        rest = np.setdiff1d(order, out)
        of_mean[out] = (y[out] - y[rest].mean()) ** 2
        of_model[out] = (y[out] - ridge(x[rest], y[rest], x[out])) ** 2
    left = float(of_model.sum() / of_mean.sum())
    error = float(np.std(of_model - left * of_mean, ddof=1) / np.sqrt(len(y)) / of_mean.mean())
    return Estimate(1 - left, 1 - left - Z * error, 1 - left + Z * error)


def ridge(x: Floats, y: Floats, new: Floats) -> Floats:
    """What a linear model predicts for new rows; of the `PENALTIES` it has the one with the least
    error over rows that are left out one at a time, in closed form."""
    middle, mean = x.mean(axis=0), y.mean()
    squares, v = np.linalg.eigh((x - middle).T @ (x - middle))
    axes = (x - middle) @ v
    along, errors = axes.T @ (y - mean), []
    for penalty in PENALTIES:
        leverage = (axes**2 / (squares + penalty)).sum(axis=1) + 1 / len(y)
        residuals = y - mean - axes @ (along / (squares + penalty))
        errors.append(float(np.mean((residuals / np.maximum(1 - leverage, 1e-9)) ** 2)))
    penalty = PENALTIES[int(np.argmin(errors))]
    predicted: Floats = mean + (new - middle) @ v @ (along / (squares + penalty))
    return predicted
