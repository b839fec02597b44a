"""The trials of a study that this process has read: Optuna's cache of them, made for thousands."""

from __future__ import annotations

import copy
from bisect import insort
from collections.abc import Container
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Final

from optuna.storages._cached_storage import _CachedStorage, _StudyInfo
from optuna.trial import FrozenTrial, TrialState

from sweeps.optuna_private import id_of
from sweeps.store.optuna_storage import RetryingStorage

NUMBER: Final = attrgetter("number")
ENDED: Final = frozenset(state for state in TrialState if state.is_finished())


@dataclass
class Known:
    """What was read of the trials of one study."""

    newest: int = 0
    """The largest id of a trial that has ended. Each with a larger one is asked for again: it may
    appear after a trial that began later."""
    open: set[int] = field(default_factory=set)
    """Ids of the trials that had not ended."""
    ended: dict[frozenset[TrialState], list[FrozenTrial]] = field(
        default_factory=lambda: {ENDED: []}
    )
    """The ended trials by number: all of them, and those in the states that were asked for."""

    def add(self, trial: FrozenTrial) -> None:
        """Add a trial that has ended."""
        self.open.discard(id_of(trial))
        self.newest = max(self.newest, id_of(trial))
        for states, trials in self.ended.items():
            if trial.state in states:
                insort(trials, trial, key=NUMBER)

    def ended_in(self, states: frozenset[TrialState]) -> list[FrozenTrial]:
        """The trials that ended in one of these states."""
        wanted = states & ENDED
        if wanted not in self.ended:
            self.ended[wanted] = [trial for trial in self.ended[ENDED] if trial.state in wanted]
        return list(self.ended[wanted])


class TrialCache(_CachedStorage):
    """Reads each trial once after it has ended, and a running one only if it is asked for.

    Optuna's own cache reads all rows of running trials whenever it is asked for any trial, and
    sorts all trials each time.
    """

    def __init__(self, database: RetryingStorage) -> None:
        super().__init__(database)
        self._database = database
        self._known: dict[int, Known] = {}

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        asked = frozenset(state for state in TrialState if states is None or state in states)
        with self._lock:
            trials = self._read(study_id, asked)
        return copy.deepcopy(trials) if deepcopy else trials

    def _read(self, study_id: int, asked: frozenset[TrialState]) -> list[FrozenTrial]:
        """The trials in these states by number, as they are in the database now."""
        known = self._known.setdefault(study_id, Known())
        self._studies.setdefault(study_id, _StudyInfo())
        before = [trial_id for trial_id in known.open if trial_id < known.newest]
        rows = self._database.new_or_open(study_id, after=known.newest, among=before)
        known.open.update(trial_id for trial_id, _ in rows)
        read = self._database.read([trial_id for trial_id, state in rows if state in ENDED | asked])
        self._add_trials_to_cache(study_id, read)
        for trial in read:
            if trial.state in ENDED:
                known.add(trial)
        trials = known.ended_in(asked)
        for trial in read:
            if trial.state in asked - ENDED:
                insort(trials, trial, key=NUMBER)
        return trials
