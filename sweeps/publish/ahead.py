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
from sweeps.sweep import Sweep, open_sweep

LOCKS: Final = "flights.lock"
"""File of a store; whoever flies a policy locks the byte whose offset is the id of its trial."""


def fly_ahead(sweep: Sweep, *, check: Callable[[], None]) -> None:
    """Fly the policies that lead by now, except those that another process of this host flies;
    `publish` finds their flights on record.

    Each worker calls this once it has no trial left, so that the last one knows the final leaders.
    The first that cannot be flown ends it, as a server that does not answer would make each wait:
    `publish` flies the rest. `check` is called during the flights; an exception that it raises ends
    them.
    """
    if sweep.study.confirms or not one_environment(sweep.study):
        return  # publishing compares no policies
    episodes = episodes_of(sweep.study)
    with tolerated([], "a flight"):
        for candidate in leaders(sweep, sweep.read_trials()):
            with claimed(candidate) as mine:
                if mine is not None:
                    mine.fly(CHOICE, episodes=episodes, check=check)


@contextmanager
def claimed(candidate: Candidate) -> Generator[Candidate | None]:
    """The policy with the flights that are on record now; None if another process of this host
    flies one of the same trial. None does within the block, and the system releases the claim of a
    process that dies."""
    store = candidate.sweep.store
    with inside(store.folder, store.folder / LOCKS).open("ab") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, id_of(candidate.trial))
        except (BlockingIOError, PermissionError):
            yield None
        else:
            now = open_sweep(store, candidate.sweep.study.name)
            trial = now.read_trials().all[candidate.trial.number]
            yield replace(candidate, sweep=now, trial=trial)
