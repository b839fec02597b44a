"""What a study would search in vain is named before it starts."""

from __future__ import annotations

import pytest

from lander.config import TrainConfig
from lander.dotted import configure
from lander.resolve import resolve, without_effect
from sweeps.study.dead_ends import dead_ends
from sweeps.study.study import find_study, read_study, shipped_studies
from tests.studies import study_text

LANDER = '"env.id" = "LunarLanderContinuous-v3"\n"env.bins" = 7'
CRITICLESS = """"policy.critic" = false
"ppo.advantage" = "reward_to_go"
"ppo.rollout_episodes" = 16
"""
SIZES = '"env.num_envs" = 16\n"ppo.rollout_steps" = 128\n"ppo.minibatch_size" = 512'


@pytest.mark.parametrize(
    ("base", "space", "lines"),
    [
        (
            LANDER,
            '"env.bins" = { choices = [2, 7] }',
            [
                "env.bins = 2: the side engines can never stop",
            ],
        ),
        (
            LANDER,
            '"policy.head" = { choices = ["auto", "categorical", "ordinal"] }',
            ['policy.head: the choices ["auto", "categorical"] are one configuration: drop one'],
        ),
        (
            CRITICLESS,
            '"env.reward_scale" = { low = 0.01, high = 1.0, log = true }',
            [
                "env.reward_scale has no effect: without a critic, normalised advantages cancel a "
                "constant"
            ],
        ),
        (
            "",
            '"env.time_limit" = { choices = [1000, 2000] }',
            [
                "env.time_limit has no effect: episodes of LunarLander-v3 end after 1000 steps "
                "anyway"
            ],
        ),
        (
            '"ppo.update_epochs" = 1\n"ppo.minibatch_size" = 2048',
            '"ppo.clip_range" = { low = 0.1, high = 0.4 }',
            [
                "ppo.clip_range has no effect: with a single gradient step per rollout no ratio "
                "has left 1"
            ],
        ),
        # where one point of the space has an effect, the field is no dead end
        (
            '"ppo.update_epochs" = 1\n"ppo.minibatch_size" = 2048',
            '"ppo.clip_range" = { low = 0.1, high = 0.4 }\n'
            '"ppo.update_epochs" = { low = 1, high = 2 }',
            [],
        ),
    ],
)
def test_a_dead_end_is_one_line(base: str, space: str, lines: list[str]) -> None:
    if '"env.time_limit"' in space:
        base += '"env.time_limit" = 1000'
    assert dead_ends(read_study(study_text("x", base=base, space=space), source="x")) == lines


def test_a_space_in_which_few_points_can_be_trained_is_named() -> None:
    space = '"ppo.rollout_steps" = { choices = [32, 48, 80, 112, 128] }\n'
    space += '"ppo.minibatch_size" = { choices = [512, 768, 1280, 1792] }'
    study = read_study(study_text("x", base=SIZES, space=space), source="x")
    (line,) = dead_ends(study)
    assert line.startswith("[space]: ")
    assert " of 32 random points cannot be trained, and are drawn again: ppo.minibatch_size" in line


def test_no_shipped_study_has_a_dead_end() -> None:
    for name in shipped_studies():
        assert dead_ends(find_study(name)) == [], name


def test_an_ordinary_config_has_no_field_without_effect() -> None:
    assert without_effect(resolve(TrainConfig()).config) == {}
    short = configure({"env.time_limit": 500, "ppo.update_epochs": 1}, base=TrainConfig())
    assert without_effect(resolve(short).config) == {}
