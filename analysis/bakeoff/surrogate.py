"""Worlds that may be the true one: what any point of the space is worth, and what a training of it
would return.

The landscape measures some points under some seeds. A Gaussian process through their means says
what lies between them, and how little is known of it; a world is one draw of that process, so that
what a sweep meets is as rough as what was measured. Noise is taken from real trainings.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np

from analysis.bakeoff.process import Floats, fitted
from analysis.experiments.landscape import Measured, read_measured
from lander.errors import ConfigError
from sweeps.study.ranges import Range
from sweeps.study.space import Space

STUDIES: Final = ("landscape", "landscape-near")
"""Points over the whole space, and more of them around the best."""
CEILING: Final = 300.0
"""No mean return is higher: the scale of every fit is -log(CEILING - return), on which noise is
about equally large everywhere."""
HIGHEST: Final = 290.0
"""No training returns more."""
LOWEST: Final = -400.0
"""Means below are taken for it: all of them are failures."""
ALIKE: Final = 12
"""So many real points with the most similar mean may lend their noise."""
LENDERS: Final = 4
"""The closest so many of them do: a configuration is as steady as its neighbours."""
DENSE: Final = 4_096
"""Random points among which the best of a world is looked for, besides the measured ones."""
FOLDS: Final = 8


def squeezed(returns: Floats) -> Floats:
    """Returns on the scale of the fit."""
    return np.asarray(-np.log(CEILING - np.clip(returns, LOWEST, HIGHEST)))


def stretched(values: Floats) -> Floats:
    """Returns again."""
    return np.asarray(CEILING - np.exp(-values))


@dataclass(frozen=True)
class Landscape:
    """Points under equally many training seeds."""

    points: Floats
    """(points, d), in the unit cube."""
    numbers: Floats
    """(points, seeds, numbers): the return at each checkpoint, the final one, and that on unseen
    episodes, which is what a point is worth."""

    @cached_property
    def means(self) -> Floats:
        """(points, numbers)."""
        return np.asarray(self.numbers.mean(axis=1))

    @cached_property
    def noise(self) -> Floats:
        """(points, seeds, numbers): how far each training is from `CEILING`, as a multiple of how
        far the mean of its point is. They are 1 on average, spread as from the true mean: the mean
        of n values has taken a part of each deviation with it."""
        seeds = self.numbers.shape[1]
        multiples = (CEILING - self.numbers) / (CEILING - self.means[:, None])
        return np.asarray(1 + (multiples - 1) * np.sqrt(seeds / (seeds - 1)))


def landscape_of(trainings: Iterable[Measured], space: Space) -> Landscape:
    """The landscape that trainings cover, under as many seeds as most points have: points with
    fewer are left out, and further seeds of a point that two studies share.

    Raises:
        ConfigError: there is none.
    """
    by_point: dict[tuple[float, ...], dict[int, list[float]]] = {}
    for each in trainings:
        point = tuple(unit_cube(each.config, space))
        numbers = [*each.checkpoints, each.final, each.report]
        by_point.setdefault(point, {})[each.seed] = numbers
    counts = Counter(map(len, by_point.values()))
    seeds = max(counts, key=lambda count: counts[count], default=0)
    if seeds < 2:
        raise ConfigError("the landscape is not measured yet: make experiment NAME=landscape")
    whole = {
        point: list(rows.values())[:seeds] for point, rows in by_point.items() if len(rows) >= seeds
    }
    return Landscape(np.array(list(whole)), np.array(list(whole.values())))


def read_landscape(space: Space, names: Sequence[str] = STUDIES) -> Landscape:
    """The landscape in the results of these studies, as far as they exist.

    Raises:
        ConfigError: none of them does.
    """
    return landscape_of((row for name in names for row in read_measured(name).values()), space)


def unit_cube(config: Mapping[str, Any], space: Space) -> Floats:
    """A configuration as numbers from 0 to 1, (d,)."""
    return np.array([in_range(range_, config[name]) for name, range_ in space.items()])


def in_range(range_: Range, value: Any) -> float:
    """At which share of its range a field's value lies, 0 to 1: the inverse of `Range.at`."""
    distribution: Any = range_.distribution
    inner = range_.parameter_value(value)
    if count := choices_of(range_):
        return float((distribution.choices.index(inner) + 0.5) / count)
    half = getattr(distribution, "step", None) or 0  # of whole numbers each has an equal part
    low, high = distribution.low - half / 2, distribution.high + half / 2
    if distribution.log:
        inner, low, high = np.log(inner), np.log(low), np.log(high)
    return float((inner - low) / (high - low))


