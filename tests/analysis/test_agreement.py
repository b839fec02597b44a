"""A question has one answer, wherever it is asked: pictures on a run, report, notebooks."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from optuna.trial import FrozenTrial, TrialState

import sweeps.charts.importance
from analysis.charts.curves import averaged, curves
from analysis.load import load_trials
from analysis.notebooks import sweep as sweep_answers
from analysis.report.document import Picture
from analysis.report.figures import importance_part
from analysis.report.records import Records
from sweeps.charts.importance import importances, shares
from sweeps.charts.search import figures_of
from sweeps.charts.style import new_axes
from sweeps.study.study import read_study
from sweeps.sweep import Sweep
from tests.analysis.test_answers import sweep_of, trial
from tests.studies import PLAIN

STUDY = read_study(PLAIN, source="plain")


@pytest.fixture
def mostly_pruned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sweep:
    """The learning rate says who is pruned; among the finished ones the epochs say who is good."""
    monkeypatch.setattr(sweeps.charts.importance, "OVER_ALL", 0)  # few resamples are enough here
    rng = np.random.default_rng(1)

    def one(i: int) -> FrozenTrial:
        finishes = i % 3 == 0
        epochs = int(rng.integers(1, 21))
        params = {
            "ppo.learning_rate": float(
                rng.uniform(5e-3, 1e-2) if finishes else 10 ** -rng.uniform(2.5, 4)
            ),
            "ppo.update_epochs": epochs,
            "1 - ppo.gae_lambda": float(rng.uniform(0.001, 0.1)),
            "policy.trunk": str(rng.choice(["separate", "shared"])),
        }
        value = 100.0 + epochs if finishes else float(rng.uniform(-300, -100))
        state = TrialState.COMPLETE if finishes else TrialState.PRUNED
        return trial(STUDY, params, value, state=state, value=value)

    return sweep_of(STUDY, tmp_path, *map(one, range(40)))


def test_what_matters_most_is_the_same_field_everywhere(mostly_pruned: Sweep) -> None:
    sweep, first = mostly_pruned, "ppo.learning_rate"
    finished = [trial for trial in sweep.read_trials().all if trial.state == TrialState.COMPLETE]
    every = np.arange(len(finished))[None]
    of_finished = shares(finished, STUDY.space, every).iloc[0]
    assert of_finished.idxmax() == "ppo.update_epochs"  # of another population
    assert importances(sweep.read_trials().counted, STUDY.space).index[0] == first

    labels = (
        figures_of(sweep.study, sweep.read_trials().counted)["importances"]
        .axes[0]
        .get_yticklabels()
    )
    assert labels[-1].get_text().split("\n")[1] == first  # the dot on top
    table = importances(sweep.read_trials().counted, STUDY.space)
    ended = sweep_answers.with_return(load_trials(sweep))
    assert sweep_answers.importance(table, ended).startswith(f"`{first}` has the largest share")
    assert f"`{first}`, which matters most," in sweep_answers.good_values(ended, table)
    records = cast(Records, SimpleNamespace(counted=sweep.read_trials().counted, sweep=sweep))
    (picture,) = importance_part(records)
    assert isinstance(picture, Picture)
    assert picture.caption.startswith(f"`{first}` comes first")


def test_the_picture_of_importances_has_the_intervals_of_the_table(mostly_pruned: Sweep) -> None:
    table = importances(mostly_pruned.read_trials().counted, STUDY.space)
    (axes,) = figures_of(mostly_pruned.study, mostly_pruned.read_trials().counted)[
        "importances"
    ].axes
    whiskers, dots = axes.collections
    values = np.asarray(dots.get_offsets())[:, 0].tolist()
    assert values == table["share"].tolist()[::-1]
    assert isinstance(whiskers, LineCollection)
    ends = [segment[:, 0].tolist() for segment in whiskers.get_segments()]
    assert np.allclose(ends, table[["low", "high"]].to_numpy()[::-1])


def table(*trainings: list[tuple[int, float]]) -> pd.DataFrame:
    """Trainings, each of (environment steps, value), as `load_curves` gives them."""
    return pd.DataFrame(
        [
            {"trial": 0, "seed": seed, "env_steps": steps, "value": value}
            for seed, training in enumerate(trainings)
            for steps, value in training
        ]
    )


def band(axes: Axes) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Corners of the interval that is drawn."""
    (filled,) = axes.collections
    return np.asarray(filled.get_paths()[0].vertices)


def test_checkpoints_are_drawn_as_they_are_without_points_in_between() -> None:
    steps = [40_000 * k for k in range(1, 6)]
    one = [(at, 10.0 * i) for i, at in enumerate(steps)]
    # rollouts of another size end a little later
    other = [(at + 2_048, 30.0 - 10.0 * i) for i, at in enumerate(steps)]
    _, axes = new_axes()
    curves({"both": table(one, other)}, axes, label="return")
    (line,) = axes.get_lines()
    assert np.asarray(line.get_xdata()).tolist() == [at + 1_024 for at in steps]
    assert np.asarray(line.get_ydata()).tolist() == [15.0] * 5
    assert line.get_marker() == "o"
    assert set(band(axes)[:, 0].tolist()) == {at + 1_024.0 for at in steps}


def test_curves_of_other_rollouts_are_read_at_equal_steps() -> None:
    one = [(100 * k, 1.0 * k) for k in range(1, 41)]
    other = [(250 * k, 2.5 * k) for k in range(1, 17)]
    steps, values = averaged(table(one, other), points=60)
    assert (steps[0], steps[-1], len(steps)) == (250, 4_000, 60)
    assert np.allclose(values, steps / 100)
    _, axes = new_axes()
    curves({"both": table(one, other)}, axes, label="return")
    assert axes.get_lines()[0].get_marker() in ("", "None")


def test_equally_many_checkpoints_at_other_steps_are_drawn_as_they_are() -> None:
    """Rollouts of different size: nothing is known between two checkpoints."""
    steps, values = averaged(table([(8, 1.0), (20, 2.0)], [(16, 3.0), (32, 4.0)]), points=9)
    assert steps.tolist() == [12, 26]
    assert values.tolist() == [[1.0, 2.0], [3.0, 4.0]]


def test_a_training_that_ended_early_ends_the_mean_curve() -> None:
    steps, values = averaged(
        table([(10, 1.0), (20, 2.0), (30, 3.0)], [(10, 3.0), (20, 4.0)]), points=9
    )
    assert steps.tolist() == [10, 20]
    assert values.tolist() == [[1.0, 2.0], [3.0, 4.0]]
