"""Every field that docs promise can stand in [space] can, with words, numbers, lists or none."""

from __future__ import annotations

import csv
import json
from argparse import Namespace
from collections.abc import Iterator
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from types import NoneType
from typing import Any

import optuna
import pytest

from lander.config import TrainConfig
from lander.dotted import flatten, from_toml, kinds_of, to_toml
from lander.errors import ConfigError
from lander.options import CHOICES, CONDITIONS
from sweeps import commands as programs
from sweeps.charts.columns import column_of
from sweeps.lifecycle.start import start_sweep
from sweeps.run.objective import trial_configs
from sweeps.store.store import Store
from sweeps.study.space import ELSEWHERE, MEASURES, defaults
from sweeps.study.study import Study, read_study
from sweeps.sweep import Sweep, open_sweep, proposer
from tests.studies import WIDTHS, changed, study_text

DEFAULTS = flatten(TrainConfig())
OTHERS: dict[str, Any] = {
    "env.backend": "envpool",
    "env.num_envs": 8,
    "env.time_limit": 500,
    "policy.hidden_sizes": [32, 32],
    "policy.activation": "tanh",
    "policy.trunk": "shared",
    "policy.init": "torch",
    "policy.std": "decayed",
    "ppo.rollout_episodes": 16,
    "ppo.critic_learning_rate": 0.001,
    "ppo.learning_rate_schedule": "constant",
    "ppo.clip_range_schedule": "linear",
    "ppo.advantage_norm": "none",
    "ppo.kl_stop": 0.03,
    "ppo.value_clip": 0.2,
}
"""A second value of fields that are neither numbers nor true or false."""
NO_CRITIC = {"policy.critic": False, "ppo.rollout_episodes": 16, "ppo.advantage": "reward_to_go"}
BASES: dict[str, dict[str, Any]] = {
    "ppo.baseline": NO_CRITIC | {"ppo.advantage_norm": "none"},
    "ppo.advantage": {},
    "policy.explore": {},
}
"""What else must be set where the conditions of a field do not say it."""
WITH: dict[str, dict[str, Any]] = {
    "policy.critic": {
        "ppo.advantage": ["gae", "reward_to_go"],
        "ppo.rollout_episodes": ["none", 16],
    },
    "policy.head": {"env.bins": [5, 7]},
}
"""What must be searched together with a field."""
FIELDS = [
    name
    for name in DEFAULTS
    if name not in (*ELSEWHERE, *MEASURES)
    and (name != "env.backend" or find_spec("envpool") is not None)
]


def pair(name: str) -> list[Any]:
    """Two values of a field, its default first."""
    default = DEFAULTS[name]
    if name == "policy.head":
        return ["gaussian", "categorical"]
    if name == "env.bins":
        return [7, 5]
    if name in OTHERS:
        first = "none" if default is None else default
        return [list(first) if isinstance(first, tuple) else first, OTHERS[name]]
    if isinstance(default, bool):
        return [default, not default]
    if name in CHOICES:
        return [default, next(word for word in CHOICES[name] if word != default)]
    if isinstance(default, int):
        return [default, 2 * default]
    return [default, default / 2 or 0.5]


def base_for(name: str) -> dict[str, Any]:
    """A base in which a field acts."""
    base: dict[str, Any] = {"env.id": "LunarLanderContinuous-v3"} | BASES.get(name, {})
    for condition in CONDITIONS:
        undecided = condition.owner == "policy.head"
        if condition.field == name and (undecided or not condition.holds(DEFAULTS | base)):
            base[condition.owner] = condition.values[0]
            if condition.owner == "policy.std":
                base["policy.head"] = "gaussian"
    if "policy.head" in base and base["policy.head"] != "gaussian":
        base["env.bins"] = 7
    return base


def text_of(name: str) -> str:
    """A study that searches a field by two choices."""
    base = base_for(name)
    ranges = {name: pair(name)} | WITH.get(name, {})
    return study_text(
        "two",
        settings='sampler = "random"\ntrials = 2',
        base="\n".join(f'"{field}" = {json.dumps(value)}' for field, value in base.items()),
        space="\n".join(
            f'"{field}" = {{ choices = {json.dumps(some)} }}' for field, some in ranges.items()
        ),
    )


@pytest.mark.parametrize("name", FIELDS)
def test_a_field_is_read_proposed_recorded_and_exported(name: str) -> None:
    study = read_study(text_of(name), source="two.toml")
    values = set()
    for config, params in proposed(study, 12 if name in WITH else 8):
        value = flatten(config)[name]
        values.add(value)
        assert from_toml(to_toml(config), source="export") == config
        parameter = study.space[name].parameter
        if parameter in params:
            kept = params[parameter]
            assert isinstance(kept, str | int | float | bool)  # what Optuna may keep
            assert study.space[name].config_value(kept) == value
            assert study.space[name].parameter_value(value) == kept
    assert len(values) == 2


def proposed(study: Study, count: int) -> Iterator[tuple[TrainConfig, dict[str, Any]]]:
    """Trial 0 and those that the sampler proposes after it."""
    trials = optuna.create_study(sampler=proposer(study, seed=5))
    trials.enqueue_trial(defaults(study.space, study.base))
    for number in range(count):
        trial = trials.ask()
        (config,) = trial_configs(trial, study)
        assert number > 0 or config.env == study.base.env
        yield config, trial.params
        trials.tell(trial, 1.0)


