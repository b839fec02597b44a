"""python -m sweeps try: queues a trial of given values for a sweep, running or over."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from optuna.trial import FrozenTrial

from lander.dotted import flatten, typed
from lander.errors import ConfigError, unknown
from lander.options import inactive, settle
from lander.resolve import resolve
from lander.terminal import listed, say_rows
from sweeps.endings import ending
from sweeps.lifecycle.fork import is_in
from sweeps.schema import BUDGET, GIVEN, Ending
from sweeps.store.store import Store
from sweeps.study.space import brief, defaults, field_values, flat_base
from sweeps.study.study import Study
from sweeps.sweep import Sweep, open_sweep, open_trial, partly_created, to_run_again

BY_HAND = "by hand"
"""The value of `sweeps.given`."""


def try_values(args: argparse.Namespace) -> int:
    """Queue a trial and say what it trains, and when."""
    sweep = open_sweep(Store(args.store), args.study)
    require_search(sweep.study)
    if not (args.values or args.like):
        raise ConfigError(
            "nothing to try: name a field, as ppo.learning_rate=0.003, or a trial, as --from best"
        )
    like = None if args.like is None else trial_of(sweep, args.like).params
    point = point_of(sweep.study, read_values(sweep.study, args.values), like=like)
    number, grown = queue(sweep, point)
    say_rows(rows_of(sweep, number, point, grown=grown))
    return 0


def trial_of(sweep: Sweep, which: str) -> FrozenTrial:
    """A trial of this sweep, in the words of `open_trial`.

    Raises:
        ConfigError: no such trial, it waits to be run, or the run is of another sweep.
    """
    name = sweep.study.name
    other, trial = open_trial(sweep.store, name, which)
    if other.study.name != name:
        raise ConfigError(
            f"run {which} is trial {trial.number} of {other.study.name}: --from takes one of {name}"
        )
    return trial


def require_search(study: Study) -> None:
    """Refuse a sweep in which nothing can be queued."""
    if study.has_points:
        raise ConfigError(f"{study.name} trains the points of its file: add one there")
    if study.settings.sampler == "grid":
        raise ConfigError(f"{study.name} is a grid, which tries all of its points")


def read_values(study: Study, texts: Sequence[str]) -> dict[str, Any]:
    """FIELD=VALUE, ..: Optuna's value of each field.

    Raises:
        ConfigError: a field that the study does not search, or a value that it does not hold.
    """
    values: dict[str, Any] = {}
    flat = flat_base(study.space, study.base)
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"want FIELD=VALUE, as ppo.learning_rate=0.003, got {text!r}")
        if name in flat and name not in study.space:
            raise ConfigError(f"{name} is not searched: it is {flat[name]} in all of {study.name}")
        if name not in study.space:
            raise ConfigError(unknown("searched field", name, list(study.space)))
        if name in values:
            raise ConfigError(f"{name} has two values: give one")
        range_ = study.space[name]
        values[name] = range_.parameter_value(typed(name, value))
        if not is_in(range_, values[name]):
            raise ConfigError(f"{name}: {value} is not among those searched, {range_}")
    return values


def point_of(
    study: Study, values: Mapping[str, Any], *, like: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Optuna's parameters of a trial of these values; the other fields are those of the trial
    `like`, or else of the base.

    Raises:
        ConfigError: values that do not go together, or one that would do nothing.
    """
    space, flat = study.space, flat_base(study.space, study.base)
    params = dict(defaults(space, study.base) if like is None else like)
    params |= {space[name].parameter: value for name, value in values.items()}

    def choose(name: str) -> Any:
        range_ = space[name]
        given = params.get(range_.parameter)
        return flat[name] if given is None else range_.config_value(given)

    config = settle(space, study.base, choose)
    resolve(config, named=values.keys())
    idle = inactive(flatten(config))
    return {
        range_.parameter: params.get(range_.parameter, range_.parameter_value(flat[name]))
        for name, range_ in space.items()
        if name not in idle
        and (range_.parameter in params or is_in(range_, range_.parameter_value(flat[name])))
    }


def queue(sweep: Sweep, point: Mapping[str, Any]) -> tuple[int, bool]:
    """Queue a trial; its number, and whether the budget has grown by it.

    A trial that no worker has begun is taken out of what the sampler would have proposed; a sweep
    that has none left gets one more.
    """
    with sweep.store.lock:  # or a worker could take the last trial meanwhile
        trials = sweep.read_trials()
        if not trials.all:
            raise ConfigError(partly_created(sweep.store, sweep.study.name))
        grown = len(trials.counted) >= trials.budget
        sweep.optuna.enqueue_trial(dict(point), user_attrs={GIVEN: BY_HAND})
        if grown:
            sweep.optuna.set_user_attr(BUDGET, len(trials.counted) + 1)
    return len(trials.all), grown


def rows_of(
    sweep: Sweep, number: int, point: Mapping[str, Any], *, grown: bool
) -> list[tuple[str, str]]:
    """What was queued, which trials had the same values, and what happens next."""
    trials, name = sweep.read_trials(), sweep.study.name
    values = field_values(point, sweep.study.space)
    texts = (f"{field} {brief(value)}" for field, value in values.items())
    rows = [("queued", f"trial {number} of {name}"), *listed("with", texts)]
    same = [t.number for t in trials.all if t.params == point and ending(t) == Ending.FINISHED]
    if same:
        rows.append(("again", f"trial {same[-1]} had these values: their scores are averaged"))
    if grown:
        rows.append(("budget", f"was used up, and grows by one: {trials.asked} trials"))
    else:
        rows.append(("budget", f"stays {trials.asked} trials, this one among them"))
    again = to_run_again(sweep.store, name)
    if trials.stopped:
        later = f"none begins, {trials.stopped}: change [stop] in the study file, then {again}"
    elif trials.running:
        later = "a worker takes it"
    else:
        later = f"no worker is running: {again}"
    return [*rows, ("next", later)]
