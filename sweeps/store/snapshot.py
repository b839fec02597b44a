"""The trials of a sweep at one moment: read from Optuna's database once, then counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import optuna
from optuna.trial import FrozenTrial

from sweeps.endings import SETTLED, counts, ending
from sweeps.schema import BUDGET, Ending
from sweeps.scores import best_of


@dataclass(frozen=True)
class Trials:
    """What one reading of the database returned. `read_trials` makes it; it never changes."""

    all: Sequence[FrozenTrial]
    """Every trial by number, including those that were lost, interrupted or withdrawn."""
    budget: int
    """How many trials the sweep was last asked for."""

    @property
    def counted(self) -> list[FrozenTrial]:
        """Trials that use the budget: a lost or interrupted one does not, its retry does."""
        return [trial for trial in self.all if counts(trial)]

    @property
    def total(self) -> int:
        """How many trials count when the sweep is over."""
        return max(self.budget, len(self.counted))

    @property
    def left(self) -> int:
        """How many trials no worker has begun, retries included."""
        return self.total - sum(ending(trial) in SETTLED for trial in self.all) - self.running

    @property
    def running(self) -> int:
        """How many trials are being trained, by any worker."""
        return sum(ending(trial) == Ending.RUNNING for trial in self.all)

    @property
    def best(self) -> FrozenTrial | None:
        """The best finished trial by its score in the sweep, confirmed or not."""
        return best_of(self.all)


def read_trials(study: optuna.Study) -> Trials:
    """Read all trials of a study, and its budget."""
    return Trials(study.get_trials(deepcopy=False), int(study.user_attrs.get(BUDGET, 0)))
