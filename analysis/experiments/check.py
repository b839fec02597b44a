"""python -m analysis check: trains an exported result again and compares every number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from analysis.experiments.landscape import Measured, measured_again, read_measured
from analysis.experiments.results import (
    Outcome,
    Training,
    curve_of,
    names,
    read_outcomes,
    results_path,
    sampled_returns,
)
from lander.config import TrainConfig
from lander.dotted import configure
from lander.errors import ConfigError, unknown
from lander.metrics import TRAIN_RETURN
from lander.trainer import Progress, train
from sweeps.record.provenance import environment_changes
from sweeps.reproduce.receipt import differences
from sweeps.schema import VERSION
from sweeps.study.study import find_study


def check(name: str, point: str, seed: int) -> bool:
    """Train an exported result again; True if every number is the same as in its file.

    Raises:
        ConfigError: no such result.
    """
    if not names():
        folder = results_path(name).parents[1]
        raise ConfigError(f"{folder} holds no results: install the package again")
    if name not in names():
        raise ConfigError(unknown("study with results", name, names()))
    results = read(name)
    if (point, seed) not in results:
        known = [f"{point} {seed}" for point, seed in results]
        raise ConfigError(unknown("training", f"{point} {seed}", known))
    before = results[point, seed]
    after = retrained(before) if isinstance(before, Outcome) else measured_again(before)
    problems = differences(before.numbers, after.numbers)
    print(
        f"{name}, {point}, seed {seed}: recorded {before.return_mean!r}, "
        f"replayed {after.return_mean!r}: {'FAIL' if problems else 'PASS'}"
    )
    tags = {VERSION + package: version for package, version in before.versions.items()}
    for line in [*problems[:1], *environment_changes(tags)] if problems else ():
        print(line)
    return not problems


def read(name: str) -> Mapping[Training, Outcome | Measured]:
    """The results of a study, whichever kind it is of."""
    return read_outcomes(name) if find_study(name).points else read_measured(name)


def retrained(outcome: Outcome) -> Outcome:
    """The outcome of the same training today."""
    returns: list[tuple[int, float]] = []
    checkpoints: list[int] = []

    def note(progress: Progress) -> None:
        if TRAIN_RETURN in progress.metrics:
            returns.append((progress.env_steps, progress.metrics[TRAIN_RETURN]))
        if progress.evaluation is not None:
            checkpoints.append(progress.env_steps)

    config = configure({**outcome.config, "seed": outcome.seed}, base=TrainConfig())
    result = train(config, on_update=note)
    return replace(
        outcome,
        env_steps=result.env_steps,
        returns=result.final.returns,
        sampled=sampled_returns(result.policy, result.config),
        curve=curve_of(returns, checkpoints),
    )
