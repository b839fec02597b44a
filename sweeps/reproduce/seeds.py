"""Is a replay on another machine inside of what training seeds do?

Another processor or another torch adds numbers in another order, so that a training takes another
course: as if it had another seed. Its final return is then compared with what fresh trainings of
the same parameters return. A record that was chosen for its luck is no measure of that, so the
comparison is with a confirmation's report seeds, or else with the expected return.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isnan, sqrt
from typing import Final

import numpy as np
import scipy  # imports scipy.special once it is used
from optuna.trial import FrozenTrial, TrialState

from lander.metrics import FINAL_RETURN
from sweeps.estimates import FEWEST, Observed, noise_variance
from sweeps.reproduce.receipt import Numbers, Receipt
from sweeps.schema import CONFIRM_SUFFIX, SEED_INDEX
from sweeps.scores import are_returns, expected, final_means, mean, parameters
from sweeps.study.study import FIRST_REPORT
from sweeps.sweep import Sweep, open_sweep

LEVEL: Final = 0.05
"""A replay is outside of what training seeds do if fewer than so many fresh trainings are as far
from the middle."""


@dataclass(frozen=True, slots=True)
class Fresh:
    """What fresh trainings of some parameters return, as Student's distribution."""

    middle: float
    deviation: float
    """Of a single training."""
    error: float
    """Of the middle."""
    freedom: float
    source: str
    """What it rests on, in words."""

    def p(self, returns: Sequence[float]) -> float:
        """How often the mean of so many fresh trainings is at least as far from the middle."""
        error = sqrt(self.deviation**2 / len(returns) + self.error**2)
        distance = abs(mean(returns) - self.middle)
        if not error:
            return float(distance == 0)
        return float(2 * scipy.special.stdtr(self.freedom, -distance / error))

    def __str__(self) -> str:
        return f"{self.middle:.0f} +- {self.deviation:.0f} ({self.source})"


def fresh_trainings(sweep: Sweep, trial: FrozenTrial) -> Fresh | None:
    """What fresh trainings of a trial's parameters return; None if too little is known."""
    return from_confirmation(sweep, trial) or from_sweep(sweep, trial)


def from_confirmation(sweep: Sweep, trial: FrozenTrial) -> Fresh | None:
    """The same from report seeds, by which nothing was chosen, or from the seeds of points."""
    store, name, first = sweep.store, sweep.study.settings.name, FIRST_REPORT
    trials = list[FrozenTrial]()
    if sweep.study.has_points and not sweep.study.confirms:
        trials, first = sweep.read_trials().counted, 0
    elif name + CONFIRM_SUFFIX in store.study_names():
        trials = open_sweep(store, name + CONFIRM_SUFFIX).read_trials().counted
    returns = [
        final
        for other in trials
        if other.state == TrialState.COMPLETE
        and other.params == trial.params
        and int(other.user_attrs.get(SEED_INDEX, -1)) >= first
        for final in final_means(other)
    ]
    if len(returns) < FEWEST:
        return None
    deviation = float(np.std(returns, ddof=1))
    error, kind = deviation / sqrt(len(returns)), "report seeds" if first else "training seeds"
    source = f"by {len(returns)} trainings under {kind}"
    return Fresh(mean(returns), deviation, error, len(returns) - 1, source)


def from_sweep(sweep: Sweep, trial: FrozenTrial) -> Fresh | None:
    """The same by the model of the expected return, over all trials of the sweep."""
    if sweep.study.confirms:
        sweep = open_sweep(sweep.store, sweep.study.settings.name)
    trials = sweep.read_trials().all
    likely = next(
        (one.likely for one in expected(trials) if one.trial.params == trial.params), None
    )
    if likely is None or isnan(likely.error) or not are_returns(trials):
        return None
    alike = configurations_like(trials, likely.promised)
    variance = noise_variance(alike)
    if len(alike) < FEWEST or not variance > 0:
        return None
    source = f"by the {len(alike)} configurations of the sweep in its half"
    return Fresh(likely.value, sqrt(variance), likely.error, len(alike) - 1, source)


def configurations_like(trials: Sequence[FrozenTrial], value: float) -> list[Observed]:
    """What the final returns of the better half of all parameters say, or those of the worse half
    if the mean of these parameters is among them."""
    same: dict[object, list[FrozenTrial]] = {}
    for trial in trials:
        if trial.state == TrialState.COMPLETE and final_means(trial):
            same.setdefault(parameters(trial), []).append(trial)
    every = [of_finals(group) for group in same.values()]
    centre = float(np.median([one.score for one in every]))
    return [one for one in every if (one.score >= centre) == (value >= centre)]


def of_finals(same: Sequence[FrozenTrial]) -> Observed:
    """What the final returns of trials with equal parameters say about them."""
    finals = [final for trial in same for final in final_means(trial)]
    reported = same[-1].intermediate_values
    checkpoints = [reported[step] for step in sorted(reported)]
    return Observed.of(mean(finals), scores=finals, finals=finals, checkpoints=checkpoints)


def final_returns(receipt: Receipt, numbers: Numbers) -> list[float]:
    """The final return of each training among the numbers of a replay."""
    names = {prefix + FINAL_RETURN for prefix in receipt.prefixes}
    return [value for (name, _), value in numbers.items() if name in names]


def inside(fresh: Fresh, returns: Sequence[float]) -> bool:
    """Whether final returns are inside of what training seeds do."""
    return fresh.p(returns) >= LEVEL


def sentences(
    fresh: Fresh, *, replayed: Sequence[float], recorded: Sequence[float]
) -> Iterator[str]:
    """The comparison, and what its p means."""
    where = "inside" if inside(fresh, replayed) else "outside"
    yield (
        f"the replay returns {mean(replayed):.1f}, recorded {mean(recorded):.1f}: {where} of what "
        f"training seeds do, {fresh}, p {fresh.p(replayed):.2g}"
    )
    yield (
        "p: the share of fresh trainings of these parameters that would return at least as far "
        "from their middle; a machine that trains worse by less than their spread is not noticed"
    )
