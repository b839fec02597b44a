"""The search space: from an Optuna trial to a `TrainConfig`.

A searched field, its Optuna parameter and its MLflow parameter have one dotted name. The one
exception is a field searched on the scale of its distance to 1: Optuna's parameter then holds that
distance, and is called "1 - ppo.gae_lambda".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from optuna.distributions import CategoricalDistribution, IntDistribution
from optuna.trial import BaseTrial

from lander.config import TrainConfig
from lander.dotted import flatten, is_kwarg
from lander.errors import ConfigError, unknown
from lander.options import inactive, settle
from lander.terminal import printable
from sweeps.study.ranges import Range, read_range

Space = Mapping[str, Range]
ELSEWHERE = ("seed", "env.id")
"""Fields that cannot be searched: the study sets the seed, and the environment is the subject."""
MEASURES = (
    "final_episodes",
    "sampled_episodes",
    "eval_episodes",
    "checkpoints",
    "final_policy",
    "final_seeds",
)
"""Fields that decide how a trial is measured; they must be equal for all trials of a study."""


def suggest(trial: BaseTrial, space: Space, base: TrainConfig) -> TrainConfig:
    """`base` with the searched fields drawn from `trial`.

    Any trial works: a live `Trial` samples, a `FrozenTrial` from storage replays its values, and
    `FixedTrial({...})` takes them from a dict.
    """
    return settle(space, base, lambda name: space[name].suggest(trial))


def flat_base(names: Iterable[str], base: TrainConfig) -> dict[str, Any]:
    """The base's fields; None for searched arguments that it leaves to the environment.

    Raises:
        ConfigError: a name that no argument of the environment can have.
    """
    return dict.fromkeys(filter(is_kwarg, names)) | flatten(base)


def defaults(space: Space, base: TrainConfig) -> dict[str, Any]:
    """Optuna's parameters of a config, as of the base in trial 0: of the fields that act."""
    flat = flat_base(space, base)
    idle = inactive(flat)
    values = {name: range_.parameter_value(flat[name]) for name, range_ in space.items()}
    return {
        range_.parameter: values[name]
        for name, range_ in space.items()
        if (flat[name] is not None or range_.holds(values[name])) and name not in idle
    }


def field_values(params: Mapping[str, Any], space: Space) -> dict[str, Any]:
    """The searched fields that act in a trial, from its parameters in Optuna, as tables show
    them."""
    return {
        name: range_.to_field(params[range_.parameter])
        for name, range_ in space.items()
        if range_.parameter in params
    }


def brief(value: object) -> str:
    """A field's value in few digits, on one line; None means that it had no effect."""
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else printable(value)


def read_space(table: Mapping[str, Any], *, base: TrainConfig) -> Space:
    """The [space] table. `sweeps.study.fitting` checks whether all of it can be trained.

    Raises:
        ConfigError: an unknown field or key, an impossible range, a default outside its range.
    """
    flat = flat_base(table, base)
    space: dict[str, Range] = {}
    for name, spec in table.items():
        if name not in flat:
            raise ConfigError(unknown("field", name, list(flat)))
        space[name] = read_range(name, spec)
    first = defaults(space, base)
    for name, range_ in space.items():
        value = first.get(range_.parameter)
        if value is not None and not range_.holds(value):
            raise ConfigError(
                f"{name}: its default {flat[name]!r} (trial 0) lies outside the range searched: "
                f'widen the range, or put "{name}" under [base]'
            )
    if not space:
        raise ConfigError("nothing to search: name at least one field")
    return space


def require_searchable(names: Iterable[str]) -> None:
    """Refuse to search what decides how trials are compared."""
    for name in names:
        if name in ELSEWHERE:
            raise ConfigError(f"{name} cannot be searched: set it under [study] or [base]")
        if name in MEASURES:
            raise ConfigError(
                f"{name} cannot be searched, as it decides how a trial is measured: set it under "
                "[base], the same for all trials"
            )


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
