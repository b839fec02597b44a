"""A sweep: a study and its records, opened by every command that works on it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import optuna
from mlflow.entities import Run
from optuna.exceptions import UpdateFinishedTrialError
from optuna.pruners import BasePruner
from optuna.samplers import RandomSampler
from optuna.trial import FrozenTrial, TrialState

from lander.errors import ConfigError
from sweeps.estimates import FEWEST, to_repeat
from sweeps.hints import hint
from sweeps.optuna_private import id_of
from sweeps.schema import (
    BUDGET,
    CONFIRM_SUFFIX,
    DEFINITION,
    EXPERIMENT_ID,
    FORK,
    PARENT_RUN,
    REASON,
    ROLE,
    RUN_ID,
    TRIAL_NUMBER,
    Role,
)
from sweeps.scores import expected, violated
from sweeps.store.mlflow_client import PAGE_SIZE, search_all_runs
from sweeps.store.store import Store
from sweeps.store.trials import Trials, find_started, read_trials
from sweeps.study.covering import covering_points
from sweeps.study.grid import Grid, GridSampler
from sweeps.study.proposing import FittingSampler
from sweeps.study.samplers import make_pruner, make_sampler
from sweeps.study.settings import Settings
from sweeps.study.stored import base_of
from sweeps.study.study import Study, shipped_studies, stored_study

BEGINS_RUN_ID: Final = re.compile(r"(?!\d{1,7}$)[0-9a-f]{6,32}")
"""The beginning of a run's id in MLflow; up to seven digits are the number of a trial."""


@dataclass(frozen=True)
class Sweep:
    """A study and its records in a store: trials in Optuna, runs in MLflow."""

    study: Study
    optuna: optuna.Study
    store: Store

    @property
    def experiment_id(self) -> str:
        return str(self.optuna.user_attrs[EXPERIMENT_ID])

    @property
    def run_id(self) -> str:
        """The MLflow run of the whole sweep, the parent of its trials' runs."""
        return str(self.optuna.user_attrs[RUN_ID])

    def read_trials(self) -> Trials:
        """Read the database once; take all counts that must agree from what this returns."""
        return read_trials(self.optuna)

    @property
    def grid(self) -> Grid | None:
        """The grid that it samples, if it does."""
        if self.study.settings.sampler != "grid":
            return None
        return Grid(self.study.space, self.study.base, self.study.settings.seed)

    def fail(self, trial: FrozenTrial, reason: str) -> None:
        """Close a trial that no worker runs."""
        storage = self.store.trials()
        storage.set_late_attr(trial, REASON, reason)
        with suppress(UpdateFinishedTrialError):  # Optuna has closed it, without a reason
            storage.set_trial_state_values(id_of(trial), TrialState.FAIL)


def open_sweep(
    store: Store, name: str, *, sampler_seed: int | None = None, anywhere: bool = False
) -> Sweep:
    """Open a sweep that was started before; each worker gives its own seed for the sampler.

    Raises:
        ConfigError: the store has no such sweep, or it was only partly created, or the store was
            moved, unless it may be `anywhere`.
    """
    optuna_study = store.load_study(name, anywhere=anywhere)
    study = kept_study(optuna_study, store)
    if study.name != name:  # files are named after it, so it must be a valid name
        raise ConfigError(f"{name!r} in {store.folder} holds another study, {study.name}")
    if RUN_ID not in optuna_study.user_attrs:
        raise ConfigError(partly_created(store, name))
    if sampler_seed is not None:
        points = study.has_points
        optuna_study.sampler = RandomSampler() if points else proposer(study, seed=sampler_seed)
        optuna_study.pruner = pruner_of(study)
    return drawn_from_grid(Sweep(study, optuna_study, store), seed=sampler_seed)


def open_trial(store: Store, name: str, which: str) -> tuple[Sweep, FrozenTrial]:
    """A trial that has begun, and its sweep.

    `which` is its number in the sweep of that name, "best" or "confirmed"; or the id of its run in
    MLflow, or how that begins, in whichever sweep of the store. The run of a replay stands for the
    trial that it repeats.

    Raises:
        ConfigError: no such trial, several, or it waits to be run.
    """
    if not BEGINS_RUN_ID.fullmatch(which):
        sweep = open_sweep(store, name)
        return sweep, find_started(sweep.optuna, which)
    run = run_that_begins(store, which)
    number, parent = run.data.tags.get(TRIAL_NUMBER, ""), run.data.tags.get(PARENT_RUN)
    for other in store.study_names():
        if number.isdecimal() and store.load_study(other).user_attrs.get(RUN_ID) == parent:
            sweep = open_sweep(store, other)
            return sweep, find_started(sweep.optuna, number)
    raise ConfigError(f"run {run.info.run_id}, {run.info.run_name}, is not that of a trial")


