"""The audit of a pruner: some trials that it would have ended show what was lost by the others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import comb, sqrt
from statistics import NormalDist
from typing import Final

import numpy as np
from optuna.trial import FrozenTrial

from lander.terminal import counted
from sweeps.endings import ending, seconds
from sweeps.schema import AUDITED, Ending
from sweeps.study.settings import Settings

STREAM: Final = 2_147_483_647
"""Tells the draws of the audit from those of other purposes."""
BEST_PART: Final = 0.25
"""A prune was false if the trial would have ended in the best quarter. A pruner that is blind loses
that share of them, as often as it prunes."""
ACCEPTED: Final = 0.1
"""The pruner should be loosened once the rate of false prunes is above this for sure."""
CONFIDENCE: Final = 0.95
"""Level of the interval of the rate."""


def is_audited(settings: Settings, number: int) -> bool:
    """Whether a trial is trained on where the pruner would end it; a retry has the number of its
    first attempt, and so the same answer."""
    rng = np.random.default_rng((settings.seed, number, STREAM))
    return bool(rng.random() < settings.audit)


@dataclass(frozen=True, slots=True)
class Audit:
    """What is known of the trials that the pruner ended, or would have."""

    pruned: int = 0
    """Trials that it ended."""
    audited: int = 0
    """Trials that it would have ended and that were trained to their end."""
    false: int = 0
    """How many of those ended in the best quarter."""
    cost: float | None = None
    """Seconds for which they were trained on, by the share of their reports; None if unknown."""
    saved: float | None = None
    """Seconds for which the pruned ones would have been, likewise."""

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's interval of the rate of false prunes."""
        return wilson(self.false, self.audited)

    @property
    def loosen(self) -> bool:
        """Whether so many false prunes are too many for luck at the accepted rate."""
        return chance_of(self.false, self.audited, ACCEPTED) < (1 - CONFIDENCE) / 2

    @property
    def verdict(self) -> str:
        """loosen or keep, and why; empty if no trial was audited."""
        if not self.audited:
            return ""
        _, high = self.interval
        if self.loosen:
            return f"loosen it: it loses more than {ACCEPTED:.0%} of the trials that it ends"
        if high >= BEST_PART:
            return "keep it: too few audited trials to say more"
        return f"keep it: ending trials blindly would lose {BEST_PART:.0%}"

    def __str__(self) -> str:
        saved = "" if self.saved is None else f", which saved about {self.saved:,.0f} s"
        if not self.audited:
            return f"ended {counted(self.pruned, 'trial')}{saved}; none was audited yet"
        return f"{self.verdict}; {self.numbers}"

    @property
    def numbers(self) -> str:
        """The rate of false prunes, what the audit took and what pruning saved, in words."""
        saved = "" if self.saved is None else f", which saved about {self.saved:,.0f} s"
        low, high = self.interval
        cost = "" if self.cost is None else f", which took {self.cost:,.0f} s more"
        return (
            f"{self.false} of {self.audited} audited trials ended in the best "
            f"quarter, {self.false / self.audited:.0%} [{low:.0%}, {high:.0%}]{cost}; it "
            f"ended {counted(self.pruned, 'other')}{saved}"
        )


def audit_of(trials: Iterable[FrozenTrial], *, reports: int | None = None) -> Audit:
    """The audit of the trials of a sweep. `reports` of a finished trial: without them the times
    stay unknown."""
    every = list(trials)
    finished = [trial for trial in every if ending(trial) == Ending.FINISHED]
    audited = [trial for trial in finished if AUDITED in trial.user_attrs]
    others = [trial.values[0] for trial in finished if AUDITED not in trial.user_attrs]
    pruned = [trial for trial in every if ending(trial) == Ending.PRUNED]
    false = sum(in_best_part(trial.values[0], others) for trial in audited)
    if reports is None:
        return Audit(len(pruned), len(audited), false)
    cost = sum(
        (seconds(trial) or 0.0) * (1 - int(trial.user_attrs[AUDITED]) / reports)
        for trial in audited
    )
    saved = sum(
        (seconds(trial) or 0.0) * (reports / max(trial.intermediate_values) - 1)
        for trial in pruned
        if trial.intermediate_values
    )
    return Audit(len(pruned), len(audited), false, cost, saved)


def in_best_part(score: float, others: Sequence[float]) -> bool:
    """Whether fewer than a quarter of the trials that were never to be pruned scored more."""
    return sum(other > score for other in others) < BEST_PART * len(others)


def chance_of(count: int, of: int, rate: float) -> float:
    """The probability that at least so many of some cases occur at this rate."""
    return sum(comb(of, k) * rate**k * (1 - rate) ** (of - k) for k in range(count, of + 1))


def wilson(count: int, of: int) -> tuple[float, float]:
    """Wilson's interval of a share (1927, doi:10.2307/2276774); the whole range if of nothing."""
    if not of:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    share, shrunk = count / of, 1 + z * z / of
    centre = (share + z * z / (2 * of)) / shrunk
    half = z / shrunk * sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    return max(0.0, centre - half), min(1.0, centre + half)
