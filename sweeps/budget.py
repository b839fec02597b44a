"""Optuna's database of trials, which hands out the trials of a budget and not one more."""

from __future__ import annotations

import gc
import json
import os
import socket
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import optuna
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.storages._rdb.models import TrialModel, TrialUserAttributeModel
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import URL, func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from sweeps.address import engine_options, lock
from sweeps.patience import ENGINES, patient

WORKER = "sweeps.worker"
"""Optuna user attribute of a trial: who runs it."""
BUDGET = "sweeps.budget"
"""Optuna user attribute of a study: how many trials its sampler may fill in all. Without one, as
in a grid, every trial is put there beforehand."""
RETRY_OF = "sweeps.retry_of"
"""Optuna user attribute of a trial: the number of the lost trial whose place and seed it takes."""
REASON = "sweeps.reason"
"""Optuna user attribute of a trial, and tag of its run: why it failed."""
WITHDRAWN = "withdrawn"
"""Reason of a trial that is not to be run any more."""
HEARTBEAT: Final = 30
"""Seconds between two signs of life of a trial."""
FIRST_PATIENCE: Final = 10.0
"""Seconds: the address that somebody has just given may be wrong."""
GRACE: Final = 120
"""Seconds without one after which a trial of another host counts as lost."""


class NoTrialLeft(Exception):
    """Every trial of the budget is taken."""


def given(trials: Iterable[FrozenTrial]) -> int:
    """How many trials of the budget there are: a retry stands for one that is counted already."""
    return sum(
        RETRY_OF not in trial.user_attrs and trial.user_attrs.get(REASON) != WITHDRAWN
        for trial in trials
    )


def left(study: optuna.Study) -> int:
    """How many trials of a sweep nobody has begun."""
    trials = study.get_trials(deepcopy=False)
    waiting = sum(trial.state == TrialState.WAITING for trial in trials)
    return waiting + max(0, int(study.user_attrs.get(BUDGET, 0)) - given(trials))


class BudgetStorage(RDBStorage):
    """Hands out the trials of a budget and not one more, to any number of workers.

    Optuna's `ask` takes a waiting trial, or creates one when none is left: here only as long as
    the budget lasts, and then it ends the worker instead.

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
        ENGINES.add(self.engine)

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        if state == TrialState.RUNNING:
            return self._take(trial_id)
        tell, attempts = super().set_trial_state_values, 0

        @patient
        def told() -> bool:
            nonlocal attempts
            attempts += 1
            try:
                return tell(trial_id, state, values)
            except UpdateFinishedTrialError:
                if attempts > 1 and self.get_trial(trial_id).state == state:
                    return True  # done before, but the answer was lost
                raise

        return told()

    @patient
    def _take(self, trial_id: int) -> bool:
        with lock(self._url):
            taken = super().set_trial_state_values(trial_id, TrialState.RUNNING)
            if taken:
                self.set_trial_user_attr(trial_id, WORKER, this_worker())
            return taken

    def _create_new_trial(
        self, study_id: int, template_trial: FrozenTrial | None = None
    ) -> FrozenTrial:
        if template_trial is None:
            return self._next_of_budget(study_id)
        return super()._create_new_trial(study_id, template_trial)

    @patient
    def _next_of_budget(self, study_id: int) -> FrozenTrial:
        with lock(self._url):
            if self._given(study_id) >= self.get_study_user_attrs(study_id).get(BUDGET, 0):
                raise NoTrialLeft
            trial = super()._create_new_trial(study_id)
            self.set_trial_user_attr(trial._trial_id, WORKER, this_worker())
            return trial

    def record_heartbeat(self, trial_id: int) -> None:
        # an error would end Optuna's thread, and the trial would pass for lost
        with suppress(StorageInternalError, SQLAlchemyError):
            super().record_heartbeat(trial_id)

    def _given(self, study_id: int) -> int:
        """How many trials of the budget there are, in any state; as `given` counts."""
        attribute = TrialUserAttributeModel
        others = select(attribute.trial_id).where(
            (attribute.key == RETRY_OF)
            | ((attribute.key == REASON) & (attribute.value_json == json.dumps(WITHDRAWN)))
        )
        of_budget = TrialModel.trial_id.not_in(others)
        with Session(self.engine) as session:
            count = select(func.count()).where(TrialModel.study_id == study_id, of_budget)
            return session.scalar(count) or 0

    def find(self, study: str, number: int) -> FrozenTrial | None:
        """A trial, without reading the others."""
        try:
            study_id = self.get_study_id_from_name(study)
            trial_id = self.get_trial_id_from_study_id_trial_number(study_id, number)
        except KeyError:
            return None
        return self.get_trial(trial_id)

    @patient
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
        with unmolested():
            return super()._get_trials(*args, **kwargs)


@contextmanager
def unmolested() -> Generator[None]:
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
    setattr(BudgetStorage, name, patient(getattr(BudgetStorage, name)))


@lru_cache(maxsize=8)
def open_storage(url: URL) -> BudgetStorage:
    """The database at an address, created if it is missing; the same one for every caller, as each
    has connections of its own."""
    return patient(BudgetStorage, seconds=FIRST_PATIENCE)(url)


def this_worker() -> str:
    """Names this process among those that share the store: host, process id and its start."""
    return f"{socket.gethostname()}:{os.getpid()}:{_started(str(os.getpid()))}"


def is_gone(worker: str) -> bool:
    """That worker ran on this host and has ended. Of other hosts only their heartbeat tells."""
    host, _, process = worker.partition(":")
    pid, _, started = process.partition(":")
    return host == socket.gethostname() and _started(pid) != started


def _started(pid: str) -> str:
    """When a process started, in clock ticks after boot; "" if there is none (or no /proc)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
    except (OSError, IndexError):
        return ""
