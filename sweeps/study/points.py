"""A study's [points] tables: named configurations to train, instead of a space to search.

Optuna and every table and chart know a point by its parameters, as they know a trial of a search:
`space_of` makes a space of the fields in which points differ from the base.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from lander.config import TrainConfig
from lander.dotted import configure, flatten, words_of
from lander.errors import ConfigError
from lander.options import CHOICES, inactive, settle
from lander.resolve import resolve
from lander.trust import Origin
from sweeps.study.ranges import Range
from sweeps.study.settings import naming
from sweeps.study.space import MEASURES, Space, flat_base

LONGEST: Final = 100
"""Characters of a point's name."""


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


def read_point(table: object, *, base: TrainConfig, origin: Origin) -> TrainConfig:
    """One [points."NAME"] table: dotted fields over the base, resolved.

    Raises:
        ConfigError: a field or value that no training takes, one that all points share, or one
            that would import a module nobody has agreed to for its `origin`.
    """
    if not isinstance(table, Mapping):
        raise ConfigError(f"must be a table of fields, got {table!r}")
    origin.require(table)
    for name in table:
        if name == "seed":
            raise ConfigError("seed: training seeds are listed under [study] training_seeds")
        if name in MEASURES:
            raise ConfigError(
                f"{name} decides how a trial is measured: set it under [base], the same for all "
                "points"
            )
    return resolve(configure(table, base=base), named=table).config


def require_name(name: str) -> None:
    """Refuse a name that a command line, a tag or a table cannot show."""
    if not (name.strip() == name and name.isprintable() and 0 < len(name) <= LONGEST):
        raise ConfigError(f"a point's name must be 1 to {LONGEST} printable characters")


def require_different(points: Mapping[str, TrainConfig]) -> None:
    """Refuse two points that are one configuration: their seeds would be counted apart."""
    names: dict[TrainConfig, str] = {}
    for name, point in points.items():
        if point in names:
            raise ConfigError(f'"{name}" is the same configuration as "{names[point]}": drop one')
        names[point] = name


def changes(point: TrainConfig, base: TrainConfig) -> dict[str, Any]:
    """Fields in which a point differs from the base, with its values."""
    ours, theirs = flatten(point), flatten(base)
    return {
        name: ours.get(name) for name in {**theirs, **ours} if ours.get(name) != theirs.get(name)
    }


def space_of(points: Mapping[str, TrainConfig], base: TrainConfig) -> Space:
    """The fields in which points differ from the base, each with the values that points give it.

    Numbers span a range, and words are all words of their field: points that are added later may
    have other values without changing what Optuna has recorded.
    """
    changed = {name: None for point in points.values() for name in changes(point, base)}
    usual = flat_base(changed, base)
    flats = [usual, *(flat_base(changed, point) for point in points.values())]
    idle = [inactive(flat) for flat in flats]
    space: dict[str, Range] = {}
    for name in changed:
        values = [
            flat[name] for flat, fields in zip(flats, idle, strict=True) if name not in fields
        ]
        if usual[name] is None:  # needs no parameter then: see `config_at`
            values = [value for value in values if value is not None]
        space[name] = Range(name, distribution_of(name, values or [usual[name]]))
    return space


def distribution_of(name: str, values: Sequence[Any]) -> BaseDistribution:
    """What Optuna records for a field that has these values."""
    if all(type(value) in (int, float) for value in values):
        if any(type(value) is float for value in values):
            return FloatDistribution(min(values), max(values))
        return IntDistribution(min(values), max(values))
    as_parameter = Range(name, CategoricalDistribution([0])).parameter_value
    words = [*CHOICES.get(name, ()), *words_of(name), *map(as_parameter, values)]
    return CategoricalDistribution(list(dict.fromkeys(words)))


def recorded_as(space: Space) -> dict[str, str]:
    """What Optuna holds fixed of each field once a point is recorded: its choices, or its kind of
    number."""
    return {
        name: repr(range_.distribution)
        if isinstance(range_.distribution, CategoricalDistribution)
        else type(range_.distribution).__name__
        for name, range_ in space.items()
    }


def config_at(params: Mapping[str, Any], space: Space, base: TrainConfig) -> TrainConfig:
    """The configuration of a point by its parameters; fields without one are the base's."""
    flat = flat_base(space, base)

    def choose(name: str) -> Any:
        range_ = space[name]
        if range_.parameter not in params:
            return flat[name]
        return range_.config_value(params[range_.parameter])

    return settle(space, base, choose)
