"""Optuna's database storage, which waits for its server; all private methods of it stand here.

Optuna hands the storage's trials out through a cache that calls private methods, so there is no
public method to override. See `sweeps.optuna_private` for what this means for upgrades.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    check_distribution_compatibility,
    distribution_to_json,
)
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Table
from sqlalchemy.exc import SQLAlchemyError

from sweeps.optuna_private import id_of
from sweeps.schema import WORKER
from sweeps.store import trial_rows
from sweeps.store.retry import retrying, retrying_method
from sweeps.store.trials import collector_paused
from sweeps.store.worker_id import is_alive


class RetryingStorage(RDBStorage):
    """An RDBStorage whose methods are repeated while its server does not answer.

    Those of them that Optuna calls during a sweep, and that may be repeated; a subclass does the
    same for the two that hand out a trial and close it. What a trial reads and writes while it runs
    takes one statement, where RDBStorage takes several: it is only asked why if that had no effect.
    """

    get_all_studies = retrying_method(RDBStorage.get_all_studies)
    get_study_id_from_name = retrying_method(RDBStorage.get_study_id_from_name)
    get_study_name_from_id = retrying_method(RDBStorage.get_study_name_from_id)
    get_study_directions = retrying_method(RDBStorage.get_study_directions)
    get_study_user_attrs = retrying_method(RDBStorage.get_study_user_attrs)
    get_study_system_attrs = retrying_method(RDBStorage.get_study_system_attrs)
    set_study_user_attr = retrying_method(RDBStorage.set_study_user_attr)
    set_study_system_attr = retrying_method(RDBStorage.set_study_system_attr)
    get_trial_id_from_study_id_trial_number = retrying_method(
        RDBStorage.get_trial_id_from_study_id_trial_number
    )

    def create_trial(self, study_id: int, template: FrozenTrial | None = None) -> FrozenTrial:
        """Add a trial to a study; overridden to choose which one. Not repeated."""
        return super()._create_new_trial(study_id, template)

    def _create_new_trial(
        self, study_id: int, template_trial: FrozenTrial | None = None
    ) -> FrozenTrial:
        return self.create_trial(study_id, template_trial)

    def get_trial(self, trial_id: int) -> FrozenTrial:
        trials = self.read([trial_id])
        return trials[0] if trials else super().get_trial(trial_id)

    @retrying
    def read(self, ids: Sequence[int]) -> list[FrozenTrial]:
        """The trials with these ids; those that do not exist are left out."""
        with collector_paused(), self.engine.connect() as connection:
            return list(trial_rows.read(connection, ids))

    @retrying
    def new_or_open(
        self, study_id: int, *, after: int, among: Collection[int]
    ) -> list[tuple[int, TrialState]]:
        """Id and state of the trials of a study with an id `after` this one, and of those `among`
        these."""
        with self.engine.connect() as connection:
            return trial_rows.new_or_open(connection, study_id, after=after, among=among)

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        if not self._add(trial_rows.USER_ATTRS, trial_id, key=key, value_json=json.dumps(value)):
            super().set_trial_user_attr(trial_id, key, value)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        if not self._add(trial_rows.SYSTEM_ATTRS, trial_id, key=key, value_json=json.dumps(value)):
            super().set_trial_system_attr(trial_id, key, value)

    def set_trial_intermediate_value(
        self, trial_id: int, step: int, intermediate_value: float
    ) -> None:
        stored = trial_rows.stored_report(intermediate_value)
        if not self._add(trial_rows.REPORTS, trial_id, step=step, **stored):
            super().set_trial_intermediate_value(trial_id, step, intermediate_value)

    @retrying
    def _set_trial_param(
        self,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
        previous_distribution: BaseDistribution | None,
    ) -> None:
        if previous_distribution is not None:  # or else Optuna looks it up
            check_distribution_compatibility(previous_distribution, distribution)
            if self._add(
                trial_rows.PARAMS,
                trial_id,
                param_name=param_name,
                param_value=param_value_internal,
                distribution_json=distribution_to_json(distribution),
            ):
                return
        super()._set_trial_param(
            trial_id, param_name, param_value_internal, distribution, previous_distribution
        )

    @retrying
    def _add(self, table: Table, trial_id: int, **row: object) -> bool:
        with self.engine.begin() as connection:
            return trial_rows.add(connection, table, trial_id=trial_id, **row)

    @retrying
    def sign(self, trial_id: int, attributes: Mapping[str, object]) -> None:
        """Set attributes of a running trial and record a heartbeat, all or nothing."""
        with self.engine.begin() as connection:
            for key, value in attributes.items():
                row = {"trial_id": trial_id, "key": key, "value_json": json.dumps(value)}
                trial_rows.add(connection, trial_rows.USER_ATTRS, **row)
            trial_rows.record_heartbeat(connection, trial_id)

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
        with suppress(StorageInternalError, SQLAlchemyError), self.engine.begin() as connection:
            trial_rows.record_heartbeat(connection, trial_id)

    @retrying
    def set_late_attr(self, trial: FrozenTrial, key: str, value: object) -> None:
        """Set an attribute of a trial even after it ended, which Optuna itself refuses."""
        with self.engine.begin() as connection:
            trial_rows.set_late_attr(connection, id_of(trial), key, value)
        trial.user_attrs[key] = value  # Optuna's cache does not read an ended trial again

    def count_trials(self, study_id: int) -> int:
        """How many trials a study has, without reading them."""
        with self.engine.connect() as connection:
            return trial_rows.count(connection, study_id)

    def read_failed(self, study_id: int) -> list[trial_rows.Attempted]:
        """The trials that failed."""
        with self.engine.connect() as connection:
            return trial_rows.failed(connection, study_id)

    def read_retries(self, study_id: int) -> list[trial_rows.Attempted]:
        """The trials that repeat another one, except those that failed themselves."""
        with self.engine.connect() as connection:
            return trial_rows.retries(connection, study_id)

    @retrying
    def read_unclosed(self, study_id: int) -> list[FrozenTrial]:
        """The trials that run, or failed without a reason: what a lost worker leaves."""
        with self.engine.connect() as connection:
            return list(trial_rows.read(connection, trial_rows.unclosed(connection, study_id)))
