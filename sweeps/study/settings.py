"""The [study] table of a study file: its name, how many trials, and under which seeds."""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Field, PlainValidator, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked

from lander.dotted import fields_of, first_line
from lander.errors import ConfigError, unknown
from sweeps.study.limits import KEY_TABLES, RULES
from sweeps.study.samplers import ARGUMENT_TABLES, Pruner, Sampler

NOT_WITH_POINTS = {
    "trials": "each point is trained once per training seed",
    "sampler": "nothing is proposed",
    "startup_trials": "nothing is proposed",
    "repeat_from": "give training_seeds",
    "pruner": "every training runs to its end",
    "seeds_per_trial": "give training_seeds",
    "audit": "every training runs to its end",
    "trial_seconds": "every training runs to its end",
    "keep": "every training is of use",
}
"""Keys of [study] that a study with points must not have, and why."""
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
NAMED = 'letters, digits, ".", "_" and "-", a letter or a digit first, 64 at most'
"""The same in words."""
LARGEST = {"trials": 1_000_000, "points": 10_000, "seed": 2**32 - 1}
"""The largest values in a new study: storage and samplers take no larger ones."""
LARGEST_SEED = 2**63 - 1
"""The largest training seed."""
MOST_SEEDS = 1_000
"""Training seeds of each point, at most."""


def checked_name(name: str) -> str:
    """A name that a study may have.

    Raises:
        ValueError: it may not.
    """
    if not re.fullmatch(NAME, name):
        raise ValueError(f"must be of {NAMED}")
    return name


def checked_seeds(value: object) -> int | tuple[int, ...]:
    """A list of training seeds, or a number of them.

    Raises:
        ValueError: it is neither.
    """
    numbers: list[Any] = list(value) if isinstance(value, list | tuple) else [value]
    listed = numbers != [value]
    least, most = (0, LARGEST_SEED) if listed else (1, MOST_SEEDS)
    whole = all(type(number) is int and least <= number <= most for number in numbers)
    if not numbers or not whole or len(set(numbers)) < len(numbers):
        raise ValueError(
            f"must be a list of different whole numbers, or how many seeds: 1 to {MOST_SEEDS}"
        )
    return tuple(numbers) if listed else int(numbers[0])


