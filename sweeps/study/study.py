"""Reads a study file: what to search or which points to train, from which base, how often."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from lander.config import TrainConfig
from lander.dotted import as_read_before, configure, flatten, read_text, read_toml
from lander.errors import ConfigError, unknown
from lander.resolve import resolve
from lander.trust import TYPED, UNKNOWN, Origin
from sweeps.schema import CONFIRM_SUFFIX
from sweeps.study.fitting import require_fitting
from sweeps.study.limits import KEY_TABLES, Constraints, Stop
from sweeps.study.points import (
    changes,
    read_points,
    recorded_as,
    space_of,
)
from sweeps.study.samplers import ARGUMENT_TABLES, NO_CMAES, Arguments, read_arguments
from sweeps.study.settings import (
    LARGEST,
    NAME,
    Settings,
    as_points,
    has_points,
    naming,
    read_keys,
    read_settings,
)
from sweeps.study.space import Space, read_space, require_searchable

SHIPPED = Path(__file__).parents[1] / "studies"
TABLES = ("study", "base")
"""Tables that every study file has."""
OPTIONAL = (*ARGUMENT_TABLES, *KEY_TABLES)
"""Tables that it may have."""
SUBJECTS = ("space", "points")
"""Tables of which a study file has exactly one."""
UNSOLVED: Final = "has no return at which it is solved"
TEST_EPISODES = 100
"""Final episodes of each training of a confirmation."""
FIRST_CHOICE = 1_000
"""Index of the first training seed of a confirmation by which candidates are chosen. Those below
are of earlier versions, which chose and measured by the same seeds."""
FIRST_REPORT = 2_000
"""Index of the first training seed of a confirmation by which nothing is chosen."""

FINAL_RETURN_ONLY: Final[Mapping[str, Any]] = {
    "training_score": "last",
    "score_checkpoints": 1,
    "score_target": None,
}
"""Keys of [study] by which the score of a training is its final return."""

DEFAULTS = 0
"""The candidate of a confirmation that trains the base: number of the sweep's trial that does."""
TUNED = -1
"""The candidate that has the tuned defaults of `lander`, which no trial of the sweep trains."""