def run_that_begins(store: Store, begin: str) -> Run:
    """The only run of the store's sweeps whose id begins so.

    Raises:
        ConfigError: there is none, or several.
    """
    studies = map(store.load_study, store.study_names())
    experiments = sorted({str(study.user_attrs.get(EXPERIMENT_ID, "")) for study in studies} - {""})
    query = f"attributes.run_id LIKE '{begin}%'"
    runs = store.runs().search_runs(experiments, query, max_results=2) if experiments else []
    if not runs:
        raise ConfigError(f"no run in {store.folder} has an id that begins with {begin}")
    if len(runs) > 1:
        raise ConfigError(f"several runs have ids that begin with {begin}: give more of it")
    return runs[0]


def drawn_from_grid(sweep: Sweep, *, seed: int | None = None) -> Sweep:
    """The same sweep; if it has a grid, its trials are points of that."""
    if sweep.grid is not None:
        store = sweep.store
        sweep.optuna.sampler = GridSampler(sweep.grid, lock=lambda: store.lock, seed=seed)
    return sweep


def partly_created(store: Store, name: str) -> str:
    """The message about a sweep whose creation was interrupted, with the remedy."""
    return f"study {name} was only partly created; to complete it: {to_run_again(store, name)}"


def to_run_again(store: Store, name: str) -> str:
    """How to run a sweep again, which knows its text, and not where its file is."""
    if name.endswith(CONFIRM_SUFFIX):
        return hint("confirm", store.folder, study=name.removesuffix(CONFIRM_SUFFIX))
    if name in shipped_studies():
        return hint("sweep", store.folder, study=name)
    return "run its study file again"


def kept_study(optuna_study: optuna.Study, store: Store) -> Study:
    """The definition that is recorded in a sweep.

    Raises:
        ConfigError: it cannot be read, or would import a module that the user has not trusted.
    """
    source = f"{optuna_study.study_name} in {store.folder}"
    try:
        base = base_of(optuna_study.user_attrs)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None
    if DEFINITION not in optuna_study.user_attrs:
        raise ConfigError(partly_created(store, optuna_study.study_name))
    text = str(optuna_study.user_attrs[DEFINITION])
    study = stored_study(text, source=source, base=base, origin=store.origin)
    return study.confirming() if optuna_study.study_name.endswith(CONFIRM_SUFFIX) else study


def proposer(study: Study, *, seed: int) -> FittingSampler:
    """The sampler that proposes the parameters of a worker's trials."""
    settings = study.settings
    sampler = make_sampler(settings.sampler, study.sampler, seed=seed, study_seed=settings.seed)
    first = covering_points(study.space, settings.startup_trials, seed=settings.seed)
    other = seed ^ 1  # another stream
    repeat = partial(point_to_repeat, settings)
    return FittingSampler(sampler, study.space, study.base, seed=other, first=first, repeat=repeat)


def point_to_repeat(
    settings: Settings, study: optuna.Study, trial: FrozenTrial
) -> Mapping[str, Any] | None:
    """The parameters that the next trial trains again, once it is time for that; None for new
    ones."""
    total = study.user_attrs.get(BUDGET, settings.trials)
    fork = study.user_attrs.get(FORK, {"copied": 0, "numbers": 0})
    number, new = trial.number - fork["numbers"], total - fork["copied"]
    if settings.repeat_from is None or number < settings.repeat_from * new:
        return None
    finished = expected(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))
    ranks = [one for one in finished if not violated(one.trial)]
    if len(ranks) < FEWEST:
        return None
    rng = np.random.default_rng((settings.seed, trial.number))
    chosen = to_repeat([one.likely for one in ranks], rng)
    return None if chosen is None else ranks[chosen].trial.params


def pruner_of(study: Study) -> BasePruner:
    """The pruner that ends trials whose return is behind."""
    settings, checkpoints = study.settings, study.base.checkpoints
    return make_pruner(
        settings.pruner, study.pruner, checkpoints=checkpoints, seeds=settings.seeds_per_trial
    )


def trial_runs(sweep: Sweep, condition: str = "", *, page_size: int = PAGE_SIZE) -> Iterator[Run]:
    """The MLflow runs of a sweep's trials, the newest first, without replays.

    `condition` is added to MLflow's query.
    """
    query = f"tags.`{PARENT_RUN}` = '{sweep.run_id}'" + (f" and {condition}" if condition else "")
    runs = search_all_runs(sweep.store.runs(), sweep.experiment_id, query, page_size=page_size)
    return (run for run in runs if run.data.tags.get(ROLE) != Role.REPLAY)
