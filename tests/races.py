"""Races of a confirmation that are begun, and ended by scores instead of trainings."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import optuna
import pytest
from optuna.trial import TrialState

from analysis.confirm.judgement import wanted_trainings
from analysis.confirm.plan import define
from sweeps.confirm import fill_confirmation, start_confirmation
from sweeps.schema import POINT, REASON, RETURNS, SEED_INDEX
from sweeps.store.store import Store
from sweeps.study.space import suggest
from sweeps.sweep import Sweep


def begun_race(store: Store, name: str, *, top: int, trainings: int) -> Sweep:
    """The confirmation of a sweep, with the trainings of its next stage waiting."""
    asked = partial(define, top=top, trainings=trainings)
    command = ["confirm", "--study", name]
    confirmation = start_confirmation(store, name, define=asked, command=command)
    fill_confirmation(confirmation, wanted_trainings)
    return confirmation


def take(sweep: Sweep) -> optuna.Trial:
    """The next trial, left running: as if its worker were at it."""
    with pytest.warns(UserWarning, match="Heartbeat"):
        return sweep.optuna.ask()


def end(sweep: Sweep, trial: optuna.Trial, score: float | None) -> None:
    """End a trial with a score, as the objective does, or as a failure without one."""
    suggest(trial, sweep.study.space, sweep.study.base)
    if score is None:
        trial.set_user_attr(REASON, "diverged: update 3")
        sweep.optuna.tell(trial, state=TrialState.FAIL)
    else:
        trial.set_user_attr(RETURNS, [[score]])
        sweep.optuna.tell(trial, score)


def end_stage(
    confirmation: Sweep, score: Callable[[int, int], float | None]
) -> list[tuple[int, int]]:
    """End every training that waits by its score, from the index of its seed and its candidate, and
    enqueue the next stage; what was ended."""
    ended = []
    for _ in range(confirmation.read_trials().left):
        trial = take(confirmation)
        index, candidate = trial.user_attrs[SEED_INDEX], trial.user_attrs[POINT]
        end(confirmation, trial, score(index, candidate))
        ended.append((index, candidate))
    fill_confirmation(confirmation, wanted_trainings)
    return ended
