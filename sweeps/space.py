"""The search space: from an Optuna trial to a `TrainConfig`.

A searched field, its Optuna parameter and its MLflow parameter have one dotted name. The one
exception is a field searched on the scale of its distance to 1: Optuna's parameter then holds that
distance, and is called "1 - ppo.gae_lambda".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import BaseTrial

from lander.config import TrainConfig
from lander.fields import ConfigError, configure, flatten, unknown

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
    return configure({name: range_.suggest(trial) for name, range_ in space.items()}, base=base)


def defaults(space: Space, base: TrainConfig) -> dict[str, Any]:
    """Optuna's parameters of the base config itself: trial 0."""
    flat = flatten(base)
    return {range_.parameter: range_.to_field(flat[name]) for name, range_ in space.items()}


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
        if name in {"seed", "env.id"}:
            raise ConfigError(f"{name} cannot be searched: set it under [study] or [base]")
        space[name] = read_range(name, spec, default=flat[name])
        for value in ends(space[name]):
            configure({name: value}, base=base)
        parameter = space[name].to_field(flat[name])
        distribution = space[name].distribution
        if isinstance(distribution, CategoricalDistribution):
            inside = parameter in distribution.choices
        else:
            assert isinstance(distribution, FloatDistribution | IntDistribution)
            inside = distribution.low <= parameter <= distribution.high
        if not inside:
            raise ConfigError(
                f"{name}: its default {flat[name]!r} (trial 0) lies outside the range searched: "
                f'widen the range, or put "{name}" under [base]'
            )
    if not space:
        raise ConfigError("nothing to search: name at least one field")
    return space


def read_range(name: str, spec: object, *, default: Any) -> Range:
    """One line of the [space] table, for a field whose default tells its type."""
    if not isinstance(spec, dict) or not spec:
        raise ConfigError(f"{name}: want {{ low = .., high = .. }} or {{ choices = [..] }}")
    for key in spec:
        if key not in KEYS:
            raise ConfigError(f"{name}: {unknown('key', key, list(KEYS))}")
    if "choices" in spec:
        choices = spec["choices"]
        if len(spec) > 1 or not isinstance(choices, list) or not choices:
            raise ConfigError(f"{name}: choices must be a list of values and stand alone")
        if not all(isinstance(value, str | int | float | bool) for value in choices):
            raise ConfigError(f"{name}: choices must be numbers, words or true/false: {choices}")
        if len(set(choices)) < len(choices):
            raise ConfigError(f"{name}: choices must differ, got {choices}")
        return Range(name, CategoricalDistribution(choices))
    low, high, step = spec.get("low"), spec.get("high"), spec.get("step")
    log, one_minus = bool(spec.get("log", False)), bool(spec.get("one_minus_log", False))
    whole = isinstance(default, int) and not isinstance(default, bool)
    for end, value in (("low", low), ("high", high)):
        good = isinstance(value, int) if whole else isinstance(value, int | float)
        if not good or isinstance(value, bool):
            kind = "a whole number" if whole else "a number"
            raise ConfigError(f"{name}: {end} must be {kind}, got {value!r}")
    if not isinstance(default, int | float) or isinstance(default, bool):
        raise ConfigError(f"{name}: {default!r} is not a number: search it by choices")
    assert low is not None and high is not None
    if not float("-inf") < low < high < float("inf"):
        raise ConfigError(f"{name}: low must be below high, both finite: got {low} and {high}")
    if one_minus and (log or whole or step is not None or not high < 1):
        raise ConfigError(f"{name}: one_minus_log stands without log and step, and needs high < 1")
    if log and (low <= 0 or step is not None):
        raise ConfigError(f"{name}: log needs low > 0 and no step")
    if one_minus:
        return Range(name, FloatDistribution(1 - high, 1 - low, log=True), one_minus=True)
    if not whole:
        if step is not None:
            raise ConfigError(f"{name}: step is for whole numbers: leave it out or use choices")
        return Range(name, FloatDistribution(float(low), float(high), log=log))
    if step is not None and (not isinstance(step, int) or step < 1 or (high - low) % step):
        raise ConfigError(f"{name}: step must divide high - low = {high - low}, got {step!r}")
    return Range(name, IntDistribution(low, high, log=log, step=step or 1))


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
