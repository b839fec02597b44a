"""How one field is searched: a line of a study's [space] table."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from sys import float_info
from types import NoneType
from typing import Any, Final

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import BaseTrial

from lander.dotted import is_kwarg, kinds_of, short
from lander.errors import ConfigError, unknown

KEYS: Final = {"low", "high", "log", "one_minus_log", "step", "choices"}
NONE: Final = "none"
"""The word for None in study files and on the command line: TOML has no null."""


@dataclass(frozen=True)
class Range:
    """How one field is searched."""

    field: str
    distribution: BaseDistribution
    one_minus: bool = False
    """Whether Optuna's value is 1 - field."""

    @property
    def parameter(self) -> str:
        """Optuna's name of the field."""
        return f"1 - {self.field}" if self.one_minus else self.field

    @property
    def is_discrete(self) -> bool:
        """Whether a grid can list its values: choices, or whole numbers."""
        return not isinstance(self.distribution, FloatDistribution)

    def to_field(self, value: Any) -> Any:
        """The field's value for Optuna's, as tables show it; for numbers also the inverse."""
        return 1 - value if self.one_minus else value

    def config_value(self, value: Any) -> Any:
        """The field's value for Optuna's, as a config holds it. In Optuna a list of widths and
        None are texts, "64,64" and "none"."""
        if isinstance(value, str):
            kinds = kinds_of(self.field)
            if value == NONE and NoneType in kinds:
                return None
            if tuple in kinds:
                return tuple(int(width) for width in value.split(","))
        return self.to_field(value)

    def parameter_value(self, value: Any) -> Any:
        """Optuna's value for a config's: the inverse of `config_value`."""
        if value is None:
            return NONE
        return as_text(value) if isinstance(value, tuple) else self.to_field(value)

    def holds(self, value: Any) -> bool:
        """Whether the range contains one of Optuna's values."""
        distribution = self.distribution
        if isinstance(distribution, CategoricalDistribution):
            return value in distribution.choices
        assert isinstance(distribution, FloatDistribution | IntDistribution)
        is_number = isinstance(value, int | float)
        return is_number and bool(distribution.low <= value <= distribution.high)

    def __str__(self) -> str:
        """The range as a study file writes it."""
        distribution = self.distribution
        if isinstance(distribution, CategoricalDistribution):
            return f"{{ choices = {listed(map(self.config_value, distribution.choices))} }}"
        assert isinstance(distribution, FloatDistribution | IntDistribution)
        low, high = sorted(map(self.to_field, (distribution.low, distribution.high)))
        parts = [f"low = {low:g}", f"high = {high:g}"]
        if distribution.log:
            parts.append("one_minus_log = true" if self.one_minus else "log = true")
        if isinstance(distribution, IntDistribution) and distribution.step > 1:
            parts.append(f"step = {distribution.step}")
        return f"{{ {', '.join(parts)} }}"

    def suggest(self, trial: BaseTrial) -> Any:
        """The field's value in a trial."""
        name, distribution = self.parameter, self.distribution
        if isinstance(distribution, FloatDistribution):
            value: Any = trial.suggest_float(
                name, distribution.low, distribution.high, log=distribution.log
            )
        elif isinstance(distribution, IntDistribution):
            value = trial.suggest_int(
                name,
                distribution.low,
                distribution.high,
                step=distribution.step,
                log=distribution.log,
            )
        else:
            assert isinstance(distribution, CategoricalDistribution)
            value = trial.suggest_categorical(name, distribution.choices)
        return self.config_value(value)

    def at(self, share: float) -> Any:
        """Optuna's value at a share, 0 to 1, of the range: on the scale on which it is searched,
        each choice and each whole number an equal part of it."""
        distribution = self.distribution
        if isinstance(distribution, CategoricalDistribution):
            choices = distribution.choices
            return choices[min(int(share * len(choices)), len(choices) - 1)]
        assert isinstance(distribution, FloatDistribution | IntDistribution)
        low, high = float(distribution.low), float(distribution.high)
        if isinstance(distribution, IntDistribution):
            low, high = low - distribution.step / 2, high + distribution.step / 2
        value = low * (high / low) ** share if distribution.log else low + share * (high - low)
        value = min(max(value, distribution.low), distribution.high)
        if isinstance(distribution, IntDistribution):
            steps = round((value - distribution.low) / distribution.step)
            return distribution.low + steps * distribution.step
        return value

    def share(self, value: float) -> float:
        """Where one of Optuna's numbers lies in the range, 0 to 1: `at` turned around."""
        distribution = self.distribution
        assert isinstance(distribution, FloatDistribution | IntDistribution)
        low, high = float(distribution.low), float(distribution.high)
        if isinstance(distribution, IntDistribution):
            low, high = low - distribution.step / 2, high + distribution.step / 2
        if distribution.single():
            return 0.5
        if distribution.log:
            return math.log(value / low) / math.log(high / low)
        return (value - low) / (high - low)

    def ends(self) -> list[Any]:
        """Field values that show whether the range is possible: its ends, or every choice."""
        distribution = self.distribution
        if isinstance(distribution, CategoricalDistribution):
            return [self.config_value(choice) for choice in distribution.choices]
        assert isinstance(distribution, FloatDistribution | IntDistribution)
        return [self.to_field(distribution.low), self.to_field(distribution.high)]

    def values(self) -> Sequence[Any]:
        """Every field value of choices or whole numbers; the ends of anything else."""
        distribution = self.distribution
        if isinstance(distribution, IntDistribution):
            return range(distribution.low, distribution.high + 1, distribution.step)
        return self.ends()


