"""Points that cover a space: in every equal part of a range one, and every choice equally often."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from lander.errors import ConfigError
from sweeps.study.covering import covering_points
from sweeps.study.ranges import read_range
from sweeps.study.study import read_study
from tests.studies import MINI, changed

SPACE = read_study(MINI, source="mini.toml").space


@pytest.mark.parametrize("count", [4, 6, 9])
def test_every_choice_comes_equally_often(count: int) -> None:
    points = covering_points(SPACE, count, seed=0)
    assert len(points) == count
    for name in ("env.bins", "policy.trunk"):
        chosen = Counter(point[name] for point in points)
        assert len(chosen) == len(SPACE[name].values())
        assert max(chosen.values()) - min(chosen.values()) <= 1


@pytest.mark.parametrize("seed", range(5))
def test_every_eighth_of_a_range_holds_one_of_eight_points(seed: int) -> None:
    points = covering_points(SPACE, 8, seed=seed)
    for name, low, high in [("ppo.learning_rate", 3e-4, 1e-2), ("1 - ppo.gae_lambda", 1e-3, 0.1)]:
        shares = [np.log(point[name] / low) / np.log(high / low) for point in points]
        assert sorted(int(8 * share) for share in shares) == list(range(8))
    linear = [(point["ppo.clip_range"] - 0.05) / 0.35 for point in points]
    assert sorted(int(8 * share) for share in linear) == list(range(8))


def test_one_seed_gives_one_sequence() -> None:
    assert covering_points(SPACE, 8, seed=1) == covering_points(SPACE, 8, seed=1)
    assert covering_points(SPACE, 8, seed=1) != covering_points(SPACE, 8, seed=2)
    assert covering_points(SPACE, 0, seed=1) == []


@pytest.mark.parametrize(
    ("name", "spec", "values"),
    [
        ("ppo.clip_range", {"low": 0.2, "high": 0.4}, [0.2, 0.3, 0.4]),
        ("ppo.learning_rate", {"low": 1e-4, "high": 1e-2, "log": True}, [1e-4, 1e-3, 1e-2]),
        ("ppo.update_epochs", {"low": 2, "high": 6}, [2, 4, 6]),
        ("ppo.update_epochs", {"low": 1, "high": 9, "step": 4}, [1, 5, 9]),
        ("env.bins", {"choices": [3, 5, 9]}, [3, 5, 9]),
    ],
)
def test_a_range_is_walked_on_the_scale_of_its_search(
    name: str, spec: dict[str, Any], values: list[float]
) -> None:
    range_ = read_range(name, spec)
    assert [range_.at(share) for share in (0.0, 0.5, 1.0)] == pytest.approx(values)


def test_whole_numbers_are_equal_parts_of_a_range() -> None:
    range_ = read_range("ppo.update_epochs", {"low": 1, "high": 4})
    assert Counter(range_.at((i + 0.5) / 100) for i in range(100)) == dict.fromkeys(range(1, 5), 25)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("startup_trials = 4", "startup_trials: a grid has its own points"),
        ("repeat_from = 0.5", "repeat_from: a grid tries each point once"),
    ],
)
def test_a_grid_takes_points_from_nowhere_else(line: str, message: str) -> None:
    space = MINI.partition("[space]")[2]
    only = {space: '\n"env.bins" = { choices = [3, 5, 7] }\n'}
    settings = 'seed = 3\nsampler = "grid"\npruner = "none"\n' + line
    with pytest.raises(ConfigError, match=message):
        read_study(changed(MINI, only | {"seed = 3": settings}), source="mini.toml")