@checked(frozen=True, slots=True, config=RULES)
class Settings:
    """The [study] table. `sweeps init` writes these docstrings into a new study file."""

    name: Annotated[str, Field(strict=True), AfterValidator(checked_name)]
    """Name of the sweep, and of its experiment and its registered model in MLflow."""
    trials: Annotated[int, Field(ge=1, strict=True)] = 40
    """How many trials in all, trial 0 (the defaults) included."""
    sampler: Sampler = "tpe"
    """How the parameters of a trial are proposed. tpe: from densities of good and bad trials. gp:
    by a Gaussian process, for few trials. qmc: evenly spread. random. grid: every combination of
    choices and whole numbers once."""
    startup_trials: Annotated[int, Field(ge=0, le=1024, strict=True)] = 0
    """How many trials after the defaults cover the space evenly before the sampler proposes."""
    repeat_from: Annotated[float | None, Field(gt=0, lt=1, strict=True, examples=[0.6])] = None
    """After this share of the trials, those that are likely the best are trained again, each time
    under a new seed, instead of new ones: then the best is less of a lucky one."""
    pruner: Pruner = "median"
    """Which trials end early. median: those behind the median at an equal checkpoint. hyperband and
    halving: all but the best part, at checkpoints that lie further and further apart. wilcoxon:
    those behind the best one after some of their training seeds. none."""
    audit: Annotated[float, Field(ge=0, le=1, strict=True)] = 0.1
    """Share of the trials that the pruner would end, drawn at random, that are trained to their end
    instead: they show whether it was right. They count as any other. 0: none."""
    trial_seconds: Annotated[float | None, Field(gt=0, strict=True, examples=[600.0])] = None
    """A trial that takes longer ends as expired: it counts, is not retried, and tells the sampler
    as much as a pruned one. Looked at after each update and during evaluations."""
    retries: Annotated[int, Field(ge=0, le=10, strict=True)] = 0
    """How often a trial that ends with an error is tried again, under the same seeds; a divergence
    is not, as it would repeat itself."""
    keep: Annotated[int | None, Field(ge=1, strict=True, examples=[10])] = None
    """Whose weights are kept when the sweep ends: those of so many best trials, of the base, and of
    every registered policy. The others can be trained again, bit for bit. Not set: all."""
    seed: Annotated[int, Field(ge=0, strict=True)] = 0
    """Seeds the sampler and, with the trial's number, each training."""
    seeds_per_trial: Annotated[int, Field(ge=1, le=100, strict=True)] = 1
    """Trainings of each trial, one after another, each under its own seed."""
    score: Literal["mean", "iqm", "worst_seed"] = "mean"
    """How the scores of a trial's trainings become one. mean. iqm: the mean of the middle half.
    worst_seed: the lowest."""
    training_score: Literal["last", "area", "time_to_target"] = "last"
    """What the score of a training is. last: its final return. area: the mean of its checkpoints,
    each weighed by the steps up to it. time_to_target: minus the steps until a checkpoint reaches
    score_target, minus twice the budget if none does."""
    score_checkpoints: Annotated[int, Field(ge=1, strict=True)] = 1
    """With training_score last: of how many last checkpoints the score is the mean. The final
    evaluation stands for the last of them; with 1 it alone is the score."""
    score_target: Annotated[float | None, Field(strict=True, examples=[200.0])] = None
    """What time_to_target waits for. Not set: the return at which the environment is solved."""
    points: Annotated[int | None, Field(ge=1, strict=True, examples=[50])] = None
    """Instead of a search: draw so many points from the space, the defaults first, and train each
    under every training seed."""
    training_seeds: Annotated[int | tuple[int, ...], PlainValidator(checked_seeds)] = 5
    """In a study with points: the seeds, or how many derive from `seed`."""

    @property
    def seed_count(self) -> int:
        """How many training seeds each point has."""
        seeds = self.training_seeds
        return seeds if isinstance(seeds, int) else len(seeds)


def has_points(document: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether the tables are those of a study with points, named or drawn."""
    return "points" in document or "points" in document["study"]


def read_settings(document: Mapping[str, Mapping[str, Any]]) -> Settings:
    """The [study] table.

    Raises:
        ConfigError: a wrong key or value, or one that does not go with points, or without.
    """
    table = document["study"]
    settings = read_keys(Settings, table)
    if not has_points(document):
        if "training_seeds" in table:
            raise ConfigError("training_seeds: only with points, a search has seeds_per_trial")
        return settings
    if "points" in document and "points" in table:
        raise ConfigError("points: draws from a [space], but [points] names them: leave one out")
    for key, why in NOT_WITH_POINTS.items():
        if key in table:
            raise ConfigError(f"{key}: not with points, as {why}: leave it out")
    for key in (*ARGUMENT_TABLES, *KEY_TABLES):
        if document[key]:
            raise ConfigError(f"[{key}] is not for a study with points: leave it out")
    trials = (settings.points or 0) * settings.seed_count
    return replace(as_points(settings), trials=max(1, trials))


def as_points(settings: Settings) -> Settings:
    """Settings of trials whose parameters are given: nothing is proposed, nothing ends early."""
    whole = replace(settings, sampler="random", pruner="none", audit=0.0)
    return replace(whole, trial_seconds=None, keep=None)


Table = TypeVar("Table")


def read_keys(kind: type[Table], table: Mapping[str, Any]) -> Table:
    """A table of a study file, as the class whose fields are its keys.

    Raises:
        ConfigError: a wrong key or value.
    """
    known = list(fields_of(kind))
    for key in table:
        if key not in known:
            raise ConfigError(unknown("key", key, known))
    try:
        return TypeAdapter(kind).validate_python(table)
    except ValidationError as error:
        raise ConfigError(first_line(error)) from None


@contextmanager
def naming(part: str) -> Generator[None]:
    """Errors in here begin with the part of the study that they are about."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{part}: {error}" if part[0] != "[" else f"{part} {error}") from None
