"""The search space: from an Optuna trial to a `TrainConfig`.

A searched field, its Optuna parameter and its MLflow parameter have one dotted name. The one
exception is a field searched on the scale of its distance to 1: Optuna's parameter then holds that
distance, and is called "1 - ppo.gae_lambda".
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from sys import float_info
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import BaseTrial

from lander.config import TrainConfig
from lander.fields import ConfigError, configure, flatten, kinds_of, short, unknown
from lander.options import CONDITIONS, inactive, owners_first, require_active
from lander.resolve import dead_zones, resolve

KEYS = {"low", "high", "log", "one_minus_log", "step", "choices"}


@dataclass(frozen=True)
class Range:
    """How one field is searched."""

    field: str
    distribution: BaseDistribution
    one_minus: bool = False
    """Optuna's value is 1 - field."""

    @property
    def parameter(self) -> str:
        """Optuna's name for it."""
        return f"1 - {self.field}" if self.one_minus else self.field

    @property
    def is_discrete(self) -> bool:
        """Can be enumerated on purpose: choices, or whole numbers."""
        return not isinstance(self.distribution, FloatDistribution)

    def to_field(self, value: Any) -> Any:
        """The field's value for Optuna's; the same function serves the way back."""
        return 1 - value if self.one_minus else value

    def holds(self, value: Any) -> bool:
        """Whether one of Optuna's values lies in it."""
        distribution = self.distribution
        if isinstance(distribution, CategoricalDistribution):
            return value in distribution.choices
        assert isinstance(distribution, FloatDistribution | IntDistribution)
        return bool(distribution.low <= value <= distribution.high)

    def __str__(self) -> str:
        """As a study file writes it."""
        distribution = self.distribution
        if isinstance(distribution, CategoricalDistribution):
            return f"{{ choices = {json.dumps(distribution.choices)} }}"
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
        return self.to_field(value)


Space = Mapping[str, Range]


def suggest(trial: BaseTrial, space: Space, base: TrainConfig) -> TrainConfig:
    """`base` with the searched fields drawn from `trial`.

    Any trial works: a live `Trial` samples, a `FrozenTrial` from storage replays its values, and
    `FixedTrial({...})` takes them from a dict.
    """
    return settle(space, base, lambda name: space[name].suggest(trial))


def settle(space: Space, base: TrainConfig, choose: Callable[[str], Any]) -> TrainConfig:
    """`base` with the searched fields as chosen; those that do nothing then are not asked for.

    A study may search the head and the bins: a trial with a Gaussian head has no bins.
    """
    flat, unused = flatten(base), flatten(TrainConfig())
    for name in owners_first(space):
        # not the base's: what does nothing stands at its default, or it would be refused
        flat[name] = unused[name] if name in inactive(flat) else choose(name)
    return configure(flat, base=base)


def defaults(space: Space, base: TrainConfig) -> dict[str, Any]:
    """Optuna's parameters of the base config itself, trial 0: of fields that have a value in it."""
    flat = flatten(base)
    return {
        range_.parameter: range_.to_field(flat[name])
        for name, range_ in space.items()
        if flat[name] is not None and name not in inactive(flat)
    }


def read_space(table: Mapping[str, Any], *, base: TrainConfig) -> Space:
    """The [space] table, every end of every range tried as a config.

    Raises:
        ConfigError: an unknown field or key, an impossible range, a default outside its range.
    """
    flat = flatten(base)
    space: dict[str, Range] = {}
    for name, spec in table.items():
        if name not in flat:
            raise ConfigError(unknown("field", name, list(flat)))
        if name in {"seed", "env.id", "final_seeds"}:
            raise ConfigError(f"{name} cannot be searched: set it under [study] or [base]")
        space[name] = read_range(name, spec)
    for name in space:
        for value in ends(space[name]):
            require_possible(name, value, space, base)
        if space[name].parameter not in defaults(space, base):
            continue
        if not space[name].holds(space[name].to_field(flat[name])):
            raise ConfigError(
                f"{name}: its default {flat[name]!r} (trial 0) lies outside the range searched: "
                f'widen the range, or put "{name}" under [base]'
            )
    if not space:
        raise ConfigError("nothing to search: name at least one field")
    return space


