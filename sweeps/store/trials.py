"""The trials of a sweep at one moment: read from Optuna's database once, counted, looked up."""

from __future__ import annotations

import gc
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import optuna
from optuna.trial import FrozenTrial

from lander.errors import ConfigError, nearest
from sweeps.endings import SETTLED, counts, ending
from sweeps.schema import BUDGET, COPIED_FROM, STOPPED, WINNER, Ending
from sweeps.scores import best_of

TRIAL_WORDS: Final = ("best", "confirmed")
"""Words for a trial of a sweep, beside its number."""


@dataclass(frozen=True)
class Trials:
    """What one reading of the database returned. `read_trials` makes it; it never changes."""

    all: Sequence[FrozenTrial]
    """Every trial by number, including those that were lost, interrupted or withdrawn."""
    budget: int
    """How many trials the sweep was last asked for."""
    stopped: str = ""
    """Why no further trial begins, though some are left; empty if they do."""

    @property
    def counted(self) -> list[FrozenTrial]:
        """Trials that use the budget: a lost or interrupted one does not, its retry does."""
        return [trial for trial in self.all if counts(trial)]

    @property
    def copied(self) -> int:
        """How many of them a fork has from another sweep, where they were trained."""
        return sum(COPIED_FROM in trial.user_attrs for trial in self.all)

    @property
    def asked(self) -> int:
        """How many trials the sweep was asked to train, those that it copied not among them."""
        return self.total - self.copied

    @property
    def ended(self) -> int:
        """How many have ended, in any way: it only grows, and with it what is known of a sweep."""
        return sum(trial.state.is_finished() for trial in self.all)

    @property
    def total(self) -> int:
        """How many trials count when the sweep is over."""
        return max(self.budget, len(self.counted))

    @property
    def left(self) -> int:
        """How many trials no worker has begun, retries included."""
        return self.total - sum(ending(trial) in SETTLED for trial in self.all) - self.running

    @property
    def over(self) -> bool:
        """Whether no further trial begins: all have, or the sweep has stopped."""
        return bool(self.stopped) or not self.left

    @property
    def running(self) -> int:
        """How many trials are being trained, by any worker."""
        return sum(ending(trial) == Ending.RUNNING for trial in self.all)

    @property
    def best(self) -> FrozenTrial | None:
        """The finished trial with the highest expected return, confirmed or not."""
        return best_of(self.all)


def read_trials(study: optuna.Study) -> Trials:
    """Read all trials of a study, its budget, and whether it has stopped."""
    attributes = study.user_attrs
    trials, stopped = study.get_trials(deepcopy=False), str(attributes.get(STOPPED, ""))
    return Trials(trials, int(attributes.get(BUDGET, 0)), stopped)


def find_trial(study: optuna.Study, which: str) -> FrozenTrial:
    """A trial by its number; "best", the one with the highest expected return; or "confirmed".

    Raises:
        ConfigError: no such trial.
    """
    trials = study.get_trials(deepcopy=False)
    if which == "best":
        best = best_of(trials)
        if best is None:
            raise ConfigError(f"study {study.study_name} has no finished trial yet")
        return best
    if which == "confirmed":
        winner = study.user_attrs.get(WINNER)
        if winner is None:
            raise ConfigError(f'study {study.study_name} has no confirmed trial: give "best"')
        return trials[int(winner)]
    if not which.isdecimal() or int(which) >= len(trials):
        near = nearest(which, TRIAL_WORDS)
        raise ConfigError(
            f'trial must be "best", "confirmed", a number from 0 to {len(trials) - 1} or the id '
            f'of a run, got "{which}"' + (f": did you mean {near}?" if near else "")
        )
    return trials[int(which)]


def find_started(study: optuna.Study, which: str) -> FrozenTrial:
    """As `find_trial`, for a trial that has begun and so has parameters.

    Raises:
        ConfigError: no such trial, or it waits to be run.
    """
    trial = find_trial(study, which)
    if trial.datetime_start is None:
        raise ConfigError(f"trial {trial.number} has not run yet")
    return trial


@contextmanager
def collector_paused() -> Generator[None]:
    """Pause the cyclic garbage collector; for reading many objects that are all kept, where
    looking for garbage among them takes longer than making them."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
