"""Flies the leading policies of a sweep while its last trials leave cores free."""

from __future__ import annotations

from collections.abc import Callable

from sweeps.publish.best_policy import compares_policies, episodes_of, leaders
from sweeps.publish.flights import CHOICE
from sweeps.record.recorder import tolerated
from sweeps.sweep import Sweep


def fly_ahead(sweep: Sweep, *, check: Callable[[], None]) -> None:
    """Fly the policies that lead by now, except those that another process of this host flies;
    `publish` finds their flights on record, and flies those that are missing.

    Each worker calls this once it has no trial left: the last one knows the final leaders. The
    first policy that cannot be flown ends it, as a server that does not answer would make each of
    them wait. `check` is called during the flights; an exception that it raises ends them.
    """
    if not compares_policies(sweep.study):
        return
    episodes = episodes_of(sweep.study)
    with tolerated([], "a flight"):
        for candidate in leaders(sweep, sweep.read_trials()):
            with candidate.claimed(wait=False) as mine:
                if mine is not None:
                    mine.fly(CHOICE, episodes=episodes, check=check)