def require_possible(name: str, value: object, space: Space, base: TrainConfig) -> None:
    """Refuse a value that some trial would fail on, or that no trial would notice."""
    if not any(condition.owner in space for condition in CONDITIONS if condition.field == name):
        require_active(base, {name: value})
    resolve(with_value(name, value, space, base))


def with_value(name: str, value: object, space: Space, base: TrainConfig) -> TrainConfig:
    """A trial in which one searched field has this value, and the others are the base's."""
    flat = flatten(base)
    return settle(space, base, lambda other: value if other == name else flat[other])


def troubles(space: Space, base: TrainConfig) -> list[str]:
    """Crafts in a study that cannot be flown well, each said once."""
    configs = [
        with_value(name, value, space, base)
        for name, range_ in space.items()
        for value in ends(range_)
    ]
    found = [trouble for config in configs for trouble in dead_zones(config)]
    return list(dict.fromkeys(found))


def read_range(name: str, spec: object) -> Range:
    """One line of the [space] table."""
    if not isinstance(spec, dict) or not spec:
        raise ConfigError(f"{name}: want {{ low = .., high = .. }} or {{ choices = [..] }}")
    for key in spec:
        if key not in KEYS:
            raise ConfigError(f"{name}: {unknown('key', key, list(KEYS))}")
    if "choices" in spec:
        return read_choices(name, spec)
    if not (kinds := kinds_of(name)) & {int, float}:
        raise ConfigError(f"{name} is not a number: search it by choices")
    if float not in kinds:
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
    """{ choices = [..] }: words, numbers or true/false, in no order."""
    choices = spec["choices"]
    if len(spec) > 1 or not isinstance(choices, list) or not choices:
        raise ConfigError(f"{name}: choices must be a list of values and stand alone")
    if not all(isinstance(value, str | int | float | bool) for value in choices):
        raise ConfigError(f"{name}: choices must be numbers, words or true/false: {choices}")
    if len(set(choices)) < len(choices):
        raise ConfigError(f"{name}: choices must differ, got {choices}")
    return Range(name, CategoricalDistribution(choices))


def read_whole(name: str, spec: Mapping[str, Any]) -> Range:
    """{ low, high } of whole numbers, with log or step."""
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
    """A finite number of a range."""
    value: Any = spec.get(key)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and abs(value) <= float_info.max:  # a whole number may be beyond it
        return float(value)
    raise ConfigError(f"{name}: {key} must be a finite number, got {short(value)}")


def flag(name: str, spec: Mapping[str, Any], key: str) -> bool:
    """true or false, false where it is absent."""
    value = spec.get(key, False)
    if not isinstance(value, bool):
        raise ConfigError(f"{name}: {key} must be true or false, got {value!r}")
    return value


def require_order(name: str, low: float, high: float) -> None:
    """A range has an inside."""
    if not low < high:
        raise ConfigError(f"{name}: low must be below high, got {low:g} and {high:g}")


def ends(range_: Range) -> list[Any]:
    """Field values that show whether the range is possible: its ends, or every choice."""
    distribution = range_.distribution
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    return [range_.to_field(distribution.low), range_.to_field(distribution.high)]


def grid(space: Space) -> dict[str, list[Any]]:
    """Every Optuna value of every discrete parameter."""
    values: dict[str, list[Any]] = {}
    for range_ in space.values():
        distribution = range_.distribution
        if isinstance(distribution, CategoricalDistribution):
            values[range_.parameter] = list(distribution.choices)
        elif isinstance(distribution, IntDistribution):
            whole = range(distribution.low, distribution.high + 1, distribution.step)
            values[range_.parameter] = list(whole)
    return values
