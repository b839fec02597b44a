"""Has the search stopped to get better?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from optuna.trial import TrialState

from sweeps.endings import SETTLED, ending
from sweeps.health.evidence import Evidence
from sweeps.health.finding import Finding, Remedy, TooLittle
from sweeps.hints import hint
from sweeps.scores import best_expected, ended_at, parameters

LAST: Final = 1 / 3
"""The share of the trials that is looked at."""
FEWEST: Final = 10
"""New configurations among these without which nothing can be expected of them."""
PROPOSING: Final = ("tpe", "gp", "cmaes")
"""Samplers that learn from earlier trials: of any others a later part is no better than the
first."""


def plateau(evidence: Evidence) -> Iterator[Finding]:
    """If the best expected return has not risen over the last third by more than its error."""
    if evidence.study.settings.sampler not in PROPOSING or evidence.study.has_points:
        raise TooLittle("its sampler does not learn from earlier trials")
    ended = [trial for trial in evidence.trials.counted if ending(trial) in SETTLED]
    ended.sort(key=lambda trial: (ended_at(trial), trial.number))
    cut = len(ended) - round(LAST * len(ended))
    before = {parameters(trial) for trial in ended[:cut]}
    new = {parameters(trial) for trial in ended[cut:]} - before
    if len(new) < FEWEST:
        raise TooLittle(f"it takes {FEWEST} new configurations in the last third, not {len(new)}")
    then, now = best_expected(ended[:cut]), best_expected(ended)
    if then is None or now is None or not np.isfinite(now.likely.error):
        raise TooLittle("nothing tells how noisy the scores are")
    if now.likely.value - then.likely.value <= now.likely.error:
        finished = sum(trial.state == TrialState.COMPLETE for trial in ended[cut:])
        yield Finding(
            f"The last {len(ended) - cut} trials have not raised the best expected return.",
            f"it is {now.likely} now and was {then.likely} before; {len(new)} new configurations, "
            f"{finished} of these trials finished",
            Remedy("run", hint("confirm", evidence.folder, study=evidence.study.name)),
        )
