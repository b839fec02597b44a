"""What an examination of a sweep came to; light, so that every command may import it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sweeps.health.finding import Finding


@dataclass(frozen=True, slots=True)
class Health:
    """What a sweep says about itself."""

    study: str
    trials: int
    """Those that have ended."""
    findings: Sequence[Finding]
    open: Mapping[str, str]
    """The checks for which it has too little, and what they take."""

    @property
    def state(self) -> str:
        """The result in one line."""
        of = f"{self.trials} trial{'s' * (self.trials != 1)}"
        if self.findings:
            return f"{len(self.findings)} finding{'s' * (len(self.findings) != 1)} in {of}"
        left_out = f"; not examined: {', '.join(self.open)}" if self.open else ""
        return f"nothing is wrong, as far as {of} can tell{left_out}"

    @property
    def record(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return asdict(self)
