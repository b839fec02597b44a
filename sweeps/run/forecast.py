"""How long a sweep takes on this machine, said before it trains: by its trials that have ended, or
by a probe of two seconds at most."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import mean, quantiles, stdev
from typing import Final

from lander.config import TrainConfig
from lander.pace import Pace, pace_of
from sweeps.endings import SETTLED, ending, seconds
from sweeps.lifecycle.creation import is_created
from sweeps.run.cores import usable_cores
from sweeps.store.store import Store
from sweeps.store.trials import Trials
from sweeps.study.dead_ends import sampled
from sweeps.study.grid import Grid
from sweeps.study.settings import LARGEST
from sweeps.study.study import Study
from sweeps.sweep import open_sweep

PROBE_SECONDS: Final = 2.0
"""CPU seconds that a probe takes at most."""
PROBE_SHARE: Final = 0.0025
"""And the share of a sweep's CPU time that it may take, but for the base, which is always
measured."""
LEAST_STEPS: Final = 1_000_000
"""Environment steps of a sweep that is over in about a minute: a probe would tell too little."""
LEAST_HOURS: Final = 1 / 360
"""A time that is over before a probe would tell how many trials fit into it."""
ENOUGH: Final = 5
"""Ended trials that say more than a probe."""
RECORD_SECONDS: Final = 1.0
"""For the record, the film and the model of a trial."""
PRUNED: Final = {"none": 0.0, "median": 0.5, "wilcoxon": 0.5, "hyperband": 0.7, "halving": 0.7}
"""Share of the trials that a pruner looks at and ends at the first report, at most."""
UNPRUNED: Final = 5
"""First trials that no pruner ends, with its usual arguments."""

Span = tuple[float, float]
"""The least and the most, in seconds of one worker."""


@dataclass(frozen=True)
class Cost:
    """What a trial takes."""

    whole: Span
    """One that is not pruned."""
    each: Span
    """On average over the sweep."""
    source: str
    """How that is known."""

    def sweep(self, trials: int, *, workers: int, seeds: int = 1) -> Span:
        """Seconds until so many trials of so many seeds have ended; the last trainings leave
        workers idle."""
        low, high = self.each
        slots = min(workers, usable_cores())
        last = self.whole[1] / seeds * (min(workers, trials * seeds) - 1) / slots
        return trials * low / slots, trials * high / slots + last

    def fit(self, hours: float, *, workers: int) -> tuple[int, int, int]:
        """How many trials fit into so many hours: at least, about, at most."""
        spent = hours * 3600 * min(workers, usable_cores())
        low, high = self.each
        return int(spent / high), int(spent / mean(self.each)), int(spent / low)


def cost_of(study: Study, earlier: Trials | None, *, trials: int) -> Cost:
    """What each of so many trials takes, by the earlier ones of the sweep if enough have ended."""
    ended = [] if earlier is None else [t for t in earlier.all if ending(t) in SETTLED]
    took = list(filter(None, map(seconds, ended)))
    return by_records(took) if len(took) >= ENOUGH else by_probe(study, trials=trials)


def by_records(took: Sequence[float]) -> Cost:
    """The mean over ended trials, give or take two standard errors."""
    error = 2 * stdev(took) / len(took) ** 0.5
    span = max(mean(took) - error, min(took)), mean(took) + error
    return Cost(span, span, f"{len(took)} trials that have ended")


def by_probe(study: Study, *, trials: int) -> Cost:
    """By a few rollouts of the base and of other points of the space.

    The least: episodes of an evaluation end soon, the sampler prefers cheap points, and the pruner
    ends as many trials as it can. The most: they last to the limit, it prefers dear ones, and none
    is pruned.
    """
    configs = list(study.points.values())
    if not configs:
        configs = [study.base, *sampled(study.space, study.base, seed=study.settings.seed)[0]]
    started = time.process_time()
    paces = list(probed(configs, trials=trials * study.settings.seeds_per_trial))
    spent = time.process_time() - started
    low, high = (
        mean_cost([cost(pace, config, end) for pace in paces for config in configs], study, end)
        for end in (0, 1)
    )
    count = study.settings.seeds_per_trial
    whole = low * count, high * count
    each = whole[0] * (1 - saved(study, trials=trials)), whole[1]
    return Cost(whole, each, f"a probe of {spent:.1f} s")


def probed(configs: Sequence[TrainConfig], *, trials: int) -> Iterator[Pace]:
    """The pace of the first config, and of others while there is time."""
    started = time.process_time()
    first = pace_of(configs[0], seconds=PROBE_SECONDS)
    yield first
    limit = min(PROBE_SECONDS, PROBE_SHARE * trials * first.training(configs[0]))
    apart = configs[1 :: max(1, len(configs) // 4)]
    for config in apart:
        left = limit - (time.process_time() - started)
        if left <= (time.process_time() - started) / 2:
            return
        yield pace_of(config, seconds=left)


def cost(pace: Pace, config: TrainConfig, end: int) -> float:
    """Seconds of one training and its share of a record; `end` 0 for the least, 1 for the most."""
    return pace.training(config) + pace.evaluation(config)[end] + RECORD_SECONDS


def mean_cost(costs: Sequence[float], study: Study, end: int) -> float:
    """The mean over the space; where a sampler learns or points are repeated, half of the trials
    may be those of the cheap quarter, or of the dear one."""
    settings = study.settings
    guided = settings.sampler in ("tpe", "gp") or settings.repeat_from is not None
    if study.has_points or not guided or len(costs) < 2:
        return mean(costs)
    quartile = quantiles(costs, n=4, method="inclusive")[2 * end]
    return (mean(costs) + quartile) / 2


def saved(study: Study, *, trials: int) -> float:
    """The share of a sweep's time that pruning saves at most."""
    settings = study.settings
    first = max(settings.startup_trials, UNPRUNED)
    looked_at = max(0.0, trials * (settings.repeat_from or 1.0) - first) / trials
    return PRUNED[settings.pruner] * looked_at * (1 - 1 / study.reports)


