"""Which searched fields have no effect that could be measured, beside others that have one?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from sweeps.health.evidence import Evidence, acting
from sweeps.health.finding import Finding, Remedy, TooLittle, digits
from sweeps.health.lines import line
from sweeps.health.model import effect_of
from sweeps.scores import CONFIDENCE

FEWEST: Final = 20
"""With fewer configurations no field can be said to have no effect."""
MATTERS: Final = 0.25
"""The share of the ranks that a field accounts for if it is worth to be searched: a field whose
interval lies below it is not."""


def effects(evidence: Evidence) -> Iterator[Finding]:
    """Fields that account for little of the ranks, with an interval that says so.

    That a test does not reject is no proof: the upper end of the interval has to be low, at a level
    divided by the number of fields. If no other field has an effect, the scores as a whole cannot
    be predicted, and `prediction` says that.
    """
    configurations = evidence.searched(at_least=FEWEST)
    space = evidence.study.space
    measured = {
        name: effect
        for name, range_ in space.items()
        if (effect := effect_of(range_, acting(range_, configurations))) is not None
    }
    level = (1 - CONFIDENCE) / max(1, len(measured))
    if all(effect.p > level for effect in measured.values()):
        raise TooLittle("no field has an effect that could be measured")
    for name, effect in measured.items():
        highest = effect.highest(level)
        if effect.p > 1 - CONFIDENCE and highest < MATTERS:
            yield Finding(
                f"{name} has no effect that could be measured.",
                f"it accounts for {effect.share:.0%} of the ranks of the expected returns, and for "
                f"{highest:.0%} at most, {digits(effect.p)}, {effect.count} configurations",
                Remedy("leave out of [space]", line(space[name])),
            )
