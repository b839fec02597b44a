"""Pictures of a sweep in which some fields do nothing in some trials."""

from __future__ import annotations

from math import isnan
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial, create_trial

from sweeps.charts.columns import column_of, heights
from sweeps.charts.search import parallel_coordinates, slices
from sweeps.study.ranges import Range
from sweeps.study.study import read_study
from tests.studies import CONDITIONS

SPACE = read_study(CONDITIONS, source="heads.toml").space


def trial(value: float, **params: Any) -> FrozenTrial:
    named = {name.replace("__", "."): choice for name, choice in params.items()}
    return create_trial(
        params=named,
        distributions={name: SPACE[name].distribution for name in named},
        value=value,
    )


TRIALS = [
    trial(100.0, policy__head="joint", env__bins=3),
    trial(250.0, policy__head="gaussian", policy__std="learned"),
]
RANGES: list[Range] = list(SPACE.values())


def test_a_field_that_did_nothing_is_no_number() -> None:
    bins = column_of(TRIALS, SPACE["env.bins"])
    assert bins.values[0] == 0.0  # the first choice
    assert isnan(bins.values[1])
    assert bins.known == [0.0]


def test_a_line_goes_past_the_axes_of_fields_that_did_nothing() -> None:
    (axes,) = parallel_coordinates(TRIALS, RANGES).axes
    (lines_of_trials,) = axes.collections
    lines = [np.asarray(path.vertices)[:, 0].tolist() for path in lines_of_trials.get_paths()]
    names = [range_.field for range_ in RANGES]
    joint = [names.index("env.bins"), names.index("policy.head"), len(names)]
    gaussian = [names.index("policy.head"), names.index("policy.std"), len(names)]
    assert sorted(lines) == sorted([joint, gaussian])


def test_a_single_choice_stands_in_the_middle_and_a_missing_one_nowhere() -> None:
    one = column_of(TRIALS, SPACE["env.bins"])
    column = type(one)("x", [5.0, float("nan")], False, None, (5.0, 5.0))
    middle, nowhere = heights(column, [5.0, np.nan])
    assert middle == 0.5
    assert isnan(nowhere)


def test_slices_have_a_panel_per_field() -> None:
    figure = slices(TRIALS, RANGES, env="CartPole-v1")
    shown = [axes.get_xlabel().split("\n")[1] for axes in figure.axes if axes.get_xlabel()]
    assert shown == [range_.field for range_ in RANGES]