def choices_of(range_: Range) -> int:
    """How many choices a field has; 0 for numbers."""
    return len(getattr(range_.distribution, "choices", ()))


def snapped(points: Floats, space: Space) -> Floats:
    """Points (m, d), those of fields with choices in the middle of the choice's part."""
    points = points.copy()
    for dimension, count in enumerate(map(choices_of, space.values())):
        if count:
            index = np.minimum(np.floor(points[:, dimension] * count), count - 1)
            points[:, dimension] = (index + 0.5) / count
    return points


@dataclass(frozen=True, slots=True)
class Drawn:
    """A simulated training."""

    checkpoints: Floats
    """(checkpoints,)."""
    final: float
    """On the final seeds, by which a sweep chooses."""
    report: float
    """On episodes by which nothing chooses."""


class Surrogate:
    """The process through a landscape's means, from which worlds are drawn."""

    def __init__(self, landscape: Landscape, space: Space) -> None:
        self.landscape = landscape
        self.process = fitted(landscape.points, squeezed(landscape.means))
        levels = stretched(self.process.mean(landscape.points))[:, -1]
        self._order = np.argsort(levels)
        self._levels = levels[self._order]
        dense = np.random.default_rng(0).random((DENSE, len(space)))
        self.dense = np.concatenate([landscape.points, snapped(dense, space)])

    def world(self, seed: int) -> World:
        """One that may be the true one."""
        return World(self, self.process.draw(np.random.default_rng((seed, 1))))

    def noise(self, point: Floats, level: float) -> Floats:
        """The noise (count, numbers) of real trainings whose points have about this mean, and lie
        close."""
        first = int(np.searchsorted(self._levels, level)) - ALIKE // 2
        first = min(max(0, first), max(0, len(self._order) - ALIKE))
        alike = self._order[first : first + ALIKE]
        apart = np.sum((self.landscape.points[alike] - point) ** 2, axis=1)
        nearest = alike[np.argsort(apart, kind="stable")[:LENDERS]]
        lent = self.landscape.noise[nearest]
        return np.asarray(lent.reshape(-1, lent.shape[-1]))


@dataclass(frozen=True)
class World:
    """What every point would return."""

    surrogate: Surrogate
    function: Callable[[Floats], Floats]
    """From points (m, d) to their numbers (m, numbers) on the scale of the fit."""

    def worth(self, points: Floats) -> Floats:
        """What points (m, d) return on unseen episodes, on average over training seeds, (m,)."""
        return stretched(self.function(points))[:, -1]

    @cached_property
    def best(self) -> float:
        """The worth of the best point that is known."""
        return float(self.worth(self.surrogate.dense).max())

    def train(self, point: Floats, rng: np.random.Generator) -> Drawn:
        """One training at a point (d,)."""
        values = self.function(point[None])[0]
        noise = self.surrogate.noise(point, float(stretched(values[-1:])[0]))
        missing = np.exp(-values) * noise[rng.integers(len(noise))]
        numbers = np.minimum(CEILING - missing, HIGHEST)
        return Drawn(numbers[:-2], float(numbers[-2]), float(numbers[-1]))


@dataclass(frozen=True, slots=True)
class Fit:
    """How well the means of points are predicted that were left out of the fit."""

    error: float
    """Root mean square, in units of return."""
    median: float
    """Of the absolute errors: failures are far off, and say little about good points."""
    noise: float
    """Standard error of the mean of a point, root mean square: no fit can do better."""
    points: int


def predicted_apart(landscape: Landscape) -> Floats:
    """What points are worth as a fit predicts it that was made without them, by folds; on the
    scale of the fit, (points,)."""
    numbers = squeezed(landscape.means)
    folds = np.random.default_rng(0).permutation(len(numbers)) % FOLDS
    predicted = np.empty(len(numbers))
    for fold in range(FOLDS):
        out = folds == fold
        process = fitted(landscape.points[~out], numbers[~out])
        predicted[out] = process.mean(landscape.points[out])[:, -1]
    return predicted


def fit_of(landscape: Landscape, predicted: Floats, *, above: float = -np.inf) -> Fit:
    """The fit on points that are predicted to be worth more than `above`: those of which a sweep
    recommends one.

    Chosen by the prediction: those chosen by what was measured would be the lucky ones.
    """
    chosen = stretched(predicted) > above
    report = landscape.numbers[chosen, :, -1]
    wrong = report.mean(axis=1) - stretched(predicted[chosen])
    return Fit(
        error=float(np.sqrt(np.mean(wrong**2))),
        median=float(np.median(np.abs(wrong))),
        noise=float(np.sqrt(np.mean(report.var(axis=1, ddof=1) / report.shape[1]))),
        points=int(chosen.sum()),
    )
