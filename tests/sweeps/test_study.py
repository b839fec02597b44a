"""Study files: what is accepted, and the one line that a wrong one gets."""

from __future__ import annotations

from pathlib import Path

import pytest

from lander.errors import ConfigError
from sweeps.study.study import find_study, read_study, shipped_studies
from tests.studies import MINI, changed

SIX = [
    "ppo.learning_rate",
    "ppo.update_epochs",
    "ppo.clip_range",
    "ppo.gae_lambda",
    "env.reward_scale",
    "env.bins",
]


def test_the_shipped_studies_are_valid_and_bear_their_file_names() -> None:
    assert shipped_studies() == [
        "aa",
        "ancestors",
        "candidates",
        "discrete",
        "epochs",
        "gaussian",
        "heads",
        "ladder",
        "lander",
        "landscape",
        "landscape-near",
        "smoke",
        "tuned",
        "winners",
    ]
    assert [find_study(name).name for name in shipped_studies()] == shipped_studies()


def test_the_default_study_searches_the_six_parameters() -> None:
    assert list(find_study("lander").space) == SIX
    assert find_study("lander").base.policy.head == "categorical"


def test_a_study_is_found_by_its_path(mini_file: Path) -> None:
    assert find_study(str(mini_file)).name == "mini"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"mini"', '"../mini"', "[study] name: must be of letters, digits"),
        ("trials = 6", "trials = 0", "[study] trials: input should be greater than or equal to 1"),
        ("trials = 6", 'sampler = "tpa"', "or 'grid', got 'tpa': did you mean tpe?"),
        ("seed = 3", "sead = 3", '[study] unknown key "sead": did you mean seed?'),
        ("[space]", "[spaze]", 'unknown table "spaze": did you mean space?'),
        ('"ppo.clip_range"    =', '"ppo.clip_rang" =', "did you mean ppo.clip_range?"),
        ("checkpoints = 2", "checkpoint = 2", "did you mean checkpoints?"),
        ("checkpoints = 2", "checkpoints = 9", "checkpoints must not exceed the number of updates"),
        ("checkpoints = 2", "checkpoints = 2\nseed = 2", "training seeds derive from [study] seed"),
        (
            "checkpoints = 2",
            'checkpoints = 2\n"ppo.gamma" = nan',
            "ppo.gamma: input should be a finite number",
        ),
        (
            '"ppo.minibatch_size" = 256',
            '"ppo.minibatch_size" = 100',
            "100 does not divide 256",
        ),
        ("LunarLanderContinuous-v3", "MarsLander-v3", 'cannot make "MarsLander-v3"'),
        ("LunarLanderContinuous-v3", "LunarLander-v3", "env.bins cuts a Box action space"),
        ("low = 2, high = 12", "low = 12, high = 2", "low must be below high"),
        ("low = 2, high = 12", "low = 2.5, high = 12", "low must be a whole number, got 2.5"),
        ("low = 2, high = 12", "low = 0, high = 12", "ppo.update_epochs: input should be greater"),
        (
            "low = 2, high = 12",
            "low = 11, high = 12",
            "default 10 (trial 0) lies outside the range",
        ),
        ("low = 2, high = 12", "low = 2, hihg = 12", 'unknown key "hihg": did you mean high?'),
        ("low = 2, high = 12", "low = 2, high = 12, step = 3", "step must divide high - low = 10"),
        ("low = 0.05", "low = -inf", "low must be a finite number, got -inf"),
        ("low = 0.05", "low = nan", "low must be a finite number, got nan"),
        ("low = 0.05", 'low = "a"', "low must be a finite number, got 'a'"),
        ("low = 1e-3", "low = 0", "log needs low > 0"),
        ("high = 0.999", "high = 1.0", "needs high < 1"),
        ("[3, 5, 7]", "[1, 5, 7]", "env.bins: input should be greater than or equal to 2"),
        ("[3, 5, 7]", "[3, 5]", "default 7 (trial 0) lies outside"),
        ("[3, 5, 7]", "[7, 7]", "choices must differ"),
        ("[3, 5, 7]", "[]", "choices must be a list of values"),
        ("[space]", "[space", "not a TOML file"),
    ],
)
def test_a_wrong_study_file_gets_one_line_that_says_what_would_be_right(
    old: str, new: str, message: str
) -> None:
    assert old in MINI
    with pytest.raises(ConfigError) as error:
        read_study(changed(MINI, {old: new}), source="mini.toml")
    assert str(error.value).startswith("mini.toml: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_grid_needs_values_that_can_be_counted() -> None:
    text = changed(MINI, {"seed = 3": 'sampler = "grid"'})
    with pytest.raises(ConfigError, match="sampler grid needs choices"):
        read_study(text, source="mini.toml")


def test_the_fingerprint_ignores_the_budget_and_sees_the_space() -> None:
    study = read_study(MINI, source="a")
    longer = read_study(changed(MINI, {"trials = 6": "trials = 60"}), source="b")
    wider = read_study(changed(MINI, {"high = 12": "high = 20"}), source="c")
    assert study.fingerprint == longer.fingerprint
    assert study.fingerprint != wider.fingerprint
