"""When a trial began and ended, in UTC: Optuna writes the local time of each worker's host, without
its zone."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from optuna.trial import FrozenTrial

STARTED: Final = "sweeps.started"
"""Optuna user attribute of a trial: when a worker took it, ISO 8601 in UTC."""
ENDED: Final = "sweeps.ended"
"""Optuna user attribute of a trial: when it was closed."""
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
