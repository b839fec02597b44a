"""How much the best of equal trials flatters: closed forms, and a miniature A/A study."""

from __future__ import annotations

from dataclasses import replace
from math import pi, sqrt
from pathlib import Path

import numpy as np
import pytest

import analysis.experiments.results
import sweeps.study.study
from analysis.__main__ import main
from analysis.experiments import equals
from analysis.experiments.equals import flattery, highest_normal, highest_of, read_equals
from analysis.experiments.landscape import Measured, read_measured
from analysis.experiments.results import recorded
from analysis.notebooks import luck
from lander.errors import ConfigError
from sweeps.charts.style import new_axes
from sweeps.lifecycle.start import start_sweep
from sweeps.run.worker import work
from sweeps.store.store import Store
from sweeps.study.study import find_study

EQUAL = """
[study]
name = "aa"
points = 1
training_seeds = 4
[base]
"env.id" = "CartPole-v1"
"env.num_envs" = 2
"policy.hidden_sizes" = [4]
"ppo.rollout_steps" = 32
"ppo.minibatch_size" = 32
total_steps = 128
checkpoints = 2
eval_episodes = 1
final_episodes = 3
[space]
"env.num_envs" = { choices = [2] }
"""


def trained(seed: int, final: float, *, before: float) -> Measured:
    """A training that scored `final`, and `before` at the checkpoint before its last."""
    return Measured("0", seed, {}, (0.0, before, final), final, final - 1, 0.5, 1.0, "paper", {})


def normal(count: int) -> list[Measured]:
    """Equal trainings around 200."""
    rng = np.random.default_rng(0)
    finals, before = rng.normal(200, 20, count), rng.normal(200, 10, count)
    pairs = zip(map(float, finals), map(float, before), strict=True)
    return [trained(n, final, before=b) for n, (final, b) in enumerate(pairs)]


def test_the_highest_of_some_is_the_mean_over_all_ways_to_draw_them() -> None:
    assert highest_of([1.0, 3.0, 2.0], 1) == pytest.approx(2)
    assert highest_of([1.0, 3.0, 2.0], 2) == pytest.approx(8 / 3)  # 2, 3, 3
    assert highest_of([1.0, 3.0, 2.0], 3) == 3


def test_the_highest_of_normal_values_is_that_of_the_tables() -> None:
    assert highest_normal(1) == pytest.approx(0, abs=1e-9)
    assert highest_normal(2) == pytest.approx(1 / sqrt(pi))
    assert highest_normal(3) == pytest.approx(1.5 / sqrt(pi))
    assert highest_normal(10) == pytest.approx(1.53875, abs=1e-5)
    assert highest_normal(30) == pytest.approx(2.04276, abs=1e-5)


def test_normal_scores_flatter_as_the_closed_form_says() -> None:
    row = flattery(normal(400), 12)
    assert row.score == pytest.approx(row.normal, rel=0.1)
    assert row.normal == pytest.approx(1.6292 * 20, rel=0.1)
    assert abs(row.estimate.value) < 0.6 * row.score  # the estimate takes most of it back


def test_equal_scores_flatter_nobody() -> None:
    same = [trained(n, 7.0, before=6.0) for n in range(8)]
    row = flattery(same, 5)
    assert (row.score, row.normal) == (0.0, 0.0)
    assert "8 trainings of one configuration score 7.0 " in equals.scores_sentence(same)


def test_the_curve_has_a_point_for_each_size_that_was_trained() -> None:
    _, axes = new_axes()
    luck.curve(normal(13), axes)
    drawn = {line.get_label(): np.asarray(line.get_xdata()).tolist() for line in axes.get_lines()}
    assert drawn["its score"] == [4, 6, 8, 10, 12]
    _, strip = new_axes()
    luck.strip(normal(13), strip)
    assert np.asarray(strip.get_lines()[0].get_xdata()).shape == (13,)


def test_the_shipped_study_is_the_base_of_the_default_sweep() -> None:
    study, default = find_study("aa"), find_study("lander")
    assert recorded(study.base) == recorded(default.base)
    assert (study.settings.points, study.settings.pruner) == (1, "none")
    assert study.settings.trials <= default.settings.trials
    trainings = list(read_measured("aa"))
    assert len(trainings) == study.settings.trials
    known = read_measured("landscape")  # the same seeds: the same bits
    shared = [each for each in trainings if each in known]
    assert len(shared) == 6
    for each in shared:
        here, other = read_measured("aa")[each], known[each]
        assert replace(here, seconds=0, machine="") == replace(other, seconds=0, machine="")


def test_a_miniature_study_is_swept_exported_and_read(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "aa.toml").write_text(EQUAL)
    (tmp_path / "results").mkdir()
    monkeypatch.setattr(analysis.experiments.results, "HERE", tmp_path)
    monkeypatch.setattr(sweeps.study.study, "SHIPPED", tmp_path)
    with pytest.raises(ConfigError, match="make experiment NAME=aa"):
        read_equals()
    start_sweep(find_study("aa"), store, trials=None, command=["run"])
    work(store, "aa", index=0, seconds=None)
    assert main(["export", "aa", "--store", str(store.folder)]) == 0
    read = read_equals()
    assert len({one.seed for one in read}) == len(read) == 4
    assert equals.scores_sentence(read).startswith("4 trainings of one configuration score ")
    assert "The best of 4 equal trials scores " in equals.flattery_sentence(read, 4)
