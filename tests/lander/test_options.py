"""Words, and what goes with what: nothing that a person sets is silently without effect."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import pytest

from lander.advantages import ADVANTAGES, BASELINES
from lander.config import TrainConfig
from lander.dotted import KWARGS, configure, documented, flatten
from lander.errors import ConfigError
from lander.heads import BOX_HEADS
from lander.options import (
    CHOICES,
    CONDITIONS,
    Condition,
    describe,
    idle_fields,
    inactive,
    owners_first,
)
from lander.resolve import UnflyableWarning, dead_zones, resolve
from lander.surrogates import SURROGATES

LANDER = "LunarLanderContinuous-v3"
NO_CRITIC = {"policy.critic": False, "ppo.rollout_episodes": 16}
DOMAINS: dict[str, list[Any]] = {
    "policy.std": ["learned", "fixed", "decayed"],
    "policy.critic": [True, False],
    "ppo.rollout_episodes": [None, 16],
    "env.obs_norm": [True, False],
    **{field: list(words) for field, words in CHOICES.items()},
}
OFF_DEFAULT = {
    "env.bins": 7,
    "env.obs_clip": 5.0,
    "policy.explore": 0.1,
    "policy.final_std": 0.2,
    "policy.init_std": 0.5,
    "policy.squash": True,
    "policy.std": "fixed",
    "policy.trunk": "shared",
    "ppo.baseline": "time",
    "ppo.clip_range": 0.1,
    "ppo.clip_range_schedule": "linear",
    "ppo.critic_learning_rate": 1e-3,
    "ppo.gae_lambda": 0.9,
    "ppo.gamma": 0.9,
    "ppo.kl_coef": 2.0,
    "ppo.kl_target": 0.02,
    "ppo.n_step": 3,
    "ppo.rollout_steps": 64,
    "ppo.value_clip": 0.2,
    "ppo.value_coef": 1.0,
}


def made(values: dict[str, Any]) -> TrainConfig:
    return configure(values, base=TrainConfig())


def refusal(values: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        resolve(made(values))
    message = str(caught.value)
    assert "\n" not in message
    return message


def with_owner(owner: str, value: Any) -> dict[str, Any]:
    """`owner` at `value`, with what that needs."""
    values = {owner: value}
    if owner.startswith("policy.") and owner != "policy.critic":
        values |= {"env.id": "Pendulum-v1"}
    if owner == "policy.head" and value != "gaussian":
        values |= {"env.bins": 5}
    if owner == "policy.critic" and not value:
        values |= NO_CRITIC | {"ppo.advantage": "reward_to_go"}
    if owner == "ppo.advantage" and value not in {"gae", "n_step"}:
        values |= NO_CRITIC
    return values


@pytest.mark.parametrize(
    ("field", "implemented"),
    [
        ("policy.head", BOX_HEADS),
        ("ppo.advantage", ADVANTAGES),
        ("ppo.baseline", BASELINES),
        ("ppo.surrogate", SURROGATES),
    ],
)
def test_every_word_is_implemented_and_every_implementation_has_its_word(
    field: str, implemented: Mapping[str, object]
) -> None:
    assert set(CHOICES[field]) == set(implemented)


def test_no_other_field_has_words_without_an_implementation() -> None:
    assert set(CHOICES) == {"policy.head", "ppo.advantage", "ppo.baseline", "ppo.surrogate"}


@pytest.mark.parametrize("field", CHOICES)
def test_every_word_is_described_by_its_sentence(field: str) -> None:
    doc = describe()[field]
    for word, choice in CHOICES[field].items():
        assert choice.meaning, word
        assert not choice.meaning.endswith("."), word
        assert f" {word}: {choice.meaning}" in doc


def test_only_words_of_an_advantage_need_a_critic() -> None:
    needy = [word for words in CHOICES.values() for word, choice in words.items() if choice.critic]
    assert needy == ["gae", "n_step"]


def test_words_and_the_condition_follow_the_docstring_of_a_field() -> None:
    assert describe()["ppo.baseline"] == (
        "The baseline b that reward_to_go subtracts. none: b = 0; mean: b = mean of G over the "
        "rollout; time: b_t = mean of G over the episodes of the rollout at their step t "
        "(arXiv:1506.02438, 6.1). Only with ppo.advantage = reward_to_go."
    )


def test_every_field_is_described_in_one_line() -> None:
    docs = describe()
    assert [name for name in docs if name != KWARGS] == list(flatten(TrainConfig()))
    assert KWARGS in docs
    assert all(documented().values())
    assert all(doc.endswith(".") and "\n" not in doc for doc in docs.values())


@pytest.mark.parametrize(
    ("field", "wrong", "nearest"),
    [
        ("policy.head", "gausian", "gaussian"),
        ("policy.head", "ordnal", "ordinal"),
        ("ppo.advantage", "gea", "gae"),
        ("ppo.advantage", "reward-to-go", "reward_to_go"),
        ("ppo.surrogate", "clipped", "clip"),
        ("ppo.surrogate", "kl-adaptive", "kl_adaptive"),
        ("ppo.baseline", "meen", "mean"),
    ],
)
def test_an_unknown_word_names_the_nearest(field: str, wrong: str, nearest: str) -> None:
    assert refusal({field: wrong}) == f'unknown {field} "{wrong}": did you mean {nearest}?'


@pytest.mark.parametrize("field", CHOICES)
def test_a_word_near_nothing_lists_them_all(field: str) -> None:
    words = sorted([*CHOICES[field], *(["auto"] if field == "policy.head" else [])])
    assert refusal({field: "zzzz"}) == f'unknown {field} "zzzz": known: {", ".join(words)}'


def test_these_fields_act_under_a_condition_only() -> None:
    assert {condition.field for condition in CONDITIONS} == set(OFF_DEFAULT)
    assert all(flatten(TrainConfig())[field] != value for field, value in OFF_DEFAULT.items())


@pytest.mark.parametrize("condition", CONDITIONS, ids=lambda c: f"{c.field}-{c.owner}")
def test_a_field_is_taken_where_it_acts_and_refused_where_it_does_not(condition: Condition) -> None:
    field, owner = condition.field, condition.owner
    domain = DOMAINS[owner]
    assert 0 < len(condition.values) < len(domain)
    assert set(condition.values) <= set(domain)
    for value in domain:
        values = with_owner(owner, value) | {field: OFF_DEFAULT[field]}
        if value in condition.values:
            assert field not in inactive(flatten(resolve(made(values)).config))
        else:
            assert refusal(values) == (
                f"{field} acts only with {condition}: leave it out, or change {owner}"
            )


@pytest.mark.parametrize(
    ("field", "owner", "words"),
    [
        ("env.bins", "policy.head", ("categorical", "ordinal", "joint")),
        ("policy.explore", "policy.head", ("categorical", "ordinal", "joint")),
        ("policy.std", "policy.head", ("gaussian",)),
        ("ppo.kl_coef", "ppo.surrogate", ("kl_fixed", "kl_adaptive")),
        ("ppo.clip_range", "ppo.surrogate", ("clip",)),
    ],
)
def test_a_field_acts_with_the_words_that_read_it(
    field: str, owner: str, words: tuple[str, ...]
) -> None:
    assert Condition(field, owner, words) in CONDITIONS


def test_gamma_acts_where_only_the_running_scale_discounts() -> None:
    [condition] = [condition for condition in CONDITIONS if condition.field == "ppo.gamma"]
    assert str(condition) == (
        "ppo.advantage = gae or n_step or reward_to_go or env.reward_scale = running"
    )
    immediate = flatten(TrainConfig()) | {"ppo.advantage": "immediate"}
    assert inactive(immediate)["ppo.gamma"] == condition
    assert "ppo.gamma" not in inactive(immediate | {"env.reward_scale": "running"})


def test_a_condition_reads_as_its_owner_and_values() -> None:
    assert str(Condition("a", "policy.critic", (True,))) == "policy.critic = true"
    assert str(Condition("a", "ppo.rollout_episodes", (None,))) == "ppo.rollout_episodes = none"
    assert str(Condition("a", "policy.head", ("x", "y"))) == "policy.head = x or y"


def test_on_discrete_actions_the_fields_of_a_gaussian_are_refused() -> None:
    message = refusal({"policy.init_std": 0.5})
    assert message.startswith("policy.init_std acts only with policy.head = gaussian: ")
    idle_fields(made({"policy.init_std": 0.5}))  # the environment may yet be a Box


def test_a_field_given_at_its_default_is_refused_all_the_same() -> None:
    config = made(with_owner("policy.critic", False))
    assert "ppo.gae_lambda" in idle_fields(config)
    assert "ppo.gae_lambda" in idle_fields(config, named={"ppo.gamma", "policy.critic"})
    for refuse in (idle_fields, resolve):
        with pytest.raises(
            ConfigError, match=r"\Appo\.gae_lambda acts only with ppo\.advantage = "
        ):
            refuse(config, named={"ppo.gae_lambda"})


def test_a_config_is_resolved_together_with_its_idle_fields() -> None:
    resolved = resolve(TrainConfig())
    assert resolved.config.policy.head == "categorical"
    assert resolved.idle == inactive(flatten(resolved.config)).keys()
    assert {"policy.squash", "ppo.kl_coef"} < resolved.idle
    assert "ppo.clip_range" not in resolved.idle


def test_a_field_of_an_owner_that_does_nothing_does_nothing() -> None:
    flat = flatten(made({"policy.std": "decayed"}))
    final_std = Condition("policy.final_std", "policy.std", ("decayed",))
    assert "policy.final_std" not in inactive(flat | {"policy.head": "gaussian"})
    assert "policy.final_std" not in inactive(flat | {"policy.head": "auto"})
    assert inactive(flat | {"policy.head": "categorical"})["policy.final_std"] == final_std


def test_everything_that_does_nothing_by_default() -> None:
    discrete = flatten(resolve(TrainConfig()).config)
    assert sorted(inactive(discrete)) == [
        "env.obs_clip",
        "policy.final_std",
        "policy.init_std",
        "policy.squash",
        "policy.std",
        "ppo.baseline",
        "ppo.kl_coef",
        "ppo.kl_target",
        "ppo.n_step",
    ]


def test_owners_come_before_the_fields_that_hang_on_them() -> None:
    fields = list(flatten(TrainConfig()))
    for names in (fields, fields[::-1]):
        ordered = owners_first(names)
        assert sorted(ordered) == sorted(names)
        for condition in CONDITIONS:
            for owner in condition.owners:
                assert ordered.index(owner) < ordered.index(condition.field)
    assert owners_first(["policy.final_std", "policy.head", "policy.std"]) == [
        "policy.head",
        "policy.std",
        "policy.final_std",
    ]
    assert owners_first(["ppo.gamma"]) == ["ppo.gamma"]


PLAIN = NO_CRITIC | {"ppo.advantage": "reward_to_go"}


@pytest.mark.parametrize(
    ("values", "message", "remedy"),
    [
        (
            NO_CRITIC,
            "ppo.advantage = gae needs a critic: with policy.critic = false take reward_to_go, "
            "total_return, immediate",
            {"ppo.advantage": "immediate"},
        ),
        (
            NO_CRITIC | {"ppo.advantage": "n_step"},
            "ppo.advantage = n_step needs a critic: ",
            {"policy.critic": True},
        ),
        (
            {"ppo.advantage": "total_return"},
            "ppo.advantage = total_return makes no use of a critic: set policy.critic = false",
            NO_CRITIC,
        ),
        (
            PLAIN | {"ppo.rollout_episodes": None},
            "policy.critic = false needs whole episodes, ",
            {"ppo.rollout_episodes": 16},
        ),
        (
            PLAIN | {"ppo.baseline": "mean"},
            "ppo.baseline = mean is undone by ppo.advantage_norm = minibatch, ",
            {"ppo.advantage_norm": "none"},
        ),
        (
            PLAIN | {"ppo.baseline": "mean", "ppo.advantage_norm": "batch"},
            "ppo.baseline = mean is undone by ppo.advantage_norm = batch, ",
            {"ppo.baseline": "time"},
        ),
        (
            {"env.id": "Pendulum-v1", "policy.std": "fixed", "ppo.entropy_coef": 0.01},
            "ppo.entropy_coef does nothing with policy.std = fixed, ",
            {"policy.squash": True},
        ),
        (
            {"env.id": "Pendulum-v1", "policy.std": "decayed", "ppo.entropy_coef": 0.0},
            "ppo.entropy_coef does nothing with policy.std = decayed, ",
            {"policy.std": "learned"},
        ),
    ],
)
def test_what_cannot_do_what_it_says_is_refused_with_a_way_out(
    values: dict[str, Any], message: str, remedy: dict[str, Any]
) -> None:
    assert refusal(values).startswith(message)
    resolve(made(values | remedy))


def test_what_is_refused_names_the_number_of_episodes_to_take() -> None:
    message = refusal({"policy.critic": False, "ppo.advantage": "immediate", "env.num_envs": 8})
    assert message.endswith("set ppo.rollout_episodes, for example 8")


@pytest.mark.parametrize("head", ["categorical", "ordinal", "joint"])
def test_two_bins_can_never_stop_the_side_engines(head: str) -> None:
    config = made({"env.id": LANDER, "env.bins": 2, "policy.head": head})
    with pytest.warns(UnflyableWarning) as caught:
        resolve(config)
    assert [str(warning.message) for warning in caught] == [
        "env.bins = 2: the side engines can never stop"
    ]


def test_three_to_eleven_bins_can_do_everything() -> None:
    for bins in range(3, 12):
        assert dead_zones(resolve(made({"env.id": LANDER, "env.bins": bins})).config) == []


def test_a_narrow_gaussian_hardly_ever_fires_the_side_engines() -> None:
    """P(|a| > 0.5) under N(0, 0.135) is 0.0002, under N(0, 0.3) 0.1."""
    with pytest.warns(UnflyableWarning, match=r"\Apolicy\.init_std = 0\.135: .* in 0\.0002 of"):
        resolve(made({"env.id": LANDER, "policy.init_std": 0.135}))
    for std in (0.2, 0.3, 1.0):
        assert dead_zones(resolve(made({"env.id": LANDER, "policy.init_std": std})).config) == []


@pytest.mark.parametrize(
    "values",
    [
        {"env.id": "Pendulum-v1", "env.bins": 2},
        {"env.id": "Pendulum-v1", "policy.init_std": 0.01},
        {"env.id": "BipedalWalker-v3", "env.bins": 2},
        {"env.id": "BipedalWalker-v3", "policy.init_std": 0.01},
        {"env.id": "LunarLander-v3"},
        {"env.id": "CartPole-v1"},
    ],
)
def test_other_environments_have_no_dead_zones(values: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert dead_zones(resolve(made(values)).config) == []


def test_gamma_acts_in_the_running_reward_scale_whatever_the_advantage() -> None:
    values = NO_CRITIC | {"ppo.advantage": "immediate", "ppo.gamma": 0.9}
    assert "ppo.gamma acts only with" in refusal(values)
    running = made(values | {"env.reward_scale": "running"})
    assert resolve(running).config.ppo.gamma == 0.9


@pytest.mark.filterwarnings("ignore::lander.resolve.UnflyableWarning")
def test_a_squashed_gaussian_needs_more_to_fire_the_side_engines() -> None:
    # P(|u| > 0.5) = 0.0124 at std 0.2, P(|u| > atanh 0.5 = 0.549) = 0.0060
    plain = {"env.id": LANDER, "policy.head": "gaussian", "policy.init_std": 0.2}
    assert dead_zones(made(plain)) == []
    (trouble,) = dead_zones(made(plain | {"policy.squash": True}))
    assert "0.006" in trouble
