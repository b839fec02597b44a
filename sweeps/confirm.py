"""Trains a sweep's best trials and its defaults again, under seeds that the sweep never used.

A confirmation is a study with points beside the sweep, called NAME@confirm: its points are the
candidates, and it is run, watched, resumed and reproduced as any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from lander.errors import ConfigError
from sweeps.endings import ending
from sweeps.hints import hint
from sweeps.lifecycle.creation import create, identify, is_created
from sweeps.lifecycle.losses import recover
from sweeps.lifecycle.points import Params, fill_points, given, seed_and_point
from sweeps.optuna_private import fixed_params
from sweeps.record.delivery import deliver_all
from sweeps.schema import CONFIRM_SUFFIX, POINT, RETURNS, Ending
from sweeps.scores import mean, ranked
from sweeps.store.presence import require_recorded
from sweeps.store.store import Store
from sweeps.study.space import defaults
from sweeps.sweep import Sweep, open_sweep

DEFAULTS = 0
"""Number of the trial that trains the study's base."""


@dataclass(frozen=True)
class Confirmed:
    """A candidate and its returns under the test seeds."""

    number: int
    """Number of its trial in the sweep; 0: the defaults."""
    params: dict[str, Any]
    """Its parameters in Optuna."""
    sweep_score: float | None
    """Its score in the sweep; None if it was pruned or failed there."""
    returns: tuple[tuple[float, ...], ...]
    """Return of each test episode, by finished training."""
    trials: tuple[int, ...]
    """Numbers of the confirmation's trials, in the order of `returns`."""
    failed: int
    """How many trainings failed."""

    @property
    def scores(self) -> list[float]:
        """Mean return under each test seed."""
        return [mean(episodes) for episodes in self.returns]


def candidates(sweep: Sweep, *, top: int) -> dict[int, Params]:
    """Number -> parameters of the defaults, and of the best `top` trials that differ from them.

    Of a study with named points the first of them stands for the defaults.

    Raises:
        ConfigError: no trial has finished.
    """
    best = ranked(sweep.read_trials().all)
    if not best:
        raise ConfigError(f"study {sweep.study.name} has no finished trial yet to confirm")
    base = defaults(sweep.study.space, sweep.study.configs[0])
    others = [trial for trial in best if trial.params != base]
    return {DEFAULTS: base} | {trial.number: trial.params for trial in others[:top]}


def start_confirmation(
    store: Store, name: str, *, top: int, seeds: int, command: Sequence[str]
) -> Sweep:
    """Create the confirmation of a sweep or resume it, with every training waiting or done.

    Raises:
        ConfigError: no such sweep, nothing in it has finished, or it is a confirmation itself.
    """
    sweep = open_sweep(store, name)
    if sweep.study.confirms:
        raise ConfigError(f"{name} is a confirmation itself: give {sweep.study.settings.name}")
    chosen = candidates(sweep, top=top)
    with store.publication_lock:
        require_recorded(store, sweep.optuna)
        identify(store, sweep.optuna)
        if not is_created(store, name + CONFIRM_SUFFIX):
            create(sweep.study.confirming(), store, command=command)
        confirmation = open_sweep(store, name + CONFIRM_SUFFIX)
        require_recorded(store, confirmation.optuna)
        deliver_all(store)
        with store.lock:
            recover(confirmation)
            fill_points(confirmation, chosen, seeds=seeds)
        deliver_all(store)
        store.runs().update_run(confirmation.run_id, status="RUNNING")
    return confirmation


def read_confirmation(store: Store, name: str) -> list[Confirmed]:
    """Every candidate that was trained under test seeds, the defaults first.

    Raises:
        ConfigError: the sweep was not confirmed yet.
    """
    sweep = open_sweep(store, name)
    if name + CONFIRM_SUFFIX not in store.study_names():
        remedy = hint("confirm", store.folder, study=name)
        raise ConfigError(f"study {name} was not confirmed yet: {remedy}")
    confirmation = open_sweep(store, name + CONFIRM_SUFFIX)
    by_candidate: dict[int, list[FrozenTrial]] = {}
    for trial in sorted(given(confirmation.read_trials().counted), key=seed_and_point):
        by_candidate.setdefault(int(trial.user_attrs[POINT]), []).append(trial)
    finished = ranked(sweep.read_trials().all)
    return [confirmed(number, by_candidate[number], finished) for number in sorted(by_candidate)]


def confirmed(
    number: int, trials: Sequence[FrozenTrial], swept: Sequence[FrozenTrial]
) -> Confirmed:
    """The results of a candidate's trainings; `swept` are the finished trials of the sweep."""
    finished = [
        trial
        for trial in trials
        if trial.state == TrialState.COMPLETE and RETURNS in trial.user_attrs
    ]
    params = fixed_params(trials[0])
    # by parameters: the trial of this number may have been lost, and its retry has the score
    scores = [trial.values[0] for trial in swept if trial.params == params]
    return Confirmed(
        number=number,
        params=params,
        sweep_score=scores[0] if scores else None,
        returns=tuple(tuple(trial.user_attrs[RETURNS][0]) for trial in finished),
        trials=tuple(trial.number for trial in finished),
        failed=sum(ending(trial) == Ending.FAILED for trial in trials),
    )
