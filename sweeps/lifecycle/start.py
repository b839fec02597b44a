"""Starts or resumes a sweep: sets its budget and closes its lost trials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from lander.dotted import flatten
from lander.errors import ConfigError
from lander.terminal import say
from lander.trust import agree, modules
from sweeps.endings import attempt, to_retry
from sweeps.lifecycle.creation import create, identify, is_created
from sweeps.lifecycle.fork import Fork, fork_of, queued
from sweeps.lifecycle.losses import recover
from sweeps.lifecycle.points import fill_points, points_of, under_seeds
from sweeps.lifecycle.stopping import note_stop
from sweeps.record.delivery import deliver_all
from sweeps.schema import BUDGET, DEFINITION, FORK, RUN_ID, Reason
from sweeps.scores import best_of, ranked
from sweeps.store.presence import require_recorded
from sweeps.store.store import Store
from sweeps.study.proposing import trainable_part
from sweeps.study.space import defaults
from sweeps.study.stored import difference, remedy
from sweeps.study.study import Study
from sweeps.sweep import Sweep, drawn_from_grid, kept_study, open_sweep

WARM_TRIALS = 5
"""How many trials of another sweep a new one begins with."""


def start_sweep(
    study: Study,
    store: Store,
    *,
    trials: int | None,
    command: Sequence[str],
    warm_start: str | None = None,
    fork: str | None = None,
) -> Sweep:
    """Create the sweep or resume it, with the whole budget waiting or done.

    A new one tries the best trials of the sweep `warm_start` right after its defaults; or it begins
    with the trials of the sweep `fork` that fit, which are no part of its budget.

    Raises:
        ConfigError: the store has a sweep of this name with another definition.
    """
    forked, first = first_trials(study, store, trials=trials, warm_start=warm_start, fork=fork)
    store.create()
    for config in (study.base, *study.points.values()):
        agree(store.origin, modules(flatten(config)))  # the user named them in the study
    with store.publication_lock:  # or two commands would create it twice
        if is_created(store, study.name):
            sweep = resumed(study, store)
        else:
            record = forked.record if forked else None
            created = create(study, store, command=command, trials=first, fork=record)
            sweep = Sweep(study, created, store)
            if forked:
                say(f"{study.name} begins with {forked}")
        sweep = drawn_from_grid(sweep)
        deliver_all(store)
        with store.lock:  # or two commands would fill the budget twice
            recover(sweep)
            if study.has_points:
                seeds = study.settings.seed_count
                fill_points(sweep, under_seeds(points_of(sweep.study), seeds=seeds))
            else:
                before = sweep.read_trials()
                asked = (trials or study.settings.trials) + before.copied
                fill(sweep, trials=asked if trials else max(asked, before.total))
            note_stop(sweep, sweep.read_trials())
        deliver_all(store)
        store.runs().update_run(sweep.run_id, status="RUNNING")
    return sweep


def first_trials(
    study: Study,
    store: Store,
    *,
    trials: int | None,
    warm_start: str | None,
    fork: str | None,
) -> tuple[Fork | None, list[FrozenTrial]]:
    """What a sweep begins with, if it is new; nothing is written.

    Raises:
        ConfigError: it cannot be started or resumed in this way.
    """
    options = {"--trials": trials, "--warm-start": warm_start, "--fork": fork}
    given = [name for name, value in options.items() if value]
    if study.has_points and given:
        raise ConfigError(
            f"study {study.name} has {study.settings.trials} trials, its points times its training "
            f"seeds: add to them in its file, and leave {given[0]} out"
        )
    if warm_start and fork:
        raise ConfigError("--fork has the trials of --warm-start already: leave one of them out")
    forked = fork_for(study, store, fork)
    first = list(forked.trials) if forked else []
    if warm_start is not None:
        first = warm_trials(study, open_sweep(store, warm_start))
    if is_created(store, study.name):
        require_same(study, store)
    return forked, first


def require_same(study: Study, store: Store) -> Study:
    """The study with which a sweep was started.

    Raises:
        ConfigError: it has another definition.
    """
    optuna_study = store.load_study(study.name)
    earlier = kept_study(optuna_study, store)
    changed = difference(earlier, study)
    if changed:
        begin = beginning(study, Sweep(earlier, optuna_study, store))
        raise ConfigError(
            f"study {study.name} in {store.folder} was started differently "
            f"({changed}): {remedy(earlier, study)}{begin}"
        )
    return earlier


def resumed(study: Study, store: Store) -> Sweep:
    """A sweep that was created before, with the sampler and the pruner that the study has now.

    Raises:
        ConfigError: it has another definition, or its experiment or run was deleted.
    """
    earlier, optuna_study = require_same(study, store), store.load_study(study.name)
    require_recorded(store, optuna_study)
    identify(store, optuna_study)
    if study.text != optuna_study.user_attrs[DEFINITION]:
        store.runs().log_text(str(optuna_study.user_attrs[RUN_ID]), study.text, DEFINITION)
        optuna_study.set_user_attr(DEFINITION, study.text)
    base = earlier.base  # trial 0 trains it, including the searched fields
    return Sweep(replace(study, base=base), optuna_study, store)


def beginning(study: Study, earlier: Sweep) -> str:
    """How a study that differs from an earlier sweep can begin with its trials, under another name;
    "" if it has none."""
    try:
        fork = fork_of(study, earlier)
    except ConfigError:
        if study.has_points or best_of(earlier.read_trials().all) is None:
            return ""
        return f", and with --warm-start {study.name} it begins with the best trials of this one"
    return (
        f", and with --fork {study.name} it begins with the {fork.copied} trials of this one that "
        "fit, which are not trained again"
    )


def fork_for(study: Study, store: Store, original: str | None) -> Fork | None:
    """What a new sweep begins with if it is a fork; None for one that is none, or is resumed.

    Raises:
        ConfigError: nothing of the original fits, or the sweep exists and is no fork of it.
    """
    if study.name in store.study_names():
        begun = store.load_study(study.name, anywhere=True).user_attrs
        recorded = begun[FORK]["sweep"] if FORK in begun else None
        complete = is_created(store, study.name)
        if original not in (None, recorded, study.name) and (complete or recorded is not None):
            raise ConfigError(
                f"study {study.name} has begun, and not as a fork of {original}: leave --fork out, "
                "or give the study another name"
            )
        if complete:
            return None
        original = recorded or original  # the creation was interrupted
    return None if original is None else fork_of(study, open_sweep(store, original))


def fill(sweep: Sweep, *, trials: int) -> None:
    """Set the budget, for a grid at most its points, and withdraw waiting trials beyond it.

    The first trial is the defaults; each later one is drawn when a worker asks for it.
    """
    grid = sweep.grid
    if not sweep.read_trials().all:
        study = sweep.study
        sweep.optuna.enqueue_trial(grid.first() if grid else defaults(study.space, study.base))
    before = sweep.read_trials()
    taken = len(before.counted)
    if grid is not None:
        again = len(to_retry(map(attempt, before.all)))
        trials = min(trials, taken + again + grid.untried(before.all))
    sweep.optuna.set_user_attr(BUDGET, trials)
    waiting = [trial for trial in before.all if trial.state == TrialState.WAITING]
    excess = max(0, taken - trials)
    for trial in waiting[max(0, len(waiting) - excess) :]:
        sweep.fail(trial, Reason.WITHDRAWN)


def warm_trials(study: Study, earlier: Sweep) -> list[FrozenTrial]:
    """The defaults, and the best trials of another sweep, all to be trained."""
    points = [defaults(study.space, study.base), *warm_points(study, earlier)]
    return [queued(point) for point in points]


def warm_points(study: Study, earlier: Sweep) -> list[dict[str, Any]]:
    """Optuna's parameters of another sweep's best trials, as far as they lie in this space; the
    sampler draws those that do not.

    Raises:
        ConfigError: none of them lies in the space, or the study is a grid.
    """
    if study.settings.sampler == "grid":
        raise ConfigError(
            f"study {study.name} is a grid, which tries all points: leave --warm-start out"
        )
    points: list[dict[str, Any]] = []
    for trial in ranked(earlier.read_trials().all)[:WARM_TRIALS]:
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
