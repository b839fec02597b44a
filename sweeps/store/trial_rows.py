"""The rows of trials in Optuna's tables, read and written without SQLAlchemy's object mapper.

A worker asks for a few rows again and again, and a report for all of them: the mapper takes several
times as long for that as the database. The rows mean what they mean to Optuna's `RDBStorage`.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final, cast

from optuna.distributions import BaseDistribution, json_to_distribution
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection, Row, Select, Table, bindparam, func, select, union_all
from sqlalchemy.dialects import postgresql, sqlite

from sweeps.schema import REASON, RETRY_OF

TRIALS: Final = cast(Table, models.TrialModel.__table__)
PARAMS: Final = cast(Table, models.TrialParamModel.__table__)
VALUES: Final = cast(Table, models.TrialValueModel.__table__)
REPORTS: Final = cast(Table, models.TrialIntermediateValueModel.__table__)
USER_ATTRS: Final = cast(Table, models.TrialUserAttributeModel.__table__)
SYSTEM_ATTRS: Final = cast(Table, models.TrialSystemAttributeModel.__table__)
HEARTBEATS: Final = cast(Table, models.TrialHeartbeatModel.__table__)

KEYS: Final = {
    PARAMS: PARAMS.c.param_name,
    VALUES: VALUES.c.objective,
    REPORTS: REPORTS.c.step,
    USER_ATTRS: USER_ATTRS.c.key,
    SYSTEM_ATTRS: SYSTEM_ATTRS.c.key,
}
"""Table -> the column that tells the rows of one trial apart."""
UNFINISHED: Final = (TrialState.RUNNING, TrialState.WAITING)
"""States in which a trial takes further rows."""
IDS_AT_ONCE: Final = 1_000
"""A database takes some thousand parameters in one statement."""
OF_STUDY: Final = TRIALS.c.study_id == bindparam("study_id")
NEW_OR_OPEN: Final = union_all(
    select(TRIALS.c.trial_id, TRIALS.c.state).where(
        OF_STUDY, TRIALS.c.trial_id > bindparam("after")
    ),
    # not joined by OR: SQLite would go through the whole study
    select(TRIALS.c.trial_id, TRIALS.c.state).where(
        TRIALS.c.trial_id.in_(bindparam("among", expanding=True))
    ),
)

REASONS: Final = USER_ATTRS.alias()
ROOTS: Final = USER_ATTRS.alias()
WITH_ATTRS: Final = TRIALS.outerjoin(
    REASONS, (REASONS.c.trial_id == TRIALS.c.trial_id) & (REASONS.c.key == REASON)
).outerjoin(ROOTS, (ROOTS.c.trial_id == TRIALS.c.trial_id) & (ROOTS.c.key == RETRY_OF))
ATTEMPTED: Final = (
    select(TRIALS.c.number, TRIALS.c.state, REASONS.c.value_json, ROOTS.c.value_json)
    .select_from(WITH_ATTRS)
    .where(OF_STUDY)
)
FAILED: Final = ATTEMPTED.where(TRIALS.c.state == TrialState.FAIL)
RETRIES: Final = ATTEMPTED.where(
    TRIALS.c.state != TrialState.FAIL,
    TRIALS.c.trial_id.in_(select(USER_ATTRS.c.trial_id).where(USER_ATTRS.c.key == RETRY_OF)),
)
UNCLOSED: Final = (
    select(TRIALS.c.trial_id)
    .select_from(WITH_ATTRS)
    .where(
        OF_STUDY,
        (TRIALS.c.state == TrialState.RUNNING)
        | ((TRIALS.c.state == TrialState.FAIL) & REASONS.c.value_json.is_(None)),
    )
)

Attempted = tuple[int, TrialState, str | None, int | None]
"""Number, state, REASON and RETRY_OF of a trial."""


def new_or_open(
    connection: Connection, study_id: int, *, after: int, among: Collection[int]
) -> list[tuple[int, TrialState]]:
    """Id and state of the trials of a study with an id `after` this one, and of those `among`
    these."""
    values = {"study_id": study_id, "after": after, "among": sorted(among)}
    return [(trial_id, state) for trial_id, state in connection.execute(NEW_OR_OPEN, values)]


def read(connection: Connection, ids: Sequence[int]) -> Iterator[FrozenTrial]:
    """The trials with these ids; those that do not exist are left out."""
    for first in range(0, len(ids), IDS_AT_ONCE):
        yield from read_some(connection, ids[first : first + IDS_AT_ONCE])


def read_some(connection: Connection, ids: Sequence[int]) -> Iterator[FrozenTrial]:
    """`read` for at most `IDS_AT_ONCE` trials."""
    # before their other rows, which then are all that an ended trial will ever have
    trials = connection.execute(rows_of(TRIALS), {"ids": ids}).all()
    params, values, reports, user_attrs, system_attrs = (
        by_trial(connection, table, ids)
        for table in (PARAMS, VALUES, REPORTS, USER_ATTRS, SYSTEM_ATTRS)
    )
    for trial in trials:
        key = trial.trial_id
        distributions = {row.param_name: distribution(row) for row in params[key]}
        yield FrozenTrial(
            number=trial.number,
            state=trial.state,
            value=None,
            values=[value_of(row) for row in values[key]] or None,
            datetime_start=local(trial.datetime_start),
            datetime_complete=local(trial.datetime_complete),
            params={
                row.param_name: distributions[row.param_name].to_external_repr(row.param_value)
                for row in params[key]
            },
            distributions=distributions,
            user_attrs=attributes(user_attrs[key]),
            system_attrs=attributes(system_attrs[key]),
            intermediate_values={row.step: report_of(row) for row in reports[key]},
            trial_id=key,
        )


@cache
def rows_of(table: Table) -> Select[Any]:
    """The statement that reads the rows of some trials; parameters in the order of suggestion."""
    chosen = table.c.trial_id.in_(bindparam("ids", expanding=True))
    if table is PARAMS:
        return select(table).where(chosen).order_by(table.c.param_id)
    order = [table.c.trial_id, *([KEYS[table]] if table in KEYS else [])]
    return select(table).where(chosen).order_by(*order)


def by_trial(
    connection: Connection, table: Table, ids: Sequence[int]
) -> defaultdict[int, list[Row[Any]]]:
    """The rows of a table by the id of their trial."""
    rows: defaultdict[int, list[Row[Any]]] = defaultdict(list)
    for row in connection.execute(rows_of(table), {"ids": ids}):
        rows[row.trial_id].append(row)
    return rows


def distribution(row: Row[Any]) -> BaseDistribution:
    """The distribution of a parameter."""
    return parsed(row.distribution_json)


@cache
def parsed(distribution_json: str) -> BaseDistribution:
    """A distribution from its JSON; the trials of a sweep share a few."""
    return json_to_distribution(distribution_json)


def value_of(row: Row[Any]) -> float:
    """The value of an objective, which may be infinite."""
    return models.TrialValueModel.stored_repr_to_value(row.value, row.value_type)


def report_of(row: Row[Any]) -> float:
    """A reported value, which may be NaN or infinite."""
    value: float | None = row.intermediate_value
    if value is not None:
        return value
    model = models.TrialIntermediateValueModel
    return model.stored_repr_to_intermediate_value(value, row.intermediate_value_type)


def stored_report(value: float) -> dict[str, object]:
    """The columns of a reported value."""
    number, kind = models.TrialIntermediateValueModel.intermediate_value_to_stored_repr(value)
    return {"intermediate_value": number, "intermediate_value_type": kind}


def attributes(rows: Sequence[Row[Any]]) -> dict[str, Any]:
    """Attributes of a trial, which are kept as JSON."""
    return {row.key: json.loads(row.value_json) for row in rows}


def local(time: datetime | None) -> datetime | None:
    """A time as Optuna hands it out: that of this host, without its zone; rows hold UTC."""
    return None if time is None else time.replace(tzinfo=UTC).astimezone().replace(tzinfo=None)


def add(connection: Connection, table: Table, **row: Any) -> bool:
    """Add a row to a trial that has not ended; replace the one of the same key, but not a
    parameter. False if the trial has ended, or does not exist."""
    added = connection.execute(adding(table, connection.dialect.name, tuple(row)), row)
    return added.rowcount > 0


@cache
def adding(table: Table, dialect: str, names: tuple[str, ...]) -> Any:
    """The statement of `add`: one, where the mapper asks for the trial and the row first."""
    new = select(*(bindparam(name, type_=table.c[name].type) for name in names)).where(
        TRIALS.c.trial_id == bindparam("trial_id"), TRIALS.c.state.in_(UNFINISHED)
    )
    statement = insert(dialect, table).from_select(names, new)
    key = [table.c.trial_id, KEYS[table]]
    replaced = {n: statement.excluded[n] for n in names if n not in ("trial_id", KEYS[table].name)}
    return statement.on_conflict_do_update(index_elements=key, set_=replaced)


def insert(dialect: str, table: Table) -> Any:
    """An INSERT with the clause ON CONFLICT, which both databases have."""
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)


def set_late_attr(connection: Connection, trial_id: int, key: str, value: Any) -> None:
    """Set an attribute of a trial, whether it has ended or not."""
    row = {"trial_id": trial_id, "key": key, "value_json": json.dumps(value)}
    statement = insert(connection.dialect.name, USER_ATTRS).values(row)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[USER_ATTRS.c.trial_id, USER_ATTRS.c.key],
            set_={"value_json": statement.excluded.value_json},
        )
    )


def record_heartbeat(connection: Connection, trial_id: int) -> None:
    """Note that the worker of a trial lives."""
    connection.execute(beating(connection.dialect.name), {"trial_id": trial_id})


@cache
def beating(dialect: str) -> Any:
    """The statement of `record_heartbeat`."""
    return insert(dialect, HEARTBEATS).on_conflict_do_update(
        index_elements=[HEARTBEATS.c.trial_id], set_={"heartbeat": func.current_timestamp()}
    )


def count(connection: Connection, study_id: int) -> int:
    """How many trials a study has, without reading them."""
    query = select(func.count()).select_from(TRIALS).where(OF_STUDY)
    return connection.scalar(query, {"study_id": study_id}) or 0


def failed(connection: Connection, study_id: int) -> list[Attempted]:
    """The trials that failed."""
    return attempted(connection.execute(FAILED, {"study_id": study_id}))


def retries(connection: Connection, study_id: int) -> list[Attempted]:
    """The trials that repeat another one and have not failed themselves; finding them takes longer
    than finding those that failed."""
    return attempted(connection.execute(RETRIES, {"study_id": study_id}))


def attempted(rows: Iterable[Any]) -> list[Attempted]:
    """Rows with their attributes read."""
    return [(row[0], row[1], decoded(row[2]), decoded(row[3])) for row in rows]


def decoded(value: str | None) -> Any:
    """An attribute, which is kept as JSON; None if the trial has none of that name."""
    return None if value is None else json.loads(value)


def unclosed(connection: Connection, study_id: int) -> list[int]:
    """Ids of the trials that run, or failed without a reason."""
    return list(connection.scalars(UNCLOSED, {"study_id": study_id}))
