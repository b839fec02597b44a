"""A sweep in its stores: started or resumed, counted, closed."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.pruners import BasePruner
from optuna.trial import FrozenTrial, TrialState

from lander.fields import ConfigError, flatten
from lander.trust import agree, modules
from sweeps.budget import BUDGET, WORKER, left, taken, total
from sweeps.creation import DEFINITION, create, identify, is_created
from sweeps.definition import base_of, difference, remedy
from sweeps.delivery import close_run, deliver_all
from sweeps.endings import (
    LOST,
    LOST_AGAIN,
    REASON,
    SUPERSEDED,
    WITHDRAWN,
    Ending,
    attempt,
    counts,
    root,
    to_try_again,
)
from sweeps.grid import Grid, GridSampler
from sweeps.hints import hint
from sweeps.identity import is_gone
from sweeps.presence import EXPERIMENT_ID, require_recorded
from sweeps.proposing import FittingSampler, trainable_part
from sweeps.recording import RUN_ID, STATE
from sweeps.scores import best_of, ranked
from sweeps.search import make_pruner, make_sampler
from sweeps.space import defaults
from sweeps.storage import Store
from sweeps.study import CONFIRM, Study, stored_study

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
        """Trials of the budget: not those that were lost or interrupted, and tried again in
        another trial."""
        return [trial for trial in self.trials if counts(trial)]

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
        return total(self.optuna)

    @property
    def best(self) -> FrozenTrial | None:
        """The finished trial of the highest value; which one is confirmed does not matter here."""
        return best_of(self.trials)

    @property
    def grid(self) -> Grid | None:
        """What it draws from, if that is a grid."""
        if self.study.settings.sampler != "grid" or self.study.confirms:
            return None
        return Grid(self.study.space, self.study.base, self.study.settings.seed)

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
        ConfigError: no such sweep in the store, or one that was only partly created; or the store
            was moved, unless it may be `anywhere`.
    """
    found = store.load_study(name, anywhere=anywhere)
    study = kept_study(found, store)
    if study.name != name:  # files are called after it: a name that no study can have is no path
        raise ConfigError(f"{name!r} in {store.folder} holds another study, {study.name}")
    if RUN_ID not in found.user_attrs:
        raise ConfigError(partly_created(store, name))
    if sampler_seed is not None:
        found.sampler = proposer(study, seed=sampler_seed)
        found.pruner = pruner_of(study)
    return drawn_from_grid(Sweep(study, found, store), seed=sampler_seed)


def drawn_from_grid(sweep: Sweep, *, seed: int | None = None) -> Sweep:
    """The same sweep; whoever asks it for a trial gets a point of its grid, if it has one."""
    if sweep.grid is not None:
        store = sweep.store
        sweep.optuna.sampler = GridSampler(sweep.grid, lock=lambda: store.lock, seed=seed)
    return sweep


def partly_created(store: Store, name: str) -> str:
    """A sweep whose creation was interrupted, in one line with the remedy."""
    return f"{name} was only partly created: complete it: {hint('sweep', store.folder, study=name)}"


def kept_study(found: optuna.Study, store: Store) -> Study:
    """The definition that a sweep keeps.

    Raises:
        ConfigError: it cannot be read, or would import a module nobody has agreed to.
    """
    source = f"{found.study_name} in {store.folder}"
    try:
        base = base_of(found.user_attrs)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None
    if DEFINITION not in found.user_attrs:
        raise ConfigError(partly_created(store, found.study_name))
    text = str(found.user_attrs[DEFINITION])
    study = stored_study(text, source=source, base=base, origin=store.origin)
    return study.confirming() if found.study_name.endswith(CONFIRM) else study


def proposer(study: Study, *, seed: int) -> FittingSampler:
    """What proposes the parameters of a worker's trials."""
    settings = study.settings
    sampler = make_sampler(settings.sampler, study.sampler, seed=seed, study_seed=settings.seed)
    return FittingSampler(sampler, study.space, study.base, seed=seed ^ 1)  # another stream


def pruner_of(study: Study) -> BasePruner:
    """What ends trials that are behind."""
    settings, checkpoints = study.settings, study.base.checkpoints
    return make_pruner(
        settings.pruner, study.pruner, checkpoints=checkpoints, seeds=settings.seeds_per_trial
    )


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
    if points:
        points = [defaults(study.space, study.base), *points]
    store.create()
    agree(store.origin, modules(flatten(study.base)))  # typed by whoever starts it
    with store.publication_lock:  # two at once would each create it
        if is_created(store, study.name):
            sweep = resumed(study, store)
        else:
            sweep = Sweep(study, create(study, store, command=command, points=points), store)
        sweep = drawn_from_grid(sweep)
        deliver_all(store)
        with store.lock:  # two at once would each fill the budget
            recover(sweep)
            fill(sweep, trials=trials or max(study.settings.trials, sweep.total))
        deliver_all(store)
        store.runs().update_run(sweep.run_id, status="RUNNING")
    return sweep


