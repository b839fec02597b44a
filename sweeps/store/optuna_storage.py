"""Optuna's database storage, which waits for its server; all private methods of it stand here.

Optuna hands the storage's trials out through a cache that calls private methods, so there is no
public method to override. See `sweeps.optuna_private` for what this means for upgrades.
"""

from __future__ import annotations

import json
from collections.abc import Container
from contextlib import suppress
from typing import Any

from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.storages._rdb.models import TrialModel, TrialUserAttributeModel
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, aliased

from sweeps.optuna_private import id_of
from sweeps.schema import REASON, RETRY_OF, WORKER
from sweeps.store.retry import retrying, retrying_method
from sweeps.store.trials import collector_paused
from sweeps.store.worker_id import is_alive


class RetryingStorage(RDBStorage):
    """An RDBStorage whose methods are repeated while its server does not answer.

    Those of them that Optuna calls during a sweep, and that may be repeated; a subclass does the
    same for the two that hand out a trial and close it.
    """

    get_all_studies = retrying_method(RDBStorage.get_all_studies)
    get_study_id_from_name = retrying_method(RDBStorage.get_study_id_from_name)
    get_study_name_from_id = retrying_method(RDBStorage.get_study_name_from_id)
    get_study_directions = retrying_method(RDBStorage.get_study_directions)
    get_study_user_attrs = retrying_method(RDBStorage.get_study_user_attrs)
    get_study_system_attrs = retrying_method(RDBStorage.get_study_system_attrs)
    set_study_user_attr = retrying_method(RDBStorage.set_study_user_attr)
    set_study_system_attr = retrying_method(RDBStorage.set_study_system_attr)
    get_trial = retrying_method(RDBStorage.get_trial)
    get_trial_id_from_study_id_trial_number = retrying_method(
        RDBStorage.get_trial_id_from_study_id_trial_number
    )
    set_trial_intermediate_value = retrying_method(RDBStorage.set_trial_intermediate_value)
    set_trial_user_attr = retrying_method(RDBStorage.set_trial_user_attr)
    set_trial_system_attr = retrying_method(RDBStorage.set_trial_system_attr)
    _set_trial_param = retrying_method(RDBStorage._set_trial_param)

    def create_trial(self, study_id: int, template: FrozenTrial | None = None) -> FrozenTrial:
        """Add a trial to a study; overridden to choose which one. Not repeated."""
        return super()._create_new_trial(study_id, template)

    def _create_new_trial(
        self, study_id: int, template_trial: FrozenTrial | None = None
    ) -> FrozenTrial:
        return self.create_trial(study_id, template_trial)

    @retrying
    def _get_trials(
        self,
        study_id: int,
        states: Container[TrialState] | None,
        included_trial_ids: set[int],
        trial_id_greater_than: int,
    ) -> list[FrozenTrial]:
        with collector_paused():
            return super()._get_trials(study_id, states, included_trial_ids, trial_id_greater_than)

    @retrying
    def _get_stale_trial_ids(self, study_id: int) -> list[int]:
        # a clock that was set, Ctrl-Z or a suspended host stop the heartbeats of a living worker
        return [
            trial_id
            for trial_id in super()._get_stale_trial_ids(study_id)
            if not is_alive(str(self.get_trial(trial_id).user_attrs.get(WORKER, "")))
        ]

    def stale_trial_ids(self, study_id: int) -> list[int]:
        """Ids of running trials whose heartbeats stopped and whose worker is not seen alive."""
        return self._get_stale_trial_ids(study_id)

    def record_heartbeat(self, trial_id: int) -> None:
        # an error would end Optuna's thread, and the trial would count as lost
        with suppress(StorageInternalError, SQLAlchemyError):
            super().record_heartbeat(trial_id)

    @retrying
    def set_late_attr(self, trial: FrozenTrial, key: str, value: str | float) -> None:
        """Set an attribute of a trial even after it ended, which Optuna itself refuses."""
        model = TrialUserAttributeModel
        with Session(self.engine) as session, session.begin():
            query = select(model).where(model.trial_id == id_of(trial), model.key == key)
            row = session.scalar(query) or model(trial_id=id_of(trial), key=key)
            row.value_json = json.dumps(value)
            session.add(row)
        trial.user_attrs[key] = value  # Optuna's cache does not read an ended trial again

    def count_trials(self, study_id: int) -> int:
        """How many trials a study has, without reading them."""
        query = select(func.count()).where(TrialModel.study_id == study_id)
        with Session(self.engine) as session:
            return session.scalar(query) or 0

    def read_failed_or_retries(
        self, study_id: int
    ) -> list[tuple[int, TrialState, str | None, int | None]]:
        """Number, state, REASON and RETRY_OF of the trials that failed or are retries; the other
        trials, nearly all, are not read."""
        trial = TrialModel
        reason, retry = aliased(TrialUserAttributeModel), aliased(TrialUserAttributeModel)
        query = (
            select(trial.number, trial.state, reason.value_json, retry.value_json)
            .outerjoin(reason, (reason.trial_id == trial.trial_id) & (reason.key == REASON))
            .outerjoin(retry, (retry.trial_id == trial.trial_id) & (retry.key == RETRY_OF))
            .where(trial.study_id == study_id)
            .where((trial.state == TrialState.FAIL) | retry.value_json.is_not(None))
        )
        with Session(self.engine) as session:
            return [
                (number, state, decoded(why), decoded(root))
                for number, state, why, root in session.execute(query)
            ]


def decoded(value: str | None) -> Any:
    """An attribute as Optuna stores it, in JSON; None if the trial has none of that name."""
    return None if value is None else json.loads(value)
