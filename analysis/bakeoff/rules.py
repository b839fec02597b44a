"""When a search trains a candidate again, and a sampler that knows how often each was trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.special import ndtr

from analysis.bakeoff.estimate import Finished
from analysis.bakeoff.process import Floats
from analysis.bakeoff.simulate import STATISTICS, Candidate, Params, Problem, Score
from analysis.bakeoff.surrogate import snapped
from sweeps.estimates import FEWEST, to_repeat

ANYWHERE: Final = 512
"""Random points that a model is asked about."""
NEARBY: Final = 64
"""Points around each of the best candidates that it is asked about."""
BEST: Final = 4
WIDTH: Final = 0.08
"""Standard deviation of the nearby points, in widths of the cube."""


@dataclass(frozen=True)
class Thompson:
    """Once `begin` of the budget is spent: what a sweep with `repeat_from` trains again."""

    score: Score
    begin: float

    def __call__(
        self, candidates: Sequence[Candidate], spent: float, rng: np.random.Generator
    ) -> Candidate | None:
        if spent < self.begin or len(candidates) < FEWEST:
            return None
        chosen = to_repeat(Finished(candidates, self.score).estimates, rng)
        return None if chosen is None else candidates[chosen]


@dataclass(frozen=True)
class Halving:
    """After `begin` of the budget: the best `first` once more each, the better half of them once
    more, and so on to the last."""

    score: Score
    begin: float
    first: int = 8

    def __call__(
        self, candidates: Sequence[Candidate], spent: float, _rng: np.random.Generator
    ) -> Candidate | None:
        if spent < self.begin:
            return None
        ranked = by_mean(candidates, self.score)
        count, wanted = self.first, 2
        while count >= 1:
            for candidate in ranked[:count]:
                if len(candidate.trainings) < wanted:
                    return candidate
            count, wanted = count // 2, wanted + 1
        return None


@dataclass(frozen=True)
class EveryNth:
    """Every n-th training goes to that of the best `of` candidates which has the fewest, as CARBS
    resamples its front (arXiv:2306.08055)."""

    score: Score
    n: int = 5
    of: int = 3
    begin: int = 8
    """Trainings before the first one."""

    def __call__(
        self, candidates: Sequence[Candidate], _spent: float, _rng: np.random.Generator
    ) -> Candidate | None:
        total = sum(len(candidate.trainings) for candidate in candidates)
        if total < self.begin or total % self.n:
            return None
        return min(by_mean(candidates, self.score)[: self.of], key=lambda each: len(each.trainings))


@dataclass(frozen=True)
class Challenge:
    """A challenger is trained on while its mean is at least that of the incumbent over equally
    many trainings, and takes over once it has as many. After every second challenger that has
    failed the incumbent is trained once more, up to `most` times, as SMAC3 intensifies (Lindauer
    et al. 2022, JMLR 23(54))."""

    score: Score
    most: int = 3

    def __call__(
        self, candidates: Sequence[Candidate], _spent: float, _rng: np.random.Generator
    ) -> Candidate | None:
        if not candidates:
            return None
        incumbent, challenger = self.standing(candidates)
        if challenger is not None:
            return challenger
        failed = sum(candidate is not incumbent for candidate in candidates)
        wanted = min(self.most, 1 + failed // 2)
        return incumbent if len(incumbent.trainings) < wanted else None

    def standing(self, candidates: Sequence[Candidate]) -> tuple[Candidate, Candidate | None]:
        """The incumbent, and the newest candidate if it is to be trained on."""
        incumbent = candidates[0]
        for candidate in candidates[1:]:
            own, its = candidate.scores(self.score), incumbent.scores(self.score)
            if np.mean(own) < np.mean(its[: len(own)]):
                continue
            if len(own) < len(its):
                if candidate is candidates[-1]:
                    return incumbent, candidate
                continue  # it failed against an incumbent that has been trained since
            incumbent = candidate
        return incumbent, None


def by_mean(candidates: Sequence[Candidate], score: Score) -> list[Candidate]:
    """The highest mean first."""
    return sorted(candidates, key=lambda each: -each.mean(score))


@dataclass(frozen=True)
class ProcessSampler:
    """The point of highest expected improvement over the best mean of a Gaussian process, which
    knows how many trainings each score is the mean of."""

    statistic: str

    def __call__(
        self, problem: Problem, candidates: Sequence[Candidate], rng: np.random.Generator
    ) -> Params:
        space = problem.study.space
        points = rng.random((ANYWHERE, len(space)))
        if len(candidates) < BEST:
            return problem.params(snapped(points[:1], space)[0])
        model = Finished(candidates, STATISTICS[self.statistic]).model
        seen = model.mean(model.points)[:, 0]
        best = model.points[np.argsort(-seen)[:BEST]]
        around = np.repeat(best, NEARBY, axis=0)
        around = np.clip(around + rng.normal(0, WIDTH, around.shape), 0, 1)
        asked: Floats = np.concatenate([snapped(points, space), around])
        means = model.mean(asked)[:, 0]
        errors = np.sqrt(model.share(asked) * model.covariance[0, 0])
        apart = (means - seen.max()) / errors
        density = np.exp(-(apart**2) / 2) / np.sqrt(2 * np.pi)
        improvement = errors * (apart * ndtr(apart) + density)
        return problem.params(asked[int(np.argmax(improvement))])
