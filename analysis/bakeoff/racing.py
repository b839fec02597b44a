"""A race after a sweep, as `python -m analysis confirm` runs it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from analysis.bakeoff.estimate import Finished, Recommend, ranked
from analysis.bakeoff.process import Floats
from analysis.bakeoff.simulate import Candidate, Problem, Score, Search
from analysis.bakeoff.surrogate import Drawn
from analysis.race import Plan, report_seeds, run_race, trainings_to_choose
from sweeps.study.space import defaults


def report(training: Drawn) -> float:
    """The score of a training in a race: the mean of many episodes by which no sweep chose."""
    return training.report


def winner(sweep: Finished) -> Floats:
    """The first of the candidates that a race returns."""
    return np.where(np.arange(len(sweep.means)) == 0, sweep.means, -np.inf)


@dataclass(frozen=True)
class RaceAfter:
    """A sweep, and a race between the `top` best of it, whose winner meets the study's base."""

    search: Search
    score: Score
    recommend: Recommend
    top: int
    first: int
    """Choice seeds before anybody can be eliminated."""

    def __call__(self, problem: Problem, rng: np.random.Generator) -> list[Candidate]:
        """The winner and then the base, each with its trainings under report seeds."""
        sweep = Finished(self.search(problem, rng), self.score)
        order = ranked(sweep, self.recommend(sweep))
        base = defaults(problem.study.space, problem.study.base)
        best = [each for each in (sweep.candidates[i] for i in order) if each.params != base]
        racing = best[: self.top]
        total = Plan().trainings
        choosing = trainings_to_choose(total, candidates=len(racing), first=self.first)
        plan = Plan(total, choosing, first=self.first)

        def train(number: int, _seed: int) -> float:
            return report(problem.world.train(racing[number].point, rng))

        before = {
            number: [each.final for each in one.trainings] for number, one in enumerate(racing)
        }
        course = run_race(train, range(len(racing)), plan, before=before)
        seeds = report_seeds(plan, used=course.used)
        return [
            replace(
                finalist,
                trainings=[problem.world.train(finalist.point, rng) for _ in range(seeds)],
            )
            for finalist in (racing[course.order[0]], Candidate(base, problem.point(base)))
        ]
