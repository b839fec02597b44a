"""A confirmation judged: how its race went, what its report seeds prove, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.race import (
    EQUAL,
    Course,
    Elimination,
    Plan,
    course_of,
    level_of,
    report_seeds,
    seeds_needed,
)
from analysis.stats import Estimate, difference, mean_estimate, probability_better
from lander.env import solved_return
from sweeps.confirm import (
    Confirmed,
    Race,
    Training,
    open_confirmation,
    read_candidates,
    read_looks,
    require_race,
)
from sweeps.estimates import Expected
from sweeps.lifecycle.points import Params
from sweeps.scores import are_returns, expected, iqm, median_index
from sweeps.store.store import Store
from sweeps.study.study import DEFAULTS, FIRST_CHOICE, FIRST_REPORT, candidate_name
from sweeps.sweep import open_sweep


@dataclass(frozen=True, slots=True)
class Standing:
    """A candidate in the race."""

    candidate: Confirmed
    trainings: tuple[Training, ...]
    """Under the choice seeds that counted."""
    mean: Estimate | None
    """Of its choice scores; None if one of them failed or none has ended."""
    before: tuple[float, ...]
    """Its scores in the sweep."""
    out: Elimination | None
    promise: Expected | None
    """What the sweep says of its return; None of the tuned defaults, of a base that did not finish,
    and where the sweep's scores are no returns."""

    @property
    def number(self) -> int:
        return self.candidate.number

    @property
    def name(self) -> str:
        return candidate_name(self.number)

    @property
    def scores(self) -> list[float]:
        """All by which the winner is chosen: those of the sweep, then its choice scores."""
        return [*self.before, *(training.score for training in self.trainings)]


@dataclass(frozen=True, slots=True)
class Finalist:
    """A candidate under report seeds, by which nothing was chosen."""

    standing: Standing
    finished: tuple[Training, ...]
    failed: int
    mean: Estimate
    """With an interval that holds together with that of the other finalist."""
    success_rate: float | None
    """Share of test episodes that reach the solved return; None if the environment names none."""

    @property
    def number(self) -> int:
        return self.standing.number

    @property
    def name(self) -> str:
        return self.standing.name

    @property
    def scores(self) -> list[float]:
        return [training.score for training in self.finished]

    @property
    def median(self) -> Training:
        """The training whose policy is shown: neither the luckiest nor the unluckiest."""
        return self.finished[median_index(self.scores)]

    @property
    def iqm(self) -> float:
        return iqm(self.scores)

    @property
    def worst(self) -> float:
        return min(self.scores)

    @property
    def gap(self) -> float | None:
        """Optimism: what the sweep promised minus the mean under report seeds."""
        promise = self.standing.promise
        return None if promise is None else promise.promised - self.mean.value


@dataclass(frozen=True, slots=True)
class Comparison:
    """The winner of the race, compared with the study's base."""

    rival: Finalist
    base: Finalist
    look: int
    """How many looks at the verdict came before."""
    chance: Estimate
    """The probability that a training of the rival is better than one of the base."""
    gain: Estimate
    """The rival's mean minus the base's, with an interval of the same confidence."""

    @property
    def level(self) -> float:
        """Probability that this look proves a difference between equals."""
        return level_of(self.look)

    @property
    def better(self) -> Finalist | None:
        """The finalist that is proven better; None if neither is. One of whose trainings some have
        failed never is, nor one whose mean is lower."""
        if self.contradicts:
            return None
        if self.chance.low > EQUAL and not self.rival.failed:
            return self.rival
        return self.base if self.chance.high < EQUAL and not self.base.failed else None

    @property
    def contradicts(self) -> bool:
        """Whether the ranks prove one better whose mean is lower: it fails rarely, but badly."""
        chance, gain = self.chance, self.gain.value
        return (chance.low > EQUAL and gain < 0) or (chance.high < EQUAL and gain > 0)

    @property
    def seeds_to_decide(self) -> int | None:
        """Report seeds of each with which the next look would probably prove the chance seen; None
        if it is proven, if they are too many, or if a failure rules it out."""
        seeds = len(self.rival.finished)
        failed = self.rival.failed or self.base.failed
        if self.better or failed or self.contradicts or seeds < 2:
            return None
        seen = max(self.chance.value, 1 - self.chance.value)
        needed = seeds_needed(seen, level=level_of(self.look + 1))
        return needed and max(needed, seeds + 1)


@dataclass(frozen=True, slots=True)
class Judgement:
    """The result of a confirmation, as far as it has been trained."""

    plan: Plan
    course: Course
    standings: tuple[Standing, ...]
    """Of those that race. The best first, once the race is over."""
    base: Standing
    """The study's base, which only runs under report seeds."""
    finalists: tuple[Standing, Standing] | None
    """The winner of the race, and the base. None before the race is over, and if every candidate
    failed."""
    final: Comparison | None
    """None before both finalists have a finished training under report seeds."""
    look: int
    """How many looks at the verdict came before."""
    waiting: int
    """Trainings that are missing, as far as the race has decided."""

    @property
    def confirmed(self) -> Finalist | None:
        """The finalist that a complete race has proven better than the other."""
        return None if self.waiting or self.final is None else self.final.better

    @property
    def shown(self) -> Finalist | None:
        """The finalist whose numbers are recorded: the confirmed one, or else the winner of the
        race, as its numbers under report seeds owe nothing to being chosen."""
        return None if self.final is None else self.confirmed or self.final.rival

    @property
    def trainings_to_decide(self) -> int | None:
        """How many trainings the race must be extended to; None if that would not help."""
        seeds = None if self.waiting or self.final is None else self.final.seeds_to_decide
        return None if seeds is None else self.course.used + 2 * seeds


