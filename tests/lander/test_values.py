"""Values of config fields: "none", types, sizes, and records that say all of them."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from typing import Any

import pytest

from lander.__main__ import parse
from lander.config import TrainConfig
from lander.dotted import (
    as_read_before,
    configure,
    documented,
    flatten,
    from_toml,
    kinds_of,
    to_toml,
    typed,
)
from lander.errors import ConfigError
from lander.explain import shown
from lander.options import CHOICES
from lander.terminal import program
from sweeps.study.study import read_study
from tests.lander.conftest import refused
from tests.studies import study_text

OPTIONAL = sorted(name for name in documented() if type(None) in kinds_of(name))
LANDER = program("lander")
NONE_IS_A_WORD = ["ppo.advantage_norm", "ppo.baseline", "ppo.surrogate"]


def refusal(values: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        configure(values, base=TrainConfig())
    assert "\n" not in str(caught.value)
    return str(caught.value)


def given(argv: str) -> dict[str, object]:
    """Fields that a command line names."""
    return dict(parse(argv.split()).given)


@pytest.mark.parametrize("field", NONE_IS_A_WORD)
def test_none_is_a_word_where_the_field_has_that_word(field: str) -> None:
    assert given(f"--{field} none") == {field: "none"}
    assert configure({field: "none"}, base=TrainConfig()) == from_toml(
        f'{field} = "none"', source="file"
    )
    assert flatten(configure({field: "none"}, base=TrainConfig()))[field] == "none"


@pytest.mark.parametrize("field", OPTIONAL)
def test_none_is_null_on_the_command_line_in_toml_and_in_a_study(field: str) -> None:
    number = 16 if int in kinds_of(field) else 0.5
    base = configure({field: number}, base=TrainConfig())
    assert flatten(base)[field] == number
    assert given(f"--{field} None") == {field: None}
    assert flatten(configure({field: "none"}, base=base))[field] is None
    assert flatten(from_toml(f'{field} = "none"', source="file"))[field] is None
    space = '"ppo.gamma" = { low = 0.9, high = 1.0 }'
    text = study_text("x", base=f'"{field}" = "none"', space=space)
    assert flatten(read_study(text, source="x.toml").base)[field] is None


def test_none_is_refused_where_a_field_always_has_a_value() -> None:
    assert "ppo.n_step: " in refusal({"ppo.n_step": "none"})
    with pytest.raises(ConfigError, match=r"^ppo\.n_step: "):
        parse(["--ppo.n-step", "none"])


def test_every_field_that_can_be_null_and_every_word_none_is_tested_here() -> None:
    assert [
        *("env.bins", "env.time_limit", "ppo.critic_learning_rate", "ppo.kl_stop"),
        *("ppo.rollout_episodes", "ppo.value_clip"),
    ] == OPTIONAL
    words = {field for field, choices in CHOICES.items() if "none" in choices}
    assert words <= set(NONE_IS_A_WORD)


def test_a_written_config_names_every_field_against_later_defaults() -> None:
    document = tomllib.loads(to_toml(TrainConfig()))
    names = {
        f"{table}.{name}" if isinstance(fields, dict) else table
        for table, fields in document.items()
        for name in (fields if isinstance(fields, dict) else [table])
    }
    assert names == set(flatten(TrainConfig()))
    assert document["env"]["bins"] == "none"
    later = configure({"env.bins": 5, "ppo.kl_stop": 0.1}, base=TrainConfig())
    assert configure(flatten(from_toml(to_toml(TrainConfig()), source="x")), base=later) == (
        TrainConfig()
    )


def test_a_record_of_an_earlier_version_without_its_nulls_still_reads() -> None:
    config = replace(TrainConfig(), seed=7)
    lines = [line for line in to_toml(config).splitlines() if '"none"' not in line]
    assert len(lines) == len(to_toml(config).splitlines()) - len(OPTIONAL) - 1  # ppo.baseline
    assert from_toml("\n".join(lines), source="config.toml") == config


@pytest.mark.parametrize("value", ["64", True, 1.0, 64.5, None, [64], 10**12])
@pytest.mark.parametrize(
    "field",
    sorted(
        name
        for name in documented()
        if int in kinds_of(name) and name not in {"seed", "total_steps"}
    ),
)
def test_a_whole_number_is_a_whole_number_of_a_bounded_size(field: str, value: object) -> None:
    if value is None and field in OPTIONAL:
        return
    assert refusal({field: value}).startswith(f"{field}: input should be ")


@pytest.mark.parametrize("value", ["0.5", True, [0.5], {"low": 1}, 10**400])
@pytest.mark.parametrize("field", sorted(name for name in documented() if float in kinds_of(name)))
def test_a_number_is_a_number(field: str, value: object) -> None:
    assert refusal({field: value}).startswith(f"{field}")


@pytest.mark.parametrize("value", ["true", 1, 0.0, "no", "none"])
@pytest.mark.parametrize("field", sorted(name for name in documented() if kinds_of(name) == {bool}))
def test_a_flag_is_true_or_false(field: str, value: object) -> None:
    assert refusal({field: value}).startswith(f"{field}: input should be a valid boolean, got ")


@pytest.mark.parametrize("value", [["64"], [64.0], [True], [64, 10**9], 64, "64", [8] * 65, [[8]]])
def test_layers_are_a_list_of_whole_numbers_of_a_bounded_size(value: object) -> None:
    assert refusal({"policy.hidden_sizes": value}).startswith("policy.hidden_sizes")


def test_a_refused_size_names_its_bound() -> None:
    assert refusal({"env.num_envs": 10**12}) == (
        "env.num_envs: input should be less than or equal to 65536, got 1000000000000"
    )
    assert "at most 16777216 steps: got 65536000" in refusal(
        {"env.num_envs": 65_536, "ppo.rollout_steps": 1000, "total_steps": 10**9}
    )
    assert "at most 100000000 weights between its layers, got 400000000" in refusal(
        {"policy.hidden_sizes": [20_000, 20_000]}
    )


def test_a_whole_number_with_an_exponent_is_refused_with_its_spelling() -> None:
    assert refusal({"total_steps": 1e6}) == (
        "total_steps: input should be a valid integer, got 1000000.0: write 1000000"
    )
    assert refusal({"total_steps": 1e300}) == (
        "total_steps: input should be a valid integer, got 1e+300"
    )


@pytest.mark.parametrize(
    "text", [f"seed = {'9' * 5000}", f"seed = 0x{'f' * 9000}", "x = " + "[" * 9999]
)
def test_numbers_and_nests_that_python_cannot_read_are_one_line(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_toml(text, source="some.toml")
    assert str(caught.value).startswith("some.toml: ")
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        ("env.num_envs", "64", 64),
        ("env.bins", "7", 7),
        ("env.reward_scale", "1e-2", 0.01),
        ("env.reward_scale", "running", "running"),
        ("ppo.gamma", "1", 1.0),
        ("policy.critic", "false", False),
        ("policy.hidden_sizes", "64,32", (64, 32)),
        ("policy.head", "joint", "joint"),
        ("env.id", "none", "none"),
        ("ppo.kl_stop", "none", None),
    ],
)
def test_a_command_line_holds_texts_that_become_values(
    field: str, text: str, value: object
) -> None:
    parsed = typed(field, text)
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(("name", "value"), sorted(flatten(TrainConfig()).items()))
def test_an_option_is_spelled_as_its_field_or_with_hyphens(name: str, value: object) -> None:
    for spelled in (name, name.replace("_", "-")):
        for argv in ([f"--{spelled}", shown(value)], [f"--{spelled}={shown(value)}"]):
            assert parse(argv).given == {name: value}


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            ["--ppo.clip_rang", "1"],
            'unknown option "--ppo.clip_rang": did you mean --ppo.clip-range?',
        ),
        (["--clip-range=1"], 'unknown option "--clip-range": did you mean --ppo.clip-range?'),
        (["--zzz"], f'unknown option "--zzz": see {LANDER} --help'),
        (["stray"], 'unknown command "stray": known: completion, fly, help, random, resume'),
        (["--seed", "1", "y"], f'unknown argument "y": see {LANDER} --help'),
        (["fly", "x", "--episods", "3"], 'unknown option "--episods": did you mean --episodes?'),
        (["fly", "x", "y"], f'unknown argument "y": see {LANDER} fly --help'),
    ],
)
def test_an_unknown_option_names_the_nearest_one(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refused(argv, capsys) == f"lander: {message}\n"


@pytest.mark.parametrize(
    ("argv", "bound"),
    [
        (["fly", "x", "--episodes"], 100_000),
        (["fly", "x", "--seed"], 2**63 - 1),
        (["fly", "x", "--checkpoint"], 10**12),
        (["random", "--episodes"], 100_000),
    ],
)
def test_a_number_of_an_argument_is_bounded_however_many_digits_it_has(
    argv: list[str], bound: int, capsys: pytest.CaptureFixture[str]
) -> None:
    parse([*argv, str(bound)])
    parse([*argv, "0" * 5000 + "7"])
    for text in (str(bound + 1), "9" * 5000):
        assert refused([*argv, text], capsys).endswith(
            f"must be at most {bound:,}, got {text[:40]}\n"
        )
    assert "must be a whole number from " in refused([*argv, "1e3"], capsys)


def test_what_a_version_recorded_that_was_not_strict_is_read_as_it_was() -> None:
    recorded = {
        "total_steps": 8192.0,
        "env.num_envs": "8",
        "ppo.update_epochs": True,
        "ppo.gamma": "0.9",
        "ppo.clip_range": 1,
        "env.obs_norm": 1,
        "policy.squash": "false",
        "env.bins": "none",
        "env.reward_scale": "running",
        "policy.hidden_sizes": [8],
        "nonsense": 1.0,
    }
    read = as_read_before(recorded)
    assert read == {
        "total_steps": 8192,
        "env.num_envs": 8,
        "ppo.update_epochs": 1,
        "ppo.gamma": 0.9,
        "ppo.clip_range": 1.0,
        "env.obs_norm": True,
        "policy.squash": False,
        "env.bins": "none",
        "env.reward_scale": "running",
        "policy.hidden_sizes": [8],
        "nonsense": 1.0,
    }
    del read["nonsense"]
    assert (
        flatten(configure(read, base=TrainConfig())).items()
        >= {
            "total_steps": 8192,
            "ppo.update_epochs": 1,
            "env.obs_norm": True,
            "env.bins": None,
        }.items()
    )
    with pytest.raises(ConfigError, match=r"^env\.num_envs: .*got 8\.5$"):
        configure(as_read_before({"env.num_envs": 8.5}), base=TrainConfig())
