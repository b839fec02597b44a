"""Trains a sweep's best configurations, its base and the tuned defaults again, under seeds that the
sweep never used.

A confirmation is a study with points beside the sweep, called NAME@confirm: its points are the
candidates, and it is run, watched, resumed and reproduced as any other. Under choice seeds the
candidates race; under report seeds, by which nothing was chosen, two of them are measured.
`analysis.race` decides what is trained, by what has been trained.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, takewhile
from math import ceil, inf
from statistics import fmean, median
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from lander.config import TrainConfig
from lander.dotted import configure, flatten
from lander.errors import ConfigError
from lander.resolve import resolve
from sweeps.endings import SETTLED, ending, seconds
from sweeps.hints import hint
from sweeps.lifecycle.creation import create, identify, is_created
from sweeps.lifecycle.losses import recover
from sweeps.lifecycle.points import Params, fill_points, given, seed_and_point
from sweeps.record.delivery import deliver_all
from sweeps.schema import CONFIRM_SUFFIX, LOOKS, RACE, RETURNS, Ending
from sweeps.scores import final_means, ranked, seed_scores, violated
from sweeps.store.presence import require_recorded
from sweeps.store.store import Store
from sweeps.study.space import defaults
from sweeps.study.study import DEFAULTS, FIRST_CHOICE, FIRST_REPORT, TUNED, Study
from sweeps.sweep import Sweep, open_sweep

TOP = 3
"""How many of the sweep's best trials race, besides the tuned defaults."""
TRAININGS = 40
"""How many trainings a race may take, unless it is asked for others."""


