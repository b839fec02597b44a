"""A sweep in its stores: started or resumed, counted, closed."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from filelock import FileLock
from optuna.trial import FrozenTrial, TrialState

from lander.fields import ConfigError
from sweeps.provenance import environment, source_tags
from sweeps.recording import INTERRUPTED, REASON, RETRY_OF, ROLE, RUN_ID, STATE, WORKER
from sweeps.scores import best_of
from sweeps.search import make_pruner, make_sampler
from sweeps.space import defaults, grid
from sweeps.storage import Store, is_gone
from sweeps.study import CONFIRM, Study, read_study

DEFINITION = "study.toml"
EXPERIMENT_ID = "mlflow.experiment_id"
LOST = "worker lost"
WITHDRAWN = "withdrawn"


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
    def waiting(self) -> list[FrozenTrial]:
        """Trials that nobody has begun."""
        return [trial for trial in self.trials if trial.state == TrialState.WAITING]

    @property
    def best(self) -> FrozenTrial | None:
        """The finished trial of the highest value; which one is confirmed does not matter here."""
        return best_of(self.trials)

    def fail(self, trial: FrozenTrial, reason: str) -> None:
        """Close a trial that nobody runs."""
        storage = self.store.trials()
        study_id = storage.get_study_id_from_name(self.study.name)
        trial_id = storage.get_trial_id_from_study_id_trial_number(study_id, trial.number)
        storage.set_trial_user_attr(trial_id, REASON, reason)
        storage.set_trial_state_values(trial_id, TrialState.FAIL)


def open_sweep(store: Store, name: str, *, sampler_seed: int | None = None) -> Sweep:
    """A sweep that was started before; a worker gives a seed of its own for the sampler.

    Raises:
        ConfigError: no such sweep in the store.
    """
    found = store.load_study(name)
    study = read_study(str(found.user_attrs[DEFINITION]), source=f"{name} in {store.folder}")
    if name.endswith(CONFIRM):
        study = study.confirming()
    if sampler_seed is not None:
        found.sampler = make_sampler(study.settings, seed=sampler_seed)
        found.pruner = make_pruner(study.settings, checkpoints=study.base.checkpoints)
    return Sweep(study, found, store)


def start_sweep(study: Study, store: Store, *, trials: int | None, command: Sequence[str]) -> Sweep:
    """Create the sweep or take up an earlier one, with the whole budget waiting or done.

    Raises:
        ConfigError: the store has a sweep of this name with another definition.
    """
    store.create()
    with FileLock(store.folder / "optuna.db.lock"):  # two at once would each fill the budget
        if study.name in store.study_names():
            found = store.load_study(study.name)
            earlier = read_study(str(found.user_attrs[DEFINITION]), source=DEFINITION)
            if earlier.fingerprint != study.fingerprint:
                raise ConfigError(
                    f"study {study.name} in {store.folder} was started differently "
                    f"({difference(earlier, study)}): use another name or another --store"
                )
            found.set_user_attr(DEFINITION, study.text)  # sampler and pruner may change
        else:
            found = create(study, store, command=command)
        sweep = Sweep(study, found, store)
        close_lost(sweep)
        fill(sweep, trials=trials or max(study.settings.trials, len(sweep.counted)))
        store.runs().update_run(sweep.run_id, status="RUNNING")
    return sweep


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
        else client.create_experiment(name, (store.artifacts / name).as_uri())
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
    found = optuna.create_study(study_name=study.name, storage=store.trials(), direction="maximize")
    found.set_user_attr(DEFINITION, study.text)
    found.set_user_attr(EXPERIMENT_ID, experiment_id)
    found.set_user_attr(RUN_ID, run.info.run_id)
    return found


def close_lost(sweep: Sweep) -> None:
    """Trials whose worker ended without closing them become FAILED, their runs likewise."""
    client = sweep.store.runs()
    for trial in sweep.trials:
        if trial.state == TrialState.RUNNING and is_gone(trial.user_attrs.get(WORKER, "")):
            sweep.fail(trial, LOST)
            run_id = trial.user_attrs.get(RUN_ID)
            if run_id:
                client.set_tag(run_id, REASON, LOST)
                client.set_tag(run_id, STATE, "FAIL")
                client.set_terminated(run_id, "FAILED")


def fill(sweep: Sweep, *, trials: int) -> None:
    """Enqueue what is missing to `trials`, or withdraw what is waiting beyond it.

    First the interrupted and lost trials again, under their own seeds; then the defaults, as trial
    0; then slots that the sampler fills, or the points of the grid.
    """
    points = grid_points(sweep.study)
    earlier = sweep.trials
    lost = [trial for trial in earlier if trial.user_attrs.get(REASON) in (INTERRUPTED, LOST)]
    for trial in lost:
        if not any(later.number > trial.number and root(later) == root(trial) for later in earlier):
            params = trial.params or trial.system_attrs.get("fixed_params", {})
            sweep.optuna.enqueue_trial(params, user_attrs={RETRY_OF: root(trial)})
    space = sweep.study.space
    while len(sweep.counted) < min(trials, len(points) or trials):
        fresh = sum(RETRY_OF not in trial.user_attrs for trial in sweep.trials)
        if points:
            sweep.optuna.enqueue_trial(points[fresh])
        else:
            sweep.optuna.enqueue_trial({} if fresh else defaults(space, sweep.study.base))
    waiting = sweep.waiting
    for trial in waiting[len(waiting) - max(0, len(sweep.counted) - trials) :]:
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


def difference(earlier: Study, study: Study) -> str:
    """The first thing in which two definitions differ, for people."""
    old, new = earlier.definition, study.definition
    for part in old:
        if not isinstance(old[part], dict):
            if old[part] != new[part]:
                return f"{part}: {old[part]} then, {new[part]} now"
            continue
        for name in sorted({*old[part], *new[part]}):
            then, now = old[part].get(name, "absent"), new[part].get(name, "absent")
            if then != now:
                return f"{name}: {then} then, {now} now"
    return "no difference"
