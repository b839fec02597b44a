"""The path from the base to the winner: one field at a time, each step trained under shared seeds.

The sweep's model orders the fields, the one that it expects to gain most first; so the seeds of the
path choose nothing, and measure each step without favour. A greedy path by real trainings would
need d (d + 1) / 2 + 1 configurations for d fields, and seeds of its own to choose by. Instead the
path is walked in both directions: a field that gains when the base gets it, and costs nothing when
the winner loses it, matters only without the others.

It is a study with points beside the sweep, and is watched, resumed and reproduced as any other.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import tomli_w
from optuna.trial import FrozenTrial, TrialState

from analysis.stats import Estimate, mean_estimate
from analysis.why.model import Model, vector
from lander.config import TrainConfig
from lander.dotted import flatten
from lander.errors import ConfigError
from lander.options import settle
from lander.resolve import resolve
from sweeps.lifecycle.creation import is_created
from sweeps.lifecycle.points import given, seed_and_point
from sweeps.run.objective import confirmation_seed
from sweeps.schema import WINNER
from sweeps.scores import final_means
from sweeps.store.store import Store
from sweeps.study.points import changes
from sweeps.study.ranges import NONE
from sweeps.study.space import Space, defaults, flat_base
from sweeps.study.study import TEST_EPISODES, Study, read_study
from sweeps.sweep import Sweep, open_sweep

SEEDS: Final = 5
"""Trainings of each configuration, unless it is asked for others."""
FIRST_SEED: Final = 3_000
"""Index of the first training seed of a path: those of a confirmation are below."""
BASE: Final = "base"
WINNING: Final = "winner"
Params = Mapping[str, Any]


def winner_of(sweep: Sweep) -> FrozenTrial:
    """The confirmed trial, or else the best one.

    Raises:
        ConfigError: none has finished, or it has the parameters of the base.
    """
    study, trials = sweep.study, sweep.read_trials()
    if study.has_points:
        raise ConfigError(f"{study.name} has points, whose differences are its subject: see them")
    number = sweep.optuna.user_attrs.get(WINNER)
    best = trials.best if number is None else trials.all[int(number)]
    if best is None:
        raise ConfigError(f"study {study.name} has no finished trial yet")
    if best.params == defaults(study.space, study.base):
        raise ConfigError(f"the winner of {study.name} is its base: there is nothing to explain")
    return best


def path_name(sweep: Sweep, winner: FrozenTrial) -> str:
    """The name of the study that trains the path to this trial."""
    return f"{sweep.study.name}-why-{winner.number}"


def between(
    fields: Collection[str], winner: Params, *, space: Space, base: TrainConfig
) -> TrainConfig:
    """The base with these fields of the winner, resolved; what has no effect then is left out.

    Raises:
        ConfigError: no training takes that combination.
    """
    usual = flat_base(space, base)

    def choose(name: str) -> Any:
        parameter = space[name].parameter
        if name not in fields or parameter not in winner:
            return usual[name]
        return space[name].config_value(winner[parameter])

    return resolve(settle(space, base, choose)).config


def order_of(sweep: Sweep, winner: Params, model: Model | None) -> list[tuple[str, ...]]:
    """The steps from the base to the winner: one field each, the one with the highest gain by the
    model first, or as the study names them without a model. Fields that no training takes without
    each other are one step; one that alone changes nothing goes with the next.
    """
    space, base = sweep.study.space, sweep.study.base
    usual = defaults(space, base)
    left = [
        name
        for name, range_ in space.items()
        if winner.get(range_.parameter) != usual.get(range_.parameter)
    ]
    taken, steps, waiting = set[str](), list[tuple[str, ...]](), tuple[str, ...]()
    before = between(taken, winner, space=space, base=base)
    while left:
        name = max(left, key=lambda field: promised_gain(field, taken, winner, usual, model, space))
        left.remove(name)
        taken.add(name)
        waiting = (*waiting, name)
        try:
            after = between(taken, winner, space=space, base=base)
        except ConfigError:
            continue
        if after != before:
            steps.append(waiting)
            before, waiting = after, ()
    return [*steps[:-1], (*steps[-1], *waiting)] if steps else []


def promised_gain(
    field: str,
    taken: Collection[str],
    winner: Params,
    usual: Params,
    model: Model | None,
    space: Space,
) -> float:
    """What the model expects of a field of the winner, beside those that are taken."""
    if model is None:
        return 0.0  # `max` takes the first of equals
    own = {space[name].parameter for name in (*taken, field)}
    params = {name: winner[name] for name in winner if name in own}
    params = {**{name: value for name, value in usual.items() if name not in own}, **params}
    zero = vector(usual, space)
    return float(model.gain(vector(params, space)[None], zero)[0])


def configs_of(
    sweep: Sweep, winner: Params, steps: Sequence[tuple[str, ...]]
) -> dict[str, TrainConfig]:
    """The configurations of the path in both directions, by the names of their points."""
    space, base = sweep.study.space, sweep.study.base
    configs = {BASE: between((), winner, space=space, base=base)}
    fields = [name for step in steps for name in step]
    configs[WINNING] = between(fields, winner, space=space, base=base)
    for index in range(1, len(steps)):
        first = [name for step in steps[:index] for name in step]
        rest = [name for step in steps[index:] for name in step]
        for name, chosen in ((up(index), first), (down(index), rest)):
            try:
                config = between(chosen, winner, space=space, base=base)
            except ConfigError:
                continue
            if config not in configs.values():
                configs[name] = config
    return configs


def up(index: int) -> str:
    """The point that has the first so many steps of the path."""
    return f"{BASE} + {index}"


def down(index: int) -> str:
    """The point that lacks the first so many steps of the path."""
    return f"{WINNING} - {index}"


def path_study(
    sweep: Sweep, winner: FrozenTrial, steps: Sequence[tuple[str, ...]], *, seeds: int
) -> Study:
    """The study with points that trains the path.

    Raises:
        ConfigError: its name is too long.
    """
    study = sweep.study
    measured = {"final_episodes": TEST_EPISODES, "final_seeds": "report"}
    configs = configs_of(sweep, winner.params, steps)
    document = {
        "study": {
            "name": path_name(sweep, winner),
            "seed": study.settings.seed,
            "training_seeds": [
                confirmation_seed(study.settings.seed, FIRST_SEED + index) for index in range(seeds)
            ],
        },
        "base": written({**changes(configs[BASE], TrainConfig()), **measured}),
        "points": {
            name: written(changes(config, configs[BASE])) for name, config in configs.items()
        },
    }
    title = "# " + "; ".join(", ".join(step) for step in steps) + "\n"
    text = title + tomli_w.dumps(document)
    return read_study(text, source=path_name(sweep, winner), origin=sweep.store.origin)


def written(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields as a study file has them."""
    return {
        name: NONE if value is None else list(value) if isinstance(value, tuple) else value
        for name, value in fields.items()
        if name != "seed"
    }


