"""What an examination of a store finds, and how it is printed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lander.terminal import say


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be."""

    text: str
    repaired: bool = True
    """True: repaired, or repairable (--dry-run). False: needs manual work."""
    trial: int | None = None
    """The number of the trial that it is about, if it is about one trial only."""


def report(findings: Iterable[Finding], *, dry_run: bool = False) -> list[Finding]:
    """Print every finding, each as soon as it is repaired."""
    reported = []
    for finding in findings:
        if finding.repaired:
            say(f"{'would repair' if dry_run else 'repaired'}: {finding.text}")
        else:
            say(f"not repaired: {finding.text}")
        reported.append(finding)
    return reported
