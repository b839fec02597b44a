"""What charts show is so for any environment: thresholds, floors, names of axes, best so far."""

from __future__ import annotations

import ast
import io
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from sweeps.charts.search import (
    CROSSES,
    drawn_lines,
    history,
    importance_dots,
    marks_of,
    named,
    parallel_coordinates,
    slices,
    thinned,
)
from sweeps.charts.seeds import seed_curves
from sweeps.charts.style import floor_of, marker_size, new_axes, solved_line
from sweeps.schema import RETURNS
from sweeps.scores import best_of, best_so_far
from sweeps.study.ranges import Range

FIELD = "ppo.gae_lambda"
RANGES = [Range(FIELD, FloatDistribution(0.001, 0.1), one_minus=True)]
PENDULUM = (-1500.0, -1200.0, -900.0, -300.0, -160.0)
BEGAN = datetime(2026, 1, 1)


def trial(
    number: int, value: float, *, x: float = 0.05, pruned: bool = False, **attributes: Any
) -> FrozenTrial:
    made = create_trial(
        state=TrialState.PRUNED if pruned else TrialState.COMPLETE,
        params={f"1 - {FIELD}": x},
        distributions={f"1 - {FIELD}": RANGES[0].distribution},
        value=value,
        user_attrs=attributes,
    )
    made.number, made.datetime_complete = number, BEGAN + timedelta(minutes=number)
    return made


def trials(values: Sequence[float]) -> list[FrozenTrial]:
    return [trial(i, value, x=0.01 * (i % 10 + 1)) for i, value in enumerate(values)]


def dotted(axes: Axes) -> list[float]:
    """Heights of the lines that say what is solved."""
    lines = [line for line in axes.get_lines() if line.get_linestyle() == ":"]
    return [float(np.asarray(line.get_ydata())[0]) for line in lines]


def points(axes: Axes) -> list[float]:
    """Heights of everything that is scattered."""
    return [float(y) for drawn in axes.collections for _, y in np.asarray(drawn.get_offsets())]


def charts(values: Sequence[float], env_id: str) -> list[Figure]:
    some = trials(values)
    return [history(some, env=env_id), slices(some, RANGES, env=env_id)]


@pytest.mark.parametrize(
    ("env_id", "line"),
    [("LunarLander-v3", [200.0]), ("CartPole-v1", [475.0]), ("Pendulum-v1", []), ("Gone-v0", [])],
)
def test_the_solved_line_is_that_of_the_environment(env_id: str, line: list[float]) -> None:
    curves = seed_curves([[(100, -1.0), (100, 0.0)], [(200, 1.0), (200, 2.0)]], env=env_id)
    for figure in [*charts(PENDULUM, env_id), curves]:
        assert dotted(figure.axes[0]) == line
    axes = Figure().subplots()
    solved_line(axes, env_id, upright=True)
    assert [float(np.asarray(drawn.get_xdata())[0]) for drawn in axes.get_lines()] == line


def test_returns_far_below_zero_are_drawn_as_they_are() -> None:
    for figure in charts(PENDULUM, "Pendulum-v1"):
        assert sorted(points(figure.axes[0])) == sorted(PENDULUM)
        assert figure.axes[0].get_ylabel() == "score: mean return"


def test_one_crash_does_not_flatten_the_chart_and_the_axis_says_so() -> None:
    values = [-5_000.0, -100.0, 0.0, 100.0, 200.0, 250.0]
    floor = floor_of(values)
    assert floor == -75.0 - (250.0 + 75.0)
    for figure in charts(values, "LunarLander-v3"):
        assert min(points(figure.axes[0])) == floor
        label = figure.axes[0].get_ylabel().replace("\n", "; ")
        assert label == "score: mean return; below -400 drawn there"


@pytest.mark.parametrize(
    ("values", "floor"),
    [
        ([], 0.0),
        ([7.0], 7.0),
        ([500.0] * 9 + [20.0], 20.0),  # three quarters are equal: nothing to spread
        ([float("-inf"), 1.0, 3.0], 1.0),
    ],
)
def test_the_floor_is_the_minimum_where_nothing_is_far_below(
    values: list[float], floor: float
) -> None:
    assert floor_of(values) == floor


def test_a_trial_pruned_between_trainings_has_its_mean_as_value() -> None:
    some = [trial(0, 100.0, x=0.01), trial(1, 50.0, x=0.02)]
    between = trial(2, -300.0, pruned=True, x=0.03, **{RETURNS: [[10.0, 30.0]]})
    for figure in (
        history([*some, between], env="Pendulum-v1"),
        slices([*some, between], RANGES, env="Pendulum-v1"),
    ):
        assert sorted(points(figure.axes[0])) == [20.0, 50.0, 100.0]


