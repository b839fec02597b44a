"""What a judgement says: the verdict, the tables, and a line for each elimination."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from analysis.confirm.judgement import Comparison, Judgement, Standing
from analysis.race import EQUAL, report_seeds
from analysis.stats import Estimate
from lander.seeds import CHOICE_SEED, TEST_SEED
from sweeps.confirm import Training
from sweeps.study.study import TEST_EPISODES

Rows = list[Sequence[str]]
"""A table: its head, then its rows."""
PROMISE: Final = ("promised", "expected")
"""Heads of the columns with what the sweep says of a configuration."""


def verdict(judgement: Judgement) -> str:
    """One or two sentences, as strong as the numbers allow."""
    course, candidates = judgement.course, len(judgement.standings)
    if not course.over:
        return (
            f"The race is on: {candidates - len(course.out)} of {candidates} candidates are in "
            f"after {course.seeds} choice seeds."
        )
    if judgement.finalists is None:
        return "Not confirmed: every candidate failed."
    rival, _ = judgement.finalists
    if judgement.waiting:
        total = 2 * report_seeds(judgement.plan, used=course.used)
        return (
            f"The race is over; {rival.name} against the base: "
            f"{total - judgement.waiting} of {total} trainings under report seeds have ended."
        )
    if judgement.final is None:
        return f"Not confirmed: {rival.name} or the base failed under every report seed."
    return final_verdict(judgement.final)


def final_verdict(final: Comparison) -> str:
    """The verdict of a complete race."""
    rival, base = final.rival, final.base
    if final.better is rival:
        return f"Confirmed: {rival.name}, better than the base. {compared(final)}"
    if final.better is base:
        others = f"{rival.name}, the winner of the race"
        return f"Confirmed: the base, better than {others}. {compared(final)}"
    failed = [
        f"{one.failed} of {len(one.standing.candidate.report)} trainings of {one.name}"
        for one in (rival, base)
        if one.failed
    ]
    if failed:
        return f"Not confirmed: {' and '.join(failed)} failed under report seeds."
    return f"Not confirmed. {compared(final)} {outlook(final)}"


def compared(final: Comparison) -> str:
    """The chance and the gain in a sentence, as of the finalist that more often returns more."""
    first, second, chance, gain = final.rival, final.base, final.chance, final.gain
    if chance.value < EQUAL:
        first, second = second, first
        chance = Estimate(1 - chance.value, 1 - chance.high, 1 - chance.low)
        gain = Estimate(-gain.value, -gain.high, -gain.low)
    return (
        f"A training of {first.name} returns more than one of {second.name} with probability "
        f"{chance:.2f}, and {gain} more on average ({percent(1 - final.level)} intervals, "
        f"{len(final.rival.finished)} report seeds each)."
    )


def outlook(final: Comparison) -> str:
    """What would decide a comparison that proves nobody better."""
    if final.contradicts:
        more = final.rival if final.chance.value > EQUAL else final.base
        return f"The mean of {more.name} is lower all the same, so neither is called better."
    if final.seeds_to_decide is None:
        return "To decide that would take more than 1000 seeds each: call them equal."
    return f"If that is the probability, {final.seeds_to_decide} seeds each decide."


def prediction(judgement: Judgement) -> str:
    """What the sweep promised, and what report seeds say; empty before there are any."""
    shown = judgement.shown
    if shown is None or shown.standing.promise is None:
        return ""
    likely = shown.standing.promise
    promised = f"The sweep promised {likely.promised:.1f} of {shown.name} and expected {likely}"
    return f"{promised}; under report seeds it is {shown.mean}."


def percent(share: float) -> str:
    """A share in percent, with as many digits as the levels of looks need."""
    return f"{100 * share:.4g} %"


def tables(judgement: Judgement) -> list[Rows]:
    """The table of the race, and that of the finalists once they have numbers."""
    return [list(race_rows(judgement)), *final_tables(judgement)]


def race_rows(judgement: Judgement) -> Iterator[Sequence[str]]:
    """The table of a race."""
    yield "", "choice seeds", "mean [95 %]", "with the sweep's", "out", *PROMISE
    for row in judgement.standings:
        failed = sum(training.failed for training in row.trainings)
        out = "" if row.out is None else f"after {row.out.seeds}"
        yield (
            row.name,
            seeds_cell(len(row.trainings) - failed, failed),
            "" if row.mean is None else str(row.mean),
            "" if row.mean is None else f"{np.mean(row.scores):.1f} of {len(row.scores)}",
            "failed" if failed else out,
            *promise_cells(row),
        )


def final_tables(judgement: Judgement) -> list[Rows]:
    """The table of the two finalists, if they have numbers."""
    final = judgement.final
    if final is None:
        return []
    mean = f"mean [{percent(1 - final.level / 2)}]"
    head = ("", "report seeds", mean, "IQM", "success", "worst seed", *PROMISE, "optimism gap")
    rows = [
        (
            row.name,
            seeds_cell(len(row.finished), row.failed),
            str(row.mean),
            f"{row.iqm:.1f}",
            "" if row.success_rate is None else f"{row.success_rate:.1%}",
            f"{row.worst:.1f}",
            *promise_cells(row.standing),
            "" if row.gap is None else f"{row.gap:+.1f}",
        )
        for row in (final.rival, final.base)
    ]
    return [[head, *rows]]


def seeds_cell(finished: int, failed: int) -> str:
    """The number of trainings that finished, and of those that failed."""
    return f"{finished} + {failed} failed" if failed else f"{finished}"


def promise_cells(row: Standing) -> tuple[str, str]:
    """What the sweep promised and expected."""
    return ("", "") if row.promise is None else (f"{row.promise.promised:.1f}", f"{row.promise}")


def elimination_line(row: Standing, judgement: Judgement) -> str:
    """Why a candidate is out, in one line."""
    assert row.out is not None
    if row.mean is None:
        return f"out: {row.name}, a training failed"
    leader = next(one for one in judgement.standings if one.number == row.out.leader)
    own, best = (mean_of(one.trainings[: row.out.seeds]) for one in (row, leader))
    return (
        f"out after {row.out.seeds} choice seeds: {row.name}, {own:.1f} against {best:.1f} of "
        f"{leader.name}, p {row.out.p:.2g} < {row.out.limit:.2g}"
    )


def mean_of(trainings: Sequence[Training]) -> float:
    """The mean score of some trainings."""
    return float(np.mean([training.score for training in trainings]))


def legend() -> str:
    """What the tables show, for people who did not run the confirmation."""
    return (
        "Each configuration trained anew under seeds that the sweep never used, each training "
        f"flown deterministically on {TEST_EPISODES} episodes: under choice seeds on reset seeds "
        f"{CHOICE_SEED} and up, under report seeds, by which nothing was chosen, on {TEST_SEED} "
        "and up. Out: Welch's test against the leader, corrected for rivals and looks. With the "
        "sweep's: the mean of all trainings, those of the sweep included; the highest one wins the "
        "race. The verdict: Mann and Whitney's test, over trainings. Means with Student's interval "
        "over trainings; those of the finalists hold together. Promised: the return in the sweep; "
        "expected: the return to expect, with its standard error; optimism gap: what was promised "
        "minus the mean under report seeds."
    )
