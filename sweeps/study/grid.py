"""A grid of discrete values: one trial for each different training, drawn one by one."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from math import prod
from typing import Any, Final

import optuna
from optuna.samplers import RandomSampler
from optuna.trial import FrozenTrial

from lander.config import TrainConfig
from lander.dotted import flatten
from lander.options import CONDITIONS, inactive, owners_first
from sweeps.endings import ending
from sweeps.optuna_private import fix_params, fixed_params
from sweeps.schema import Ending
from sweeps.study.fitting import RULES, rollouts
from sweeps.study.proposing import completed
from sweeps.study.ranges import Range
from sweeps.study.space import Space, defaults, grid

DECIDING: Final = frozenset().union(*(condition.owners for condition in CONDITIONS), *RULES)
"""Fields whose values decide which others act, or whether a point can be trained."""

Point = Mapping[str, Any]
"""Optuna's parameters of a trial."""
Key = frozenset[tuple[str, Any]]
"""The acting parameters of a point, hashable."""


@dataclass(frozen=True)
class Block:
    """The points that agree in every deciding field, so that the same other fields act."""

    decided: Point
    free: Mapping[str, Sequence[Any]]
    """Every value of the other fields."""

    @property
    def size(self) -> int:
        return prod(map(len, self.free.values()))

    def point(self, index: int) -> dict[str, Any]:
        """The point of that index, whose digits choose the values."""
        point = dict(self.decided)
        for name, values in self.free.items():
            index, digit = divmod(index, len(values))
            point[name] = values[digit]
        return point


@dataclass(frozen=True)
class Grid:
    """Every point of a space that can be trained, each training once: an idle field does not
    multiply points. Points are made when they are asked for."""

    space: Space
    base: TrainConfig
    seed: int

    @cached_property
    def blocks(self) -> list[Block]:
        return list(self._blocks(owners_first(self.space), flatten(self.base), {}, {}))

    @cached_property
    def _ends(self) -> list[int]:
        """The number of points up to the end of each block."""
        return list(accumulate(block.size for block in self.blocks))

    @cached_property
    def _values(self) -> dict[str, list[Any]]:
        return grid(self.space)

    @property
    def size(self) -> int:
        """The number of points, computed without making them."""
        return self._ends[-1] if self._ends else 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """All points, shuffled by the seed."""
        return (self.point(shuffled(index, self.size, self.seed)) for index in range(self.size))

    def point(self, index: int) -> dict[str, Any]:
        """The point of that index, block by block."""
        block = bisect_right(self._ends, index)
        return self.blocks[block].point(index - (self._ends[block - 1] if block else 0))

    def _first_of(self, range_: Range) -> Any:
        """Any value of a field that decides nothing."""
        return self._values[range_.parameter][0]

    def first(self) -> dict[str, Any]:
        """The defaults; a field without a default has its first value."""
        values = defaults(self.space, self.base)
        chosen = {name: values.get(name, every[0]) for name, every in self._values.items()}
        return dict(self.key(chosen))

    @cached_property
    def _keys(self) -> dict[Key, Key]:
        """Cache of `key`, which is called for every trial before each new one."""
        return {}

    def key(self, params: Point) -> Key:
        """The parameters that act in a trial."""
        given = frozenset(params.items())
        if given not in self._keys:
            self._keys[given] = self._acting(params)
        return self._keys[given]

    def _acting(self, params: Point) -> Key:
        flat, unused, acting = flatten(self.base), flatten(TrainConfig()), set()
        for name in owners_first(self.space):
            parameter = self.space[name].parameter
            if name in inactive(flat):
                flat[name] = unused[name]
            elif parameter in params:
                acting.add((parameter, params[parameter]))
                flat[name] = self.space[name].config_value(params[parameter])
        return frozenset(acting)

    def tried(self, trials: Iterable[FrozenTrial]) -> set[Key]:
        """Points that a trial was given, however it ended, unless it was withdrawn."""
        given = (
            {**fixed_params(trial), **trial.params}
            for trial in trials
            if ending(trial) != Ending.WITHDRAWN
        )
        return {self.key(params) for params in given if params}

    def untried(self, trials: Iterable[FrozenTrial]) -> int:
        """The number of points that no trial was given."""
        whole = {frozenset({*block.decided, *block.free}) for block in self.blocks}
        return self.size - sum(  # trials of another sampler may lie between the points
            {name for name, _ in key} in whole
            and all(value in self._values[name] for name, value in key)
            for key in self.tried(trials)
        )

    def _blocks(
        self,
        fields: Sequence[str],
        flat: dict[str, Any],
        decided: dict[str, Any],
        free: dict[str, Sequence[Any]],
    ) -> Iterator[Block]:
        """The blocks over the remaining fields."""
        if not fields:
            if not rollouts(flat) and not completed(
                dict(decided), self.space, self.base, self._first_of
            ):
                yield Block(decided, free)
            return
        name, *others = fields
        parameter, config_value = self.space[name].parameter, self.space[name].config_value
        if name in inactive(flat):
            unused = flatten(TrainConfig())[name]
            yield from self._blocks(others, {**flat, name: unused}, decided, free)
        elif name in DECIDING:
            for value in self._values[parameter]:
                now = {**flat, name: config_value(value)}
                yield from self._blocks(others, now, {**decided, parameter: value}, free)
        else:
            values = self._values[parameter]
            yield from self._blocks(others, flat, decided, {**free, parameter: values})


class GridSampler(RandomSampler):
    """Gives each trial the next point of a grid that no trial has."""

    def __init__(
        self, points: Grid, *, lock: Callable[[], AbstractContextManager[object]], seed: int | None
    ) -> None:
        """`lock` keeps two workers from the same point."""
        super().__init__(seed)
        self._points = points
        self._lock = lock
        self._next = iter(points)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        super().before_trial(study, trial)
        if fixed_params(trial):
            return  # it is enqueued or a retry
        with self._lock():
            others = study.get_trials(deepcopy=False)
            tried = self._points.tried(others)
            point = self._untried(tried)
            fix_params(study, trial, point)

    def _untried(self, tried: set[Key]) -> dict[str, Any]:
        """The next point; empty, so that it is drawn at random, if other workers took the last."""
        for points in (self._next, self._again()):
            for point in points:
                if frozenset(point.items()) not in tried:
                    return point
        return {}

    def _again(self) -> Iterator[dict[str, Any]]:
        """All points from the beginning: those of withdrawn trials are free again."""
        self._next = iter(self._points)
        yield from self._next


def shuffled(index: int, size: int, seed: int) -> int:
    """The position of an element of `range(size)` in an order that the seed shuffles.

    A Feistel network over the next even number of bits, walked until it comes back below `size`:
    no list is made, however long it would be.
    """
    half = max(1, (size - 1).bit_length() + 1 >> 1)
    while True:
        left, right = index >> half, index & (1 << half) - 1
        for turn in range(4):
            digest = hashlib.blake2b(f"{seed} {turn} {right}".encode(), digest_size=8 + half // 8)
            mixed = int.from_bytes(digest.digest(), "big") & (1 << half) - 1
            left, right = right, left ^ mixed
        index = left << half | right
        if index < size:
            return index
