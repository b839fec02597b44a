"""A sweep in its stores: started or resumed, counted, closed."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.pruners import BasePruner
from optuna.trial import FrozenTrial, TrialState

from lander.errors import ConfigError
from sweeps.hints import hint
from sweeps.schema import CONFIRM_SUFFIX, DEFINITION, EXPERIMENT_ID, REASON, RUN_ID
from sweeps.store.snapshot import Trials, read_trials
from sweeps.store.store import Store
from sweeps.study.grid import Grid, GridSampler
from sweeps.study.proposing import FittingSampler
from sweeps.study.samplers import make_pruner, make_sampler
from sweeps.study.stored import base_of
from sweeps.study.study import Study, stored_study


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

    def read_trials(self) -> Trials:
        """One reading of the database; who looks at several counts asks it once."""
        return read_trials(self.optuna)

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
    return study.confirming() if found.study_name.endswith(CONFIRM_SUFFIX) else study


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
