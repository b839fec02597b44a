"""Reads a study file: what to search, from which base, with how many trials."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked

from lander.config import TrainConfig
from lander.dotted import as_read_before, configure, first_line, flatten, read_text, read_toml
from lander.errors import ConfigError, unknown
from lander.resolve import resolve
from lander.trust import TYPED, UNKNOWN, Origin
from sweeps.schema import CONFIRM_SUFFIX
from sweeps.study.fitting import require_fitting
from sweeps.study.samplers import NO_CMAES, Arguments, Pruner, Sampler, read_arguments
from sweeps.study.space import Space, read_space, require_searchable

SHIPPED = Path(__file__).parents[1] / "studies"
TABLES = ("study", "base", "space")
"""Of a study file."""
MORE_TABLES = ("sampler", "pruner")
"""It may have these as well."""
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
LARGEST = {"trials": 1_000_000, "seed": 2**32 - 1}
"""Of a new study's settings: beyond, there is no room for them, or a sampler takes no such seed."""
TEST_EPISODES = 100
"""Episodes that a confirmation scores a training by."""


@checked(frozen=True, slots=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))
class Settings:
    """The [study] table."""

    name: Annotated[str, Field(pattern=f"^{NAME}$")]
    trials: Annotated[int, Field(ge=1, strict=True)] = 40
    """How many trials in all, trial 0 (the defaults) included."""
    sampler: Sampler = "tpe"
    pruner: Pruner = "median"
    seed: Annotated[int, Field(ge=0, strict=True)] = 0
    """Seeds the sampler, and with the trial number every trial's training."""
    seeds_per_trial: Annotated[int, Field(ge=1, le=100, strict=True)] = 1
    """Trainings of each trial, one after another, each under a seed of its own."""
    score: Literal["mean", "iqm"] = "mean"
    """Of a trial, over its training seeds: their mean, or the mean of the middle half of them."""


@dataclass(frozen=True)
class Study:
    """A study file, validated."""

    settings: Settings
    base: TrainConfig
    """Resolved; what the space does not search. Trial 0 is this as it is."""
    space: Space
    text: str
    """The file itself, kept with the sweep so that workers and readers see one truth."""
    sampler: Arguments = field(default_factory=dict)
    """Of Optuna's class, from the [sampler] table."""
    pruner: Arguments = field(default_factory=dict)
    """Of Optuna's class, from the [pruner] table."""
    confirms: bool = False
    """Its trials do not search: they train what a sweep has found, under seeds kept for that."""

    @property
    def name(self) -> str:
        return self.settings.name + (CONFIRM_SUFFIX if self.confirms else "")

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
        # every trial is given its parameters: nothing to propose, nothing to prune
        settings = replace(self.settings, sampler="random", pruner="none", seeds_per_trial=1)
        base = replace(self.base, final_seeds="test", final_episodes=TEST_EPISODES)
        return replace(self, settings=settings, base=base, sampler={}, pruner={}, confirms=True)

    @property
    def definition(self) -> dict[str, Any]:
        """All that makes trials comparable; the number of trials may grow."""
        fixed = {name: value for name, value in flatten(self.base).items() if name != "seed"}
        return {
            "base": {name: value for name, value in fixed.items() if name not in self.space},
            "space": {name: repr(range_) for name, range_ in self.space.items()},
            "seed": self.settings.seed,
            "seeds_per_trial": self.settings.seeds_per_trial,
            "score": self.settings.score,
            # which reports by final episodes, where the others report by checkpoints
            "pruner": "wilcoxon" if self.settings.pruner == "wilcoxon" else "not wilcoxon",
        }

    @property
    def fingerprint(self) -> str:
        """Equal for equal definitions."""
        canonical = json.dumps(self.definition, sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def shipped_studies() -> list[str]:
    """Names of the studies that come with the project."""
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
        if table not in TABLES + MORE_TABLES:
            raise ConfigError(unknown("table", table, [*TABLES, *MORE_TABLES]))
    for table in TABLES:
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
        require_searchable(document["space"])


def read_tables_as_study(
    document: Mapping[str, dict[str, Any]],
    text: str,
    *,
    base: TrainConfig | None,
    origin: Origin,
) -> Study:
    """A study from its tables; `base` stands for the [base] table if there is one."""
    try:
        settings = TypeAdapter(Settings).validate_python(document["study"])
    except ValidationError as error:
        raise ConfigError(f"[study] {first_line(error)}") from None
    for value in searched_arguments(document["space"]):
        origin.require(value)
    if base is None:
        with naming("[base]"):
            base = read_base(document["base"], origin=origin)
    else:
        origin.require(flatten(base))
    with naming("[space]"):
        space = read_space(document["space"], base=base)
    study = Study(settings, base, space, text)
    with naming("[sampler]"):
        sampler = read_arguments(settings.sampler, document["sampler"], reports=study.reports)
    with naming("[pruner]"):
        pruner = read_arguments(settings.pruner, document["pruner"], reports=study.reports)
    require_agreement(study)
    return replace(study, sampler=sampler, pruner=pruner)


def read_base(table: Mapping[str, Any], *, origin: Origin) -> TrainConfig:
    """The [base] table, resolved."""
    base = configure(table, base=TrainConfig())
    origin.require(flatten(base))
    if "seed" in table:
        raise ConfigError("seed: training seeds derive from [study] seed, set that")
    if base.final_seeds != "tuning":
        raise ConfigError("final_seeds: the test seeds are for make confirm, leave it out")
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
