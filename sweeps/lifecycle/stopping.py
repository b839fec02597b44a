"""Decides whether a sweep stops before all of its trials are done, by its [stop] table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from optuna.trial import FrozenTrial

from sweeps.endings import NEVER, SETTLED, covered, ended, ending, started
from sweeps.schema import COPIED_FROM, STOPPED
from sweeps.scores import best_expected, expected, parameters
from sweeps.store.trials import Trials
from sweeps.study.limits import Stop
from sweeps.sweep import Sweep


def has_stopped(sweep: Sweep) -> bool:
    """Whether no further trial begins. Workers ask before each one; the first of them for whom the
    study says so records why, so that all agree even if the estimate falls again."""
    if sweep.study.stop == Stop():
        return False
    trials = sweep.read_trials()
    return bool(trials.stopped) or note_stop(sweep, trials)


def note_stop(sweep: Sweep, trials: Trials) -> bool:
    """Record why a sweep stops by its study as it is now, or that it does not; whether it does."""
    reason = next(reasons_to_stop(sweep.study.stop, trials), "")
    if reason != trials.stopped:
        sweep.optuna.set_user_attr(STOPPED, reason)
    return bool(reason)


def reasons_to_stop(stop: Stop, trials: Trials) -> Iterator[str]:
    """Every reason to stop, in a few words each."""
    best = best_expected(trials.all) if stop.target is not None else None
    if best is not None and stop.target is not None and best.likely.value >= stop.target:
        yield (
            f"trial {best.trial.number} is expected to return {best.likely}, which reaches "
            f"target = {stop.target:g}"
        )
    if stop.plateau is not None and is_plateau(trials.all, stop.plateau):
        yield (
            f"the last {stop.plateau} trials did not raise the best expected return by more than "
            f"its standard error: plateau = {stop.plateau}"
        )
    if stop.hours is not None and hours_run(trials.all) >= stop.hours:
        yield f"trials have run for hours = {stop.hours:g}"


def is_plateau(trials: Iterable[FrozenTrial], count: int) -> bool:
    """Whether the last so many trials to end raised the best expected return by no more than its
    standard error."""
    settled = [trial for trial in trials if ending(trial) in SETTLED]
    settled.sort(key=lambda trial: (ended(trial) or NEVER, trial.number))
    earlier = {parameters(trial) for trial in settled[:-count]}
    ranks = expected(settled)  # of all, or what is known by now would be taken for a fall
    before = [one for one in ranks if parameters(one.trial) in earlier]
    if not before or ranks[0].likely.known_error is None:
        return False
    return ranks[0].likely.value - before[0].likely.value <= ranks[0].likely.known_error


def hours_run(trials: Iterable[FrozenTrial]) -> float:
    """The hours in which any trial was running; pauses of the sweep do not count, nor do trials
    that another one has trained."""
    now, own = datetime.now(UTC), (trial for trial in trials if COPIED_FROM not in trial.user_attrs)
    starts = ((started(trial), ended(trial) or now) for trial in own)
    return covered((start, end) for start, end in starts if start is not None) / 3600
