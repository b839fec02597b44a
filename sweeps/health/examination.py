"""All questions put to a sweep, and the answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from sweeps.endings import SETTLED, ending
from sweeps.health.agreement import agreement
from sweeps.health.choices import choices
from sweeps.health.effects import effects
from sweeps.health.ends import ends
from sweeps.health.evidence import Evidence
from sweeps.health.failures import failures
from sweeps.health.finding import Finding, TooLittle
from sweeps.health.noise import noise
from sweeps.health.plateau import plateau
from sweeps.health.prediction import prediction
from sweeps.health.pruning import pruning
from sweeps.health.record import Health

CHECKS: Final[Mapping[str, Callable[[Evidence], Iterator[Finding]]]] = {
    "failures": failures,
    "noise": noise,
    "prediction": prediction,
    "ends": ends,
    "choices": choices,
    "effects": effects,
    "plateau": plateau,
    "pruning": pruning,
    "agreement": agreement,
}
"""What casts doubt on all the rest stands first."""


def examine(evidence: Evidence) -> Health:
    """Put every question to a sweep."""
    findings, open_ = list[Finding](), dict[str, str]()
    for name, check in CHECKS.items():
        try:
            findings += check(evidence)
        except TooLittle as reason:
            open_[name] = str(reason)
    ended = sum(ending(trial) in SETTLED for trial in evidence.trials.counted)
    return Health(evidence.study.name, ended, findings, open_)