def resumed(study: Study, store: Store) -> Sweep:
    """A sweep that was created before, with the sampler and the pruner of the study as it is now.

    Raises:
        ConfigError: it has another definition; its experiment or run is deleted or gone.
    """
    found = store.load_study(study.name)
    earlier = kept_study(found, store)
    if earlier.fingerprint != study.fingerprint:
        can_warm_start = best_of(found.get_trials(deepcopy=False)) is not None
        raise ConfigError(
            f"study {study.name} in {store.folder} was started differently "
            f"({difference(earlier, study)}): "
            f"{remedy(earlier, study, can_warm_start=can_warm_start)}"
        )
    require_recorded(store, found)
    identify(store, found)
    if study.text != found.user_attrs[DEFINITION]:
        store.runs().log_text(str(found.user_attrs[RUN_ID]), study.text, DEFINITION)
        found.set_user_attr(DEFINITION, study.text)
    base = earlier.base  # also where it is searched: trial 0
    return Sweep(replace(study, base=base), found, store)


def recover(sweep: Sweep) -> None:
    """Close the trials that lost their worker: whoever asks for a trial next tries them again.

    The store's lock must be held; `deliver_all` sends their last records, later.
    """
    before = {root(trial) for trial in sweep.trials if trial.user_attrs.get(REASON) == LOST}
    for trial in find_lost(sweep):
        reason = LOST_AGAIN if root(trial) in before else LOST
        before.add(root(trial))
        tags = {REASON: reason, STATE: "FAIL"}
        if reason == LOST:
            tags[SUPERSEDED] = Ending.LOST
        close_run(sweep.store, sweep.study.name, trial, tags=tags, status="FAILED")
        sweep.fail(trial, reason)


def take_back(sweep: Sweep) -> None:
    """As `recover`, which needs the lock, if there is anything to do."""
    if find_lost(sweep):
        with sweep.store.lock:
            recover(sweep)
        deliver_all(sweep.store)


def find_lost(sweep: Sweep) -> list[FrozenTrial]:
    """Trials whose worker ended without closing them; without the lock it may just be at it.

    A reading: nothing is changed.
    """
    stale = sweep.store.trials()._get_stale_trial_ids(sweep.optuna._study_id)
    return [trial for trial in sweep.trials if is_lost(trial, stale=trial._trial_id in stale)]


def is_lost(trial: FrozenTrial, *, stale: bool) -> bool:
    """Nobody runs it, and nobody has said why it ended. `stale`: its heartbeats have stopped."""
    if trial.state == TrialState.FAIL:
        return REASON not in trial.user_attrs  # closed by another tool than ours
    worker = trial.user_attrs.get(WORKER)
    # without the name of a worker: it ended while it took the trial, with the lock we have now
    return trial.state == TrialState.RUNNING and (stale or worker is None or is_gone(worker))


def fill(sweep: Sweep, *, trials: int) -> None:
    """Set the budget, of a grid at most its points, and withdraw what waits beyond it.

    The first trial is the defaults; each later one is drawn when a worker asks for it.
    """
    grid = sweep.grid
    if not sweep.trials:
        study = sweep.study
        sweep.optuna.enqueue_trial(grid.first() if grid else defaults(study.space, study.base))
    if grid is not None:
        again = len(to_try_again(map(attempt, sweep.trials)))
        trials = min(trials, taken(sweep.trials) + again + grid.untried(sweep.trials))
    sweep.optuna.set_user_attr(BUDGET, trials)
    waiting = [trial for trial in sweep.trials if trial.state == TrialState.WAITING]
    excess = max(0, taken(sweep.trials) - trials)
    for trial in waiting[max(0, len(waiting) - excess) :]:
        sweep.fail(trial, WITHDRAWN)


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
        point = trainable_part(point, study.space, study.base)
        if point and point not in points:
            points.append(point)
    if not points:
        raise ConfigError(
            f"no finished trial of {earlier.study.name} lies in the space of {study.name}: "
            "leave --warm-start out"
        )
    return points
