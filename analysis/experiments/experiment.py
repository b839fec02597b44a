"""Trains the same configurations under several seeds and flies each result on unseen episodes.

An experiment is a TOML file in `analysis/experiments/`; what came out stands in
`analysis/experiments/results/`, one line per training, with all that is needed to train it again.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from lander.config import TrainConfig
from lander.dotted import configure, flatten, from_toml, read_text
from lander.errors import ConfigError, unknown
from lander.evaluation import evaluate
from lander.metrics import TRAIN_RETURN
from lander.resolve import resolve
from lander.trainer import Progress, train
from sweeps.record.provenance import package_version

HERE: Final = Path(__file__).parent
UNSEEN: Final = range(10_000, 10_100)
"""Reset seeds of the flights that are reported: no training, checkpoint or sweep looks at them."""


@dataclass(frozen=True, slots=True)
class Experiment:
    """Variants of one configuration, and the seeds that each is trained under."""

    name: str
    variants: Mapping[str, TrainConfig]
    seeds: tuple[int, ...]
    reference: Mapping[str, Mapping[str, Any]]
    """Numbers of others, by variant and column."""
    grid: Mapping[str, Sequence[Any]]
    """Fields whose every combination is a variant, named by its values."""

    def trainings(self) -> Iterator[tuple[str, int]]:
        """Every variant under every seed; all variants under the first seed first."""
        return ((variant, seed) for seed in self.seeds for variant in self.variants)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One training, flown on the unseen episodes with its last policy."""

    variant: str
    seed: int
    config: Mapping[str, Any]
    """Every dotted field but the seed: defaults may change, what was trained does not."""
    env_steps: int
    returns: tuple[float, ...]
    """Deterministic, in raw environment units, in the order of UNSEEN."""
    seconds: float
    machine: str
    versions: Mapping[str, str]
    sampled: tuple[float, ...] = ()
    """The same episodes flown with sampled actions; empty in outcomes that are older."""
    curve: tuple[tuple[int, float], ...] = ()
    """Environment steps of each checkpoint, and the mean of train/return_mean since the one before;
    empty in outcomes that are older."""

    @classmethod
    def of(cls, line: str) -> Outcome:
        """The outcome that this line of a results file holds."""
        fields = json.loads(line)
        lists = {
            "returns": tuple(fields["returns"]),
            "sampled": tuple(fields.get("sampled", ())),
            "curve": tuple((steps, mean) for steps, mean in fields.get("curve", ())),
        }
        return cls(**fields | lists)

    @property
    def return_mean(self) -> float:
        return float(np.mean(self.returns))


def names() -> list[str]:
    """The experiments there are."""
    return sorted(path.stem for path in HERE.glob("*.toml"))


def read_experiment(name: str) -> Experiment:
    """An experiment by its name, every variant checked.

    Raises:
        ConfigError: no such experiment, or a wrong file.
    """
    if not names():
        raise ConfigError(f"there is no experiment in {HERE}: install it again")
    if name not in names():
        raise ConfigError(unknown("experiment", name, names()))
    path = HERE / f"{name}.toml"
    document = tomllib.loads(read_text(path))
    base = configure(document["base"], base=TrainConfig())
    tables: dict[str, Mapping[str, Any]] = dict(document.get("variants", {}))
    grid: Mapping[str, list[Any]] = document.get("grid", {})
    for point in product(*grid.values()) if grid else ():
        tables[", ".join(map(str, point))] = dict(zip(grid, point, strict=True))
    variants = {
        variant: resolve(configured(values, base)).config for variant, values in tables.items()
    }
    return Experiment(name, variants, tuple(document["seeds"]), document.get("reference", {}), grid)


def configured(values: Mapping[str, Any], base: TrainConfig) -> TrainConfig:
    """A variant: dotted fields over the experiment's base, or over the file that `config` names."""
    fields = dict(values)
    if "config" in fields:
        source = str(fields.pop("config"))
        base = from_toml(read_text(HERE / source), source=source)
    return configure(fields, base=base)


def results_path(name: str) -> Path:
    """Where an experiment's outcomes stand."""
    return HERE / "results" / f"{name}.jsonl"


def read_outcomes(experiment: Experiment) -> dict[tuple[str, int], Outcome]:
    """Outcomes of the experiment as it is now; those of another configuration are left out."""
    outcomes: dict[tuple[str, int], Outcome] = {}
    for line in recorded_lines(experiment.name):
        outcome = Outcome.of(line)
        key = outcome.variant, outcome.seed
        if key in set(experiment.trainings()):
            wanted = recorded(experiment.variants[outcome.variant])
            # a field that is younger than the outcome stood at what is now its default
            if {**recorded(TrainConfig()), **outcome.config} == wanted:
                outcomes[key] = outcome
    return outcomes


def write_outcomes(experiment: Experiment, outcomes: Mapping[tuple[str, int], Outcome]) -> None:
    """In the experiment's order, whatever the order in which they came; behind them whatever else
    is recorded.

    Raises:
        ConfigError: the file cannot be written.
    """
    path = results_path(experiment.name)
    lines = [
        json.dumps({name: getattr(outcomes[key], name) for name in Outcome.__slots__})
        for key in experiment.trainings()
        if key in outcomes
    ]
    lines += [line for line in recorded_lines(experiment.name) if key_of(line) not in outcomes]
    try:
        path.parent.mkdir(exist_ok=True)
        aside = path.with_name(f".{path.name}")
        aside.write_text("".join(f"{line}\n" for line in lines))
        aside.rename(path)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from None


