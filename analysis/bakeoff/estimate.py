"""What a sweep's candidates are likely worth, and which one is recommended."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from analysis.bakeoff.process import Floats, Process, fitted
from analysis.bakeoff.simulate import Candidate, Score
from analysis.bakeoff.surrogate import CEILING, squeezed
from sweeps.estimates import WEIGHT, Expected, Observed, expected_returns

FEWEST: Final = 8
"""Candidates that a model needs."""
GATE: Final = 0.25
"""Share of the variance of scores that a model must explain of candidates that were left out."""


@dataclass(frozen=True)
class Finished:
    """The candidates of a sweep, scored."""

    candidates: Sequence[Candidate]
    score: Score

    @cached_property
    def means(self) -> Floats:
        """The mean score of each candidate, (n,)."""
        return np.array([candidate.mean(self.score) for candidate in self.candidates])

    @cached_property
    def counts(self) -> Floats:
        """How often each was trained, (n,)."""
        return np.array([float(len(candidate.trainings)) for candidate in self.candidates])

    @cached_property
    def estimates(self) -> list[Expected]:
        """The shrunken estimate of each candidate, as a sweep makes it."""
        return expected_returns([self.observed(candidate) for candidate in self.candidates])

    def observed(self, candidate: Candidate) -> Observed:
        """What a sweep knows of a candidate."""
        return Observed.of(
            candidate.mean(self.score),
            scores=candidate.scores(self.score),
            finals=[training.final for training in candidate.trainings],
            checkpoints=candidate.trainings[0].checkpoints.tolist(),
        )

    @cached_property
    def relative_noise(self) -> float:
        """The variance of one score over training seeds on the scale of the fit, where it is about
        equally large everywhere: from repeated trainings, and from the last checkpoints of the
        better half, which vary as much there."""
        scores = [squeezed(np.array(each.scores(self.score))) for each in self.candidates]
        better = self.means >= np.median(self.means)
        spreads = [
            np.var(squeezed(np.array([*training.checkpoints[-3:-1], training.final])), ddof=1)
            for candidate, chosen in zip(self.candidates, better, strict=True)
            if chosen
            for training in candidate.trainings
        ]
        squares = sum(float(np.var(own)) * len(own) for own in scores)
        freedom = sum(len(own) - 1 for own in scores)
        return (WEIGHT * float(np.median(spreads)) + squares) / (WEIGHT + freedom)

    @cached_property
    def relative(self) -> tuple[Floats, Floats]:
        """Each candidate's estimate on the scale of the fit, (n,), and its variance, (n,):
        shrunken towards the middle of all, as none is an outlier on that scale."""
        values = squeezed(self.means)
        errors = self.relative_noise / self.counts
        between = max(0.0, float(np.var(values, ddof=1) - errors.mean()))
        middle = float(np.average(values, weights=1 / (between + errors)))
        share = between / (between + errors)
        return middle + share * (values - middle), share * errors

    @cached_property
    def lag(self) -> float:
        """How far the score lies below the return of the last policy, in the better half."""
        better = self.means >= np.median(self.means)
        return float(
            np.mean(
                [
                    training.final - self.score(training)
                    for candidate, chosen in zip(self.candidates, better, strict=True)
                    if chosen
                    for training in candidate.trainings
                ]
            )
        )

    @cached_property
    def model(self) -> Process:
        """The process through the scores, on the scale of the fit."""
        points = np.stack([candidate.point for candidate in self.candidates])
        return fitted(points, squeezed(self.means)[:, None], self.counts)

    @cached_property
    def model_fits(self) -> bool:
        """Whether it predicts candidates that were left out (Ax gates its model by
        cross-validation as well)."""
        if len(self.candidates) < FEWEST:
            return False
        values = squeezed(self.means)
        unexplained = np.mean((values - self.model.left_out()[0][:, 0]) ** 2)
        return bool(unexplained < (1 - GATE) * np.var(values))


Recommend = Callable[[Finished], Floats]
"""What each candidate is promised to be worth, (n,): that of the highest promise is recommended."""


def observed(sweep: Finished) -> Floats:
    """The mean of its scores."""
    return sweep.means


def repeated(sweep: Finished) -> Floats:
    """The same, for those that were trained most often: how a race ends."""
    return np.where(sweep.counts == sweep.counts.max(), sweep.means, -np.inf)


def resampled(sweep: Finished) -> Floats:
    """The same, for those that were trained more than once, if any was."""
    again = sweep.counts > 1
    return np.where(again, sweep.means, -np.inf) if again.any() else sweep.means


def shrunken(sweep: Finished) -> Floats:
    """Its estimate, shrunken towards the middle of the better half."""
    return np.array([each.value for each in sweep.estimates])


def shrunken_relative(sweep: Finished) -> Floats:
    """Shrunken towards the middle of all, on the scale of the fit."""
    return returns(sweep, sweep.relative[0])


def modelled(sweep: Finished) -> Floats:
    """What a Gaussian process over the space expects there."""
    if not sweep.model_fits:
        return shrunken_relative(sweep)
    return returns(sweep, sweep.model.mean(sweep.model.points)[:, 0])


def pulled(sweep: Finished) -> Floats:
    """Shrunken towards what a Gaussian process predicts from all other candidates: a configuration
    may be better than its neighbourhood.

    What the prediction is off by, beyond the noise of a score, is the candidate's own.
    """
    if not sweep.model_fits:
        return shrunken_relative(sweep)
    errors = sweep.relative_noise / sweep.counts
    left_out, variances = sweep.model.left_out()
    own = np.maximum(variances * sweep.model.covariance[0, 0] - errors, 0.1 * errors)
    values = (left_out[:, 0] * errors + squeezed(sweep.means) * own) / (own + errors)
    return returns(sweep, values)


def returns(sweep: Finished, values: Floats) -> Floats:
    """What the last policy will return on average over training seeds, of values on the scale of
    the fit: equal noise there reaches further down than up, and a score over several checkpoints
    lies below that of the last."""
    return np.asarray(CEILING - np.exp(-values + sweep.relative_noise / 2) + sweep.lag)


def ranked(sweep: Finished, promises: Floats) -> list[int]:
    """Candidates by promise, the highest first; of equal ones that with the highest mean."""
    return [int(index) for index in np.lexsort((sweep.means, promises))[::-1]]


RECOMMEND: Final[Mapping[str, Recommend]] = {
    "best observed": observed,
    "shrunken": shrunken,
    "shrunken, relative": shrunken_relative,
    "shrunken to the model": pulled,
    "model": modelled,
}
"""Ways to recommend, all of them tried on every simulated sweep."""
