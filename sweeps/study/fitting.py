"""Which values of a search space go together in one training.

Some rules of a config join several fields: minibatches have to divide a rollout, an advantage may
need a critic. A space that holds a value which no combination makes possible is refused before
anything is created. Values that are fine, but not together, are never proposed: see
`sweeps.study.study.proposing`.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import pairwise, product
from typing import Any, Final

from optuna.distributions import CategoricalDistribution, IntDistribution

from lander.config import TrainConfig, rollout_trouble
from lander.errors import ConfigError
from lander.options import CONDITIONS, inactive, settle
from lander.resolve import UnflyableWarning, resolve
from sweeps.study.ranges import Range, listed
from sweeps.study.space import Space, flat_base

DIVIDING: Final = (
    "env.num_envs",
    "ppo.rollout_steps",
    "ppo.rollout_episodes",
    "ppo.minibatch_size",
)
"""Fields that divide each other: a value between two that fit may not fit."""
SIZES: Final = (*DIVIDING, "total_steps")
RULES: Final = (
    frozenset(SIZES),
    frozenset(
        {"policy.critic", "ppo.advantage", "ppo.rollout_episodes", "ppo.baseline"}
        | {"ppo.advantage_norm"}
    ),
    frozenset({"policy.head", "env.bins", "policy.std", "policy.squash", "ppo.entropy_coef"}),
)
"""Fields that one rule of `lander.config` or `lander.resolve` joins."""
JOINED: Final = (*RULES, *(frozenset({rule.field, rule.owner}) for rule in CONDITIONS))
"""The same, and pairs of a field and the field that decides whether it acts."""
VALUES: Final = 5_000
"""How many values of a range of whole numbers are tried; divisors are among the first."""
COMBINATIONS: Final = 300_000
"""How many combinations of sizes are tried for a field."""
CONFIGS: Final = 2_000
"""How many whole configs are tried for a value until it fits in one. After that it is accepted, and
the sampler avoids what cannot be trained."""
MOST: Final = 16
"""How many values a message lists."""


def joined_with(name: str, fields: Sequence[str]) -> list[str]:
    """Those of `fields` whose values decide, with that of `name`, whether a rule holds."""
    reached, grew = {name}, True
    while grew:
        wider = reached.union(*(group for group in JOINED if group & reached))
        reached, grew = wider, wider != reached
    return [field for field in fields if field in reached and field != name]


def require_fitting(space: Space, base: TrainConfig) -> None:
    """Refuse a space in which some value fits in no training.

    Raises:
        ConfigError: the rule that it breaks, and the values that fit.
    """
    for name, range_ in space.items():
        trouble = next(
            filter(None, (trouble_with(name, v, space, base) for v in range_.ends())), ""
        )
        instead = ""
        if name in DIVIDING:
            of_sizes = size_troubles(name, space, base)
            fitting = [value for value, of_size in of_sizes.items() if not of_size]
            if len(fitting) < len(of_sizes):
                trouble = trouble or next(filter(None, of_sizes.values()))
                instead = (
                    narrowed(range_, fitting, keep=flat_base(space, base)[name]) if fitting else ""
                )
        if trouble:
            raise ConfigError(trouble + (f'; what fits: "{name}" = {instead}' if instead else ""))


def trouble_with(name: str, value: object, space: Space, base: TrainConfig) -> str:
    """The rule that a value breaks with the base, if no other combination fits either."""
    flat = flat_base(space, base) | {name: value}
    first = trouble_in(flat, space, base, active=name)
    if not first:
        return ""
    others = joined_with(name, list(space))
    sizes = values_of([other for other in others if other in SIZES], space)
    rest = values_of([other for other in others if other not in SIZES], space)
    configs = (
        flat | of_sizes | of_rest
        for of_sizes in fitting_sizes(flat, sizes, tries=COMBINATIONS)
        for of_rest in combined(rest)
    )
    idle = name in inactive(flat)  # the rule that it breaks where it acts says more
    for number, config in enumerate(configs):
        trouble = trouble_in(config, space, base, active=name)
        if number == CONFIGS or not trouble:
            return ""
        if idle and name not in inactive(config):
            first, idle = trouble, False
    return first


def size_troubles(name: str, space: Space, base: TrainConfig) -> dict[object, str]:
    """For each value of a field that divides or is divided: the rule that it breaks in every
    combination, "" if it fits in one."""
    flat = flat_base(space, base)
    values = space[name].values()[:VALUES]
    sizes = values_of([o for o in joined_with(name, list(space)) if o in SIZES], space)
    if name == "ppo.rollout_steps":  # idle with whole episodes
        flat["ppo.rollout_episodes"] = None
        sizes.pop("ppo.rollout_episodes", None)
    tries = max(100, COMBINATIONS // len(values))
    sizes = {other: some[:tries] for other, some in sizes.items()}

    def trouble_of(value: object) -> str:
        with_value = flat | {name: value}
        first = rollouts(with_value)
        return first if first and not any(fitting_sizes(with_value, sizes, tries=tries)) else ""

    return {value: trouble_of(value) for value in values}


def fitting_sizes(
    flat: dict[str, Any], sizes: Mapping[str, Sequence[Any]], *, tries: int
) -> Iterator[dict[str, Any]]:
    """The combinations of `sizes` with which a flat config can be cut into rollouts. Combinations
    beyond so many tries are returned untested."""
    for number, chosen in enumerate(combined(sizes)):
        if number >= tries or not rollouts(flat | chosen):
            yield chosen


def combined(values: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    """Every combination of the values."""
    for row in product(*values.values()):
        yield dict(zip(values, row, strict=True))


def values_of(names: Sequence[str], space: Space) -> dict[str, Sequence[Any]]:
    """Values of some searched fields, the longest list first: combinations vary the last most."""
    values = {name: space[name].values()[:VALUES] for name in names}
    return dict(sorted(values.items(), key=lambda item: -len(item[1])))


def rollouts(flat: Mapping[str, Any]) -> str:
    """Why a flat config cannot be cut into rollouts; "" if it can."""
    if min(flat["env.num_envs"], flat["ppo.minibatch_size"]) < 1:
        return "sizes must be at least 1"
    return rollout_trouble(
        num_envs=flat["env.num_envs"],
        rollout_steps=flat["ppo.rollout_steps"],
        rollout_episodes=flat["ppo.rollout_episodes"],
        minibatch_size=flat["ppo.minibatch_size"],
        total_steps=flat["total_steps"],
        checkpoints=flat["checkpoints"],
    )


def trouble_in(flat: Mapping[str, Any], space: Space, base: TrainConfig, *, active: str) -> str:
    """Why a trial of these values cannot be trained, or why `active` would do nothing in it."""
    try:
        config = settle(space, base, flat.__getitem__)
    except ConfigError as error:
        return str(error)
    return untrainable(config, named=(active,))


def untrainable(config: TrainConfig, *, named: Collection[str] = ()) -> str:
    """Why no training takes a config, or why one of the fields `named` would do nothing in it; ""
    if one takes it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnflyableWarning)  # `dead_ends` reports it once
        try:
            resolve(config, named=named)
        except ConfigError as error:
            return str(error)
    return ""


def narrowed(range_: Range, fitting: Sequence[Any], *, keep: object) -> str:
    """The line of a study file that searches only the fitting values, `keep` among them."""
    distribution = range_.distribution
    if isinstance(distribution, CategoricalDistribution):
        return f"{{ choices = {listed(fitting)} }}"
    assert isinstance(distribution, IntDistribution)
    steps = {after - before for before, after in pairwise(fitting)}
    if len(steps) == 1 and not distribution.log and len(fitting) > 2:
        (step,) = steps
        return f"{{ low = {fitting[0]}, high = {fitting[-1]}, step = {step} }}"
    some = set(fitting[:: 1 + len(fitting) // MOST]) | ({keep} & set(fitting))
    return f"{{ choices = {listed(sorted(some))} }}"