def test_the_score_axis_and_the_crosses_are_named() -> None:
    some = [*trials([1.0, 2.0]), trial(2, 0.0, pruned=True)]
    (legend,) = history(some, env="Pendulum-v1").legends
    assert CROSSES == "pruned: return at its last checkpoint"
    assert CROSSES in [text.get_text() for text in legend.get_texts()]
    panels = slices(some, RANGES, env="Pendulum-v1")
    (legend,) = panels.legends
    assert [text.get_text() for text in legend.get_texts()] == [CROSSES]
    parallel = parallel_coordinates(some, RANGES).axes[0]
    labels = [label.get_text() for label in parallel.get_xticklabels()]
    assert labels == [f"GAE \u03bb\n{FIELD}", "score"]  # the field, not Optuna's 1 - field


def test_the_highest_so_far_falls_when_its_repetition_scores_less() -> None:
    first, other = trial(0, 250.0, x=0.01), trial(1, 220.0, x=0.02)
    again = trial(2, 200.0, x=0.01)  # trial 0 once more, over both trainings
    assert best_so_far([first, other, again]) == [250.0, 250.0, 220.0]
    best = best_of([first, other, again])
    assert best is other
    line = next(
        line
        for line in history([first, other, again], env="Pendulum-v1").axes[0].get_lines()
        if line.get_label() == "highest at that time"
    )
    assert np.asarray(line.get_ydata()).tolist() == [250.0, 250.0, 220.0]


@pytest.mark.parametrize("seed", range(5))
def test_the_best_so_far_is_at_each_trial_what_best_of_says(seed: int) -> None:
    rng = np.random.default_rng(seed)
    some = [trial(i, float(rng.integers(10)), x=0.01 * int(rng.integers(1, 4))) for i in range(12)]
    for one in some:
        one.datetime_complete = BEGAN + timedelta(minutes=int(rng.permutation(100)[0]))
    # at equal times the higher number is the later one
    expected = []
    for i in range(len(some)):
        best = best_of(some[: i + 1])
        assert best is not None
        expected.append(best.values[0])
    assert best_so_far(some) == expected


@pytest.mark.parametrize("count", [2, 3, 7])
def test_an_axis_of_trial_numbers_has_whole_numbers_only(count: int) -> None:
    some = trials([float(i) for i in range(count)])
    panels = slices(some, RANGES, env="Pendulum-v1")
    panels.draw_without_rendering()
    numbered = [history(some, env="Pendulum-v1").axes[0].xaxis, panels.axes[-1].yaxis]
    for axis in numbered:
        ticks = [float(tick) for tick in axis.get_majorticklocs()]
        assert len(ticks) >= 2
        assert ticks == [round(tick) for tick in ticks]


def sizes(axes: Axes) -> set[float]:
    """Areas of everything that is scattered."""
    drawn = [one for one in axes.collections if isinstance(one, PathCollection)]
    return {float(size) for one in drawn for size in one.get_sizes()}


def test_many_marks_are_smaller_and_few_are_as_they_were() -> None:
    few, many = (trials([float(i % 9) for i in range(count)]) for count in (250, 500))
    for some, history_size, slice_sizes in ((few, 36.0, {16.0, 28.0}), (many, 18.0, {8.0, 14.0})):
        assert sizes(history(some, env="Pendulum-v1").axes[0]) == {history_size}
        assert sizes(slices(some, RANGES, env="Pendulum-v1").axes[0]) == slice_sizes
    assert marker_size(36.0, 10_000) == 2.0  # smaller ones would be invisible


def test_a_line_per_trial_up_to_500_then_the_best_and_every_nth() -> None:
    for count, note in ((500, ""), (1_001, "500 of 1,001: the best 100, and others evenly")):
        rng = np.random.default_rng(0)
        axes = parallel_coordinates(trials(rng.permutation(count).tolist()), RANGES).axes[0]
        assert len(axes.collections[0].get_paths()) == 500
        assert note in axes.get_title()
    scores = rng.permutation(1_001).astype(float)
    drawn = scores[drawn_lines(scores)].tolist()
    assert drawn[-100:] == list(range(901, 1_001))
    assert drawn[:2] == [0.0, 2.0]  # 400 of 901 ranks, from the first to the last
    assert drawn[399] == 900.0
    assert len(set(drawn)) == 500
    assert thinned(500) == ""


