"""python -m analysis bakeoff: simulates sweeps by every rule, writes what they recommend is worth.

All rules meet the same worlds, one for each simulated sweep, at equal cost in steps. What is known
of a rule is kept: an interrupted bake-off goes on with the next rule.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Generator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from hashlib import sha256
from multiprocessing import get_context
from time import monotonic, process_time
from typing import Any, Final

import numpy as np
import optuna
from optuna.exceptions import ExperimentalWarning

from analysis.bakeoff.estimate import Finished, ranked
from analysis.bakeoff.process import Floats
from analysis.bakeoff.searches import Rule, rules
from analysis.bakeoff.simulate import Problem
from analysis.bakeoff.surrogate import (
    Landscape,
    Surrogate,
    World,
    fit_of,
    predicted_apart,
    read_landscape,
)
from analysis.experiments.documents import BAKEOFF, SOLVED, fit_sentence
from analysis.experiments.results import HERE
from analysis.stats import mean_estimate
from lander.errors import ConfigError, unknown
from lander.files import replace_text
from lander.terminal import say
from sweeps.cli import one_thread
from sweeps.study.study import Study, find_study

SWEEPS: Final = 500
"""Simulated sweeps of each rule."""
BUDGET: Final = 25.0
"""Whole trainings that each of them costs."""
STUDY: Final = "lander"
RESAMPLES: Final = 999
THREADS: Final = "OMP_NUM_THREADS"
SHOWN: Final = ("worth", "tenth", "regret", "optimism")
PATH: Final = HERE / "results" / BAKEOFF

Row = dict[str, Any]
"""A rule and a way to recommend, with its numbers."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A simulated sweep and one way to recommend."""

    worth: float
    """What the recommended configuration returns on unseen episodes, under fresh seeds."""
    regret: float
    """How much less that is than the best known point."""
    optimism: float
    """What was promised, minus the worth."""
    trainings: int
    """Of the recommended configuration."""


@cache
def prepared() -> tuple[Surrogate, Study]:
    """The surrogate and the default study, once per process."""
    one_thread()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", ExperimentalWarning)  # of some samplers
    study = find_study(STUDY)
    return Surrogate(read_landscape(study.space), study.space), study


@cache
def world_of(seed: int) -> World:
    """The world of a simulated sweep, once per process: every rule meets it."""
    surrogate, _ = prepared()
    return surrogate.world(seed)


def simulated(rule: Rule, world: World, study: Study, seed: int) -> dict[str, Outcome]:
    """One sweep, by each way to recommend."""
    problem = Problem(world, study, BUDGET)
    candidates = rule.search(problem, np.random.default_rng((seed, 2)))
    sweep = Finished(candidates, rule.score)
    outcomes = {}
    for name, recommend in rule.recommend.items():
        promises = recommend(sweep)
        first = ranked(sweep, promises)[0]
        worth = float(world.worth(candidates[first].point[None])[0])
        trainings = len(candidates[first].trainings)
        outcomes[name] = Outcome(worth, world.best - worth, promises[first] - worth, trainings)
    return outcomes


def work(task: tuple[str, int]) -> tuple[dict[str, Outcome], float]:
    """One sweep in a process of a pool, and the processor's seconds that it took."""
    name, seed = task
    _, study = prepared()
    world = world_of(seed)
    start = process_time()
    return simulated(rules()[name], world, study, seed), process_time() - start


