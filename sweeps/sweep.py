"""A sweep in its stores: started or resumed, counted, closed."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from lander.fields import ConfigError, flatten
from lander.trust import agree, modules
from sweeps.budget import BUDGET, REASON, RETRY_OF, WITHDRAWN, WORKER, given, is_gone, left
from sweeps.delivery import close_run, deliver_all
from sweeps.provenance import environment, source_tags
from sweeps.recording import CANDIDATE, INTERRUPTED, ROLE, RUN_ID, STATE, TEST_SEED_INDEX
from sweeps.scores import best_of, ranked
from sweeps.search import make_pruner, make_sampler
from sweeps.space import defaults, grid
from sweeps.storage import PLACE, Store
from sweeps.study import CONFIRM, Study, read_study

DEFINITION = "study.toml"
EXPERIMENT_ID = "mlflow.experiment_id"
LOST = "worker lost"
LOST_AGAIN = "worker lost twice"
"""Of a trial whose retry was lost as well: it may be the trial that ends its workers."""
WARM_TRIALS = 5
"""How many trials of another sweep a new one begins with."""


@dataclass(frozen=True)
class Sweep:
    """A study in a store: Optuna's half and MLflow's half."""

    study: Study
    optuna: optuna.Study
    store: Store

    @property
    def experiment_id(self) -> str:
        return str(self.optuna.user_attrs[EXPERIMENT_ID])

    @property
    def run_id(self) -> str:
        """The parent run, which stands for the whole sweep."""
        return str(self.optuna.user_attrs[RUN_ID])

    @property
    def trials(self) -> list[FrozenTrial]:
        return self.optuna.get_trials(deepcopy=False)

    @property
    def counted(self) -> list[FrozenTrial]:
        """Trials of the budget: not those that were lost, and tried again in another trial."""
        return [
            trial
            for trial in self.trials
            if trial.user_attrs.get(REASON) not in (INTERRUPTED, LOST, WITHDRAWN)
        ]

    @property
    def left(self) -> int:
        """How many trials nobody has begun."""
        return left(self.optuna)

    @property
    def running(self) -> int:
        """How many trials are being trained, here or elsewhere."""
        return sum(trial.state == TrialState.RUNNING for trial in self.trials)

    @property
    def total(self) -> int:
        """How many trials it has when it is over."""
        return max(int(self.optuna.user_attrs.get(BUDGET, 0)), given(self.trials))

    @property
    def best(self) -> FrozenTrial | None:
        """The finished trial of the highest value; which one is confirmed does not matter here."""
        return best_of(self.trials)

    def fail(self, trial: FrozenTrial, reason: str) -> None:
        """Close a trial that nobody runs."""
        storage = self.store.trials()
        storage.set_late_attr(trial, REASON, reason)
        with suppress(UpdateFinishedTrialError):  # by Optuna, which gives no reason
            storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)


def open_sweep(
    store: Store, name: str, *, sampler_seed: int | None = None, anywhere: bool = False
) -> Sweep:
    """A sweep that was started before; a worker gives a seed of its own for the sampler.

    Raises:
        ConfigError: no such sweep in the store, or it was moved, unless it may be `anywhere`.
    """
    found = store.load_study(name, anywhere=anywhere)
    study = read_study(
        str(found.user_attrs[DEFINITION]), source=f"{name} in {store.folder}", origin=store.origin
    )
    if name.endswith(CONFIRM):
        study = study.confirming()
    if sampler_seed is not None:
        found.sampler = make_sampler(study.settings, seed=sampler_seed)
        found.pruner = make_pruner(study.settings, checkpoints=study.base.checkpoints)
    return Sweep(study, found, store)


def start_sweep(
    study: Study,
    store: Store,
    *,
    trials: int | None,
    command: Sequence[str],
    warm_start: str | None = None,
) -> Sweep:
    """Create the sweep or take up an earlier one, with the whole budget waiting or done.

    A new one tries the best trials of the sweep `warm_start` right after its defaults.

    Raises:
        ConfigError: the store has a sweep of this name with another definition.
    """
    points = [] if warm_start is None else warm_points(study, open_sweep(store, warm_start))
    store.create()
    agree(store.origin, modules(flatten(study.base)))  # typed by whoever starts it
    with store.lock:  # two at once would each fill the budget
        if is_created(store, study.name):
            found = store.load_study(study.name)
            text = str(found.user_attrs[DEFINITION])
            earlier = read_study(text, source=DEFINITION, origin=store.origin)
            if earlier.fingerprint != study.fingerprint:
                raise ConfigError(
                    f"study {study.name} in {store.folder} was started differently "
                    f"({difference(earlier, study)}): give it another name, and with "
                    f"--warm-start {study.name} it begins with the best trials of this one"
                )
            found.set_user_attr(DEFINITION, study.text)  # sampler and pruner may change
        else:
            found = create(study, store, command=command)
            for point in points and [defaults(study.space, study.base), *points]:
                found.enqueue_trial(point)
        sweep = Sweep(study, found, store)
        deliver_all(store)
        recover(sweep)
        fill(sweep, trials=trials or max(study.settings.trials, sweep.total))
        store.runs().update_run(sweep.run_id, status="RUNNING")
    return sweep


def is_created(store: Store, name: str) -> bool:
    """Whether a sweep is in the store, and its creation was not broken off."""
    if name not in store.study_names():
        return False
    return RUN_ID in store.load_study(name, anywhere=True).user_attrs


def create(study: Study, store: Store, *, command: Sequence[str]) -> optuna.Study:
    """The Optuna study, the MLflow experiment and its parent run, linked to each other.

    A sweep and its confirmation share an experiment.
    """
    client = store.runs()
    name = study.settings.name
    experiment = client.get_experiment_by_name(name)
    experiment_id = (
        experiment.experiment_id
        if experiment
        else client.create_experiment(
            name, None if store.tracked_remotely else f"{store.place}/{name}"
        )
    )
    run = client.create_run(
        experiment_id,
        run_name=study.name,
        tags={
            ROLE: "confirmation" if study.confirms else "study",
            **environment(),
            **source_tags(command),
        },
    )
    client.log_text(run.info.run_id, study.text, DEFINITION)
    found = optuna.create_study(
        study_name=study.name,
        storage=store.trials(),
        direction="maximize",
        load_if_exists=True,
    )
    found.set_user_attr(DEFINITION, study.text)
    found.set_user_attr(PLACE, store.place)
    found.set_user_attr(EXPERIMENT_ID, experiment_id)
    found.set_user_attr(RUN_ID, run.info.run_id)
    return found


def recover(sweep: Sweep) -> int:
    """Close the trials that lost their worker, and enqueue these and the interrupted ones again.

    The store's lock must be held. How many were enqueued: a lost trial is tried again once.
    """
    close_lost(sweep)
    again = to_try_again(sweep.trials)
    for trial in again:
        params = trial.params or trial.system_attrs.get("fixed_params", {})
        kept = {
            name: trial.user_attrs[name]
            for name in (CANDIDATE, TEST_SEED_INDEX)
            if name in trial.user_attrs
        }
        sweep.optuna.enqueue_trial(params, user_attrs={RETRY_OF: root(trial), **kept})
    return len(again)


def to_try_again(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Those that were lost or interrupted, and that no other one stands for yet."""
    last = {root(trial): trial.number for trial in trials}
    return [
        trial
        for trial in trials
        if trial.user_attrs.get(REASON) in (INTERRUPTED, LOST) and last[root(trial)] == trial.number
    ]