def test_the_defaults_and_the_best_are_named() -> None:
    some = trials([5.0, 1.0, 9.0])
    assert [(one.number, name) for one, name in named(some)] == [
        (0, "defaults"),
        (2, "best, trial 2"),
    ]
    texts = [text.get_text() for text in history(some, env="Pendulum-v1").axes[0].texts]
    assert texts == ["defaults: 5.0", "best, trial 2: 9.0"]
    assert [name for _, name in named(trials([5.0, 1.0]))] == ["best, trial 0"]
    assert named([]) == []


def test_under_each_choice_stands_how_many_trials_had_it() -> None:
    bins = Range("env.bins", CategoricalDistribution((3, 5, 7)))
    some = [
        create_trial(
            value=1.0, params={"env.bins": n}, distributions={"env.bins": bins.distribution}
        )
        for n in (3, 3, 7)
    ]
    axes = slices(some, [bins], env="Pendulum-v1").axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["3\n(2)", "5\n(0)", "7\n(1)"]


def test_a_chart_has_no_box_and_names_what_is_solved() -> None:
    axes = history(trials([5.0, 1.0]), env="CartPole-v1").axes[0]
    assert not axes.spines["top"].get_visible()
    assert not axes.spines["right"].get_visible()
    assert "solved: 475" in [text.get_text() for text in axes.texts]


def test_an_importance_is_a_dot_beside_its_interval_not_a_bar() -> None:
    table = pd.DataFrame(
        {"share": [0.03, 0.97], "low": [0.01, 0.2], "high": [0.75, 0.99]},
        index=["ppo.gamma", "env.bins"],
    )
    axes = importance_dots(table).axes[0]
    assert not axes.patches
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "bins\nenv.bins",
        "discount \u03b3\nppo.gamma",
    ]
    (dots,) = (drawn for drawn in axes.collections if isinstance(drawn, PathCollection))
    assert np.asarray(dots.get_offsets())[:, 0].tolist() == [0.97, 0.03]


def test_a_group_of_marks_lists_its_trials_in_order() -> None:
    some = [trial(4, 1.0), trial(2, 2.0), trial(3, 0.0, pruned=True)]
    assert marks_of(some) == "trials-4-2-3"
    drawn = [drawn.get_gid() for drawn in history(some, env="Pendulum-v1").axes[0].collections]
    assert drawn == ["trials-3", "trials-4-2"]


COLOURED = {"color", "c", "fc", "ec", "cmap", "ecolor", "facecolor", "edgecolor", "colors"}
COLOURED |= {"markerfacecolor", "markeredgecolor", "bgcolor"}


def drawn_by_hand(source: str) -> list[str]:
    """Colours, figures and heights of lines that do not come from `sweeps.charts.style`."""
    hits: list[str] = []
    for node in ast.walk(ast.parse(source)):
        named: list[tuple[object, ast.expr]] = []
        if isinstance(node, ast.Call):
            named = [(keyword.arg, keyword.value) for keyword in node.keywords]
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            height = getattr(node.args[0], "value", 0) if node.args else 0
            by_hand = name == "Figure" or (name in ("axhline", "axvline") and height)
            hits += [ast.unparse(node)] if by_hand else []
        elif isinstance(node, ast.Dict):
            pairs = zip(node.keys, node.values, strict=True)
            named = [(getattr(key, "value", ""), value) for key, value in pairs]
        hits += [
            f"{name}={ast.unparse(value)}"
            for name, value in named
            if name in COLOURED and isinstance(value, ast.Constant) and value.value != "none"
        ]
    return hits


@pytest.mark.parametrize("upright", [False, True])
def test_a_solved_line_out_of_view_takes_no_room(upright: bool) -> None:
    figure, axes = new_axes(6, 3)
    axes.set(xlim=(490, 500), ylim=(490, 500))
    solved_line(axes, "CartPole-v1", upright=upright)
    axes.set(xlim=(490, 500), ylim=(490, 500))  # 475 is far away
    figure.savefig(io.BytesIO())  # a layout that does not fit warns
    width = axes.get_window_extent().width / figure.bbox.width
    assert 0.8 < width < 1
    assert axes.get_ylim() == axes.get_xlim() == (490, 500)


def test_charts_take_colours_figures_and_the_solved_line_from_one_style() -> None:
    root = Path(__file__).parents[2]
    folders = ("sweeps/charts", "analysis")
    for path in (path for folder in folders for path in (root / folder).rglob("*.py")):
        if path.name != "style.py":
            assert drawn_by_hand(path.read_text()) == []


@pytest.mark.parametrize(
    "source", ['plot(x, color="red")', 'box = {"fc": "white"}', "Figure()", "axes.axhline(200)"]
)
def test_a_literal_colour_figure_or_solved_line_is_seen(source: str) -> None:
    assert len(drawn_by_hand(source)) == 1
