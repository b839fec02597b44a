"""Reads a study file: what to search or which points to train, from which base, how often."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, PlainValidator, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked

from lander.config import TrainConfig
from lander.dotted import as_read_before, configure, first_line, flatten, read_text, read_toml
from lander.errors import ConfigError, unknown
from lander.resolve import resolve
from lander.trust import TYPED, UNKNOWN, Origin
from sweeps.schema import CONFIRM_SUFFIX
from sweeps.study.fitting import require_fitting
from sweeps.study.points import (
    changes,
    read_point,
    recorded_as,
    require_different,
    require_name,
    space_of,
)
from sweeps.study.samplers import NO_CMAES, Arguments, Pruner, Sampler, read_arguments
from sweeps.study.space import Space, read_space, require_searchable

SHIPPED = Path(__file__).parents[1] / "studies"
TABLES = ("study", "base")
"""Tables that every study file has."""
SUBJECTS = ("space", "points")
"""Tables of which a study file has exactly one."""
MORE_TABLES = ("sampler", "pruner")
"""Tables that a study file may have."""
NOT_WITH_POINTS = {
    "trials": "each point is trained once per training seed",
    "sampler": "nothing is proposed",
    "pruner": "every training runs to its end",
    "seeds_per_trial": "give training_seeds",
}
"""Keys of [study] that a study with points must not have, and why."""
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
LARGEST = {"trials": 1_000_000, "points": 10_000, "seed": 2**32 - 1}
"""The largest values in a new study: storage and samplers take no larger ones."""
LARGEST_SEED = 2**63 - 1
"""The largest training seed."""
TEST_EPISODES = 100
"""Final episodes of each training of a confirmation."""


def checked_seeds(value: object) -> int | tuple[int, ...]:
    """A list of training seeds, or a number of them.

    Raises:
        ValueError: it is neither.
    """
    numbers: list[Any] = list(value) if isinstance(value, list | tuple) else [value]
    listed = numbers != [value]
    least, most = (0, LARGEST_SEED) if listed else (1, 1_000)
    whole = all(type(number) is int and least <= number <= most for number in numbers)
    if not numbers or not whole or len(set(numbers)) < len(numbers):
        raise ValueError("must be a list of different whole numbers, or how many seeds: 1 to 1000")
    return tuple(numbers) if listed else int(numbers[0])


@checked(frozen=True, slots=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))
class Settings:
    """The [study] table."""

    name: Annotated[str, Field(pattern=f"^{NAME}$")]
    trials: Annotated[int, Field(ge=1, strict=True)] = 40
    """How many trials in all, trial 0 (the defaults) included."""
    sampler: Sampler = "tpe"
    pruner: Pruner = "median"
    seed: Annotated[int, Field(ge=0, strict=True)] = 0
    """Seeds the sampler and, with the trial's number, each training."""
    seeds_per_trial: Annotated[int, Field(ge=1, le=100, strict=True)] = 1
    """Trainings of each trial, one after another, each under its own seed."""
    score: Literal["mean", "iqm"] = "mean"
    """How a trial's training seeds are averaged: the mean, or the mean of the middle half."""
    points: Annotated[int | None, Field(ge=1, strict=True)] = None
    """Draw so many points from the space, the defaults first, and train each under every training
    seed."""
    training_seeds: Annotated[int | tuple[int, ...], PlainValidator(checked_seeds)] = 5
    """In a study with points: the seeds, or how many derive from `seed`."""

    @property
    def seed_count(self) -> int:
        """How many training seeds each point has."""
        seeds = self.training_seeds
        return seeds if isinstance(seeds, int) else len(seeds)


