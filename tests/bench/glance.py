"""The main figures of all parts, each beside that of the version before."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Final

from tests.bench import harness_tables as harness
from tests.bench import training_tables as training
from tests.bench.cells import Measure, Part, Row, beside

Results = Mapping[str, Part]
"""Name of a part -> what it measured."""
Figure = Callable[[Results, str], float]
"""Of a side; KeyError if it was not measured."""


def of_stock(setting: str, contender: str) -> Figure:
    """Steps per second in units of those of stock environments alone."""

    def figure(results: Results, side: str) -> float:
        rate = training.rate(results["speed"], setting, contender, side)
        return rate / training.stock(results["speed"], setting)

    return figure


def to_sb3(results: Results, side: str) -> float:
    """Steps per second of training in units of Stable-Baselines3's, at rl-zoo's settings."""
    rate = partial(training.rate, results["speed"], "rl-zoo")
    return rate("gymnasium", side) / rate("sb3", "now")


def besides_stepping(setting: str) -> Figure:
    """Microseconds per step of updates and collecting without environments."""
    of = training.besides_stepping
    return lambda results, side: training.update_time(results["speed"], of, setting, side)


def sweeping(of: Measure) -> Figure:
    """A figure of whole sweeps."""
    return lambda results, side: harness.of_sweeps(results["sweep"], of, side)


def sweep_of_stock(setting: str) -> Figure:
    """A whole sweep's steps per second and core in units of stock environments alone."""

    def figure(results: Results, side: str) -> float:
        rate = harness.of_sweeps(results["sweep"], harness.throughput_of_a_worker, side)
        return rate / training.stock(results["speed"], setting)

    return figure


def cost(results: Results, side: str) -> float:
    """Milliseconds of the harness per trial in the largest store."""
    part = results["growth"]
    return harness.each_trial(part, "SQLite", harness.sizes(part)[1], side)


def cost_growth(results: Results, side: str) -> float:
    """The same over those in the smallest store."""
    part = results["growth"]
    return harness.cost_growth(part, "SQLite", harness.sizes(part)[1], side)


def command(name: str) -> Figure:
    """Seconds of a command on the largest store."""
    return lambda results, side: harness.command_time(results["growth"], "SQLite", name, side)


FIGURES: Final[dict[str, tuple[str, Figure]]] = {
    "training at the defaults, of the environments": (".2f", of_stock("ours", "gymnasium")),
    "training the default study's base, of the environments": (
        ".2f",
        of_stock("study", "gymnasium"),
    ),
    "training at rl-zoo's settings, to Stable-Baselines3": (".2f", to_sb3),
    "environments alone, four actions, to stock": (".2f", of_stock("ours", "env-gymnasium")),
    "environments alone, two engines, to stock": (".2f", of_stock("study", "env-gymnasium")),
    "training without environments, the defaults, µs per step": (".1f", besides_stepping("ours")),
    "training without environments, rl-zoo, µs per step": (".1f", besides_stepping("rl-zoo")),
    "training without environments, default study's base, µs per step": (
        ".1f",
        besides_stepping("study"),
    ),
    "evaluation's share of a long trial": (
        ".1%",
        lambda results, side: training.evaluation_share(results["speed"], side),
    ),
    "Stable-Baselines3's time to solve, to that of lander": (
        ".1f",
        lambda results, side: training.times_faster(results["solve"], side),
    ),
    "a default sweep, s": (",.0f", sweeping(lambda sweep: float(sweep["seconds"]))),
    "its environment steps": (",.0f", sweeping(lambda sweep: float(sweep["env_steps"]))),
    "its steps/s and core, of the environments, two engines": (".2f", sweep_of_stock("study")),
    "its steps/s and core, of the environments, four actions": (".2f", sweep_of_stock("ours")),
    "its time that is neither training nor evaluation": (".1%", sweeping(harness.overhead)),
    "its largest worker, MB": (",.0f", sweeping(harness.largest)),
    "the harness per trial in the largest store, ms": (".0f", cost),
    "the same, to that in the smallest store": (".2f", cost_growth),
    "`report` of the largest store, s": (".1f", command("report")),
    "`trials` of the largest store, s": (".1f", command("trials")),
    "`status` of the largest store, s": (".1f", command("status")),
}


def glance(results: Results) -> Iterator[Row]:
    """One line per figure that was measured; the tables of the parts say how."""
    for name, (form, figure) in FIGURES.items():
        cells = beside(partial(figure, results), form)
        if any(cells):
            yield name, *cells
