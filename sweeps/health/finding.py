"""What a check says about a sweep, and which of many tests are to be believed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

LEVEL: Final = 0.02
"""The share of sweeps in which a check may see a difference where none is. Three checks test for
one: at the ends of ranges, between choices, and where trials fail."""


@dataclass(frozen=True, slots=True)
class Remedy:
    """What to do about a finding."""

    do: str
    """What is done with the text, as "set under [study]"."""
    paste: str
    """A line of a study file, or a command."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that a sweep says about itself."""

    sentence: str
    evidence: str
    """The numbers behind it, with their counts and intervals."""
    remedy: Remedy


class TooLittle(Exception):  # a check ends with it
    """A check needs more than the sweep has; the message says what."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One of several claims that a check tests at once."""

    p: float
    finding: Callable[[], Finding | None]
    """What follows if it rejects; None: nothing that one could act on."""


def believed(claims: Sequence[Claim]) -> Iterator[Finding]:
    """What follows from the claims whose tests reject at `LEVEL` altogether (Holm 1979)."""
    for rank, claim in enumerate(sorted(claims, key=lambda claim: claim.p)):
        if claim.p > LEVEL / (len(claims) - rank):
            return
        finding = claim.finding()
        if finding is not None:
            yield finding


def digits(p: float) -> str:
    """A p as text."""
    return f"p {p:.2g}" if p >= 0.0001 else "p below 0.0001"