def steps_in(study: Study) -> list[tuple[str, ...]]:
    """The steps of a path that was started, which its file names first."""
    first = study.text.partition("\n")[0].removeprefix("# ")
    return [tuple(step.split(", ")) for step in first.split("; ")]


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a path."""

    fields: tuple[str, ...]
    before: Mapping[str, Any]
    """Its fields in the base."""
    after: Mapping[str, Any]
    """The same in the winner."""
    mean: Estimate | None
    """The return with this step and those before it."""
    gained: Estimate | None
    """What it adds to the steps before it, seed by seed."""
    lost: Estimate | None
    """What the winner loses if this step is taken back after those before it."""


@dataclass(frozen=True, slots=True)
class Path:
    """What the trainings of a path came to."""

    study: str
    winner: int
    base: Estimate | None
    total: Estimate | None
    """What all steps gain together."""
    steps: tuple[Step, ...]
    seeds: int
    """Trainings of each configuration, at most."""
    left: int
    """Trainings that have not ended."""


def read_path(store: Store, sweep: Sweep, winner: FrozenTrial) -> Path | None:
    """The path to this trial as far as it was trained; None if it was not begun."""
    name = path_name(sweep, winner)
    if not is_created(store, name):
        return None
    trained = open_sweep(store, name)
    trials, steps = trained.read_trials(), steps_in(trained.study)
    scores: dict[str, dict[int, float]] = {}
    for trial in given(trials.counted):
        if trial.state == TrialState.COMPLETE:
            index, point = seed_and_point(trial)
            scores.setdefault(str(point), {})[index] = final_means(trial)[0]
    first = [BASE, *map(up, range(1, len(steps))), WINNING]
    back = [WINNING, *map(down, range(1, len(steps))), BASE]
    usual, own = flatten(trained.study.points[BASE]), flatten(trained.study.points[WINNING])
    gains = [gain(scores.get(a), scores.get(b)) for a, b in pairwise(first)]
    losses = [gain(scores.get(b), scores.get(a)) for a, b in pairwise(back)]
    return Path(
        study=name,
        winner=winner.number,
        base=mean_of(scores.get(BASE)),
        total=gain(scores.get(BASE), scores.get(WINNING)),
        steps=tuple(
            Step(
                fields=step,
                before={field: usual.get(field) for field in step},
                after={field: own.get(field) for field in step},
                mean=mean_of(scores.get(point)),
                gained=gained,
                lost=lost,
            )
            for step, point, gained, lost in zip(steps, first[1:], gains, losses, strict=True)
        ),
        seeds=trained.study.settings.seed_count,
        left=trials.left + trials.running,
    )


def mean_of(scores: Mapping[int, float] | None) -> Estimate | None:
    """The mean of a point's trainings."""
    return mean_estimate(list(scores.values())) if scores else None


def gain(before: Mapping[int, float] | None, after: Mapping[int, float] | None) -> Estimate | None:
    """The mean difference of two points over the seeds that both have."""
    shared = sorted((before or {}).keys() & (after or {}).keys())
    if not before or not after or not shared:
        return None
    return mean_estimate([after[seed] - before[seed] for seed in shared])
