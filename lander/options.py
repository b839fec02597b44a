"""Which options there are, and which config fields act under which of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import Any, Final

from lander.advantages import ADVANTAGES, BASELINES
from lander.config import TrainConfig
from lander.fields import ConfigError, documented, flatten, unknown
from lander.heads import BOX_HEADS
from lander.surrogates import SURROGATES

CHOICES: Final[dict[str, dict[str, str]]] = {
    "policy.head": {name: head.__doc__ or "" for name, head in BOX_HEADS.items()},
    "ppo.advantage": {name: advantage.says for name, advantage in ADVANTAGES.items()},
    "ppo.baseline": {name: function.__doc__ or "" for name, function in BASELINES.items()},
    "ppo.surrogate": {name: surrogate.says for name, surrogate in SURROGATES.items()},
}
"""Fields whose values are the names of a table, and what each of them means."""


@dataclass(frozen=True, slots=True)
class Condition:
    """`field` acts only where `owner` has one of `values`."""

    field: str
    owner: str
    values: tuple[object, ...]

    def holds(self, config: Mapping[str, Any]) -> bool:
        """In a flat config. A head that is not decided yet rules nothing out."""
        value = config[self.owner]
        return value in self.values or value == "auto"

    def __str__(self) -> str:
        words = ("true" if value is True else str(value) for value in self.values)
        return f"{self.owner} = {' or '.join(words).replace('None', 'none')}"


def named_by(owner: str, table: Mapping[str, frozenset[str]]) -> list[Condition]:
    """A field that some options of a table name acts with these only."""
    fields = sorted(frozenset().union(*table.values()))
    return [
        Condition(field, owner, tuple(name for name, reads in table.items() if field in reads))
        for field in fields
    ]


CONDITIONS: Final[list[Condition]] = [
    *named_by("policy.head", {name: head.reads for name, head in BOX_HEADS.items()}),
    *named_by("ppo.advantage", {name: a.reads for name, a in ADVANTAGES.items()}),
    *named_by("ppo.surrogate", {name: s.reads for name, s in SURROGATES.items()}),
    Condition("policy.final_std", "policy.std", ("decayed",)),
    Condition("policy.trunk", "policy.critic", (True,)),
    Condition("ppo.value_coef", "policy.critic", (True,)),
    Condition("ppo.value_clip", "policy.critic", (True,)),
    Condition("ppo.critic_learning_rate", "policy.critic", (True,)),
    Condition("ppo.rollout_steps", "ppo.rollout_episodes", (None,)),
    Condition("env.obs_clip", "env.obs_norm", (True,)),
]


ACTS_ALSO: Final = {"ppo.gamma": ("env.reward_scale", "running")}
"""A field that acts where another one has this value, whatever its conditions say."""


def inactive(config: Mapping[str, Any]) -> dict[str, Condition]:
    """Fields of a flat config that do nothing in it, and the condition that would change that."""
    found: dict[str, Condition] = {}
    for condition in CONDITIONS:
        other, value = ACTS_ALSO.get(condition.field, (condition.field, None))
        if value is not None and config[other] == value:
            continue
        # an owner that does nothing itself leaves its fields nothing to do
        if not condition.holds(config) or condition.owner in found:
            found.setdefault(condition.field, condition)
    return found


def owners_first(fields: Iterable[str]) -> list[str]:
    """Fields in an order in which each comes after those that decide whether it acts."""
    owners = {field: {c.owner for c in CONDITIONS if c.field == field} for field in fields}
    known = set(owners)
    return [name for name in TopologicalSorter(owners).static_order() if name in known]


def require_known(config: TrainConfig) -> None:
    """Refuse a word that its table does not hold.

    Raises:
        ConfigError: with the nearest word.
    """
    flat = flatten(config)
    for field, choices in CHOICES.items():
        words = [*choices, "auto"] if field == "policy.head" else list(choices)
        if flat[field] not in words:
            raise ConfigError(unknown(field, flat[field], words))


def require_active(config: TrainConfig, given: Mapping[str, Any] | None = None) -> None:
    """Refuse what would silently do nothing: fields `given`, or else those off their default.

    Raises:
        ConfigError: with the option under which the field would act.
    """
    flat, defaults = flatten(config), flatten(TrainConfig())
    for field, condition in inactive(flat).items():
        if field in given if given is not None else flat[field] != defaults[field]:
            raise ConfigError(
                f"{field} acts only with {condition}: leave it out, or change {condition.owner}"
            )


def describe() -> dict[str, str]:
    """What each dotted field is for: its docstring in `lander.config`, what its words mean, and
    under which option it acts."""
    docs = documented()
    for field, choices in CHOICES.items():
        words = [f"{name}: {first_sentence(doc)}" for name, doc in choices.items()]
        docs[field] += " " + "; ".join(words) + "."
    for condition in CONDITIONS:
        docs[condition.field] += f" Only with {condition}."
    return docs


def first_sentence(doc: str) -> str:
    """Of a docstring, without its full stop."""
    return " ".join(doc.split("\n\n")[0].split()).removesuffix(".")
