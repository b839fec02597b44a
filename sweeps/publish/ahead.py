"""Flies the leading policies of a sweep while its last trials leave cores free."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

from lander.files import inside
from sweeps.optuna_private import id_of
from sweeps.publish.best_policy import episodes_of, leaders, one_environment
from sweeps.publish.flights import CHOICE, Candidate
from sweeps.record.recorder import tolerated
from sweeps.store.store import Store
from sweeps.sweep import Sweep, open_sweep

LOCKS: Final = "flights.lock"
"""File of a store; whoever flies a policy locks the byte whose offset is the id of its trial."""


def fly_ahead(sweep: Sweep, *, check: Callable[[], None]) -> None:
    """Fly the policies that lead by now, except those that another process of this host flies;
    `publish` finds their flights on record.

    Each worker calls this once it has no trial left, so that the last one knows the final leaders.
    What cannot be flown yet, `publish` flies. `check` is called during the flights; an exception
    that it raises ends them.
    """
    if sweep.study.confirms or not one_environment(sweep.study):
        return  # publishing compares no policies
    episodes = episodes_of(sweep.study)
    for candidate in leaders(sweep, sweep.read_trials()):
        with tolerated([], candidate.name), claimed(sweep.store, candidate) as mine:
            if mine and not (again := read_again(candidate)).has_flown(CHOICE, episodes=episodes):
                again.fly(CHOICE, episodes=episodes, check=check)


@contextmanager
def claimed(store: Store, candidate: Candidate) -> Generator[bool]:
    """Whether no other process of this host flies a policy of the same trial; none does within the
    block. The system releases the claim of a process that dies."""
    with inside(store.folder, store.folder / LOCKS).open("ab") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, id_of(candidate.trial))
        except (BlockingIOError, PermissionError):
            yield False
        else:
            yield True


def read_again(candidate: Candidate) -> Candidate:
    """The same policy with the flights that are on record now."""
    now = open_sweep(candidate.sweep.store, candidate.sweep.study.name)
    trial = now.read_trials().all[candidate.trial.number]
    return replace(candidate, sweep=now, trial=trial)
