"""A race between configurations: who trains on, who is out, and what its end proves.

Candidates are trained under the same choice seeds, one after another. After a look, those that are
plainly worse than the leader are out, and what they would have cost goes to the others. The winner
is the one with the highest mean over all of its trainings, those of the sweep included: they
flatter a little, as the sweep chose by them, but they are many, and in simulations the winner is
worth more by them. The winner and the study's base, which nothing has to choose, are then trained
under report seeds, which chose nothing: this one comparison is the verdict.

It is by ranks: does a training of the winner return more than one of the base more often than not?
Some configurations crash in one training of ten, and a single crash widens the interval of a mean
so much that a dozen seeds prove nothing.

A candidate is out if Welch's one-sided t-test against the leader gives a p below LOSS / (rivals x
looks). Bonferroni over rivals and looks: in all looks together the best candidate is eliminated
with probability LOSS at most, however the others compare. (irace corrects one look by Holm, but not
for the number of looks; an anytime-valid test needs several times the trainings at so few.) An
elimination decides who trains on, never what is proven, so LOSS may be larger than `LEVEL`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, isfinite, sqrt
from types import MappingProxyType
from typing import Final

import scipy  # imports scipy.optimize once it is used

from analysis.stats import chance_error, welch

LEVEL: Final = 0.05
"""Probability that any look at equal finalists proves one of them better, at most."""
SPENT: Final = 0.8
"""Share of what is left of `LEVEL` that each look at the verdict spends."""
LOSS: Final = 0.1
"""Probability that the best candidate is eliminated, at most."""
EQUAL: Final = 0.5
"""How often a training of one of two equals returns more than one of the other."""
POWER: Final = 0.8
"""Probability with which the smallest difference that is promised is detected."""
CHOOSING: Final = 3
"""One in so many trainings may choose, or what the first look takes if that is more."""
FIRST: Final = 3
"""Choice seeds before anybody can be eliminated."""
LOOKS: Final = 3
"""How often somebody can be eliminated; between two looks is one choice seed more."""
FAILED: Final = -inf
"""Score of a training that failed: its candidate is out."""

Scores = Mapping[int, Sequence[float]]
"""Candidate -> its scores, in the order of their seeds."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How long a race may take. A third of it chooses at most, and all the rest measures: in
    simulations more choice seeds bring the choice less than they take from the verdict."""

    trainings: int = 40
    """All of them together."""
    choosing: int = 40 // CHOOSING
    """Those on choice seeds, at most."""
    first: int = FIRST
    looks: int = LOOKS


@dataclass(frozen=True, slots=True)
class Elimination:
    """Why a candidate is out."""

    seeds: int
    """After how many choice seeds."""
    leader: int
    p: float
    """Of the test against the leader; 0 if a training failed."""
    limit: float
    """It is out if `p` is below this."""


@dataclass(frozen=True, slots=True)
class Course:
    """How far a race on choice seeds is."""

    wanted: Mapping[int, int]
    """Candidate -> under how many choice seeds it is trained, as far as is decided."""
    seeds: int
    """Choice seeds that all candidates who are in have finished."""
    out: Mapping[int, Elimination]
    over: bool
    """Whether nothing more is trained on choice seeds."""
    order: Sequence[int] = field(default=())
    """The best first: who is in, by the mean of all trainings, then who was eliminated late."""

    @property
    def used(self) -> int:
        """Trainings on choice seeds."""
        return sum(self.wanted.values())


def course_of(scores: Scores, plan: Plan, *, before: Scores = MappingProxyType({})) -> Course:
    """The course of a race by the scores of the trainings that have ended.

    `before` are scores of the sweep: they count in the choice of the winner, but nobody is
    eliminated by them. The race is over when one candidate is in, or when the trainings for
    choosing are used up.
    """
    limit = LOSS / (max(1, len(scores) - 1) * plan.looks)
    wanted, out, seeds = dict.fromkeys(scores, 0), dict[int, Elimination](), 0
    racing = list(scores)
    while len(racing) > 1:
        target = plan.first if seeds == 0 else seeds + 1
        cost = (target - seeds) * len(racing)
        if target > plan.first + plan.looks or sum(wanted.values()) + cost > plan.choosing:
            break
        wanted |= dict.fromkeys(racing, target)
        if any(len(scores[one]) < target for one in racing):
            return Course(wanted, seeds, out, over=False)
        seeds = target
        out |= eliminated({one: scores[one][:seeds] for one in racing}, limit=limit)
        racing = [one for one in racing if one not in out]
    survived = {one: out[one].seeds if one in out else inf for one in scores}
    means = {one: mean_score([*before.get(one, ()), *scores[one][: wanted[one]]]) for one in scores}
    by_rank = {one: (survived[one], means[one], -one) for one in scores}
    order = sorted(scores, key=lambda one: by_rank[one], reverse=True)
    return Course(wanted, seeds, out, over=True, order=order)


def run_race(
    train: Callable[[int, int], float],
    candidates: Sequence[int],
    plan: Plan,
    *,
    before: Scores = MappingProxyType({}),
) -> Course:
    """The course of a whole race; `train` gives the score of a candidate under a choice seed."""
    scores: dict[int, list[float]] = {one: [] for one in candidates}
    while True:
        course = course_of(scores, plan, before=before)
        if course.over:
            return course
        for one, wanted in course.wanted.items():
            scores[one] += [train(one, seed) for seed in range(len(scores[one]), wanted)]


def eliminated(scores: Scores, *, limit: float) -> dict[int, Elimination]:
    """Who is out after a look at equally many scores of each."""
    leader = max(scores, key=lambda one: (mean_score(scores[one]), -one))
    tests = {one: p_worse(scores[one], scores[leader]) for one in scores if one != leader}
    if mean_score(scores[leader]) == FAILED:
        tests[leader] = 0.0
    seeds = len(scores[leader])
    return {one: Elimination(seeds, leader, p, limit) for one, p in tests.items() if p < limit}


def mean_score(scores: Sequence[float]) -> float:
    """The mean, or `FAILED` if a training failed or there is none."""
    return sum(scores) / len(scores) if scores else FAILED


def p_worse(values: Sequence[float], others: Sequence[float]) -> float:
    """One-sided p of Welch's test that the mean of `values` is not below that of `others`; 0 if
    one of `values` failed."""
    if not all(map(isfinite, values)):
        return 0.0
    gain, error, freedom = welch(values, others)
    if error == 0:
        return 0.0 if gain < 0 else 1.0
    return float(scipy.special.stdtr(freedom, gain / error))


def trainings_to_choose(trainings: int, *, candidates: int, first: int = FIRST) -> int:
    """How many trainings of a race choose at most: one in `CHOOSING`, or the first look of all."""
    return max(first * candidates if candidates > 1 else 0, trainings // CHOOSING)


def level_of(look: int) -> float:
    """The level of a look at the verdict, from 0: they add up to `LEVEL`."""
    return LEVEL * SPENT * (1 - SPENT) ** look


def report_seeds(plan: Plan, *, used: int) -> int:
    """Under how many report seeds both finalists are trained, after so many trainings."""
    return max(0, plan.trainings - used) // 2


def smallest_chance(seeds: int, *, level: float) -> float:
    """The probability that a training of one is better than one of the other which a two-sided test
    at this level detects with probability `POWER` by `seeds` trainings of each; 1 if none.

    theta - 1/2 = z(1 - level / 2) error(1/2) + z(POWER) error(theta)
    """
    if seeds < 2:
        return 1.0
    needed = scipy.special.ndtri(1 - level / 2) * chance_error(EQUAL, seeds, seeds)

    def missing(theta: float) -> float:
        reach = needed + scipy.special.ndtri(POWER) * chance_error(theta, seeds, seeds)
        return float(theta - EQUAL - reach)

    return float(scipy.optimize.brentq(missing, EQUAL, 1.0)) if missing(1.0) > 0 else 1.0


def smallest_difference(deviation: float, seeds: int, *, level: float) -> float:
    """`smallest_chance` as a difference of means, if scores vary normally with this standard
    deviation: deviation sqrt(2) z(theta). Infinite if none is detected."""
    chance = smallest_chance(seeds, level=level)
    return deviation * sqrt(2) * float(scipy.special.ndtri(chance))


def seeds_needed(chance: float, *, level: float, most: int = 1000) -> int | None:
    """How many seeds each of two needs to detect this `smallest_chance`; None beyond `most`."""
    numbers = range(2, most + 1)

    def detected(seeds: int) -> bool:
        return smallest_chance(seeds, level=level) <= chance

    first = bisect_left(numbers, True, key=detected)  # more seeds detect smaller chances
    return numbers[first] if first < len(numbers) else None
