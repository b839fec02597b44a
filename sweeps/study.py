"""Reads a study file: what to search, from which base, with how many trials."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked

from lander.config import TrainConfig
from lander.fields import ConfigError, configure, first_line, flatten, read_text, read_toml, unknown
from lander.options import require_active
from lander.resolve import resolve
from lander.trust import TYPED, UNKNOWN, Origin
from sweeps.space import Space, read_space

SHIPPED = Path(__file__).parent / "studies"
TABLES = ("study", "base", "space")
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
CONFIRM = "@confirm"
"""What the name of a confirmation has behind that of its sweep; no study file can be called so."""
NO_CMAES = (
    "sampler cmaes keeps a pickle in the database, which whoever may write to it could exchange: "
    "take tpe, or gp for few trials"
)
"""It is there no more; sweeps that it searched are still read, and go on with another sampler."""
TEST_EPISODES = 100
"""Episodes that a confirmation scores a training by."""


@checked(frozen=True, slots=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))
class Settings:
    """The [study] table."""

    name: Annotated[str, Field(pattern=f"^{NAME}$")]
    trials: Annotated[int, Field(ge=1)] = 40
    """How many trials in all, trial 0 (the defaults) included."""
    sampler: Literal["tpe", "gp", "random", "cmaes", "qmc", "grid"] = "tpe"
    pruner: Literal["median", "hyperband", "halving", "wilcoxon", "none"] = "median"
    seed: Annotated[int, Field(ge=0)] = 0
    """Seeds the sampler, and with the trial number every trial's training."""
    seeds_per_trial: Annotated[int, Field(ge=1, le=100)] = 1
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
    confirms: bool = False
    """Its trials do not search: they train what a sweep has found, under seeds kept for that."""

    @property
    def name(self) -> str:
        return self.settings.name + (CONFIRM if self.confirms else "")

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
        return replace(self, settings=settings, base=base, confirms=True)

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
    """A study from TOML text; `source` names it in errors.

    Raises:
        ConfigError: a wrong text, or one that would import a module nobody has agreed to for its
            `origin`.
    """
    try:
        return _read_study(read_toml(text), text, origin)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None


def _read_study(document: Mapping[str, Any], text: str, origin: Origin) -> Study:
    for table in document:
        if table not in TABLES:
            raise ConfigError(unknown("table", table, list(TABLES)))
    for table in TABLES:
        if not isinstance(document.get(table), dict):
            raise ConfigError(f"a [{table}] table is missing")
    try:
        settings = TypeAdapter(Settings).validate_python(document["study"])
    except ValidationError as error:
        raise ConfigError(f"[study] {first_line(error)}") from None
    try:
        base = configure(document["base"], base=TrainConfig())
    except ConfigError as error:
        raise ConfigError(f"[base] {error}") from None
    origin.require(flatten(base))
    for value in searched_arguments(document["space"]):
        origin.require(value)
    if "seed" in document["base"]:
        raise ConfigError("[base] seed: training seeds derive from [study] seed, set that")
    if base.final_seeds != "tuning":
        raise ConfigError("[base] final_seeds: the test seeds are for make confirm, leave it out")
    if settings.pruner == "wilcoxon" and settings.seeds_per_trial < 2:
        raise ConfigError(
            "[study] pruner wilcoxon looks at a trial between its training seeds: "
            "seeds_per_trial must be at least 2, got 1"
        )
    try:
        base = resolve(base)
        require_active(base, document["base"])
        space = read_space(document["space"], base=base)
    except ConfigError as error:
        raise ConfigError(
            f"[space] {error}" if "env.id" not in str(error) else str(error)
        ) from None
    if settings.sampler == "grid":
        for name, range_ in space.items():
            if not range_.is_discrete:
                raise ConfigError(
                    f"[space] {name}: sampler grid needs choices, or a step for whole numbers"
                )
    return Study(settings, base, space, text)


def searched_arguments(table: Mapping[str, Any]) -> Iterator[dict[str, object]]:
    """Every value that [space] would give an argument of the environment."""
    for name, spec in table.items():
        choices = spec.get("choices") if isinstance(spec, Mapping) else None
        if name.startswith("env.") and isinstance(choices, list):
            yield from ({name: value} for value in choices)