def candidate_name(number: int) -> str:
    """A candidate of a confirmation within a sentence: it has the number of a sweep's trial."""
    return {DEFAULTS: "the base", TUNED: "the tuned defaults"}.get(number, f"trial {number}")


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
    stop: Stop = field(default_factory=Stop)
    """From the [stop] table."""
    constraints: Constraints = field(default_factory=Constraints)
    """From the [constraints] table."""
    points: Mapping[str, TrainConfig] = field(default_factory=dict)
    """From the [points] tables, resolved; the space is then made of their fields."""
    confirms: bool = False
    """Whether it is NAME@confirm, which trains points of the sweep NAME again under other seeds."""

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
    def solved(self) -> float | None:
        """The return at which its environment is solved, if that is known."""
        from lander.env import solved_return  # imports gymnasium, which `status` does without

        return solved_return(self.base.env)

    @property
    def target(self) -> float | None:
        """The return that `time_to_target` waits for, if any is known."""
        given = self.settings.score_target
        return self.solved if given is None else given

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
        """The study of its confirmation: trials that are never pruned, scored on other episodes."""
        settings = replace(
            as_points(self.settings), seeds_per_trial=1, training_seeds=1, **FINAL_RETURN_ONLY
        )
        base = replace(self.base, final_seeds="choice", final_episodes=TEST_EPISODES)
        free = replace(self, sampler={}, pruner={}, stop=Stop(), constraints=Constraints())
        return replace(free, settings=settings, base=base, confirms=True)

    @property
    def definition(self) -> dict[str, Any]:
        """What must stay equal for trials to be comparable; points and seeds may be added."""
        fixed = {name: value for name, value in flatten(self.base).items() if name != "seed"}
        if self.base.final_policy == "last":  # as in sweeps that are older than the field
            del fixed["final_policy"]
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
                **self._training_score,
            }
        return {
            **({} if self.settings.points is None else {"training seeds": named_seeds}),
            "base": {name: value for name, value in fixed.items() if name not in self.space},
            "space": {name: repr(range_) for name, range_ in self.space.items()},
            "seed": self.settings.seed,
            "seeds_per_trial": self.settings.seeds_per_trial,
            "score": self.settings.score,
            **self._training_score,
            **self._constraints,
            # wilcoxon reports final episodes, the others report checkpoints
            "pruner": "wilcoxon" if self.settings.pruner == "wilcoxon" else "not wilcoxon",
        }

    @property
    def _training_score(self) -> dict[str, object]:
        # no defaults, as in sweeps that are older than the keys: their fingerprint stays
        return {
            name: value
            for name, usual in FINAL_RETURN_ONLY.items()
            if (value := getattr(self.settings, name)) != usual
        }

    @property
    def _constraints(self) -> dict[str, dict[str, float]]:
        limits = asdict(self.constraints)
        given = {name: value for name, value in limits.items() if value is not None}
        return {"constraints": given} if given else {}

    @property
    def fingerprint(self) -> str:
        """A hash that is equal for equal definitions."""
        canonical = json.dumps(self.definition, sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def shipped_studies() -> list[str]:
    """Names of the studies in the package."""
    return sorted(path.stem for path in SHIPPED.glob("*.toml"))


def study_file(name_or_file: str) -> Path:
    """The file of a shipped study by its name, or any other file by its path.

    Raises:
        ConfigError: no such study.
    """
    path = SHIPPED / f"{name_or_file}.toml"
    if re.fullmatch(NAME, name_or_file) and path.is_file():
        return path
    if name_or_file.endswith(".toml"):
        return Path(name_or_file)
    known = shipped_studies()
    raise ConfigError(unknown("study", name_or_file, known) + ", or a path to a .toml file")


def find_study(name_or_file: str) -> Study:
    """A shipped study by name, or any study file by its path.

    Raises:
        ConfigError: no such study, or a wrong file: which key, which value, what would be right.
    """
    path = study_file(name_or_file)
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


def read_tables(text: str) -> dict[str, dict[str, Any]]:
    """The tables of a study file."""
    document = read_toml(text)
    for table in document:
        if table not in TABLES + SUBJECTS + OPTIONAL:
            raise ConfigError(unknown("table", table, [*TABLES, *SUBJECTS, *OPTIONAL]))
    subject = "points" if "points" in document else "space"
    if "points" in document and "space" in document:
        raise ConfigError("[points] and [space] exclude each other: leave one of them out")
    for table in (*TABLES, subject):
        if not isinstance(document.get(table), dict):
            raise ConfigError(f"a [{table}] table is missing")
    for table in OPTIONAL:
        if not isinstance(document.setdefault(table, {}), dict):
            content = "arguments" if table in ARGUMENT_TABLES else "keys"
            raise ConfigError(f"[{table}] must be a table of {content}, got {document[table]!r}")
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
        study = Study(settings, base, space_of(points, base), text, points=points)
        require_agreement(study)
        return study
    with naming("[space]"):
        space = read_space(document["space"], base=base)
    study = Study(settings, base, space, text)
    with naming("[sampler]"):
        sampler = read_arguments(settings.sampler, document["sampler"], reports=study.reports)
    with naming("[pruner]"):
        pruner = read_arguments(settings.pruner, document["pruner"], reports=study.reports)
    with naming("[stop]"):
        stop = read_keys(Stop, document["stop"])
    with naming("[constraints]"):
        constraints = read_keys(Constraints, document["constraints"])
    study = replace(study, stop=stop, constraints=constraints)
    require_agreement(study)
    return replace(study, sampler=sampler, pruner=pruner)


def read_base(table: Mapping[str, Any], *, has_points: bool, origin: Origin) -> TrainConfig:
    """The [base] table, resolved."""
    base = configure(table, base=TrainConfig())
    origin.require(flatten(base))
    if "seed" in table:
        raise ConfigError("seed: training seeds derive from [study] seed, set that")
    if base.final_seeds in ("choice", "test"):
        raise ConfigError(
            f"final_seeds: the {base.final_seeds} seeds are for make confirm, leave it out"
        )
    if base.final_seeds == "report" and not has_points:
        raise ConfigError(
            "final_seeds: report is for studies with points, a search would choose by them: leave "
            "it out"
        )
    return resolve(base, named=table).config


def require_agreement(study: Study) -> None:
    """Refuse a sampler, pruner or score that could not work on this study."""
    settings = study.settings
    if settings.score_checkpoints > study.base.checkpoints:
        raise ConfigError(
            f"[study] score_checkpoints: a training has {study.base.checkpoints} checkpoints, got "
            f"{settings.score_checkpoints}"
        )
    with naming("[study]"):
        require_score(study)
    if study.constraints.success_rate is not None and study.solved is None:
        raise ConfigError(f"[constraints] success_rate: {study.base.env.id} {UNSOLVED}")
    if settings.pruner == "wilcoxon" and settings.seeds_per_trial < 2:
        raise ConfigError(
            "[study] pruner wilcoxon looks at a trial between its training seeds: "
            "seeds_per_trial must be at least 2, got 1"
        )
    if settings.sampler == "grid":
        if settings.startup_trials:
            raise ConfigError("[study] startup_trials: a grid has its own points, leave it out")
        if settings.repeat_from is not None:
            raise ConfigError("[study] repeat_from: a grid tries each point once, leave it out")
        for name, range_ in study.space.items():
            if not range_.is_discrete:
                raise ConfigError(
                    f"[space] {name}: sampler grid needs choices, or a step for whole numbers"
                )


def require_score(study: Study) -> None:
    """Refuse keys of the score that do not go together."""
    settings = study.settings
    if settings.score_checkpoints > 1 and settings.training_score != "last":
        raise ConfigError('score_checkpoints: only with training_score = "last", leave it out')
    if settings.score_checkpoints > 1 and study.base.final_policy == "best":
        raise ConfigError('score_checkpoints: not with final_policy = "best", which is one of them')
    if settings.training_score != "time_to_target" and settings.score_target is not None:
        raise ConfigError('score_target: only with training_score = "time_to_target"')
    if settings.training_score == "time_to_target" and study.target is None:
        raise ConfigError(f"training_score: {study.base.env.id} {UNSOLVED}: give score_target")


def searched_arguments(table: Mapping[str, Any]) -> Iterator[dict[str, object]]:
    """Every value that [space] would give an argument of the environment."""
    for name, spec in table.items():
        choices = spec.get("choices") if isinstance(spec, Mapping) else None
        if name.startswith("env.") and isinstance(choices, list):
            yield from ({name: value} for value in choices)
