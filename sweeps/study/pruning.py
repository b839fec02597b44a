"""The median rule, for a history of thousands of trials."""

from __future__ import annotations

import math
from array import array
from collections import defaultdict

import numpy as np
from optuna import Study
from optuna.pruners import BasePruner
from optuna.trial import FrozenTrial, TrialState

from sweeps.schema import AUDITED
from sweeps.study.history import NewTrials


class MedianRule(BasePruner):
    """Prunes a trial whose best value so far is below the median of finished trials at this step.

    The same rule, with the same arguments, as Optuna's `MedianPruner`, which goes through all
    trials at every report. What finished trials reported does not change: it is kept by step.
    Trials that only the audit has let finish are left out: they would make the rule a weaker one.
    For studies that maximise; one object serves one study.
    """

    def __init__(
        self,
        *,
        n_startup_trials: int = 5,
        n_warmup_steps: int = 0,
        interval_steps: int = 1,
        n_min_trials: int = 1,
    ) -> None:
        self._n_startup_trials = n_startup_trials
        self._n_warmup_steps = n_warmup_steps
        self._interval_steps = interval_steps
        self._n_min_trials = n_min_trials
        self._new = NewTrials()
        self._reported: defaultdict[int, array[float]] = defaultdict(lambda: array("d"))
        """Step -> what finished trials reported there."""

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        step = trial.last_step
        if step is None or not self._looks_at(step, trial):
            return False
        finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        for new in self._new.among(finished):
            if AUDITED not in new.user_attrs:
                for earlier, value in new.intermediate_values.items():
                    self._reported[earlier].append(value)
        if not finished or len(finished) < self._n_startup_trials:
            return False
        values = [value for value in trial.intermediate_values.values() if not math.isnan(value)]
        if not values:
            return True
        return max(values) < self._median(step)

    def _looks_at(self, step: int, trial: FrozenTrial) -> bool:
        """Whether this is the first report of a trial in its interval, after the warm-up."""
        if step < self._n_warmup_steps:
            return False
        begin = (
            step - self._n_warmup_steps
        ) // self._interval_steps * self._interval_steps + self._n_warmup_steps
        return all(other < begin for other in trial.intermediate_values if other != step)

    def _median(self, step: int) -> float:
        """The median at a step; NaN, which nothing is below, if too few reported a number."""
        values = np.array(self._reported.get(step, ()), dtype=float)
        if len(values) < self._n_min_trials or np.isnan(values).all():
            return math.nan
        return float(np.nanpercentile(values, 50))