def course_by(race: Race, candidates: Sequence[Confirmed]) -> Course:
    """The course of a race by the trainings of its candidates, among whom the base is not."""
    racing = [one for one in candidates if one.number != DEFAULTS]
    scores = {one.number: [each.score for each in one.choice] for one in racing}
    return course_of(scores, Plan(**race.plan), before=race.before)


def wanted_trainings(race: Race, candidates: Sequence[Confirmed]) -> dict[tuple[int, int], Params]:
    """The trainings of a race as far as it has decided: index of the seed, candidate ->
    parameters."""
    plan = Plan(**race.plan)
    course = course_by(race, candidates)
    wanted = [
        (FIRST_CHOICE + seed, number)
        for seed in range(max(course.wanted.values()))
        for number in course.wanted
        if seed < course.wanted[number]
    ]
    rival = rival_of(course, candidates)
    if rival is not None:
        seeds = range(report_seeds(plan, used=course.used))
        wanted += [(FIRST_REPORT + seed, one) for seed in seeds for one in (rival, DEFAULTS)]
    return {(index, number): race.candidates[number] for index, number in wanted}


def rival_of(course: Course, candidates: Sequence[Confirmed]) -> int | None:
    """The winner of a race, which is compared with the base; None before it is over, or if every
    candidate failed."""
    failed = {one.number for one in candidates if any(each.failed for each in one.choice)}
    unharmed = [number for number in course.order if number not in failed]
    return unharmed[0] if course.over and unharmed else None


def judge(
    race: Race,
    candidates: Sequence[Confirmed],
    *,
    promises: Mapping[int, Expected],
    threshold: float | None,
    looks: Sequence[int] = (),
) -> Judgement:
    """Judge a race by the trainings of its candidates. `promises` are those of the sweep, `looks`
    the recorded ones, and `threshold` is the solved return."""
    plan = Plan(**race.plan)
    course = course_by(race, candidates)
    standings = {
        one.number: standing(
            one,
            course,
            before=race.before.get(one.number, ()),
            promise=promises.get(one.number),
        )
        for one in candidates
    }
    wanted, rival = sum(course.wanted.values()), rival_of(course, candidates)
    ended = sum(len(one.trainings) for one in standings.values())
    finalists, final, look = None, None, len(looks)
    if rival is not None:
        seeds = report_seeds(plan, used=course.used)
        finalists = standings[rival], standings[DEFAULTS]
        wanted += 2 * seeds
        ended += sum(min(seeds, len(one.candidate.report)) for one in finalists)
        look = looks.index(seeds) if seeds in looks else look
        if all(finished(one) for one in finalists):
            final = compare(*finalists, look=look, threshold=threshold)
    return Judgement(
        plan=plan,
        course=course,
        standings=tuple(standings[number] for number in course.order or course.wanted),
        base=standings[DEFAULTS],
        finalists=finalists,
        final=final,
        look=look,
        waiting=wanted - ended,
    )


def standing(
    candidate: Confirmed, course: Course, *, before: Sequence[float], promise: Expected | None
) -> Standing:
    """A candidate's part in a race."""
    trainings = candidate.choice[: course.wanted.get(candidate.number, 0)]  # of the base none
    failed = any(training.failed for training in trainings)
    scores = [training.score for training in trainings]
    mean = None if failed or not scores else mean_estimate(scores)
    out = course.out.get(candidate.number)
    return Standing(candidate, trainings, mean, tuple(before), out, promise)


def finished(standing: Standing) -> tuple[Training, ...]:
    """The trainings of a finalist under report seeds that have finished."""
    return tuple(training for training in standing.candidate.report if not training.failed)


def compare(rival: Standing, base: Standing, *, look: int, threshold: float | None) -> Comparison:
    """Two finalists by their trainings under report seeds."""
    level = level_of(look)
    one, other = (finalist(each, level=level, threshold=threshold) for each in (rival, base))
    chance = probability_better(one.scores, other.scores, confidence=1 - level)
    gain = difference(one.scores, other.scores, confidence=1 - level)
    return Comparison(one, other, look, chance, gain)


def finalist(standing: Standing, *, level: float, threshold: float | None) -> Finalist:
    """A finalist's numbers; the intervals of two hold together with probability 1 - `level`."""
    trainings = finished(standing)
    episodes = np.concatenate([training.returns for training in trainings])
    scores = [training.score for training in trainings]
    return Finalist(
        standing,
        trainings,
        failed=len(standing.candidate.report) - len(trainings),
        mean=mean_estimate(scores, confidence=1 - level / 2),
        success_rate=None if threshold is None else float(np.mean(episodes >= threshold)),
    )


def judgement_of(store: Store, name: str) -> Judgement:
    """The judgement of a sweep's confirmation, as far as it has been trained.

    Raises:
        ConfigError: it has none, or one of an earlier version.
    """
    confirmation = open_confirmation(store, name)
    race = require_race(confirmation)
    swept = expected(open_sweep(store, name).read_trials().all)
    # by parameters: the trial of this number may have been lost, and its retry has the score
    promises = {
        number: likely
        for number, params in race.candidates.items()
        for trial, likely in swept
        if trial.params == params and are_returns([trial])
    }
    return judge(
        race,
        read_candidates(confirmation, race),
        promises=promises,
        threshold=solved_return(confirmation.study.base.env),
        looks=read_looks(confirmation),
    )