@dataclass(frozen=True)
class Study:
    """A study file, validated."""

    settings: Settings
    base: TrainConfig
    """Resolved: the values of all fields that are not searched. Trial 0 of a search trains it."""
    space: Space
    text: str
    """The study file, kept with the sweep: workers and readers use this copy."""
    sampler: Arguments = field(default_factory=dict)
    """Arguments of Optuna's class, from the [sampler] table."""
    pruner: Arguments = field(default_factory=dict)
    """Arguments of Optuna's class, from the [pruner] table."""
    points: Mapping[str, TrainConfig] = field(default_factory=dict)
    """From the [points] tables, resolved; the space is then made of their fields."""
    confirms: bool = False
    """Whether it is NAME@confirm, which trains points of the sweep NAME again under test seeds."""

    @property
    def name(self) -> str:
        return self.settings.name + (CONFIRM_SUFFIX if self.confirms else "")

    @property
    def has_points(self) -> bool:
        """Whether its trials are points x training seeds, so that nothing is searched."""
        return self.confirms or bool(self.points) or self.settings.points is not None

    @property
    def configs(self) -> list[TrainConfig]:
        """Every point that its file names; of a search the base."""
        return list(self.points.values()) or [self.base]

    @property
    def reports(self) -> int:
        """Values that a trial reports to Optuna until it is finished, at steps from 1 up.

        One per checkpoint; with pruner wilcoxon one per final episode.
        """
        each = self.base.checkpoints
        if self.settings.pruner == "wilcoxon":
            each = self.base.final_episodes
        return each * self.settings.seeds_per_trial

    def confirming(self) -> Study:
        """The study of its confirmation: the same trials, never pruned, scored on test seeds."""
        settings = replace(as_points(self.settings), seeds_per_trial=1, training_seeds=1)
        base = replace(self.base, final_seeds="test", final_episodes=TEST_EPISODES)
        return replace(self, settings=settings, base=base, sampler={}, pruner={}, confirms=True)

    @property
    def definition(self) -> dict[str, Any]:
        """What must stay equal for trials to be comparable; points and seeds may be added."""
        fixed = {name: value for name, value in flatten(self.base).items() if name != "seed"}
        listed = self.settings.training_seeds
        seeds = [] if isinstance(listed, int) else listed
        named_seeds = {f"training seed {number}": seed for number, seed in enumerate(seeds, 1)}
        if self.points:
            return {
                "base": fixed,
                "points": {
                    f'point "{name}"': changes(point, self.base)
                    for name, point in self.points.items()
                },
                "recorded as": recorded_as(self.space),
                "seed": self.settings.seed,
                "training seeds": named_seeds,
                "score": self.settings.score,
            }
        return {
            **({} if self.settings.points is None else {"training seeds": named_seeds}),
            "base": {name: value for name, value in fixed.items() if name not in self.space},
            "space": {name: repr(range_) for name, range_ in self.space.items()},
            "seed": self.settings.seed,
            "seeds_per_trial": self.settings.seeds_per_trial,
            "score": self.settings.score,
            # wilcoxon reports final episodes, the others report checkpoints
            "pruner": "wilcoxon" if self.settings.pruner == "wilcoxon" else "not wilcoxon",
        }

    @property
    def fingerprint(self) -> str:
        """A hash that is equal for equal definitions."""
        canonical = json.dumps(self.definition, sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def shipped_studies() -> list[str]:
    """Names of the studies in the package."""
    return sorted(path.stem for path in SHIPPED.glob("*.toml"))


def find_study(name_or_file: str) -> Study:
    """A shipped study by name, or any study file by its path.

    Raises:
        ConfigError: no such study, or a wrong file: which key, which value, what would be right.
    """
    path = SHIPPED / f"{name_or_file}.toml"
    if not re.fullmatch(NAME, name_or_file) or not path.is_file():
        path = Path(name_or_file)
        if not name_or_file.endswith(".toml"):
            known = shipped_studies()
            raise ConfigError(unknown("study", name_or_file, known) + ", or a path to a .toml file")
    study = read_study(read_text(path), source=str(path.name), origin=TYPED)
    if study.settings.sampler == "cmaes":
        raise ConfigError(f"{path.name}: [study] {NO_CMAES}")
    return study


def read_study(text: str, *, source: str, origin: Origin = UNKNOWN) -> Study:
    """A new study from TOML text; `source` names it in errors.

    Raises:
        ConfigError: it is wrong, holds what no training takes, or would import a module nobody
            has agreed to for its `origin`.
    """
    with naming(source):
        document = read_tables(text)
        require_new(document)
        study = read_tables_as_study(document, text, base=None, origin=origin)
        if not study.points:
            with naming("[space]"):
                require_fitting(study.space, study.base)
        return study


def stored_study(
    text: str, *, source: str, base: TrainConfig | None, origin: Origin = UNKNOWN
) -> Study:
    """A study from the text that a sweep keeps, with the base that it was started with.

    What was accepted then is not judged again. `base` is None in a sweep that keeps none: then its
    text says what it is, with the defaults of today.

    Raises:
        ConfigError: it is not a study, or would import a module nobody has agreed to for its
            `origin`.
    """
    with naming(source):
        document = read_tables(text)
        document["base"] = as_read_before(document["base"])
        return read_tables_as_study(document, text, base=base, origin=origin)


@contextmanager
def naming(part: str) -> Generator[None]:
    """Errors in here begin with the part of the study that they are about."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{part}: {error}" if part[0] != "[" else f"{part} {error}") from None


def read_tables(text: str) -> dict[str, dict[str, Any]]:
    """The tables of a study file."""
    document = read_toml(text)
    for table in document:
        if table not in TABLES + SUBJECTS + MORE_TABLES:
            raise ConfigError(unknown("table", table, [*TABLES, *SUBJECTS, *MORE_TABLES]))
    subject = "points" if "points" in document else "space"
    if "points" in document and "space" in document:
        raise ConfigError("[points] and [space] exclude each other: leave one of them out")
    for table in (*TABLES, subject):
        if not isinstance(document.get(table), dict):
            raise ConfigError(f"a [{table}] table is missing")
    for table in MORE_TABLES:
        if not isinstance(document.setdefault(table, {}), dict):
            raise ConfigError(f"[{table}] must be a table of arguments, got {document[table]!r}")
    return document


def require_new(document: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse what a new study must not say, though an earlier one may have said it."""
    with naming("[study]"):
        for name, most in LARGEST.items():
            value = document["study"].get(name, 0)
            if type(value) is int and value > most:
                raise ConfigError(f"{name}: must be at most {most:,}, got {value}")
    with naming("[space]"):
        require_searchable(document.get("space", {}))


def read_tables_as_study(
    document: Mapping[str, dict[str, Any]],
    text: str,
    *,
    base: TrainConfig | None,
    origin: Origin,
) -> Study:
    """A study from its tables; `base`, if given, replaces the [base] table."""
    with naming("[study]"):
        settings = read_settings(document)
    for value in searched_arguments(document.get("space", {})):
        origin.require(value)
    if base is None:
        with naming("[base]"):
            base = read_base(document["base"], has_points=has_points(document), origin=origin)
    else:
        origin.require(flatten(base))
    if "points" in document:
        points = read_points(document, base=base, origin=origin)
        settings = replace(settings, trials=len(points) * settings.seed_count)
        return Study(settings, base, space_of(points, base), text, points=points)
    with naming("[space]"):
        space = read_space(document["space"], base=base)
    study = Study(settings, base, space, text)
    with naming("[sampler]"):
        sampler = read_arguments(settings.sampler, document["sampler"], reports=study.reports)
    with naming("[pruner]"):
        pruner = read_arguments(settings.pruner, document["pruner"], reports=study.reports)
    require_agreement(study)
    return replace(study, sampler=sampler, pruner=pruner)


def has_points(document: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether the tables are those of a study with points, named or drawn."""
    return "points" in document or "points" in document["study"]


def read_settings(document: Mapping[str, Mapping[str, Any]]) -> Settings:
    """The [study] table.

    Raises:
        ConfigError: a wrong key or value, or one that does not go with points, or without.
    """
    table = document["study"]
    try:
        settings = TypeAdapter(Settings).validate_python(table)
    except ValidationError as error:
        raise ConfigError(first_line(error)) from None
    if not has_points(document):
        if "training_seeds" in table:
            raise ConfigError("training_seeds: only with points, a search has seeds_per_trial")
        return settings
    if "points" in document and "points" in table:
        raise ConfigError("points: draws from a [space], but [points] names them: leave one out")
    for key, why in NOT_WITH_POINTS.items():
        if key in table:
            raise ConfigError(f"{key}: not with points, as {why}: leave it out")
    for key in MORE_TABLES:
        if document[key]:
            raise ConfigError(f"[{key}] is not for a study with points: leave it out")
    trials = (settings.points or 0) * settings.seed_count
    return replace(as_points(settings), trials=max(1, trials))


def as_points(settings: Settings) -> Settings:
    """Settings of trials whose parameters are given: nothing is proposed, nothing pruned."""
    return replace(settings, sampler="random", pruner="none")


def read_points(
    document: Mapping[str, Mapping[str, Any]], *, base: TrainConfig, origin: Origin
) -> dict[str, TrainConfig]:
    """The [points] tables, each over the base."""
    if "policy.head" not in document["base"]:  # each point's environment decides
        base = configure({"policy.head": "auto"}, base=base)
    points: dict[str, TrainConfig] = {}
    for name, table in document["points"].items():
        with naming(f"[points.{json.dumps(name)}]"):
            require_name(name)
            points[name] = read_point(table, base=base, origin=origin)
    with naming("[points]"):
        if not points:
            raise ConfigError('no point: name one, as [points."as it is"]')
        require_different(points)
    return points


def read_base(table: Mapping[str, Any], *, has_points: bool, origin: Origin) -> TrainConfig:
    """The [base] table, resolved."""
    base = configure(table, base=TrainConfig())
    origin.require(flatten(base))
    if "seed" in table:
        raise ConfigError("seed: training seeds derive from [study] seed, set that")
    if base.final_seeds == "test":
        raise ConfigError("final_seeds: the test seeds are for make confirm, leave it out")
    if base.final_seeds == "report" and not has_points:
        raise ConfigError(
            "final_seeds: report is for studies with points, a search would choose by them: leave "
            "it out"
        )
    return resolve(base, named=table).config


def require_agreement(study: Study) -> None:
    """Refuse a sampler or pruner that could not work on this study."""
    settings = study.settings
    if settings.pruner == "wilcoxon" and settings.seeds_per_trial < 2:
        raise ConfigError(
            "[study] pruner wilcoxon looks at a trial between its training seeds: "
            "seeds_per_trial must be at least 2, got 1"
        )
    if settings.sampler == "grid":
        for name, range_ in study.space.items():
            if not range_.is_discrete:
                raise ConfigError(
                    f"[space] {name}: sampler grid needs choices, or a step for whole numbers"
                )


def searched_arguments(table: Mapping[str, Any]) -> Iterator[dict[str, object]]:
    """Every value that [space] would give an argument of the environment."""
    for name, spec in table.items():
        choices = spec.get("choices") if isinstance(spec, Mapping) else None
        if name.startswith("env.") and isinstance(choices, list):
            yield from ({name: value} for value in choices)
