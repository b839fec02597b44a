"""Do the best values lie at an end of a range, so that better ones may lie beyond it?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from math import ceil
from typing import Final

import numpy as np
from scipy.special import stdtr

from sweeps.health.evidence import Configuration, Evidence, acting, positions, worths
from sweeps.health.finding import Claim, Finding, Remedy, believed, digits
from sweeps.health.lines import line, widened
from sweeps.intervals import Estimate, rank_correlation
from sweeps.study.ranges import Range
from sweeps.study.study import Study

FEWEST: Final = 8
"""Configurations without which no end is looked at."""
BEST: Final = 0.25
"""The share of the configurations that are the best."""
END: Final = 0.2
"""The share of a range, on the scale on which it is searched, that is an end of it."""
AT_LEAST: Final = 0.5
"""The share of the best that has to lie in an end."""


def ends(evidence: Evidence) -> Iterator[Finding]:
    """Ranges with the best values at an end, where the worth also rises towards that end.

    The second is Spearman's test. A count in the end alone proves nothing: the sampler may have
    gone there for a few lucky scores.
    """
    configurations = evidence.searched(at_least=FEWEST)
    claims = []
    for range_ in evidence.numbers:
        some = acting(range_, configurations)
        rho = rank_correlation(positions(range_, some).tolist(), worths(some).tolist())
        if len(some) >= FEWEST and np.isfinite(rho.value):
            finding = partial(at_end, evidence.study, range_, some, rho)
            claims.append(Claim(p_of(rho.value, len(some)), finding))
    yield from believed(claims)


def p_of(rho: float, count: int) -> float:
    """How likely so strong a rank correlation is, in either direction, if there is none.

    t = rho sqrt((n - 2) / (1 - rho^2)), by Student's distribution
    """
    if abs(rho) >= 1:
        return 0.0
    t = abs(rho) * np.sqrt((count - 2) / (1 - rho**2))
    return 2 * float(stdtr(count - 2, -t))


def at_end(
    study: Study, range_: Range, some: Sequence[Configuration], rho: Estimate
) -> Finding | None:
    """The finding if enough of the best lie in the end to which the worth rises, and a further
    value can be trained."""
    upward = rho.value > 0
    at = positions(range_, some)
    inside = at >= 1 - END if upward else at <= END
    best = np.argsort(-worths(some), kind="stable")[: ceil(BEST * len(some))]
    count = int(inside[best].sum())
    wide = widened(range_, study, upward=upward) if count >= AT_LEAST * len(best) else None
    if wide is None:
        return None
    end = max(range_.ends()) if upward else min(range_.ends())
    return Finding(
        f"The best values of {range_.field} lie at the {'upper' if upward else 'lower'} end of its "
        f"range, {end:g}.",
        f"{count} of the best {len(best)} configurations lie in the last {END:.0%} of the range, "
        f"as do {int(inside.sum())} of all {len(some)}; rank correlation of value and expected "
        f"return {rho:.2f}, {digits(p_of(rho.value, len(some)))}",
        Remedy("set under [space]", line(wide)),
    )