@dataclass(frozen=True)
class Race:
    """What a confirmation was asked for. Fixed when it starts, but for the number of trainings."""

    top: int
    """How many of the sweep's best trials were asked for as candidates."""
    candidates: Mapping[int, Params]
    """Number of the trial in the sweep, `DEFAULTS` or `TUNED` -> parameters."""
    plan: Mapping[str, int]
    """The fields of an `analysis.race.Plan`."""
    before: Mapping[int, Sequence[float]]
    """Candidate -> the mean final return of each of its trainings in the sweep, as the race began;
    of the tuned defaults none."""

    @property
    def record(self) -> dict[str, Any]:
        """The same as JSON, whose keys are strings only."""
        return {
            "top": self.top,
            "candidates": [*self.candidates.items()],
            "plan": dict(self.plan),
            "before": [*self.before.items()],
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Race:
        """The race in the attribute of a study."""
        before = dict(record.get("before", ()))  # a race that an older version began has none
        return cls(record["top"], dict(record["candidates"]), record["plan"], before)


@dataclass(frozen=True)
class Training:
    """A training of a candidate that has ended."""

    trial: int
    """Number of the confirmation's trial."""
    returns: tuple[float, ...]
    """Return of each final episode; empty if it failed."""

    @property
    def failed(self) -> bool:
        return not self.returns

    @property
    def score(self) -> float:
        """The mean return; below all others if it failed."""
        return fmean(self.returns) if self.returns else -inf


@dataclass(frozen=True)
class Confirmed:
    """A candidate and its trainings."""

    number: int
    """Number of its trial in the sweep, `DEFAULTS` or `TUNED`."""
    params: Params
    """Its parameters in Optuna."""
    choice: tuple[Training, ...] = ()
    """Under choice seeds, in their order, up to the first that has not ended."""
    report: tuple[Training, ...] = ()
    """Under report seeds, as far as they have ended."""


def candidates(sweep: Sweep, *, top: int) -> dict[int, Params]:
    """The base, the tuned defaults and the best `top` trials that keep all constraints, without
    equals: number -> parameters.

    Of a study with named points the first of them stands for the base.

    Raises:
        ConfigError: no trial has finished, or none that keeps the constraints and has other
            parameters than the base.
    """
    study, best = sweep.study, ranked(sweep.read_trials().all)
    if not best:
        raise ConfigError(f"study {study.name} has no finished trial yet to confirm")
    base = defaults(study.space, study.configs[0])
    others = [trial for trial in best if trial.params != base and not violated(trial)]
    chosen: dict[int, Params] = {DEFAULTS: base}
    chosen |= {trial.number: trial.params for trial in others[:top]}
    tuned = tuned_defaults(study)
    if tuned is not None and tuned not in chosen.values():
        chosen[TUNED] = tuned
    if len(chosen) < 2 and any(trial.params != base for trial in best):
        raise ConfigError(f"no trial of study {study.name} keeps its [constraints]")
    if len(chosen) < 2:
        raise ConfigError(f"study {study.name} has no finished trial yet besides its base")
    return chosen


def returns_in_sweep(
    sweep: Sweep, candidates: Mapping[int, Params]
) -> dict[int, tuple[float, ...]]:
    """Candidate -> the mean final return of each training of its parameters that has finished."""
    finished = [trial for trial in sweep.read_trials().all if trial.state == TrialState.COMPLETE]
    return {
        number: tuple(
            score for trial in finished if trial.params == params for score in final_means(trial)
        )
        for number, params in candidates.items()
    }


def tuned_defaults(study: Study) -> Params | None:
    """The parameters of the base with each searched field at its default in `lander`, or as in the
    base where that leaves it open; None if they are no point of the space."""
    if study.has_points:
        return None
    usual = flatten(TrainConfig())
    fields = {name: usual[name] for name in study.space if usual.get(name) not in (None, "auto")}
    try:
        config = resolve(configure(fields, base=study.base)).config
    except ConfigError:
        return None
    params = defaults(study.space, config)
    ranges = {range_.parameter: range_ for range_ in study.space.values()}
    return params if all(ranges[name].holds(value) for name, value in params.items()) else None


def start_confirmation(
    store: Store,
    name: str,
    *,
    define: Callable[[Sweep, Sweep | None], Race],
    command: Sequence[str],
) -> Sweep:
    """Create the confirmation of a sweep or resume it. `define` makes its race from the sweep and
    the confirmation, if that was started before.

    Raises:
        ConfigError: no such sweep, it is a confirmation itself, or `define` refuses.
    """
    sweep = open_sweep(store, name)
    if sweep.study.confirms:
        raise ConfigError(f"{name} is a confirmation itself: give {sweep.study.settings.name}")
    with store.publication_lock:
        require_recorded(store, sweep.optuna)
        identify(store, sweep.optuna)
        if not is_created(store, name + CONFIRM_SUFFIX):
            define(sweep, None)  # what is refused is not created
            create(sweep.study.confirming(), store, command=command)
        confirmation = open_sweep(store, name + CONFIRM_SUFFIX)
        require_recorded(store, confirmation.optuna)
        with store.lock:
            race = define(sweep, confirmation)
            confirmation.optuna.set_user_attr(RACE, race.record)
        store.runs().update_run(confirmation.run_id, status="RUNNING")
    return confirmation


def fill_confirmation(
    confirmation: Sweep,
    wanted: Callable[[Race, Sequence[Confirmed]], Mapping[tuple[int, int], Params]],
) -> None:
    """Enqueue the trainings that are wanted and missing: index of the seed, candidate ->
    parameters. They are decided by what has ended now, so that hosts do not contradict each other.
    """
    store = confirmation.store
    with store.lock:
        recover(confirmation)
        race = require_race(confirmation)
        fill_points(confirmation, wanted(race, read_candidates(confirmation, race)))
    deliver_all(store)


def read_race(study: optuna.Study) -> Race | None:
    """The race of a confirmation; None if it has not started one."""
    record = study.user_attrs.get(RACE)
    return None if record is None else Race.from_record(record)


def require_race(confirmation: Sweep) -> Race:
    """The race of a confirmation.

    Raises:
        ConfigError: none was started, because an earlier version confirmed the sweep.
    """
    race = read_race(confirmation.optuna)
    if race is None:
        again = hint("confirm", confirmation.store.folder, study=confirmation.study.settings.name)
        raise ConfigError(
            f"{confirmation.study.name} is of an earlier version, whose seeds both chose and "
            f"measured: {again} starts a race under others"
        )
    return race


def read_looks(confirmation: Sweep) -> list[int]:
    """Under how many report seeds both finalists had been trained at each look at the verdict."""
    return [int(seeds) for seeds in confirmation.optuna.user_attrs.get(LOOKS, [])]


def add_look(confirmation: Sweep, seeds: int) -> None:
    """Record a look at the verdict, unless it is the last one again."""
    with confirmation.store.lock:
        looks = read_looks(confirmation)
        if looks[-1:] != [seeds]:
            confirmation.optuna.set_user_attr(LOOKS, [*looks, seeds])


def open_confirmation(store: Store, name: str) -> Sweep:
    """The confirmation of a sweep.

    Raises:
        ConfigError: no such sweep, or it was not confirmed yet.
    """
    open_sweep(store, name)
    if name + CONFIRM_SUFFIX not in store.study_names():
        remedy = hint("confirm", store.folder, study=name)
        raise ConfigError(f"study {name} was not confirmed yet: {remedy}")
    return open_sweep(store, name + CONFIRM_SUFFIX)


def read_candidates(confirmation: Sweep, race: Race) -> list[Confirmed]:
    """Every candidate of a race with its trainings, in the order of the race."""
    trials = sorted(given(confirmation.read_trials().counted), key=seed_and_point)
    ended = [(*seed_and_point(trial), trial) for trial in trials if ending(trial) in SETTLED]
    several = []
    for number, params in race.candidates.items():
        own = {index: training(trial) for index, point, trial in ended if point == number}
        first = takewhile(own.__contains__, count(FIRST_CHOICE))
        choice = tuple(own[index] for index in first if index < FIRST_REPORT)
        report = tuple(own[index] for index in own if index >= FIRST_REPORT)
        several.append(Confirmed(number, params, choice, report))
    return several


def seconds_of_training(sweep: Sweep) -> float | None:
    """The median time of its finished trainings; None if none has finished."""
    took = [
        whole / len(trainings)
        for trial in sweep.read_trials().counted
        if ending(trial) == Ending.FINISHED
        and (whole := seconds(trial)) is not None
        and (trainings := seed_scores(trial))
    ]
    return median(took) if took else None


def minutes_of(trainings: int, *, each: float, workers: int) -> int:
    """How many minutes so many trainings take at most, if each takes `each` seconds."""
    return ceil(trainings * each / workers / 60)


def training(trial: FrozenTrial) -> Training:
    """A trial of a confirmation that has ended; without returns if another tool ended it."""
    finished = trial.state == TrialState.COMPLETE
    returns = trial.user_attrs.get(RETURNS, [()]) if finished else [()]
    return Training(trial.number, tuple(returns[0]))
