"""Do deterministic and sampled actions rank the trials alike?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from optuna.trial import TrialState

from sweeps.health.evidence import Evidence
from sweeps.health.finding import Finding, Remedy, TooLittle
from sweeps.intervals import rank_correlation
from sweeps.schema import RUN_ID
from sweeps.scores import final_means, mean

FEWEST: Final = 8
"""Finished trials that it takes."""
ALIKE: Final = 0.7
"""Two rankings differ if the interval of their rank correlation lies below this."""


def agreement(evidence: Evidence) -> Iterator[Finding]:
    """If trials rank differently when their policies sample actions, as they do in training."""
    if evidence.sampled is None:
        raise TooLittle("MLflow, which has the sampled returns, does not answer")
    base = evidence.study.base
    pairs = [
        (mean(final_means(trial)), evidence.sampled[str(trial.user_attrs[RUN_ID])])
        for trial in evidence.trials.counted
        if trial.state == TrialState.COMPLETE
        and final_means(trial)
        and trial.user_attrs.get(RUN_ID) in evidence.sampled
    ]
    pairs = [pair for pair in pairs if np.isfinite(pair).all()]
    rho = rank_correlation(*zip(*pairs, strict=True)) if pairs else None
    if rho is None or len(pairs) < FEWEST or not np.isfinite(rho.value):
        raise TooLittle(f"it takes {FEWEST} finished trials with sampled returns that differ")
    if (rho.high if np.isfinite(rho.high) else rho.value) < ALIKE:  # two equal orders have none
        episodes = 2 * max(base.final_episodes, base.sampled_episodes)
        more = base.final_episodes if base.sampled_episodes < base.final_episodes else episodes
        yield Finding(
            "Deterministic and sampled actions rank the trials differently.",
            f"rank correlation of the mean returns {rho:.2f}, {len(pairs)} finished trials; "
            f"{base.final_episodes} deterministic episodes each, {base.sampled_episodes} sampled",
            Remedy("set under [base]", f"sampled_episodes = {more}"),
        )