def take_back(sweep: Sweep) -> None:
    """As `recover`, which needs the lock, if there is anything to do."""
    if find_lost(sweep) or to_try_again(sweep.trials):
        with sweep.store.lock:
            recover(sweep)


def close_lost(sweep: Sweep) -> None:
    """Trials whose worker ended without closing them become FAILED, their runs likewise."""
    lost = {root(trial) for trial in sweep.trials if trial.user_attrs.get(REASON) == LOST}
    for trial in find_lost(sweep):
        reason = LOST_AGAIN if root(trial) in lost else LOST
        tags = {REASON: reason, STATE: "FAIL"}
        close_run(sweep.store, sweep.study.name, trial, tags=tags, status="FAILED")
        sweep.fail(trial, reason)
        deliver_all(sweep.store)


def find_lost(sweep: Sweep) -> list[FrozenTrial]:
    """Trials whose worker ended without closing them; without the lock it may just be at it."""
    optuna.storages.fail_stale_trials(sweep.optuna)  # of other hosts only heartbeats tell
    return [trial for trial in sweep.trials if is_lost(trial)]


def is_lost(trial: FrozenTrial) -> bool:
    """Nobody runs it, and nobody has said why it ended."""
    if trial.state == TrialState.FAIL:
        return REASON not in trial.user_attrs  # failed by Optuna, when there was no heartbeat
    worker = trial.user_attrs.get(WORKER)
    # without the name of a worker: it ended while it took the trial, with the lock we have now
    return trial.state == TrialState.RUNNING and (worker is None or is_gone(worker))