def bakeoff(names: Sequence[str] = (), *, sweeps: int = SWEEPS, workers: int = 1) -> None:
    """Simulate the rules that are not done yet, or those of these names; print and write.

    Raises:
        ConfigError: no such rule, or no landscape.
    """
    known = rules()
    for name in names:
        if name not in known:
            raise ConfigError(unknown("rule", name, list(known)))
    space = find_study(STUDY).space
    head = head_of(read_landscape(space))
    say(fit_sentence(head))
    before = read_results()
    kept: list[Row] = before["rows"] if before.get("landscape") == head else []
    wanted = [
        name
        for name, rule in known.items()
        if name in names or not (names or is_done(name, kept, sweeps // rule.every))
    ]
    order = list(known)
    start = monotonic()
    with single_threaded_pool(workers) as pool:
        for count, name in enumerate(wanted, 1):
            made = rows_of(name, known[name], sweeps // known[name].every, pool)
            for row in made:
                print(line(row))
            kept = [row for row in kept if row["rule"] != name and row["rule"] in known] + made
            write_results(head, sorted(kept, key=lambda row: order.index(row["rule"])))
            left = (monotonic() - start) / count * (len(wanted) - count) / 60
            say(f"{count} of {len(wanted)} rules, {left:.0f} minutes left")


@contextmanager
def single_threaded_pool(workers: int) -> Generator[Executor]:
    """Processes that each use one core: for small matrices, threads cost ten times what they
    save."""
    before = os.environ.get(THREADS)
    os.environ[THREADS] = "1"  # numpy reads it when a process imports it
    try:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            yield pool
    finally:
        del os.environ[THREADS]
        if before is not None:
            os.environ[THREADS] = before


def head_of(landscape: Landscape) -> Row:
    """What the worlds are drawn from, and how well points are predicted that were left out."""
    digest = sha256(landscape.points.tobytes() + landscape.numbers.tobytes())
    points, seeds, _ = landscape.numbers.shape
    predicted = predicted_apart(landscape)
    return {
        "points": points,
        "seeds": seeds,
        "digest": digest.hexdigest()[:16],
        "budget": BUDGET,
        "all": asdict(fit_of(landscape, predicted)),
        "good": asdict(fit_of(landscape, predicted, above=SOLVED)),
    }


def is_done(name: str, kept: Sequence[Row], sweeps: int) -> bool:
    """Whether a rule was simulated so often already."""
    return any(row["rule"] == name and row["sweeps"] >= sweeps for row in kept)


def rows_of(name: str, rule: Rule, sweeps: int, pool: Executor) -> list[Row]:
    """The numbers of a rule, by each way to recommend."""
    done = list(pool.map(work, [(name, seed) for seed in range(sweeps)], chunksize=5))
    return [
        {
            "group": rule.group,
            "rule": name,
            "recommend": recommend,
            "sweeps": sweeps,
            "seconds": round(float(np.mean([seconds for _, seconds in done])), 3),
            **summary([outcomes[recommend] for outcomes, _ in done]),
        }
        for recommend in rule.recommend
    ]


def summary(outcomes: Sequence[Outcome]) -> Row:
    """Means and the tenth percentile with 95 % intervals over sweeps, and every worth: rules meet
    the same worlds, so that they are compared pair by pair."""
    columns = {
        name: np.array([getattr(outcome, name) for outcome in outcomes], float)
        for name in Outcome.__slots__
    }
    return {
        "worth": interval(columns["worth"]),
        "tenth": tenth(columns["worth"]),
        "regret": interval(columns["regret"]),
        "optimism": interval(columns["optimism"]),
        "trainings": round(float(columns["trainings"].mean()), 2),
        "worths": [round(worth) for worth in columns["worth"]],
    }


def interval(values: Floats) -> list[float]:
    """Mean and the ends of its 95 % interval."""
    estimate = mean_estimate(values.tolist())
    return [round(value, 2) for value in (estimate.value, estimate.low, estimate.high)]


def tenth(values: Floats) -> list[float]:
    """The tenth percentile and the ends of its bootstrapped 95 % interval."""
    drawn = np.random.default_rng(0).integers(len(values), size=(RESAMPLES, len(values)))
    ends = np.percentile(np.percentile(values[drawn], 10, axis=1), [2.5, 97.5])
    return [round(float(value), 2) for value in (np.percentile(values, 10), *ends)]


def line(row: Row) -> str:
    """A row for the terminal."""
    numbers = "  ".join(f"{name} {row[name][0]:6.1f}" for name in SHOWN)
    return f"{row['rule']:30} {row['recommend']:22} {numbers}"


def read_results() -> Row:
    """What is known: the head and the rows."""
    return dict(json.loads(PATH.read_text())) if PATH.exists() else {"rows": []}


def write_results(head: Row, rows: Sequence[Row]) -> None:
    """A row to a line."""
    lines = ",\n".join(map(json.dumps, rows))
    replace_text(PATH, f'{{"landscape": {json.dumps(head)}, "rows": [\n{lines}\n]}}\n')
