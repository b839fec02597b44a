"""The box around the winner in which a model says that nothing is worse than the base."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from analysis.stats import Floats
from analysis.why.model import Model, at_shares, vector
from sweeps.study.ranges import Range
from sweeps.study.space import Space
from sweeps.study.timing import columns_of

CHANCE: Final = 0.9
"""How probable it must be everywhere in the box that a point is not worse than the base."""
STEPS: Final = 20
"""A side grows by this part of its range at a time."""
DRAWS: Final = 300
"""Random points in which a box is looked at; half of their values are at its ends."""


@dataclass(frozen=True)
class Side:
    """The values of one field in a box, as shares of its range; choices as their indices."""

    range_: Range
    low: float
    high: float
    choices: frozenset[int] = frozenset()

    @property
    def count(self) -> int:
        """How many choices the field has; 0 for numbers."""
        return len(getattr(self.range_.distribution, "choices", ()))

    def draw(self, rng: np.random.Generator, count: int) -> Floats:
        """Shares of random values in it."""
        if self.count:
            return (rng.choice(sorted(self.choices), count) + 0.5) / self.count
        inner = rng.uniform(self.low, self.high, count)
        ends = np.where(rng.random(count) < 0.5, self.low, self.high)
        return np.where(rng.random(count) < 0.5, inner, ends)

    def grown(self, way: int) -> Side:
        """The same side, larger by one step: downwards or upwards, or by the choice of that index;
        itself where it ends."""
        if self.count:
            return Side(self.range_, self.low, self.high, self.choices | {way})
        if way == 0:
            return Side(self.range_, max(0.0, self.low - 1 / STEPS), self.high)
        return Side(self.range_, self.low, min(1.0, self.high + 1 / STEPS))

    @property
    def is_whole(self) -> bool:
        """Whether it is the whole range."""
        return len(self.choices) == self.count if self.count else (self.low, self.high) == (0, 1)

    def __str__(self) -> str:
        if self.count:
            every: Any = self.range_.distribution
            values = [self.range_.to_field(every.choices[index]) for index in sorted(self.choices)]
            return " or ".join(map(str, values))
        ends = sorted(self.range_.to_field(self.range_.at(end)) for end in (self.low, self.high))
        return " to ".join(f"{end:.3g}" for end in ends)


@dataclass(frozen=True)
class Box:
    """Values around a winner, by the statement of a model."""

    sides: Mapping[str, Side]
    """Of each field that has an effect in the winner; empty if there is no box."""
    winner: float
    """The probability that the winner itself is not worse than the base."""


def box_of(
    model: Model, winner: Mapping[str, Any], base: Mapping[str, Any], *, seed: int = 0
) -> Box:
    """The box that grows from the winner, each side in turn by a step, as long as no point of it is
    worse than the base with a probability above 1 - `CHANCE`."""
    space, rng = model.space, np.random.default_rng(seed)
    start, zero = vector(winner, space), vector(base, space)
    chance = float(model.not_worse(start[None], zero)[0])
    if chance < CHANCE:
        return Box({}, chance)
    sides = {name: side_at(range_, winner) for name, range_ in space.items()}
    growing = {name for name, range_ in space.items() if range_.parameter in winner}
    while growing:
        for name in [name for name in space if name in growing]:
            before = sides[name]
            for way in range(before.count or 2):
                larger = sides[name].grown(way)
                tried = {**sides, name: larger}
                if np.min(model.not_worse(points_in(tried, space, rng), zero)) >= CHANCE:
                    sides[name] = larger
            if sides[name] == before:
                growing.discard(name)
    own = {name: side for name, side in sides.items() if space[name].parameter in winner}
    return Box(own, chance)


def points_in(sides: Mapping[str, Side], space: Space, rng: np.random.Generator) -> Floats:
    """Random points of a box, (DRAWS, columns)."""
    shares = np.stack([side.draw(rng, DRAWS) for side in sides.values()], axis=1)
    return at_shares(shares, space)


def side_at(range_: Range, params: Mapping[str, Any]) -> Side:
    """The side that is only the value of a field in some parameters; in the middle if it has no
    effect there."""
    columns = columns_of(range_, params)
    if len(columns) > 1 or hasattr(range_.distribution, "choices"):
        index = int(np.argmax(columns))
        return Side(range_, 0.0, 0.0, frozenset({index}))
    share = columns[0] + 0.5
    return Side(range_, share, share)