def recorded_lines(name: str) -> list[str]:
    """Outcomes as an experiment's file has them, of earlier variants and configurations too."""
    path = results_path(name)
    return path.read_text().splitlines() if path.exists() else []


def key_of(line: str) -> tuple[str, int]:
    """Variant and seed of a recorded outcome."""
    outcome = Outcome.of(line)
    return outcome.variant, outcome.seed


def recorded(config: TrainConfig) -> dict[str, Any]:
    """Dotted fields, the seed aside, as JSON gives them back."""
    fields = {name: value for name, value in flatten(config).items() if name != "seed"}
    return dict(json.loads(json.dumps(fields)))


def run(experiment: Experiment, *, jobs: int) -> None:
    """Do the trainings that are missing, `jobs` at a time; say how each came out.

    One that fails does not keep the others from being done and recorded.

    Raises:
        ConfigError: outcomes cannot be written.
        RuntimeError: some have failed.
    """
    outcomes = read_outcomes(experiment)
    missing = [key for key in experiment.trainings() if key not in outcomes]
    total = len(outcomes) + len(missing)
    print(f"{experiment.name}: {len(outcomes)} of {total} trainings done", flush=True)
    if missing:
        write_outcomes(experiment, outcomes)  # or it is refused before hours of training
    with ProcessPoolExecutor(
        jobs, mp_context=get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        trainings = {
            pool.submit(outcome_of, variant, seed, experiment.variants[variant]): (variant, seed)
            for variant, seed in missing
        }

        def keep(future: Future[Outcome]) -> None:
            outcome = future.result()
            outcomes[trainings[future]] = outcome
            write_outcomes(experiment, outcomes)
            print(
                f"{len(outcomes):>3}/{total}  "
                f"{outcome.variant}, seed {outcome.seed}: {outcome.return_mean:.1f} "
                f"in {outcome.seconds:.0f} s",
                flush=True,
            )

        failed = list[str]()
        left = set(trainings)
        try:
            for future in as_completed(trainings):
                left.discard(future)
                error = future.exception()
                if error is None:
                    keep(future)
                elif isinstance(error, Exception):
                    failed.append(f"{', seed '.join(map(str, trainings[future]))}: {error}")
                    print(f"failed: {failed[-1]}", file=sys.stderr, flush=True)
                else:  # Ctrl-C reached the process of this training first
                    raise error
        except BaseException:
            pool.shutdown(cancel_futures=True)  # what has begun ends
            for future in left:
                if not future.cancelled() and future.exception() is None:
                    keep(future)
            raise
    if failed:
        raise RuntimeError(
            f"{len(failed)} of {len(missing)} trainings failed, the first: {failed[0]}; "
            "the same command tries them again"
        )


def outcome_of(variant: str, seed: int, config: TrainConfig) -> Outcome:
    """Train and fly."""
    started = time.perf_counter()
    curve: list[tuple[int, float]] = []
    trained: list[float] = []

    def note(progress: Progress) -> None:
        if TRAIN_RETURN in progress.metrics:
            trained.append(progress.metrics[TRAIN_RETURN])
        if progress.evaluation is not None and trained:
            curve.append((progress.env_steps, float(np.mean(trained))))
            trained.clear()

    result = train(configure({"seed": seed}, base=config), on_update=note)
    flights = evaluate(result.policy, config.env, seeds=UNSEEN)
    sampling = torch.Generator().manual_seed(seed)
    sampled = evaluate(result.policy, config.env, seeds=UNSEEN, generator=sampling)
    return Outcome(
        variant=variant,
        seed=seed,
        config=recorded(config),
        env_steps=result.env_steps,
        returns=flights.returns,
        seconds=round(time.perf_counter() - started, 1),
        machine=f"{os.cpu_count()} cores, {platform.machine()}",
        versions={name: package_version(name) for name in ("torch", "gymnasium", "numpy")},
        sampled=sampled.returns,
        curve=tuple(curve),
    )


def check(experiment: Experiment, variant: str, seed: int) -> bool:
    """Train a recorded outcome again; True if every return is the recorded one to the bit, those of
    the curve too.

    Raises:
        ConfigError: nothing recorded under this variant and seed.
    """
    outcomes = read_outcomes(experiment)
    if (variant, seed) not in outcomes:
        known = [f"{variant} {seed}" for variant, seed in outcomes]
        raise ConfigError(unknown("training", f"{variant} {seed}", known))
    recorded = outcomes[variant, seed]
    replayed = outcome_of(variant, seed, experiment.variants[variant])
    same = (
        replayed.returns == recorded.returns
        and recorded.sampled in ((), replayed.sampled)
        and recorded.curve in ((), replayed.curve)
    )
    print(
        f"{experiment.name}, {variant}, seed {seed}: recorded {recorded.return_mean!r}, "
        f"replayed {replayed.return_mean!r}: {'PASS' if same else 'FAIL'}"
    )
    return same
