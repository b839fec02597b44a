"""What a confirmation is asked for, and what that takes and can prove, before it starts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from math import nan

import numpy as np
from optuna.trial import FrozenTrial

from analysis.confirm.judgement import Judgement
from analysis.race import (
    FIRST,
    POWER,
    Plan,
    level_of,
    report_seeds,
    run_race,
    smallest_chance,
    smallest_difference,
    trainings_to_choose,
)
from lander.errors import ConfigError
from lander.terminal import counted
from sweeps.confirm import (
    TOP,
    TRAININGS,
    Confirmed,
    Race,
    candidates,
    minutes_of,
    read_candidates,
    read_race,
    returns_in_sweep,
    seconds_of_training,
)
from sweeps.endings import ending
from sweeps.estimates import noise_variance
from sweeps.schema import Ending
from sweeps.scores import are_returns, observed, parameters
from sweeps.sweep import Sweep


def define(
    sweep: Sweep, confirmation: Sweep | None, *, top: int | None, trainings: int | None
) -> Race:
    """The race of a sweep: a new one, or the one that its confirmation has, which may be extended.

    Raises:
        ConfigError: nothing to compare, too few trainings, or another race than was started.
    """
    name = sweep.study.name
    race = None if confirmation is None else read_race(confirmation.optuna)
    if confirmation is None or race is None:
        top = TOP if top is None else top
        chosen = candidates(sweep, top=top)
        plan = plan_of(TRAININGS if trainings is None else trainings, candidates=len(chosen) - 1)
        return Race(top, chosen, asdict(plan), returns_in_sweep(sweep, chosen))
    if top not in (None, race.top):
        raise ConfigError(
            f"the race of {name} began with its best {race.top}, and its candidates stay: leave "
            "--top out, or give the study another name"
        )
    plan = Plan(**race.plan)
    if trainings is None or trainings == plan.trainings:
        return race
    if not any(one.report for one in read_candidates(confirmation, race)):
        return replace(race, plan=asdict(plan_of(trainings, candidates=len(race.candidates) - 1)))
    if trainings < plan.trainings:
        raise ConfigError(
            f"the race of {name} has {plan.trainings} trainings, of which some are measured: it "
            f"can only be extended, to more than {plan.trainings}"
        )
    return replace(race, plan=asdict(replace(plan, trainings=trainings)))


def plan_of(trainings: int, *, candidates: int) -> Plan:
    """The plan of a race of so many candidates.

    Raises:
        ConfigError: the trainings are too few.
    """
    least = max(4, 2 * FIRST * candidates if candidates > 1 else 0)
    if trainings < least:
        raise ConfigError(
            f"a race of {counted(candidates, 'candidate')} takes at least {least} trainings, got "
            f"{trainings}: give --trainings {least}{', or a smaller --top' * (candidates > 1)}"
        )
    return Plan(trainings, trainings_to_choose(trainings, candidates=candidates))


def forecast(
    sweep: Sweep, confirmation: Sweep, judgement: Judgement, *, workers: int
) -> Iterator[str]:
    """How many trainings are left, how long they take at most, and what they can prove."""
    plan, rows = judgement.plan, judgement.standings
    candidates = [row.candidate for row in (*rows, judgement.base)]
    ended = sum(len(one.choice) + len(one.report) for one in candidates)
    each = seconds_of_training(confirmation) or seconds_of_training(sweep)
    takes = f"{plan.trainings} trainings"
    if ended:
        takes = f"{plan.trainings - ended} of {takes} are left"
    if each is not None:
        minutes = minutes_of(plan.trainings - ended, each=each, workers=workers)
        takes += f", at most {minutes} minutes with {workers} workers"
    names = ", ".join(row.name for row in rows)
    yield f"candidates: {names}; the best of them then meets the base; {takes}"
    seeds, look = least_report_seeds(judgement), judgement.look
    deviation = deviation_in_race(candidates)
    if np.isnan(deviation):
        deviation = deviation_in_sweep(sweep)
    yield proof(seeds, level=level_of(look), deviation=deviation)


def proof(seeds: int, *, level: float, deviation: float) -> str:
    """What so many report seeds of each finalist can prove at this level."""
    chance = smallest_chance(seeds, level=level)
    if chance == 1:
        return f"{seeds} report seeds each can prove nothing: give --trainings more"
    text = (
        f"{seeds} report seeds each, or more, prove with power {POWER} what returns more than the "
        f"base in {chance:.0%} of all pairs of trainings"
    )
    if not deviation > 0:
        return text
    smallest = smallest_difference(deviation, seeds, level=level)
    return (
        f"{text}: {smallest:.0f} on average, if scores vary over seeds by {deviation:.0f} as so far"
    )


def least_report_seeds(judgement: Judgement) -> int:
    """Report seeds of each finalist if nobody else is eliminated."""
    plan, course = judgement.plan, judgement.course
    if not course.over:
        numbers = [row.number for row in judgement.standings]
        course = run_race(lambda *_: 0.0, numbers, plan)
    return report_seeds(plan, used=course.used)


def deviation_in_race(candidates: Sequence[Confirmed]) -> float:
    """The standard deviation of a score over training seeds, by the trainings of a race; NaN before
    a candidate has two."""
    return seed_deviation(
        [
            [training.score for training in trainings if not training.failed]
            for one in candidates
            for trainings in (one.choice, one.report)
        ]
    )


def deviation_in_sweep(sweep: Sweep) -> float:
    """The same by what a sweep tells of the better half of its configurations; NaN if nothing, or
    if its scores are no returns."""
    trials = sweep.read_trials().counted
    if not are_returns(trials):
        return nan
    same: dict[object, list[FrozenTrial]] = {}
    for trial in trials:
        if ending(trial) == Ending.FINISHED:
            same.setdefault(parameters(trial), []).append(trial)
    known = sorted(map(observed, same.values()), key=lambda one: -one.score)
    return float(np.sqrt(noise_variance(known[: (len(known) + 1) // 2])))


def seed_deviation(groups: Sequence[Sequence[float]]) -> float:
    """The standard deviation within groups, pooled; NaN if no group has two values."""
    squares = sum(float(np.var(group)) * len(group) for group in groups if len(group) > 1)
    freedom = sum(len(group) - 1 for group in groups if len(group) > 1)
    return (squares / freedom) ** 0.5 if freedom else nan
