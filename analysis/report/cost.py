"""What a sweep costs, on its page: score against seconds, and the cheapest that solves it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil
from statistics import fmean

from analysis.cost.cheapest import Answer, cheapest
from analysis.cost.figure import cost_front
from analysis.cost.front import Offer, front, offers
from analysis.report.document import Block, drawing
from analysis.report.records import Records
from sweeps.charts.style import threshold_of
from sweeps.hints import hint
from sweeps.publish.markdown import code, line, plain_table
from sweeps.study.cost import cost_of, total_cost

SHOWN = 12
"""Rows of the table of the front."""


def cost_part(records: Records) -> list[Block]:
    """The front as a picture and a table, the cheapest that solves it, and what all of it took."""
    every, env = offers(records.sweep), records.sweep.study.base.env
    if not every:
        return ["No trial has finished."]
    answer = cheapest(every, threshold=threshold_of(env))
    caption = (
        "Expected return over the seconds of a training in this sweep, which depend on the machine "
        "and on what else it did. Bars: 95 % intervals, over trainings where there are several. On "
        "the line are those of which none that is faster is expected to return as much; orange: "
        "the mean of trainings by which nothing was chosen."
    )
    alt = "Expected return over the seconds of a training"
    return [
        line(answer.text),
        *commands(records, answer),
        drawing(cost_front(every, env=env), "cost", alt=alt, caption=caption),
        front_table(front(every)),
        plain_table([("of all trials", ""), *resources(records)]),
    ]


def commands(records: Records, answer: Answer) -> Iterator[Block]:
    """The command that trains what the answer needs."""
    if answer.trainings is None:
        return
    more, judgement = 2 * answer.trainings, records.judgement
    if judgement is not None:
        more += judgement.course.used
    else:
        more = ceil(1.5 * more)  # the race before it takes a third
    yield code(hint("confirm", records.shown_store, study=records.name, trainings=more))


def front_table(best: Sequence[Offer]) -> str:
    """The configurations on the front, the fastest first."""
    head = ["trial", "seconds", "steps", "expected", "under fresh seeds"]
    rows = [
        [
            str(one.trial.number),
            str(one.seconds),
            f"{one.env_steps:,.0f}",
            f"{one.likely:.0f}",
            "" if one.measured is None else f"{one.measured:.0f} ({len(one.fresh)} trainings)",
        ]
        for one in best[-SHOWN:]
    ]
    return plain_table([head, *rows])


def resources(records: Records) -> Iterator[tuple[str, str]]:
    """What the workers measured."""
    cost = total_cost(records.trials.all, records.sweep.study)
    yield "environment steps", f"{cost.env_steps:,}"
    if cost.seconds is not None:
        yield "seconds of trials", f"{cost.seconds:,.0f}, added up"
    if cost.cpu_seconds is not None:
        yield "seconds of a processor", f"{cost.cpu_seconds:,.0f}"
    if cost.peak_memory is not None:
        yield "peak memory of a worker", f"{cost.peak_memory:,.0f} MB"
    each = [cost_of(trial, records.sweep.study).joules for trial in records.trials.all]
    joules = [value for value in each if value is not None]
    if joules:
        shared = "of all processors meanwhile, shared by trials that ran at the same time"
        yield "energy per trial", f"{fmean(joules):,.0f} J {shared}"