def as_text(widths: Sequence[int]) -> str:
    """A list of whole numbers as Optuna keeps it, and as the command line takes it: 64,64."""
    return ",".join(map(str, widths))


def listed(values: Iterable[Any]) -> str:
    """Field values as a list in a study file."""
    return json.dumps([NONE if value is None else value for value in values])


def read_range(name: str, spec: object) -> Range:
    """Read one line of the [space] table."""
    if not isinstance(spec, dict) or not spec:
        raise ConfigError(f"{name}: want {{ low = .., high = .. }} or {{ choices = [..] }}")
    for key in spec:
        if key not in KEYS:
            raise ConfigError(f"{name}: {unknown('key', key, list(KEYS))}")
    if "choices" in spec:
        return read_choices(name, spec)
    if not (kinds := kinds_of(name)) & {int, float}:
        raise ConfigError(f"{name} is not a number: search it by choices")
    whole = is_kwarg(name) and all(type(spec.get(end)) is int for end in ("low", "high"))
    if float not in kinds or whole:  # the type of an environment's argument is that of its ends
        return read_whole(name, spec)
    low, high = number(name, spec, "low"), number(name, spec, "high")
    require_order(name, low, high)
    log, one_minus = flag(name, spec, "log"), flag(name, spec, "one_minus_log")
    if "step" in spec:
        raise ConfigError(f"{name}: step is for whole numbers: leave it out or use choices")
    if one_minus and (log or not high < 1):
        raise ConfigError(f"{name}: one_minus_log stands without log, and needs high < 1")
    if log and not low > 0:
        raise ConfigError(f"{name}: log needs low > 0")
    if one_minus:
        return Range(name, FloatDistribution(1 - high, 1 - low, log=True), one_minus=True)
    return Range(name, FloatDistribution(low, high, log=log))


def read_choices(name: str, spec: Mapping[str, Any]) -> Range:
    """Read { choices = [..] }: words, numbers, true/false or lists of whole numbers, unordered."""
    choices = spec["choices"]
    if len(spec) > 1 or not isinstance(choices, list) or not choices:
        raise ConfigError(f"{name}: choices must be a list of values and stand alone")
    kept = [as_parameter(name, choice) for choice in choices]
    if len(set(kept)) < len(kept):
        raise ConfigError(f"{name}: choices must differ, got {choices}")
    return Range(name, CategoricalDistribution(kept))


def as_parameter(name: str, choice: Any) -> Any:
    """A choice as Optuna keeps it, a list as text. The config checks later whether the field takes
    it."""
    is_widths = isinstance(choice, list) and all(type(width) is int for width in choice)
    if tuple in kinds_of(name):
        if not is_widths or not choice:
            raise ConfigError(
                f"{name}: each of its choices must be a list of whole numbers, as [64, 64], "
                f"got {short(choice)}"
            )
        return as_text(choice)
    if not isinstance(choice, str | int | float | bool):
        raise ConfigError(
            f"{name}: choices must be numbers, words or true/false, got {short(choice)}"
        )
    return choice


def read_whole(name: str, spec: Mapping[str, Any]) -> Range:
    """Read { low, high } of whole numbers, with log or step."""
    low, high = number(name, spec, "low"), number(name, spec, "high")
    step = number(name, spec, "step") if "step" in spec else 1.0
    for key, value in (("low", low), ("high", high), ("step", step)):
        if not value.is_integer():
            raise ConfigError(f"{name}: {key} must be a whole number, got {value}")
    require_order(name, low, high)
    log = flag(name, spec, "log")
    if flag(name, spec, "one_minus_log"):
        raise ConfigError(f"{name}: one_minus_log is for fields below 1")
    if log and (low < 1 or "step" in spec):
        raise ConfigError(f"{name}: log needs low > 0 and no step")
    if step < 1 or (high - low) % step:
        raise ConfigError(f"{name}: step must divide high - low = {high - low:g}, got {step:g}")
    return Range(name, IntDistribution(int(low), int(high), log=log, step=int(step)))


def number(name: str, spec: Mapping[str, Any], key: str) -> float:
    """Read a finite number of a range."""
    value: Any = spec.get(key)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and abs(value) <= float_info.max:  # a whole number may exceed it
        return float(value)
    raise ConfigError(f"{name}: {key} must be a finite number, got {short(value)}")


def flag(name: str, spec: Mapping[str, Any], key: str) -> bool:
    """Read true or false; false if the key is absent."""
    value = spec.get(key, False)
    if not isinstance(value, bool):
        raise ConfigError(f"{name}: {key} must be true or false, got {value!r}")
    return value


def require_order(name: str, low: float, high: float) -> None:
    """Refuse an empty range."""
    if not low < high:
        raise ConfigError(f"{name}: low must be below high, got {low:g} and {high:g}")