EMPTY = [name for name in FIELDS if NoneType in kinds_of(name) and name != "env.bins"]
"""Where bins act, none is no number of them."""


@pytest.mark.parametrize("name", EMPTY)
def test_a_field_that_may_be_empty_is_none_in_the_base_and_in_choices(name: str) -> None:
    text = study_text(
        "x",
        base=f'"env.id" = "LunarLanderContinuous-v3"\n"{name}" = "none"',
        space='"ppo.gamma" = { low = 0.9, high = 1.0 }',
    )
    study = read_study(text, source="x")
    assert flatten(study.base)[name] is None


@pytest.fixture
def widths(store: Store) -> Sweep:
    """Two trials: the defaults, and the other choices."""
    study = read_study(WIDTHS, source="widths.toml")
    sweep = start_sweep(study, store, trials=1, command=["run"])
    sweep.optuna.enqueue_trial({"policy.hidden_sizes": "16", "ppo.kl_stop": 0.03})
    for value in (1.0, 2.0):
        with pytest.warns(UserWarning, match="Heartbeat"):
            trial = sweep.optuna.ask()
        trial_configs(trial, study)
        sweep.optuna.tell(trial, value)
    return open_sweep(store, "widths")


def test_a_list_and_none_are_readable_wherever_a_trial_is_shown(
    widths: Sweep, capsys: pytest.CaptureFixture[str]
) -> None:
    parsed = arguments(widths.store.folder)
    assert programs.trials(parsed) == 0
    rows = list(csv.DictReader(StringIO(capsys.readouterr().out)))
    shown = [(row["policy.hidden_sizes"], row["ppo.kl_stop"]) for row in rows]
    assert shown == [("64,64", "none"), ("16", "0.03")]
    columns = [
        column_of(widths.read_trials().all, range_) for range_ in widths.study.space.values()
    ]
    assert [column.values for column in columns] == [[0.0, 1.0], [0.0, 1.0]]
    assert [column.names for column in columns] == [["64,64", "16"], ["none", "0.03"]]
    assert str(widths.study.space["policy.hidden_sizes"]) == "{ choices = [[64, 64], [16]] }"


def arguments(folder: Path) -> Namespace:
    """Of `trials` and `export`."""
    return Namespace(store=folder, study="widths", trial="best", framework=None)


def test_the_best_of_lists_is_exported_as_a_config(
    widths: Sweep, capsys: pytest.CaptureFixture[str]
) -> None:
    assert programs.export(arguments(widths.store.folder)) == 0
    config = from_toml(capsys.readouterr().out, source="export")
    assert config.policy.hidden_sizes == (16,)
    assert config.ppo.kl_stop == 0.03


@pytest.mark.parametrize("name", MEASURES)
def test_what_measures_a_trial_is_the_same_for_all_of_them(name: str) -> None:
    text = changed(WIDTHS, {'"ppo.kl_stop" = { choices = ["none", 0.03] }': ""})
    with pytest.raises(ConfigError, match=rf"\[space\] {name} cannot be searched, .* \[base\]"):
        read_study(f'{text}"{name}" = {{ choices = [1, 2] }}', source="widths.toml")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[[64, 64], [16]]", '["64,64", [64, 64]]', "must be a list of whole numbers, as [64, 64]"),
        ("[[64, 64], [16]]", "[[64, 64], []]", "must be a list of whole numbers, as [64, 64]"),
        ("[[64, 64], [16]]", "[[64, 64], [1.5]]", "must be a list of whole numbers, as [64, 64]"),
        ("[[64, 64], [16]]", "[[64, 64], [64, 64]]", "choices must differ"),
        ("[[64, 64], [16]]", "[[64, 64], [0]]", "policy.hidden_sizes"),
        ("[[64, 64], [16]]", "[[32], [16]]", "default (64, 64) (trial 0) lies outside"),
        ('["none", 0.03]', '["nine", 0.03]', "ppo.kl_stop: input should be"),
        ('["none", 0.03]', "[[1], 0.03]", "choices must be numbers, words or true/false, got [1]"),
        ("total_steps = 256", "total_steps = true", "[base] total_steps: input should be"),
        (
            "total_steps = 256",
            "total_steps = 10",
            "[base] total_steps must hold at",
        ),
        ("eval_episodes = 1", '"ppo.n_step" = 4', "[base] ppo.n_step acts only with"),
        ("trials = 2", "trials = true", "[study] trials: input should be a valid integer"),
        ("trials = 2", 'trials = "40"', "[study] trials: input should be a valid integer"),
        ("trials = 2", "trials = 40.0", "[study] trials: input should be a valid integer"),
        ("trials = 2", "trials = 1_000_001", "[study] trials: must be at most 1,000,000"),
        ("trials = 2", "seed = 4_294_967_296", "[study] seed: must be at most 4,294,967,295"),
        ("trials = 2", "seeds_per_trial = true", "[study] seeds_per_trial: input should be"),
    ],
)
def test_a_wrong_value_is_refused_under_the_table_it_stands_in(
    old: str, new: str, message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        read_study(changed(WIDTHS, {old: new}), source="widths.toml")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
