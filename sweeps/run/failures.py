"""Tells a bug, which no further trial would escape, from a trial that went wrong by itself."""

from __future__ import annotations

import re
from collections.abc import Sequence

from optuna.trial import FrozenTrial

from sweeps.endings import NEVER, SETTLED, ended, ending
from sweeps.schema import REASON, Ending, Reason

ENOUGH = 5
"""Equal failures in a row after which a sweep stops."""
NUMBERS = re.compile(r"[0-9a-f]{8,}|[0-9]+")


def bug(trials: Sequence[FrozenTrial]) -> str:
    """Why the last 5 trials to end have failed, if all for the same reason; else empty.

    But for numbers: they name a run, or a place in memory.

    Divergence is no bug: it is what some parameters do.
    """
    settled = [trial for trial in trials if ending(trial) in SETTLED]
    last = sorted(settled, key=lambda trial: (ended(trial) or NEVER, trial.number))[-ENOUGH:]
    reasons = [
        str(trial.user_attrs[REASON]) if ending(trial) == Ending.FAILED else "" for trial in last
    ]
    alike = len({NUMBERS.sub("", reason) for reason in reasons}) == 1
    if not alike or len(last) < ENOUGH or reasons[0].startswith(Reason.DIVERGED):
        return ""
    return reasons[-1]
