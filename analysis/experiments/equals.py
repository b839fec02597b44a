"""How much the best of equal trials flatters, in numbers and sentences.

All trials of an A/A sweep train one configuration, so whatever the best has above their mean is
luck. The trainings are those of the study `aa`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from typing import Final

import numpy as np
import scipy  # imports scipy.integrate once it is used

from analysis.experiments.landscape import Measured, read_measured
from analysis.stats import Estimate, mean_estimate
from lander.errors import ConfigError
from sweeps.estimates import Expected, Observed, expected_returns
from sweeps.scores import mean

STUDY: Final = "aa"
TRIED: Final = 15
"""Configurations that a default sweep tries; the other half of its trials repeats some."""
SWEEPS: Final = 200
"""Simulated sweeps for each number of trials, whose trials are drawn from all trainings."""


def read_equals() -> list[Measured]:
    """Every training of the A/A study, in the order of its seeds.

    Raises:
        ConfigError: it has no results.
    """
    equals = list(read_measured(STUDY).values())
    if not equals:
        raise ConfigError(f"{STUDY} has no results: make experiment NAME={STUDY}")
    return equals


def highest_of(values: Sequence[float], count: int) -> float:
    """The highest of `count` of these values on average, over every way to draw them.

    With M values x_1 <= .. <= x_M: sum of x_i C(i - 1, n - 1) / C(M, n), as x_i is the highest if
    the others are among the i - 1 below it.
    """
    ways = comb(len(values), count)
    return sum(value * comb(below, count - 1) / ways for below, value in enumerate(sorted(values)))


def highest_normal(count: int) -> float:
    """The highest of `count` independent standard normal values on average.

    E = integral of z n phi(z) Phi(z)^(n - 1)
    """

    def density(z: float) -> float:
        phi = np.exp(-z * z / 2) / np.sqrt(2 * np.pi)
        return float(z * count * phi * scipy.special.ndtr(z) ** (count - 1))

    return float(scipy.integrate.quad(density, -10, 10)[0])


@dataclass(frozen=True, slots=True)
class Flattery:
    """What the best of so many equal trials has above the mean of all trainings, on average."""

    trials: int
    score: float
    """Its score, over every way to draw the trials."""
    normal: float
    """The same if scores were normal with the standard deviation of these."""
    estimate: Estimate
    """Its expected return, as a sweep estimates it; the interval is of the simulation."""


def flattery(equals: Sequence[Measured], count: int, *, seed: int = 0) -> Flattery:
    """How much a sweep of `count` equal trials flatters."""
    finals = [one.final for one in equals]
    middle = mean(finals)
    return Flattery(
        count,
        highest_of(finals, count) - middle,
        highest_normal(count) * float(np.std(finals, ddof=1)),
        mean_estimate([each - middle for each in promises(equals, count, seed=seed)]),
    )


def promises(equals: Sequence[Measured], count: int, *, seed: int) -> list[float]:
    """The expected return of the best trial in simulated sweeps."""
    rng = np.random.default_rng((seed, count))
    draws = (rng.permutation(len(equals))[:count] for _ in range(SWEEPS))
    return [best(expected_returns([observed(equals[i]) for i in draw])).value for draw in draws]


def observed(one: Measured) -> Observed:
    """What a sweep knows of a trial that trains once, of which it does not know that it equals all
    others."""
    return Observed.of(
        one.final, scores=[one.final], finals=[one.final], checkpoints=one.checkpoints
    )


def best(expected: Sequence[Expected]) -> Expected:
    """The one with the highest expected return."""
    return max(expected, key=lambda one: one.value)


def scores_sentence(equals: Sequence[Measured]) -> str:
    """How different are equal trials?"""
    finals = [one.final for one in equals]
    top = max(equals, key=lambda one: one.final)
    return (
        f"{len(finals)} trainings of one configuration score {mean_estimate(finals)} on average, "
        f"half of them above {np.median(finals):.1f}, from {min(finals):.1f} to {max(finals):.1f}, "
        f"with a standard deviation of {np.std(finals, ddof=1):.1f}. The policy that scored "
        f"{top.final:.1f} returns {top.report:.1f} on 100 unseen episodes."
    )


def flattery_sentence(equals: Sequence[Measured], count: int) -> str:
    """How much does a sweep of so many trials flatter?"""
    row = flattery(equals, count)
    return (
        f"The best of {count} equal trials scores {row.score:.1f} above their mean, on average; if "
        f"scores were normal, {row.normal:.1f}. What a sweep expects of it is {row.estimate:+.1f} "
        f"from that mean ({SWEEPS} simulated sweeps)."
    )
