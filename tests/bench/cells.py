"""From samples to the cells of tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import isfinite
from statistics import median
from typing import Any, Final

from lander.terminal import counted

Sample = Mapping[str, Any]
Part = Mapping[str, Any]
"""What a part of the benchmark measured."""
Row = Sequence[str]
Measure = Callable[[Sample], float]
"""A figure of one sample."""

MICRO: Final = 1e6
MILLI: Final = 1e3
MEGABYTE: Final = 2**20
COMPARED: Final = ("now", "before", "now / before")
"""The heads of the cells of `beside`."""


def grouped(samples: Iterable[Sample], *names: str) -> dict[tuple[Any, ...], list[Sample]]:
    """Samples by their values of these names, in the order in which those first appear.

    >>> grouped([{"n": 1, "s": 0.5}, {"n": 2, "s": 0.25}, {"n": 1, "s": 0.75}], "n")[1,]
    [{'n': 1, 's': 0.5}, {'n': 1, 's': 0.75}]
    """
    groups: dict[tuple[Any, ...], list[Sample]] = {}
    for sample in samples:
        groups.setdefault(tuple(sample[name] for name in names), []).append(sample)
    return groups


def middle(samples: Iterable[Sample], of: Measure) -> float:
    """The median of a figure."""
    return median([of(sample) for sample in samples])


def beside(figure: Callable[[str], float], form: str) -> tuple[str, str, str]:
    """A figure of this version, of the one before, and now / before; empty where not measured.

    `figure` takes the name of a side, and raises KeyError if it was not measured.

    >>> beside({"now": 1.5, "before": 3.0}.__getitem__, ".1f")
    ('1.5', '3.0', '0.50')
    >>> beside({"now": 1.5}.__getitem__, ".1f")
    ('1.5', '', '')
    """
    values: dict[str, float] = {}
    for side in ("now", "before"):
        try:
            values[side] = figure(side)
        except KeyError:
            continue
    now, before = (f"{values[side]:{form}}" if side in values else "" for side in COMPARED[:2])
    return now, before, ratio(values["now"], values["before"]) if now and before else ""


def ratio(above: float, below: float) -> str:
    """A quotient; "inf" if only the upper number is infinite, empty if the lower one is."""
    if not isfinite(below) or not below:
        return ""
    return f"{above / below:.2f}" if isfinite(above) else "inf"


def rounds(samples: Iterable[Sample]) -> str:
    """How often everything was measured, in words."""
    return counted(max(sample["round"] for sample in samples), "round")
