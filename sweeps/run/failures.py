"""Detects the failure that every further trial would repeat, so that a sweep can stop early."""

from __future__ import annotations

import re
from collections.abc import Sequence

from optuna.trial import FrozenTrial

from sweeps.endings import NEVER, SETTLED, ended, ending, is_divergence, why
from sweeps.schema import Ending

ENOUGH = 5
"""After so many failures in a row for the same reason a sweep stops."""
NUMBERS = re.compile(r"[0-9a-f]{8,}|[0-9]+")
"""What may differ between equal reasons: ids of runs, addresses in memory, numbers of trials."""


def repeated_failure(trials: Sequence[FrozenTrial]) -> str:
    """The reason for which each of the last 5 trials to end has failed; empty if there is none.

    Divergence does not count: some parameters diverge.
    """
    settled = [trial for trial in trials if ending(trial) in (*SETTLED, Ending.RETRIED)]
    last = sorted(settled, key=lambda trial: (ended(trial) or NEVER, trial.number))[-ENOUGH:]
    reasons = [
        why(trial) if ending(trial) in (Ending.FAILED, Ending.RETRIED) else "" for trial in last
    ]
    alike = len({NUMBERS.sub("", reason) for reason in reasons}) == 1
    if not alike or len(last) < ENOUGH or is_divergence(reasons[0]):
        return ""
    return reasons[-1]
