"""Optuna's storage of a sweep, which decides what trial a worker gets next, if any."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy import URL

from sweeps.endings import Attempt, ending_of, now, to_retry
from sweeps.optuna_private import fixed_params, id_of
from sweeps.schema import (
    BUDGET,
    ENDED,
    FIXED_PARAMS,
    GIVEN,
    POINT,
    RETRY_OF,
    SEED_INDEX,
    STARTED,
    WORKER,
)
from sweeps.store.database import lock
from sweeps.store.engines import OPEN_ENGINES, engine_options, watch_file
from sweeps.store.optuna_storage import RetryingStorage
from sweeps.store.retry import retrying
from sweeps.store.trial_rows import Attempted
from sweeps.store.worker_id import this_worker

HEARTBEAT: Final = 30
"""Seconds between two heartbeats of a trial."""
GRACE: Final = 120
"""Seconds without a heartbeat after which a trial of another host counts as lost."""
FIRST_RETRY_SECONDS: Final = 10.0
"""For the first connection: the address that somebody has just given may be wrong."""


class NoTrialLeft(Exception):
    """Every trial of the budget is taken."""


class BudgetStorage(RetryingStorage):
    """Hands out the trials of a budget and not one more, to any number of workers.

    Optuna's `ask` takes a waiting trial, or creates one when none is left: here only while the
    budget lasts, and then `NoTrialLeft` ends the worker. A new trial repeats a lost or interrupted
    one, if there is any.

    A trial is taken and signed under the store's lock, so that the next holder of the lock knows
    that an unsigned running trial lost its worker.
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
                self.engine.dispose()  # another attempt may follow, and needs the connection
            raise
        self._url = url
        watch_file(self.engine)
        OPEN_ENGINES.add(self.engine)

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        if state == TrialState.RUNNING:
            return self._take(trial_id)
        set_state, attempts = super().set_trial_state_values, 0

        @retrying
        def close() -> bool:
            nonlocal attempts
            attempts += 1
            try:
                self.set_trial_user_attr(trial_id, ENDED, now())
                return set_state(trial_id, state, values)
            except UpdateFinishedTrialError:
                if attempts > 1 and self.get_trial(trial_id).state == state:
                    return True  # an earlier attempt closed it, only its answer was lost
                raise

        return close()

    @retrying
    def _take(self, trial_id: int) -> bool:
        with lock(self._url):
            taken = super().set_trial_state_values(trial_id, TrialState.RUNNING)
            if taken:
                self._sign(trial_id)
            return taken

    def create_trial(self, study_id: int, template: FrozenTrial | None = None) -> FrozenTrial:
        if template is None:
            return self._next_of_budget(study_id)
        return super().create_trial(study_id, template)

    @retrying
    def _next_of_budget(self, study_id: int) -> FrozenTrial:
        with lock(self._url):
            count, attempts = self.count_trials(study_id), self._attempts(study_id)
            count -= sum(not attempt.counts for attempt in attempts)
            if count >= self.get_study_user_attrs(study_id).get(BUDGET, 0):
                raise NoTrialLeft
            again = to_retry(attempts)
            template = self._retry(study_id, again[0], attempts) if again else None
            trial = super().create_trial(study_id, template)
            self._sign(id_of(trial))
            return trial

    def _sign(self, trial_id: int) -> None:
        """Note the worker of a trial; a trial without one was never begun."""
        # a heartbeat as well: its worker may die before the thread that sends them
        self.sign(trial_id, {STARTED: now(), WORKER: this_worker()})

    def _attempts(self, study_id: int) -> list[Attempt]:
        """The trials that failed; and the retries, if a failed one may have to be retried."""
        failed = attempts(self.read_failed(study_id))
        if all(attempt.counts for attempt in failed):
            return failed
        return failed + attempts(self.read_retries(study_id))

    def _retry(self, study_id: int, number: int, attempts: Sequence[Attempt]) -> FrozenTrial:
        """A running trial with the parameters and the seed of trial `number`."""
        trial = self.get_trial(self.get_trial_id_from_study_id_trial_number(study_id, number))
        root = next(attempt.root for attempt in attempts if attempt.number == number)
        names = (POINT, SEED_INDEX, GIVEN)
        inherited = {name: trial.user_attrs[name] for name in names if name in trial.user_attrs}
        return create_trial(
            state=TrialState.RUNNING,
            params=trial.params,
            distributions=trial.distributions,
            user_attrs={RETRY_OF: root, **inherited},
            system_attrs={FIXED_PARAMS: {**fixed_params(trial), **trial.params}},
        )

    def find(self, study: str, number: int) -> FrozenTrial | None:
        """A trial by its number, without reading the others; None if there is none."""
        try:
            study_id = self.get_study_id_from_name(study)
            trial_id = self.get_trial_id_from_study_id_trial_number(study_id, number)
        except KeyError:
            return None
        return self.get_trial(trial_id)


def attempts(rows: Iterable[Attempted]) -> list[Attempt]:
    """What decides whether trials are retried, from their rows."""
    return [
        Attempt(number, number if root is None else root, ending_of(state, reason))
        for number, state, reason, root in rows
    ]


@lru_cache(maxsize=8)
def open_storage(url: URL) -> BudgetStorage:
    """The database at an address, created if it is missing; one object per process, as each has
    connections of its own."""
    return retrying(BudgetStorage, seconds=FIRST_RETRY_SECONDS)(url)
