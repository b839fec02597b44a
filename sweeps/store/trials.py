"""Optuna's database of trials, which hands out the trials of a budget and not one more."""

from __future__ import annotations

import gc
import json
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any, Final

from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.storages._rdb.models import TrialModel, TrialUserAttributeModel
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy import URL, func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, aliased

from sweeps.endings import Attempt, ending_of, now, to_try_again
from sweeps.schema import (
    BUDGET,
    CANDIDATE,
    ENDED,
    FIXED_PARAMS,
    REASON,
    RETRY_OF,
    STARTED,
    TEST_SEED_INDEX,
    WORKER,
)
from sweeps.store.database import engine_options, lock
from sweeps.store.engines import watch_file
from sweeps.store.retry import OPEN_ENGINES, retrying
from sweeps.store.worker_id import is_alive, this_worker

HEARTBEAT: Final = 30
"""Seconds between two signs of life of a trial."""
FIRST_RETRY_SECONDS: Final = 10.0
"""Seconds: the address that somebody has just given may be wrong."""
GRACE: Final = 120
"""Seconds without one after which a trial of another host counts as lost."""


class NoTrialLeft(Exception):
    """Every trial of the budget is taken."""


class BudgetStorage(RDBStorage):
    """Hands out the trials of a budget and not one more, to any number of workers.

    Optuna's `ask` takes a waiting trial, or creates one when none is left: here only as long as
    the budget lasts, and then it ends the worker instead. One that is created tries a lost or
    interrupted trial again, if there is any.

    A trial is taken and signed under a lock, so that whoever holds the lock next can tell that an
    unsigned trial lost its worker.
    """

    def __init__(self, url: URL) -> None:
        try:
            super().__init__(
                url.render_as_string(hide_password=False),
                engine_kwargs=engine_options(url),
                heartbeat_interval=HEARTBEAT,
                grace_period=GRACE,
            )
        except BaseException:
            if hasattr(self, "engine"):
                self.engine.dispose()  # there may be a next attempt, and no connection to spare
            raise
        self._url = url
        watch_file(self.engine)
        OPEN_ENGINES.add(self.engine)

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        if state == TrialState.RUNNING:
            return self._take(trial_id)
        tell, attempts = super().set_trial_state_values, 0

        @retrying
        def told() -> bool:
            nonlocal attempts
            attempts += 1
            try:
                self.set_trial_user_attr(trial_id, ENDED, now())
                return tell(trial_id, state, values)
            except UpdateFinishedTrialError:
                if attempts > 1 and self.get_trial(trial_id).state == state:
                    return True  # done before, but the answer was lost
                raise

        return told()

    @retrying
    def _take(self, trial_id: int) -> bool:
        with lock(self._url):
            taken = super().set_trial_state_values(trial_id, TrialState.RUNNING)
            if taken:
                self._sign(trial_id)
            return taken

    def _create_new_trial(
        self, study_id: int, template_trial: FrozenTrial | None = None
    ) -> FrozenTrial:
        if template_trial is None:
            return self._next_of_budget(study_id)
        return super()._create_new_trial(study_id, template_trial)

    @retrying
    def _next_of_budget(self, study_id: int) -> FrozenTrial:
        with lock(self._url):
            count, attempts = self._attempts(study_id)
            count -= sum(not attempt.counts for attempt in attempts)
            if count >= self.get_study_user_attrs(study_id).get(BUDGET, 0):
                raise NoTrialLeft
            again = to_try_again(attempts)
            trial = super()._create_new_trial(
                study_id, self._retry(study_id, again[0], attempts) if again else None
            )
            self._sign(trial._trial_id)
            return trial

    def _sign(self, trial_id: int) -> None:
        """The name of its worker comes last: a trial without one was never begun."""
        self.set_trial_user_attr(trial_id, STARTED, now())
        self.record_heartbeat(trial_id)  # its worker may die before the thread that sends them
        self.set_trial_user_attr(trial_id, WORKER, this_worker())

    def _attempts(self, study_id: int) -> tuple[int, list[Attempt]]:
        """The number of all trials, and those of them that failed or are retries."""
        trial, attribute = TrialModel, TrialUserAttributeModel
        reason, retry = aliased(attribute), aliased(attribute)
        rows = (
            select(trial.number, trial.state, reason.value_json, retry.value_json)
            .outerjoin(reason, (reason.trial_id == trial.trial_id) & (reason.key == REASON))
            .outerjoin(retry, (retry.trial_id == trial.trial_id) & (retry.key == RETRY_OF))
            .where(trial.study_id == study_id)
            .where((trial.state == TrialState.FAIL) | retry.value_json.is_not(None))
        )
        everything = select(func.count()).where(trial.study_id == study_id)
        with Session(self.engine) as session:
            return session.scalar(everything) or 0, [
                Attempt(
                    number,
                    json.loads(root) if root else number,
                    ending_of(state, json.loads(why) if why else None),
                )
                for number, state, why, root in session.execute(rows)
            ]

    def _retry(self, study_id: int, number: int, attempts: Sequence[Attempt]) -> FrozenTrial:
        """A running trial with the parameters and the seed of another one."""
        trial = self.get_trial(self.get_trial_id_from_study_id_trial_number(study_id, number))
        root = next(attempt.root for attempt in attempts if attempt.number == number)
        given = (CANDIDATE, TEST_SEED_INDEX)
        kept = {name: trial.user_attrs[name] for name in given if name in trial.user_attrs}
        params = {**trial.system_attrs.get(FIXED_PARAMS, {}), **trial.params}
        return create_trial(
            state=TrialState.RUNNING,
            user_attrs={RETRY_OF: root, **kept},
            system_attrs={FIXED_PARAMS: params},
        )

    def _get_stale_trial_ids(self, study_id: int) -> list[int]:
        # a clock that was set, Ctrl-Z or a suspended host silence a worker that still lives
        return [
            trial_id
            for trial_id in super()._get_stale_trial_ids(study_id)
            if not is_alive(str(self.get_trial(trial_id).user_attrs.get(WORKER, "")))
        ]

    def record_heartbeat(self, trial_id: int) -> None:
        # an error would end Optuna's thread, and the trial would pass for lost
        with suppress(StorageInternalError, SQLAlchemyError):
            super().record_heartbeat(trial_id)

    def find(self, study: str, number: int) -> FrozenTrial | None:
        """A trial, without reading the others."""
        try:
            study_id = self.get_study_id_from_name(study)
            trial_id = self.get_trial_id_from_study_id_trial_number(study_id, number)
        except KeyError:
            return None
        return self.get_trial(trial_id)

    @retrying
    def set_late_attr(self, trial: FrozenTrial, key: str, value: str | float) -> None:
        """An attribute that is there for good, also of a trial that has ended: Optuna itself
        would refuse that."""
        attribute = TrialUserAttributeModel
        with Session(self.engine) as session, session.begin():
            there = select(attribute).where(
                attribute.trial_id == trial._trial_id, attribute.key == key
            )
            row = session.scalar(there) or attribute(trial_id=trial._trial_id, key=key)
            row.value_json = json.dumps(value)
            session.add(row)
        trial.user_attrs[key] = value  # Optuna's cache does not ask again for what has ended

    def _get_trials(self, *args: Any, **kwargs: Any) -> list[FrozenTrial]:
        # what is read stays: to look for garbage in it meanwhile takes longer than to read it
        with collector_paused():
            return super()._get_trials(*args, **kwargs)


@contextmanager
def collector_paused() -> Generator[None]:
    """Nobody looks for garbage meanwhile."""
    looked = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if looked:
            gc.enable()


MAY_BE_DONE_TWICE: Final = (
    "get_all_studies",
    "get_study_id_from_name",
    "get_study_name_from_id",
    "get_study_directions",
    "get_study_user_attrs",
    "get_study_system_attrs",
    "set_study_user_attr",
    "set_study_system_attr",
    "get_trial",
    "get_trial_id_from_study_id_trial_number",
    "_get_trials",
    "_get_stale_trial_ids",
    "set_trial_param",
    "set_trial_intermediate_value",
    "set_trial_user_attr",
    "set_trial_system_attr",
)
"""What Optuna asks a storage for during a sweep."""
for name in MAY_BE_DONE_TWICE:
    setattr(BudgetStorage, name, retrying(getattr(BudgetStorage, name)))


@lru_cache(maxsize=8)
def open_storage(url: URL) -> BudgetStorage:
    """The database at an address, created if it is missing; the same one for every caller, as each
    has connections of its own."""
    return retrying(BudgetStorage, seconds=FIRST_RETRY_SECONDS)(url)
