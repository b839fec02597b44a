"""`python -m lander --help` is grouped, and `--help FIELD` explains every field."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from lander.__main__ import main
from lander.config import PPOConfig, TrainConfig
from lander.dotted import documented, flatten
from lander.errors import ConfigError, nearest, unknown
from lander.explain import explain, field_named, groups, range_of, shown, within

CLIP_RANGE = """\
ppo.clip_range: number above 0; default 0.2

epsilon of the clipped surrogate, eq. 7.
Only with ppo.surrogate = clip.

option   --ppo.clip_range 0.2, or --ppo.clip-range
in TOML  "ppo.clip_range" = 0.2
source   PPOConfig in lander/config.py: Hyperparameters of the PPO update
         (Schulman et al. 2017, arXiv:1707.06347).
"""


@pytest.mark.parametrize(
    "typed", ["ppo.clip_range", "--ppo.clip_range", "ppo.clip-range", "clip_range"]
)
def test_a_field_is_explained_however_it_is_written(
    typed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for word in ("--help", "help"):
        assert main([word, typed]) == 0
        assert capsys.readouterr().out == CLIP_RANGE


def test_a_reader_that_has_seen_enough_ends_it_quietly() -> None:
    code = "from lander.__main__ import main; raise SystemExit(main(['help', 'env']))"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait() == 0
        assert process.stderr is not None
        assert process.stderr.read() == b""


def test_a_field_that_is_none_is_one_line_with_the_nearest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--help", "ppo.clip_rnage"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == 'lander: unknown field "ppo.clip_rnage": did you mean ppo.clip_range?\n'


def test_every_field_is_explained_with_range_default_and_source() -> None:
    defaults = flatten(TrainConfig())
    for name in documented():
        head, _, rest = explain(name).partition("\n")
        assert head.startswith(f"{name}: {range_of(name)}")
        assert name not in defaults or head.endswith(f"; default {shown(defaults[name])}")
        assert re.search(r"^source   \w+Config in lander/config.py: ", rest, re.MULTILINE)
        assert field_named(name) == name


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("ppo.gamma", "number above 0, up to 1"),
        ("policy.explore", "number from 0 below 1"),
        ("env.bins", "whole number from 2 up to 4,096, or none"),
        ("env.reward_scale", "number above 0, or running"),
        ("env.obs_norm", "true or false"),
        ("env.id", "text"),
        ("policy.head", "gaussian, categorical, ordinal, joint, or auto"),
        ("policy.hidden_sizes", "list, each a whole number from 1 up to 65,536"),
        ("ppo.learning_rate_schedule", "linear, or constant"),
    ],
)
def test_a_range_is_said_in_words(name: str, values: str) -> None:
    assert range_of(name) == values


def test_a_range_names_both_of_its_ends() -> None:
    assert (within(), within(gt=0), within(ge=0, lt=1)) == ("", " above 0", " from 0 below 1")
    assert within(gt=0, le=1_000) == " above 0, up to 1,000"


def test_a_table_is_listed_with_its_fields() -> None:
    head, *fields = explain("ppo").splitlines()
    assert head.startswith("ppo: Hyperparameters of the PPO update (Schulman et al. 2017")
    names = [f"ppo.{name}" for name in PPOConfig.__dataclass_fields__]
    assert [line.split()[0] for line in fields] == names
    assert f"  {'ppo.clip_range':<27} number above 0 [0.2]" in fields


def test_help_is_grouped_by_table_after_a_short_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert len(text.partition("\n\n")[0].splitlines()) == 3
    titles = re.findall(r"^(\w+):$", text, re.MULTILINE)
    assert titles == ["options", "env", "policy", "ppo", "run"] == ["options", *groups()]
    where = [text.index(f"--{name.replace('_', '-')} ") for name in documented() if name[-1] != "s"]
    assert where == sorted(where)


def test_a_wrong_command_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fyl"]) == 2
    assert capsys.readouterr().err == 'lander: unknown command "fyl": did you mean fly?\n'


def test_the_nearest_name_may_lack_its_table() -> None:
    known = ["ppo.clip_range_schedule", "ppo.clip_range", "run"]
    assert nearest("clip_range", known) == "ppo.clip_range"
    assert nearest("rnu", known) == "run"
    assert nearest("zzz", known) == ""
    assert unknown("x", "zzz", ["b", "a"]) == 'unknown x "zzz": known: a, b'
    with pytest.raises(ConfigError, match=r"did you mean ppo\.gae_lambda"):
        field_named("gae_lamda")
