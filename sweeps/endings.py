"""How a trial ended, and which trials count: one answer for every table, tag and budget."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from optuna.trial import FrozenTrial, TrialState

REASON: Final = "sweeps.reason"
"""Optuna user attribute of a trial, and tag of its run: why it failed."""
RETRY_OF: Final = "sweeps.retry_of"
"""Optuna user attribute of a trial: the number of the first trial of its parameters and seed, which
was lost or interrupted."""
SUPERSEDED: Final = "sweeps.superseded"
"""Tag of a run: its trial was lost or interrupted, and does not count."""
INTERRUPTED: Final = "interrupted"
LOST: Final = "worker lost"
LOST_AGAIN: Final = "worker lost twice"
"""Of a trial whose retry was lost as well: it may be the trial that ends its workers."""
WITHDRAWN: Final = "withdrawn"
"""Reason of a trial that is not to be run any more."""


class Ending(StrEnum):
    """What has become of a trial, in the word that every table uses."""

    FINISHED = "finished"
    PRUNED = "pruned"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    """Broken off, to be tried again."""
    LOST = "lost"
    """Its worker is gone; to be tried again, once."""
    WITHDRAWN = "withdrawn"
    """Never to be run: the budget has shrunk."""
    RUNNING = "running"
    WAITING = "waiting"


SETTLED: Final = (Ending.FINISHED, Ending.PRUNED, Ending.FAILED)
"""Endings that use up budget for good."""
SUPERSEDING: Final = (Ending.INTERRUPTED, Ending.LOST)
"""Endings after which a trial is tried again in another one."""
COUNTED: Final = frozenset({*SETTLED, Ending.RUNNING, Ending.WAITING})
"""The one definition of the trials that count: each of them uses one trial of the budget."""

OF_STATE: Final = {
    TrialState.COMPLETE: Ending.FINISHED,
    TrialState.PRUNED: Ending.PRUNED,
    TrialState.RUNNING: Ending.RUNNING,
    TrialState.WAITING: Ending.WAITING,
}
OF_REASON: Final = {
    INTERRUPTED: Ending.INTERRUPTED,
    LOST: Ending.LOST,
    WITHDRAWN: Ending.WITHDRAWN,
    None: Ending.LOST,  # closed by another tool than ours, which gives no reason
}


def ending_of(state: TrialState, reason: str | None) -> Ending:
    """The ending of a trial in that Optuna state, failed for that reason."""
    return OF_STATE.get(state) or OF_REASON.get(reason, Ending.FAILED)


def ending(trial: FrozenTrial) -> Ending:
    """How a trial ended, or that it has not."""
    return ending_of(trial.state, trial.user_attrs.get(REASON))


def counts(trial: FrozenTrial) -> bool:
    """Whether a trial uses one of the budget."""
    return ending(trial) in COUNTED


def root(trial: FrozenTrial) -> int:
    """The number of the trial that this one stands for: its own, unless it is a retry."""
    return int(trial.user_attrs.get(RETRY_OF, trial.number))


@dataclass(frozen=True, slots=True)
class Attempt:
    """A trial among those of the same parameters and seed."""

    number: int
    root: int
    """The first of them."""
    ending: Ending

    @property
    def counts(self) -> bool:
        return self.ending in COUNTED


def attempt(trial: FrozenTrial) -> Attempt:
    """What of a trial decides about a retry."""
    return Attempt(trial.number, root(trial), ending(trial))


def to_try_again(attempts: Iterable[Attempt]) -> list[int]:
    """Numbers of the trials that were interrupted, or lost for the first time, and that no other
    trial stands for."""
    chains: defaultdict[int, list[Ending]] = defaultdict(list)
    last: dict[int, int] = {}
    for one in sorted(attempts, key=lambda one: one.number):
        if one.ending != Ending.WITHDRAWN:
            chains[one.root].append(one.ending)
            last[one.root] = one.number
    return [
        last[root]
        for root, chain in chains.items()
        if chain[-1] == Ending.INTERRUPTED
        or (chain[-1] == Ending.LOST and chain.count(Ending.LOST) == 1)
    ]
