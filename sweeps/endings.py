"""When a trial began and ended, in UTC: Optuna writes the local time of each worker's host, without
its zone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

from optuna.trial import FrozenTrial, TrialState

from sweeps.schema import ENDED, REASON, RETRY_OF, STARTED, Ending, Reason

NEVER: Final = datetime.min.replace(tzinfo=UTC)


def now() -> str:
    """This moment, as the attributes hold it."""
    return datetime.now(UTC).isoformat()


def started(trial: FrozenTrial) -> datetime | None:
    """When a trial began; None before it has."""
    return _utc(trial, STARTED, trial.datetime_start)


def ended(trial: FrozenTrial) -> datetime | None:
    """When a trial ended; None before it has."""
    return _utc(trial, ENDED, trial.datetime_complete) if trial.state.is_finished() else None


def seconds(trial: FrozenTrial) -> float | None:
    """From start to end, by the clocks of those who noted them; None before there is an end."""
    start, end = started(trial), ended(trial)
    return None if start is None or end is None else max(0.0, (end - start).total_seconds())


def _utc(trial: FrozenTrial, attribute: str, naive: datetime | None) -> datetime | None:
    """As recorded; of trials without a record Optuna's time, taken for that of this host."""
    recorded = trial.user_attrs.get(attribute)
    if recorded is not None:
        return datetime.fromisoformat(str(recorded))
    return None if naive is None else naive.astimezone(UTC)


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
OF_REASON: Final[Mapping[str | None, Ending]] = {
    Reason.INTERRUPTED: Ending.INTERRUPTED,
    Reason.LOST: Ending.LOST,
    Reason.WITHDRAWN: Ending.WITHDRAWN,
    None: Ending.LOST,  # closed by another tool than ours, which gives no reason
}


def ending_of(state: TrialState, reason: str | None) -> Ending:
    """The ending of a trial in that Optuna state, failed for that reason."""
    return OF_STATE.get(state) or OF_REASON.get(reason, Ending.FAILED)


def ending(trial: FrozenTrial) -> Ending:
    """How a trial ended, or that it has not."""
    return ending_of(trial.state, trial.user_attrs.get(REASON))


def run_status(how: Ending) -> Literal["FINISHED", "KILLED", "FAILED"]:
    """MLflow's word for the run of a trial that ended in this way."""
    if how == Ending.FINISHED:
        return "FINISHED"
    return "KILLED" if how in (Ending.PRUNED, Ending.INTERRUPTED) else "FAILED"


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
