"""What an examination of a store finds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be, for people."""

    text: str
    mended: bool = True
    """True: repaired, or repairable (--dry-run). False: needs manual work."""
    trial: int | None = None
    """The one that it is about, and no other."""