def fill(sweep: Sweep, *, trials: int) -> None:
    """Enqueue what is missing to `trials`, or withdraw what is waiting beyond it.

    First the defaults, as trial 0; the rest is left to the sampler, or is the points of the grid.
    """
    points = grid_points(sweep.study)
    if points:
        there = [trial.system_attrs.get("fixed_params") for trial in sweep.counted]
        missing = max(0, min(trials, len(points)) - given(sweep.trials))
        for point in [point for point in points if point not in there][:missing]:
            sweep.optuna.enqueue_trial(point)
    else:
        if not sweep.trials:
            sweep.optuna.enqueue_trial(defaults(sweep.study.space, sweep.study.base))
        sweep.optuna.set_user_attr(BUDGET, trials)
    waiting = [trial for trial in sweep.trials if trial.state == TrialState.WAITING]
    for trial in waiting[len(waiting) - max(0, given(sweep.trials) - trials) :]:
        sweep.fail(trial, WITHDRAWN)


def root(trial: FrozenTrial) -> int:
    """The number of the trial that this one stands for: its own, unless it is a retry."""
    return int(trial.user_attrs.get(RETRY_OF, trial.number))


def grid_points(study: Study) -> list[dict[str, Any]]:
    """Every combination, the defaults first; empty unless the sampler is grid."""
    if study.settings.sampler != "grid":
        return []
    values = grid(study.space)
    first = defaults(study.space, study.base)
    rows = itertools.product(*values.values())
    points = [dict(zip(values, row, strict=True)) for row in rows]
    return [first, *(point for point in points if point != first)]


def warm_points(study: Study, earlier: Sweep) -> list[dict[str, Any]]:
    """Optuna's parameters of another sweep's best trials, each as far as it lies in this space;
    what is missing the sampler draws.

    Raises:
        ConfigError: nothing of them fits, or the study is a grid.
    """
    if study.settings.sampler == "grid":
        raise ConfigError(f"study {study.name} is a grid, which tries all points: no --warm-start")
    points: list[dict[str, Any]] = []
    for trial in ranked(earlier.trials)[:WARM_TRIALS]:
        point = {
            range_.parameter: trial.params[range_.parameter]
            for range_ in study.space.values()
            if range_.parameter in trial.params and range_.holds(trial.params[range_.parameter])
        }
        if point and point not in points:
            points.append(point)
    if not points:
        raise ConfigError(
            f"no finished trial of {earlier.study.name} lies in the space of {study.name}: "
            "leave --warm-start out"
        )
    return points


def difference(earlier: Study, study: Study) -> str:
    """All in which two definitions differ, for people."""
    found = []
    for part, old in earlier.definition.items():
        new = study.definition[part]
        if part == "space":
            old, new = earlier.space, study.space
        if not isinstance(old, Mapping):
            old, new = {part: old}, {part: new}
        for name in sorted({*old, *new}):
            then, now = str(old.get(name, "absent")), str(new.get(name, "absent"))
            if then != now:
                found.append(f"{name}: {then} then, {now} now")
    return "; ".join(found)
