"""Which options there are, and which config fields act under which of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import Any, Final

from lander.config import TrainConfig
from lander.dotted import documented, flatten
from lander.errors import ConfigError, unknown


@dataclass(frozen=True, slots=True)
class Choice:
    """One word of a field, and what comes with it."""

    says: str
    """What it means, for --help."""
    reads: frozenset[str] = frozenset()
    """Config fields that act only with words that name them here."""
    critic: bool = False
    """Of an advantage: needs V; without it, needs whole episodes."""


CHOICES: Final[dict[str, dict[str, Choice]]] = {
    "policy.head": {
        "gaussian": Choice(
            "an independent normal per dimension, in units of half its range around the middle; "
            "around 0 in the environment's own unit where a dimension has no range",
            reads=frozenset({"policy.std", "policy.init_std", "policy.squash"}),
        ),
        "categorical": Choice(
            "an independent categorical over the bins of each dimension, A * bins outputs",
            reads=frozenset({"env.bins", "policy.explore"}),
        ),
        "ordinal": Choice(
            "categorical whose bins keep their order: output j speaks for all levels from j up",
            reads=frozenset({"env.bins", "policy.explore"}),
        ),
        "joint": Choice(
            "one categorical over all combinations of bins, bins ** A outputs: dimensions may "
            "depend",
            reads=frozenset({"env.bins", "policy.explore"}),
        ),
    },
    "ppo.advantage": {
        "gae": Choice(
            "generalised advantage estimation",
            reads=frozenset({"ppo.gamma", "ppo.gae_lambda"}),
            critic=True,
        ),
        "n_step": Choice(
            "n rewards, then V, minus V",
            reads=frozenset({"ppo.gamma", "ppo.n_step"}),
            critic=True,
        ),
        "reward_to_go": Choice(
            "discounted rewards from here on, minus a baseline (REINFORCE)",
            reads=frozenset({"ppo.gamma", "ppo.baseline"}),
        ),
        "total_return": Choice("all rewards of the episode, those before the action too"),
        "immediate": Choice("this step's reward alone, blind to consequences"),
    },
    "ppo.baseline": {
        "none": Choice("b = 0"),
        "mean": Choice("b = mean of G over the rollout"),
        "time": Choice(
            "b_t = mean of G over the episodes of the rollout at their step t "
            "(arXiv:1506.02438, 6.1)"
        ),
    },
    "ppo.surrogate": {
        "clip": Choice(
            "the ratio new / old gains nothing outside 1 +- clip_range",
            reads=frozenset({"ppo.clip_range", "ppo.clip_range_schedule"}),
        ),
        "kl_fixed": Choice(
            "a penalty of kl_coef times the KL divergence", reads=frozenset({"ppo.kl_coef"})
        ),
        "kl_adaptive": Choice(
            "the same, kl_coef follows kl_target",
            reads=frozenset({"ppo.kl_coef", "ppo.kl_target"}),
        ),
        "none": Choice("nothing: r A as it is"),
    },
}
"""Fields whose values are words, and what each word means.

What the words do stands where torch is: in `lander.heads`, `lander.advantages` and
`lander.surrogates`. Here is all that --help and the checks need, and no torch, so both are quick.
"""


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


def named_by(owner: str) -> list[Condition]:
    """A field that some words of `owner` name acts with these only."""
    choices = CHOICES[owner]
    fields = sorted(frozenset().union(*(choice.reads for choice in choices.values())))
    return [
        Condition(
            field, owner, tuple(word for word, choice in choices.items() if field in choice.reads)
        )
        for field in fields
    ]


CONDITIONS: Final[list[Condition]] = [
    *named_by("policy.head"),
    *named_by("ppo.advantage"),
    *named_by("ppo.surrogate"),
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
    """Refuse a word that stands for nothing.

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
        words = [f"{word}: {choice.says}" for word, choice in choices.items()]
        docs[field] += " " + "; ".join(words) + "."
    for condition in CONDITIONS:
        docs[condition.field] += f" Only with {condition}."
    return docs
