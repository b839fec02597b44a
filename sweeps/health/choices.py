"""Which choices were hardly tried, so that nothing can be said of them?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, Final

from optuna.distributions import CategoricalDistribution
from scipy.special import bdtr

from sweeps.health.evidence import Evidence, acting
from sweeps.health.finding import Claim, Finding, Remedy, believed, digits
from sweeps.health.lines import shown
from sweeps.study.ranges import Range

FEWEST: Final = 8
"""Configurations without which all choices are hardly tried."""
HARDLY: Final = 2
"""A choice is hardly tried with no more configurations than this."""
EACH: Final = 4
"""So often the proposed number of startup trials tries each choice."""


def choices(evidence: Evidence) -> Iterator[Finding]:
    """Choices with hardly any configuration, fewer than a draw among equals would give them."""
    configurations = evidence.searched(at_least=FEWEST)
    claims = []
    for range_ in evidence.choices:
        distribution = range_.distribution
        assert isinstance(distribution, CategoricalDistribution)
        tried = Counter(one.params[range_.parameter] for one in acting(range_, configurations))
        counts = {choice: tried[choice] for choice in distribution.choices}
        rarest = min(counts.values())
        if len(counts) > 1 and rarest <= HARDLY:
            # among so many choices the rarest of all
            p = len(counts) * float(bdtr(rarest, sum(counts.values()), 1 / len(counts)))
            claims.append(Claim(p, partial(hardly_tried, evidence, range_, counts, p)))
    yield from believed(claims)


def hardly_tried(
    evidence: Evidence, range_: Range, counts: Mapping[Any, int], p: float
) -> Finding | None:
    """The finding about a field; None on a grid, which tries every choice in its order."""
    settings, every = evidence.study.settings, sum(counts.values())
    wanted = EACH * len(counts)
    if settings.sampler == "grid" or wanted <= settings.startup_trials:
        return None
    few = {shown(range_, choice): count for choice, count in counts.items() if count <= HARDLY}
    named = ", ".join(f"{choice} {times(count)}" for choice, count in few.items())
    return Finding(
        f"Of {range_.field}, {len(few)} of {len(counts)} choices were hardly tried: {named}.",
        f"evenly each had {every / len(counts):.1f} of {every} configurations; {digits(p)}",
        Remedy("set under [study]", f"startup_trials = {wanted}"),
    )


def times(count: int) -> str:
    """How often, in words."""
    return ("never", "once", "twice")[count] if count < 3 else f"{count} times"
