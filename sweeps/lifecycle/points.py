"""Trials of given parameters, each once per training seed: points of a study, or candidates of a
confirmation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from sweeps.endings import attempt, ending, is_divergence, to_retry
from sweeps.schema import (
    BUDGET,
    FIXED_PARAMS,
    POINT,
    REASON,
    SEED_INDEX,
    Ending,
    Reason,
)
from sweeps.study.proposing import FittingSampler
from sweeps.study.samplers import make_sampler
from sweeps.study.space import Space, defaults, suggest
from sweeps.study.study import Study
from sweeps.sweep import Sweep

Name = TypeVar("Name", bound=str | int)
"""The name of a point; the trial number of a candidate."""
Params = Mapping[str, Any]
"""Optuna's parameters."""


def points_of(study: Study) -> dict[str, Params]:
    """The parameters of every point of a study: those that it names, or draws."""
    if study.points:
        return {name: defaults(study.space, point) for name, point in study.points.items()}
    return dict(zip(point_names(study), drawn(study), strict=True))


def point_names(study: Study) -> list[str]:
    """The name of every point of a study: those that it draws are numbered."""
    return list(study.points) or list(map(str, range(study.settings.points or 0)))


def drawn(study: Study) -> list[Params]:
    """Points of a scrambled Sobol sequence in the space, the defaults first.

    A longer list begins with the shorter one.
    """
    space, seed = study.space, study.settings.seed
    sampler = make_sampler("qmc", {}, seed=seed, study_seed=seed)
    drawing = optuna.create_study(sampler=FittingSampler(sampler, space, study.base, seed=seed))
    drawing.enqueue_trial(defaults(space, study.base))
    for _ in range(study.settings.points or 0):
        trial = drawing.ask()
        suggest(trial, space, study.base)
        drawing.tell(trial, 0.0)  # the sampler counts what has ended
    return [trial.params for trial in drawing.trials]


def under_seeds(points: Mapping[Name, Params], *, seeds: int) -> dict[tuple[int, Name], Params]:
    """What `fill_points` takes: every point under each of the seeds, all under the first one
    first."""
    return {(index, name): points[name] for index in range(seeds) for name in points}


def fill_points(sweep: Sweep, wanted: Mapping[tuple[int, Name], Params]) -> None:
    """Enqueue the trainings that are missing, in the order in which they are wanted: index of the
    training seed, name of the point -> parameters. Withdraw those that are no longer wanted. The
    store's lock must be held.

    A trial that was lost or interrupted is tried again by the next worker, if it is still wanted.
    Points that failed are enqueued again; what failed of a confirmation counts against it.
    """
    trials = sweep.read_trials().all
    again = to_retry(map(attempt, trials))
    unfinished = [
        trial
        for trial in given(trials)
        if trial.state == TrialState.WAITING or trial.number in again
    ]
    for trial in unfinished:
        if seed_and_point(trial) not in wanted:
            sweep.fail(trial, Reason.WITHDRAWN)
    counted = given(sweep.read_trials().counted)
    done = [trial for trial in counted if sweep.study.confirms or not failed_for_now(trial)]
    present = {seed_and_point(trial) for trial in (*done, *unfinished)}
    for (index, name), params in wanted.items():
        if (index, name) not in present:
            sweep.optuna.add_trial(waiting(params, sweep.study.space, name=name, index=index))
    filled = sweep.read_trials()
    again = to_retry(map(attempt, filled.all))
    sweep.optuna.set_user_attr(BUDGET, len(filled.counted) + len(again))


def failed_for_now(trial: FrozenTrial) -> bool:
    """Whether a trial failed for a reason that may be gone; a divergence would repeat itself."""
    reason = str(trial.user_attrs.get(REASON, ""))
    return ending(trial) == Ending.FAILED and not is_divergence(reason)


def waiting(params: Params, space: Space, *, name: Name, index: int) -> FrozenTrial:
    """A trial of a point under the training seed of that index, for the next worker."""
    ranges = {range_.parameter: range_ for range_ in space.values()}
    held = [name for name in params if name in ranges and ranges[name].holds(params[name])]
    return create_trial(
        state=TrialState.WAITING,
        params={name: params[name] for name in held},
        distributions={name: ranges[name].distribution for name in held},
        user_attrs={SEED_INDEX: index, POINT: name},
        system_attrs={FIXED_PARAMS: dict(params)},
    )


def given(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Trials of points, without those that another tool added."""
    return [trial for trial in trials if SEED_INDEX in trial.user_attrs]


def seed_and_point(trial: FrozenTrial) -> tuple[int, Any]:
    """Index of the training seed, and name of the point."""
    return int(trial.user_attrs[SEED_INDEX]), trial.user_attrs[POINT]
