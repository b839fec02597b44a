"""Iterated racing, a simple version of irace (López-Ibáñez et al. 2016,
doi:10.1016/j.orp.2016.09.002), at a budget that is far below what it asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.special import stdtr

from analysis.bakeoff.process import Floats
from analysis.bakeoff.simulate import STATISTICS, Candidate, Problem
from analysis.bakeoff.surrogate import snapped
from sweeps.study.space import defaults

LEVEL: Final = 0.05
"""Of the test that eliminates."""


@dataclass(frozen=True)
class IteratedRace:
    """Samples candidates, races them seed by seed, and samples closer around the survivors.

    irace takes 2 + log2(d) races and tests from the fifth seed on, which 32 trainings do not pay
    for: here are two races, and tests from the second seed on.
    """

    statistic: str = "final"
    races: int = 2
    first: int = 2
    """Seeds before the first test."""
    elites: int = 2
    """At most so many survivors go on to the next race."""

    def __call__(self, problem: Problem, rng: np.random.Generator) -> list[Candidate]:
        """All candidates; survivors have the most trainings."""
        space = problem.study.space
        base = defaults(space, problem.study.base)
        racing = [Candidate(base, problem.point(base))]
        everybody: list[Candidate] = []
        spent = 0
        for race in range(self.races):
            share = int((problem.budget - spent) / (self.races - race))
            # irace, equation 2: each new candidate is expected to need one seed more than the first
            wanted = max(len(racing) + 1, share // (self.first + 1))
            width = 0.5 * (1 / wanted) ** (race / len(space)) / 2**race
            while len(racing) < wanted:
                point = self.sampled(racing, race, width, len(space), rng)
                params = problem.params(snapped(point[None], space)[0])
                racing.append(Candidate(params, problem.point(params)))
            everybody += [candidate for candidate in racing if candidate not in everybody]
            spent += self.raced(racing, share, problem, rng)
        return [candidate for candidate in everybody if candidate.trainings]

    def sampled(
        self, elites: Sequence[Candidate], race: int, width: float, d: int, rng: np.random.Generator
    ) -> Floats:
        """A point at random, or in later races one around an elite."""
        if race == 0:
            return rng.random(d)
        elite = elites[int(rng.integers(min(self.elites, len(elites))))]
        return np.asarray(np.clip(elite.point + rng.normal(0, width, d), 0, 1))

    def raced(
        self, racing: list[Candidate], budget: int, problem: Problem, rng: np.random.Generator
    ) -> int:
        """Train seed by seed until the budget is spent or the elites are left; what it cost.
        `racing` keeps these, the best first."""
        score = STATISTICS[self.statistic]
        cost, seed = 0, 0
        while len(racing) > self.elites or seed < self.first:
            new = [each for each in racing if len(each.trainings) <= seed]
            if cost + len(new) > budget:
                break
            for candidate in new:
                candidate.trainings.append(problem.world.train(candidate.point, rng))
            cost, seed = cost + len(new), seed + 1
            racing.sort(key=lambda each: -float(np.mean(each.scores(score)[:seed])))
            if seed >= self.first:
                leader = np.array(racing[0].scores(score)[:seed])
                racing[1:] = [
                    each
                    for each in racing[1:]
                    if not worse(np.array(each.scores(score)[:seed]), leader)
                ]
        trained = [candidate for candidate in racing if candidate.trainings]
        racing[:] = trained[: self.elites]
        return cost


def worse(values: Floats, leader: Floats) -> bool:
    """Whether a paired t-test says that the mean is below the leader's."""
    apart = values - leader
    error = np.std(apart, ddof=1) / np.sqrt(len(apart))
    if error == 0:
        return bool(apart.mean() < 0)
    return bool(stdtr(len(apart) - 1, apart.mean() / error) < LEVEL)
