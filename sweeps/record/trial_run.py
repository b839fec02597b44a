"""Opens the record of a trial, and closes it in the way that the trial ends."""

from __future__ import annotations

import copy
import os
import time
import traceback
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from lander.agent import Divergence
from sweeps.endings import Expired, ending, root
from sweeps.errors import one_line, redacted
from sweeps.optuna_private import stored
from sweeps.record.entries import Batch, RunBegun
from sweeps.record.files import set_aside
from sweeps.record.outbox import Outbox, outbox_path
from sweeps.record.recorder import MlflowRecorder, tolerated
from sweeps.schema import (
    COST,
    GIVEN,
    NOTE,
    PARENT_RUN,
    POINT,
    REASON,
    RECORD_KEY,
    RETRY_OF,
    ROLE,
    RUN_ID,
    SEED_INDEX,
    SHOWN_SCORE,
    TRIAL_NUMBER,
    Ending,
    Reason,
    Role,
    run_name,
)
from sweeps.store.store import Store


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a trial ends, as its own worker sees it."""

    state: TrialState
    reason: str = ""
    """Why it failed or expired."""
    traceback: str = ""
    """Where, if that may be a bug."""


def outcome(error: BaseException) -> Outcome:
    """The outcome of a trial that ends with this exception."""
    match error:
        case Expired():
            return Outcome(TrialState.PRUNED, f"{Reason.EXPIRED}: {error}")
        case optuna.TrialPruned():
            return Outcome(TrialState.PRUNED)
        case Divergence():
            return Outcome(TrialState.FAIL, f"{Reason.DIVERGED}: {error}")
        case Exception():
            trace = redacted("".join(traceback.format_exception(error)))
            return Outcome(TrialState.FAIL, one_line(error), trace)
        case _:
            return Outcome(TrialState.FAIL, Reason.INTERRUPTED)


@contextmanager
def trial_run(
    trial: optuna.Trial,
    *,
    store: Store,
    experiment_id: str,
    parent_run_id: str,
    role: Role,
    tags: Mapping[str, str],
    describe: Callable[[FrozenTrial], str],
    retries: int = 0,
) -> Generator[MlflowRecorder]:
    """Record a trial in an MLflow run; close the run with the outcome of the block, and with a
    description of the trial as it ended.

    After an error another trial retries this one, unless that was done so many times. If another
    process closed the trial meanwhile, the run ends as that process has noted.
    """
    outbox = new_outbox(trial, store)
    recorder = MlflowRecorder(outbox, f"{trial.study.study_name}: trial {trial.number}")
    start = int(time.time() * 1000)
    all_tags: dict[str, str] = {
        ROLE: str(role),
        PARENT_RUN: parent_run_id,
        TRIAL_NUMBER: str(trial.number),
        RECORD_KEY: outbox.key(start),
        **attribute_tags(trial),
        **tags,
    }
    how = Outcome(TrialState.COMPLETE)
    try:
        outbox.write(RunBegun(experiment_id, run_name(role, trial.number), start, all_tags))
        outbox.deliver()
        yield recorder
    except BaseException as error:
        how = outcome(error)
        if how.traceback and not is_taken_away(trial):  # or the outbox may be gone as well
            recorder.traceback(how.traceback)
            if retries > times_retried(trial):
                how = replace(how, reason=f"{Reason.RETRIED}: {how.reason}")
        raise
    finally:
        known = stored(trial)
        if known.state.is_finished():
            recorder.abandon(known)
        else:
            cost = recorder.cost
            with suppress(UpdateFinishedTrialError):  # closed by another process just now
                trial.set_user_attr(COST, cost)
                if how.reason:
                    trial.set_user_attr(REASON, how.reason)
            with tolerated(recorder.warnings, "the description"):
                outbox.write(Batch(tags={NOTE: describe(as_ended(known, how))}))
            recorder.close(how.state, how.reason, cost=cost)


def times_retried(trial: optuna.Trial) -> int:
    """How often a trial of these parameters and seeds ended with an error and was retried."""
    failed = trial.study.get_trials(deepcopy=False, states=(TrialState.FAIL,))
    first = root(stored(trial))
    return sum(root(other) == first and ending(other) == Ending.RETRIED for other in failed)


def as_ended(trial: FrozenTrial, how: Outcome) -> FrozenTrial:
    """A running trial as Optuna will have it once it is closed in this way."""
    closed = copy.copy(trial)
    closed.state, closed.user_attrs = how.state, {**trial.user_attrs}
    reports = trial.intermediate_values
    if how.state == TrialState.COMPLETE:
        closed.value = trial.user_attrs.get(SHOWN_SCORE)
    elif how.state == TrialState.PRUNED and reports:
        closed.value = reports[max(reports)]
    if how.reason:
        closed.user_attrs[REASON] = how.reason
    return closed


def new_outbox(trial: optuna.Trial, store: Store) -> Outbox:
    """An empty outbox for a trial that begins.

    If its folder exists, a deleted sweep left it there: it is set aside.
    """
    path = outbox_path(store, trial.study.study_name, trial.number)
    if os.path.lexists(path):
        set_aside(path, path.name, "it was left by a deleted sweep")
    return Outbox(path, store.runs(), link=partial(trial.set_user_attr, RUN_ID))


def attribute_tags(trial: optuna.Trial) -> dict[str, str]:
    """Attributes of a trial that its run shows as tags."""
    attributes = trial.user_attrs
    names = (RETRY_OF, POINT, SEED_INDEX, GIVEN)
    return {name: str(attributes[name]) for name in names if name in attributes}


def is_taken_away(trial: optuna.Trial) -> bool:
    """Whether another process closed a trial that still runs here, for want of heartbeats."""
    return stored(trial).state.is_finished()
