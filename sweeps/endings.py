"""How and when a trial ended: its `Ending`, whether it counts, whether it is retried, its times.

Everything is read from Optuna's state and the attributes of `sweeps.schema`. Only this file derives
an ending from the text of a reason.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

from optuna import TrialPruned
from optuna.trial import FrozenTrial, TrialState

from sweeps.schema import COST, COST_HELPED, ENDED, REASON, RETRY_OF, STARTED, Ending, Reason

USUAL: Final = (Ending.FINISHED, Ending.PRUNED, Ending.FAILED)
"""Endings that every summary counts; the others only where some trial has ended so."""
SETTLED: Final = (*USUAL, Ending.EXPIRED)
"""Endings that use up budget for good."""
SUPERSEDING: Final = (Ending.INTERRUPTED, Ending.LOST, Ending.RETRIED)
"""Endings after which another trial retries this one."""
COUNTED: Final = frozenset({*SETTLED, Ending.RUNNING, Ending.WAITING})
"""The one definition of the trials that count: each of them uses one trial of the budget."""

OF_STATE: Final = {
    TrialState.COMPLETE: Ending.FINISHED,
    TrialState.PRUNED: Ending.PRUNED,
    TrialState.RUNNING: Ending.RUNNING,
    TrialState.WAITING: Ending.WAITING,
}
OF_REASON: Final[Mapping[str | None, Ending]] = {
    Reason.INTERRUPTED: Ending.INTERRUPTED,
    Reason.LOST: Ending.LOST,
    Reason.WITHDRAWN: Ending.WITHDRAWN,
    None: Ending.LOST,  # another tool closed it, and gave no reason
}
OF_KIND: Final[Mapping[str, Ending]] = {
    Reason.EXPIRED: Ending.EXPIRED,
    Reason.RETRIED: Ending.RETRIED,
}
"""The word before the colon in a reason -> ending."""
NEVER: Final = datetime.min.replace(tzinfo=UTC)
"""Sorts a trial without a time before all others."""


class Expired(TrialPruned):
    """A trial takes longer than its study allows. Samplers learn from it as from a pruned one."""


def ending(trial: FrozenTrial) -> Ending:
    """How a trial ended, or that it has not yet."""
    return ending_of(trial.state, trial.user_attrs.get(REASON))


def ending_of(state: TrialState, reason: str | None) -> Ending:
    """The same for callers that read only the state and the reason from the database."""
    of_kind = OF_KIND.get((reason or "").partition(":")[0])
    return of_kind or OF_STATE.get(state) or OF_REASON.get(reason, Ending.FAILED)


def why(trial: FrozenTrial) -> str:
    """The reason for a trial's ending, without the word that names the ending itself."""
    reason = str(trial.user_attrs.get(REASON, ""))
    kind, _, rest = reason.partition(": ")
    return rest if kind in OF_KIND else reason


def run_status(how: Ending) -> Literal["FINISHED", "KILLED", "FAILED"]:
    """MLflow's status for the run of a trial that ended in this way."""
    if how == Ending.FINISHED:
        return "FINISHED"
    early = (Ending.PRUNED, Ending.EXPIRED, Ending.INTERRUPTED)
    return "KILLED" if how in early else "FAILED"


def is_divergence(reason: str) -> bool:
    """Whether a reason says that training diverged."""
    return reason.startswith(Reason.DIVERGED)


def counts(trial: FrozenTrial) -> bool:
    """Whether a trial uses one trial of the budget."""
    return ending(trial) in COUNTED


@dataclass(frozen=True, slots=True)
class Attempt:
    """What decides whether a trial is retried."""

    number: int
    root: int
    """Number of the first attempt with the same parameters and seed."""
    ending: Ending

    @property
    def counts(self) -> bool:
        return self.ending in COUNTED


def attempt(trial: FrozenTrial) -> Attempt:
    """A trial as one attempt among those of the same parameters and seed."""
    return Attempt(trial.number, root(trial), ending(trial))


def root(trial: FrozenTrial) -> int:
    """The number of the trial that this one retries; its own if it is no retry."""
    return int(trial.user_attrs.get(RETRY_OF, trial.number))


def to_retry(attempts: Iterable[Attempt]) -> list[int]:
    """Numbers of the trials to retry: interrupted, lost for the first time, or failed while retries
    were left, and not retried yet.

    Withdrawn attempts do not matter.
    """
    chains: defaultdict[int, list[Ending]] = defaultdict(list)
    last: dict[int, int] = {}
    for one in sorted(attempts, key=lambda one: one.number):
        if one.ending != Ending.WITHDRAWN:
            chains[one.root].append(one.ending)
            last[one.root] = one.number
    return [
        last[root]
        for root, chain in chains.items()
        if chain[-1] in (Ending.INTERRUPTED, Ending.RETRIED)
        or (chain[-1] == Ending.LOST and chain.count(Ending.LOST) == 1)
    ]


def now() -> str:
    """The current time as the attributes `STARTED` and `ENDED` hold it."""
    return datetime.now(UTC).isoformat()


def started(trial: FrozenTrial) -> datetime | None:
    """When a trial began, in UTC; None if it has not."""
    return _utc(trial, STARTED, trial.datetime_start)


def ended(trial: FrozenTrial) -> datetime | None:
    """When a trial ended, in UTC; None if it has not."""
    return _utc(trial, ENDED, trial.datetime_complete) if trial.state.is_finished() else None


def seconds(trial: FrozenTrial) -> float | None:
    """Time from start to end, by the clocks that recorded them, and what other workers have saved:
    as long as one worker would have taken. None before the end."""
    start, end = started(trial), ended(trial)
    if start is None or end is None:
        return None
    saved = float(trial.user_attrs.get(COST, {}).get(COST_HELPED, 0.0))
    return max(0.0, (end - start).total_seconds() + saved)


def covered(spans: Iterable[tuple[datetime, datetime]]) -> float:
    """Seconds that are in at least one of some spans of time."""
    total, until = 0.0, NEVER
    for start, end in sorted(spans):
        total += max(0.0, (end - max(start, until)).total_seconds())
        until = max(until, end)
    return total


def _utc(trial: FrozenTrial, attribute: str, naive: datetime | None) -> datetime | None:
    """The recorded time, or else Optuna's, taken as local time of this host.

    Optuna writes the local time of each worker's host without its zone, hence our own attributes.
    """
    recorded = trial.user_attrs.get(attribute)
    if recorded is not None:
        return datetime.fromisoformat(str(recorded))
    return None if naive is None else naive.astimezone(UTC)
