"""Score against seconds: what each configuration of a sweep costs, and which no other beats.

A configuration is on the front if none that takes less time is expected to return as much. Its
seconds are those of a training in the sweep; beside what the sweep expects of it stands what it
returned under seeds by which nothing was chosen, if it was trained under some.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf
from statistics import fmean

from optuna.trial import FrozenTrial, TrialState

from analysis.stats import Estimate, mean_estimate
from sweeps.confirm import open_confirmation, read_candidates, read_race
from sweeps.endings import seconds
from sweeps.estimates import Expected
from sweeps.lifecycle.points import Params
from sweeps.schema import CONFIRM_SUFFIX
from sweeps.scores import expected, final_means, parameters
from sweeps.study.cost import cost_of
from sweeps.sweep import Sweep

NORMAL = 1.96
"""Standard errors to each end of an interval of 95 %."""


Fresh = Sequence[tuple[Params, tuple[float, ...]]]
"""Parameters of candidates, and the return of each of their trainings under report seeds."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A configuration: what a training of it costs, and what to expect of that."""

    trial: FrozenTrial
    """The last trial of its parameters."""
    seconds: Estimate
    """Of a training; with Student's interval if it was trained several times."""
    env_steps: float
    """Of a training."""
    likely: Estimate
    """The expected return, with its 95 % interval if that is known."""
    fresh: tuple[float, ...] = ()
    """The mean return of each training under seeds by which nothing was chosen; minus infinity if
    it failed."""

    @property
    def measured(self) -> Estimate | None:
        """The mean of its fresh trainings; None without any, or if one failed."""
        return mean_estimate(self.fresh) if self.fresh and min(self.fresh) > -inf else None


def offers(sweep: Sweep) -> list[Offer]:
    """Every configuration that has finished, the best expected return first."""
    every = sweep.read_trials().counted
    same: dict[object, list[FrozenTrial]] = {}
    for trial in every:
        if trial.state == TrialState.COMPLETE and seconds(trial) is not None:
            same.setdefault(parameters(trial), []).append(trial)
    fresh = fresh_scores(sweep)
    return [
        offer(sweep, same[key], one.likely, fresh=fresh)
        for one in expected(every)
        if (key := parameters(one.trial)) in same
    ]


def offer(sweep: Sweep, same: Sequence[FrozenTrial], likely: Expected, *, fresh: Fresh) -> Offer:
    """A configuration by the trials that have its parameters."""
    shares = [(trial, len(final_means(trial)) or 1) for trial in same]
    took = [(seconds(trial) or 0.0) / count for trial, count in shares for _ in range(count)]
    steps = [cost_of(trial, sweep.study).env_steps / count for trial, count in shares]
    half = NORMAL * likely.error
    own = next((scores for params, scores in fresh if params == same[-1].params), ())
    if sweep.study.has_points:  # nothing is chosen by the seeds of points
        own = tuple(final for trial in same for final in final_means(trial))
    return Offer(
        same[-1],
        seconds=mean_estimate(took),
        env_steps=fmean(steps),
        likely=Estimate(likely.value, likely.value - half, likely.value + half),
        fresh=own,
    )


def fresh_scores(sweep: Sweep) -> Fresh:
    """What the candidates of a sweep's confirmation returned under report seeds, if it has one."""
    name = sweep.study.name
    if sweep.study.confirms or name + CONFIRM_SUFFIX not in sweep.store.study_names():
        return []
    confirmation = open_confirmation(sweep.store, name)
    race = read_race(confirmation.optuna)
    if race is None:  # of an earlier version, whose seeds both chose and measured
        return []
    return [
        (one.params, tuple(training.score for training in one.report))
        for one in read_candidates(confirmation, race)
        if one.report
    ]


def front(every: Iterable[Offer]) -> list[Offer]:
    """Those that no other beats, the fastest first: each returns more than all that take less."""
    best, chosen = -inf, list[Offer]()
    for one in sorted(every, key=lambda one: (one.seconds.value, -one.likely.value)):
        if one.likely.value > best:
            best = one.likely.value
            chosen.append(one)
    return chosen
