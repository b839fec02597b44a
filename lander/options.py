"""The options, and the config fields that act under each of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterable, Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import Any, Final

from lander.config import TrainConfig
from lander.dotted import configure, documented, flatten
from lander.errors import ConfigError, unknown


@dataclass(frozen=True, slots=True)
class Choice:
    """One word of a field."""

    meaning: str
    """Its meaning, for --help."""
    reads: frozenset[str] = frozenset()
    """Config fields that act only with the words whose `reads` names them."""
    critic: bool = False
    """For an advantage: it needs V; otherwise it needs whole episodes."""


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
            "categorical whose bins keep their order: output j counts for all levels from j up",
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
            "discounted rewards from this step on, minus a baseline (REINFORCE)",
            reads=frozenset({"ppo.gamma", "ppo.baseline"}),
        ),
        "total_return": Choice("all rewards of the episode, including those before the action"),
        "immediate": Choice("the reward of this step only"),
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
            "the same penalty, kl_coef adapts to kl_target",
            reads=frozenset({"ppo.kl_coef", "ppo.kl_target"}),
        ),
        "none": Choice("no limit: r A"),
    },
}
"""Fields whose values are words, and the meaning of each word.

The code behind the words needs torch: `lander.heads`, `lander.advantages` and `lander.surrogates`.
This table, which --help and the checks read, does not, so both are quick.
"""


@dataclass(frozen=True, slots=True)
class Condition:
    """`field` acts only where `owner` has one of `values`, or where `otherwise` holds."""

    field: str
    owner: str
    values: tuple[object, ...]
    otherwise: tuple[str, object] | None = None
    """Another field and its value, with which `field` acts under any value of the owner."""

    def holds(self, config: Mapping[str, Any], *, idle: Container[str] = ()) -> bool:
        """In a flat config in which the fields `idle` do nothing: an idle owner leaves its fields
        nothing to do. A head that is not decided yet rules nothing out."""
        if self.otherwise is not None and config[self.otherwise[0]] == self.otherwise[1]:
            return True
        value = config[self.owner]
        return self.owner not in idle and (value in self.values or value == "auto")

    @property
    def owners(self) -> tuple[str, ...]:
        """The fields that decide whether `field` acts."""
        return (self.owner,) if self.otherwise is None else (self.owner, self.otherwise[0])

    def __str__(self) -> str:
        words = ("true" if value is True else str(value) for value in self.values)
        return f"{self.owner} = {' or '.join(words).replace('None', 'none')}" + (
            "" if self.otherwise is None else " or {} = {}".format(*self.otherwise)
        )


def named_by(
    owner: str, *, otherwise: Mapping[str, tuple[str, object]] | None = None
) -> list[Condition]:
    """One condition per field that some words of `owner` name: it acts with these words only, or
    where `otherwise` holds."""
    choices = CHOICES[owner]
    fields = sorted(frozenset().union(*(choice.reads for choice in choices.values())))
    return [
        Condition(
            field,
            owner,
            tuple(word for word, choice in choices.items() if field in choice.reads),
            (otherwise or {}).get(field),
        )
        for field in fields
    ]


CONDITIONS: Final[list[Condition]] = [
    *named_by("policy.head"),
    # the running scale of rewards is that of the discounted return
    *named_by("ppo.advantage", otherwise={"ppo.gamma": ("env.reward_scale", "running")}),
    *named_by("ppo.surrogate"),
    Condition("policy.final_std", "policy.std", ("decayed",)),
    Condition("policy.trunk", "policy.critic", (True,)),
    Condition("ppo.value_coef", "policy.critic", (True,)),
    Condition("ppo.value_clip", "policy.critic", (True,)),
    Condition("ppo.critic_learning_rate", "policy.critic", (True,)),
    Condition("ppo.rollout_steps", "ppo.rollout_episodes", (None,)),
    Condition("env.obs_clip", "env.obs_norm", (True,)),
]


def inactive(config: Mapping[str, Any]) -> dict[str, Condition]:
    """The idle fields of a flat config, and for each the condition under which it would act."""
    idle: dict[str, Condition] = {}
    for condition in CONDITIONS:
        if not condition.holds(config, idle=idle):
            idle.setdefault(condition.field, condition)
    return idle


def owners_first(fields: Iterable[str]) -> list[str]:
    """Fields in an order in which each comes after those that decide whether it acts."""
    owners = {field: {c.owner for c in CONDITIONS if c.field == field} for field in fields}
    names = set(owners)
    return [name for name in TopologicalSorter(owners).static_order() if name in names]


def settle(fields: Iterable[str], base: TrainConfig, choose: Callable[[str], Any]) -> TrainConfig:
    """`base` with each of the fields as chosen, owners first; a field that is idle then keeps its
    default and is not asked for.

    >>> settle(["env.bins", "policy.head"], TrainConfig(), {"policy.head": "gaussian"}.__getitem__)
    ... # doctest: +ELLIPSIS
    TrainConfig(env=EnvConfig(...bins=None...), policy=PolicyConfig(head='gaussian'...
    """
    flat, unused = flatten(base), flatten(TrainConfig())
    for name in owners_first(fields):
        # not the base's value: an idle field off its default would be refused
        flat[name] = unused[name] if name in inactive(flat) else choose(name)
    return configure(flat, base=base)


def require_known(config: TrainConfig) -> None:
    """Refuse an unknown word.

    Raises:
        ConfigError: names the nearest word.
    """
    flat = flatten(config)
    for field in CHOICES:
        if flat[field] not in words_for(field):
            raise ConfigError(unknown(field, flat[field], words_for(field)))


def words_for(field: str) -> list[str]:
    """The words that a field of `CHOICES` takes."""
    return [*CHOICES[field], "auto"] if field == "policy.head" else [*CHOICES[field]]


def idle_fields(config: TrainConfig, *, named: Collection[str] = ()) -> frozenset[str]:
    """The fields that do nothing in a config: all of them at their defaults, none of them `named`
    by a person, who would expect them to act.

    Raises:
        ConfigError: an idle field off its default, or named; with the option that makes it act.
    """
    flat, defaults = flatten(config), flatten(TrainConfig())
    idle = inactive(flat)
    for field, condition in idle.items():
        if field in named or flat[field] != defaults[field]:
            raise ConfigError(
                f"{field} acts only with {condition}: leave it out, or change {condition.owner}"
            )
    return frozenset(idle)


def describe() -> dict[str, str]:
    """The help text of each dotted field: its docstring in `lander.config`, the meaning of its
    words, and the option under which it acts."""
    docs = documented()
    for field, choices in CHOICES.items():
        words = [f"{word}: {choice.meaning}" for word, choice in choices.items()]
        docs[field] += " " + "; ".join(words) + "."
    for condition in CONDITIONS:
        docs[condition.field] += f" Only with {condition}."
    return docs


SYMBOLS: Final = {
    "ppo.clip_range": "clip range \u03b5",
    "ppo.gae_lambda": "GAE \u03bb",
    "ppo.gamma": "discount \u03b3",
    "ppo.update_epochs": "update epochs K",
    "env.id": "environment",
}
"""Names of fields for people, where they are more than the field's own words."""


def human(field: str) -> str:
    """A field's name for people.

    >>> human("ppo.learning_rate"), human("ppo.clip_range")
    ('learning rate', 'clip range \u03b5')
    """
    return SYMBOLS.get(field, field.rpartition(".")[2].replace("_", " "))