def takes(study: Study, cost: Cost, *, left: int, workers: int) -> str:
    """The line that says what a sweep takes."""
    seeds = study.settings.seeds_per_trial
    workers = min(workers, left * seeds)
    trial = "a training" if study.has_points else "a trial"
    on = f"{workers} worker{'s' if workers > 1 else ''}"
    return (
        f"about {spelled(cost.sweep(left, workers=workers, seeds=seeds))} on {on}, "
        f"{spelled(cost.whole)} {trial}: by {cost.source}"
    )


def spelled(span: Span) -> str:
    """A span of seconds in words, with two digits.

    >>> spelled((41.2, 78.9)), spelled((118.0, 131.0)), spelled((7_000.0, 12_000.0))
    ('41 to 79 s', '2 min', '1.9 to 3.3 h')
    """
    unit, size = ("s", 1) if span[1] < 90 else ("min", 60) if span[1] < 5400 else ("h", 3600)
    low, high = (f"{value / size:.{1 if unit == 'h' else 0}f}" for value in span)
    return f"{high} {unit}" if low == high else f"{low} to {high} {unit}"


def fits(cost: Cost, *, hours: float, workers: int) -> tuple[int, str]:
    """How many trials fit into so many hours, and the line that says so."""
    least, about, most = cost.fit(hours, workers=workers)
    return about, f"{about:,} trials ({least:,} to {most:,}) fit into {hours:g} h"


@dataclass(frozen=True)
class Forecast:
    """What is known of a sweep before it trains."""

    trials: int | None
    """Its budget, if the command says one or as many as fit into its hours."""
    rows: Sequence[tuple[str, str]] = ()
    """Labels and texts, for the terminal."""


def forecast(study: Study, store: Store, args: argparse.Namespace) -> Forecast:
    """What a sweep takes if the command `run` with these arguments trains it on this machine.

    Nothing for one that is over in a minute, or that other machines train.
    """
    workers = usable_cores() if args.workers is None else args.workers
    if args.launcher == "ray" or not workers:
        return Forecast(args.trials)
    earlier = earlier_trials(study, store)
    left, done = left_of(study, earlier, asked=args.trials), ended(earlier)
    by_time = args.hours is not None and args.hours >= LEAST_HOURS
    long = left * study.settings.seeds_per_trial * steps_of(study) >= LEAST_STEPS
    if not left or not (long or by_time or done >= ENOUGH):
        return Forecast(args.trials)
    cost = cost_of(study, earlier, trials=left)
    trials, rows = args.trials, list[tuple[str, str]]()
    if by_time:
        about, text = fits(cost, hours=args.hours, workers=workers)
        about = min(about, LARGEST["trials"] - done)
        if args.trials is None and not study.has_points and about:
            trials, left, text = done + about, about, f"{text}: that is the budget"
        rows.append(("hours", text))
    return Forecast(trials, [("takes", takes(study, cost, left=left, workers=workers)), *rows])


def earlier_trials(study: Study, store: Store) -> Trials | None:
    """The trials of a sweep that exists; None for a new one."""
    if not store.exists or not is_created(store, study.name):
        return None
    return open_sweep(store, study.name).read_trials()


def ended(earlier: Trials | None) -> int:
    """How many trials a sweep has trained to any end."""
    if earlier is None:
        return 0
    return sum(ending(trial) in SETTLED for trial in earlier.all) - earlier.copied


def left_of(study: Study, earlier: Trials | None, *, asked: int | None) -> int:
    """How many trials are left to train, as `start_sweep` will have it."""
    wanted = asked or study.settings.trials
    if earlier is not None and not asked:
        wanted = max(wanted, earlier.asked)
    if study.settings.sampler == "grid":
        wanted = min(wanted, Grid(study.space, study.base, study.settings.seed).size)
    return max(0, wanted - ended(earlier))


def steps_of(study: Study) -> int:
    """Environment steps of its longest training."""
    return max(config.total_steps for config in study.configs)
