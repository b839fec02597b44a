"""How much of the differences between good scores is the noise of training seeds?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Final

import numpy as np
from scipy.special import fdtri

from sweeps.health.evidence import Configuration, Evidence
from sweeps.health.finding import Finding, Remedy, TooLittle
from sweeps.intervals import Estimate
from sweeps.scores import CONFIDENCE
from sweeps.study.study import Study

FEWEST: Final = 4
"""Good configurations that it takes; and as many trainings beyond the first of a configuration."""
MOSTLY: Final = 0.5
"""Above this share most of the differences are noise."""
SURELY: Final = 0.2
"""And the lower end of its interval lies above this one: with few repeated trainings any share is
possible."""
MOST: Final = 3
"""The most trainings of each trial that are proposed, as each costs as much as the first."""


@dataclass(frozen=True, slots=True)
class Components:
    """The variance of a score of one training, in two parts."""

    configuration: float
    """Variance of the configurations' own means."""
    seed: float
    """Variance over the training seeds of one configuration."""
    share: Estimate
    """That of the seed in the sum of both."""
    trainings: int
    configurations: int


def noise(evidence: Evidence) -> Iterator[Finding]:
    """If most of the differences between good scores are noise.

    Good ones are the better half, as for expected returns (`sweeps.estimates`): among them the best
    is looked for, and the failures in the other half are no noise of theirs.
    """
    parts = components([one for one in evidence.configurations if one.scores])
    if parts.share.value > MOSTLY and parts.share.low > SURELY:
        yield Finding(
            f"At least {parts.share.low:.0%} and likely {parts.share.value:.0%} of the differences "
            "between good scores is noise of training seeds.",
            f"share of the variance {parts.share:.2f}; standard deviation over seeds "
            f"{parts.seed**0.5:.1f}, between configurations {parts.configuration**0.5:.1f}; "
            f"{parts.trainings} trainings of the better {parts.configurations} configurations",
            remedy(evidence.study, parts.share.value),
        )


def components(finished: Sequence[Configuration]) -> Components:
    """The variance components of the better half of configurations.

    One-way random effects with unequal numbers of trainings, by unweighted means: with k means of
    n_1 .. n_k trainings, h the harmonic mean of these, and s^2 the pooled variance over seeds with
    d degrees of freedom, F = h S^2 / s^2 is compared with Fisher's distribution of k and d degrees
    (Thomas and Hultquist 1978, doi:10.1214/aos/1176344202). S^2 is the mean square distance from
    the median of all means, not from their own mean, as only one side of it is looked at.

    Raises:
        TooLittle: too few good configurations, or too few of them trained twice.
    """
    means = np.array([np.mean(one.scores) for one in finished])
    centre = float(np.median(means)) if len(means) else 0.0
    good = [one.scores for one, mean in zip(finished, means, strict=True) if mean >= centre]
    counts = np.array([len(scores) for scores in good])
    freedom = int(counts.sum()) - len(good)
    if len(good) < FEWEST or freedom < FEWEST:
        raise TooLittle(
            f"it takes {FEWEST} good configurations and {FEWEST} trainings that repeat one, there "
            f"{'is' if len(good) == 1 else 'are'} {len(good)} and {freedom}"
        )
    within = sum(len(scores) * float(np.var(scores)) for scores in good) / freedom
    square = float(np.mean([(np.mean(scores) - centre) ** 2 for scores in good]))
    if not within + square:
        raise TooLittle("all good scores are equal")
    harmonic = float(1 / np.mean(1 / counts))
    between = max(0.0, square - within / harmonic)
    ratio = harmonic * square / within if within else np.inf
    tails = (1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2
    low, high = (
        1 / (1 + max(0.0, ratio / float(fdtri(len(good), freedom, tail)) - 1) / harmonic)
        for tail in tails
    )
    share = Estimate(within / (within + between), low, high)
    return Components(between, within, share, int(counts.sum()), len(good))


def remedy(study: Study, share: float) -> Remedy:
    """More trainings: of what is likely the best, or if that is set of every trial, so many that
    the noise of their mean is at most half of the variance."""
    if study.has_points:
        return Remedy("set under [study]", f"training_seeds = {2 * study.settings.seed_count}")
    if study.settings.repeat_from is None and study.settings.seeds_per_trial == 1:
        return Remedy("set under [study]", "repeat_from = 0.5")
    times = ceil(share / (1 - share)) if share < 1 else MOST
    seeds = study.settings.seeds_per_trial * min(MOST, max(2, times))
    return Remedy("set under [study]", f"seeds_per_trial = {seeds}")
