"""The cheapest configuration that solves the problem with probability 0.9, as far as that is known.

A training solves it if the mean return of its final episodes reaches the environment's solved
return. The probability is that of a training under a fresh seed, and only trainings count by which
nothing was chosen. It is shown if the lower bound of Clopper and Pearson is at least 0.9: exact,
one-sided, with an error of 5 % shared by all configurations that are looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import scipy  # imports scipy.special once it is used

from analysis.cost.front import Offer

CHANCE: Final = 0.9
LEVEL: Final = 0.05
ENOUGH: Final = 10
"""With fewer trainings an estimate of 0.9 says nothing."""
MOST: Final = 10_000
"""More trainings than anybody runs."""


@dataclass(frozen=True, slots=True)
class Solving:
    """How often fresh trainings of a configuration solve the problem."""

    offer: Offer
    solved: int
    of: int
    level: float
    """The probability that the lower bound is too high."""

    @property
    def share(self) -> float:
        return self.solved / self.of

    @property
    def low(self) -> float:
        return lower_bound(self.solved, self.of, level=self.level)

    @property
    def needed(self) -> int | None:
        """How many trainings show it if none of the further ones fails; None if too many."""
        return trainings_needed(self.of - self.solved, level=self.level)

    def __str__(self) -> str:
        return (
            f"trial {self.offer.trial.number}, {self.offer.seconds} s a training: {self.solved} of "
            f"{self.of} fresh trainings solve it ({self.share:.2f}, lower bound {self.low:.2f})"
        )


def lower_bound(solved: int, of: int, *, level: float) -> float:
    """Clopper and Pearson's one-sided lower bound of a probability."""
    return float(scipy.special.betaincinv(solved, of - solved + 1, level)) if solved else 0.0


def trainings_needed(failures: int, *, level: float) -> int | None:
    """The fewest trainings, of which so many fail, whose lower bound is `CHANCE`."""
    counts = range(failures + 1, MOST)
    return next(
        (of for of in counts if lower_bound(of - failures, of, level=level) >= CHANCE), None
    )


def solving(every: Sequence[Offer], *, threshold: float) -> list[Solving]:
    """The configurations that were trained under fresh seeds, the cheapest first."""
    measured = sorted(
        (one for one in every if one.fresh), key=lambda one: (one.seconds.value, one.trial.number)
    )
    level = LEVEL / max(1, len(measured))
    return [
        Solving(one, sum(score >= threshold for score in one.fresh), len(one.fresh), level)
        for one in measured
    ]


@dataclass(frozen=True, slots=True)
class Answer:
    """What can be said about the cheapest configuration."""

    text: str
    trainings: int | None = None
    """How many fresh trainings of a configuration would say more; None if that is not known."""


def cheapest(every: Sequence[Offer], *, threshold: float | None) -> Answer:
    """The cheapest configuration that solves the problem with probability `CHANCE`."""
    if threshold is None:
        return Answer("The environment names no return that solves it.")
    asked = (
        f"the cheapest configuration that solves it with probability {CHANCE:g} (a training under "
        f"a fresh seed returns {threshold:g} or more)"
    )
    rows = solving(every, threshold=threshold)
    if not rows:
        needed = trainings_needed(0, level=LEVEL)
        return Answer(
            f"It cannot be said yet which is {asked}: no configuration was trained under fresh "
            f"seeds, and {needed} trainings of one show it at best.",
            needed,
        )
    shown = next((row for row in rows if row.low >= CHANCE), None)
    if shown is not None:
        return Answer(f"By its lower bound, {asked} is {shown}.")
    likely = next((row for row in rows if row.share >= CHANCE and row.of >= ENOUGH), None)
    closest = likely or max(rows, key=lambda row: (row.low, -row.offer.seconds.value))
    more = closest.needed
    need = (
        f"{more} trainings of it would show it, if none of the further ones fails"
        if more
        else "more trainings of it would hardly show it"
    )
    if likely is not None:
        return Answer(
            f"By the estimate, not by its lower bound, {asked} is {likely}; {need}.", more
        )
    return Answer(
        f"It cannot be said yet which is {asked}. The closest is {closest}; {need}.", more
    )
