"""What the sweeps use of Optuna's trials and studies without a documented name for it.

No other module reads a private attribute of Optuna's, except `sweeps.store.optuna_storage` and
`sweeps.store.trial_cache`, which override private methods of its storages. Optuna may change them
in a minor version, so pyproject.toml allows only tested ones; tests/sweeps/test_private.py says
what an upgrade broke.
"""

from __future__ import annotations

import copy
from collections.abc import Container, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import optuna
from optuna.storages._heartbeat import get_heartbeat_thread
from optuna.trial import FrozenTrial, TrialState

from sweeps.schema import FIXED_PARAMS

UNFINISHED: Final = (TrialState.RUNNING, TrialState.WAITING)


def id_of(trial: FrozenTrial | optuna.Trial) -> int:
    """The id of a trial in the storage, which takes it where the public API takes a number."""
    return trial._trial_id


def study_id_of(study: optuna.Study) -> int:
    """The id of a study in the storage."""
    return study._study_id


def stored(trial: optuna.Trial) -> FrozenTrial:
    """A trial as it is in the storage now, where other processes may have closed it."""
    return trial.storage.get_trial(trial._trial_id)


@contextmanager
def heartbeat(trial: optuna.Trial) -> Generator[None]:
    """Record heartbeats of a trial inside the block, as `Study.optimize` does."""
    with get_heartbeat_thread(trial._trial_id, trial.storage):
        yield


def fixed_params(trial: FrozenTrial) -> dict[str, Any]:
    """Parameters that a trial was given before it began: enqueued, retried, or a grid's point."""
    return dict(trial.system_attrs.get(FIXED_PARAMS, {}))


def fix_params(study: optuna.Study, trial: FrozenTrial, params: Mapping[str, Any]) -> None:
    """Give a trial its parameters before it suggests any; for samplers."""
    study._storage.set_trial_system_attr(trial._trial_id, FIXED_PARAMS, dict(params))
    trial.system_attrs[FIXED_PARAMS] = dict(params)  # Optuna reads them here


class StudyOfSome(optuna.Study):
    """A study that shows a sampler only some of its ended trials; those that run are all there."""

    def __init__(self, study: optuna.Study, ended: Sequence[FrozenTrial]) -> None:
        # not that of `Study`, which asks the storage for what `study` has
        self.study_name = study.study_name
        self._storage, self._study_id = study._storage, study._study_id
        self._directions, self._thread_local = study._directions, study._thread_local
        self.sampler, self.pruner = study.sampler, study.pruner
        self._study = study
        self._ended = ended

    def _get_trials(
        self,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
        use_cache: bool = False,
    ) -> list[FrozenTrial]:
        trials = list(self._ended)
        asked = tuple(state for state in UNFINISHED if states is None or state in states)
        if asked:
            trials += self._study._get_trials(deepcopy=False, states=asked, use_cache=use_cache)
            trials.sort(key=lambda trial: trial.number)
        trials = [trial for trial in trials if states is None or trial.state in states]
        return copy.deepcopy(trials) if deepcopy else trials
