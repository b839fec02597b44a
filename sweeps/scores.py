"""The score of a trial over its training seeds, what to expect of its parameters, and the best one.

Status, charts and analysis rank trials by the expected return; samplers learn from the score.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple

import numpy as np
from optuna.trial import BaseTrial, FrozenTrial, TrialState

from sweeps.endings import NEVER, ended, root
from sweeps.estimates import Expected, Observed, expected_returns
from sweeps.schema import OWN_SCORE, POINT, RETURNS, SEED_SCORES

CONFIDENCE: Final = 0.95
"""Level of every interval that is shown."""


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean."""
    return float(np.mean(values))


def iqm(values: Sequence[float]) -> float:
    """Interquartile mean: the mean without the lowest and the highest quarter of the values, each
    rounded down to whole values (Agarwal et al. 2021, arXiv:2108.13264)."""
    cut = len(values) // 4  # not scipy's trim_mean: a bootstrap calls this ten thousand times
    return mean(sorted(values)[cut : len(values) - cut])


def median_index(scores: Sequence[float]) -> int:
    """Where the median of some trainings' scores is, the lower of two: which training to show.

    A better one would show luck, not what to expect.
    """
    order = sorted(range(len(scores)), key=scores.__getitem__)
    return order[(len(scores) - 1) // 2]


SCORES: Final[Mapping[str, Callable[[Sequence[float]], float]]] = {
    "mean": mean,
    "iqm": iqm,
    "worst_seed": min,
}
"""How the scores of training seeds become one, by the value of `score` in a study file."""


def seed_scores(trial: FrozenTrial) -> list[float]:
    """The score under each training seed that has finished, by the `training_score` of the study.

    Of a trial that an earlier version recorded: the mean final return.
    """
    if SEED_SCORES in trial.user_attrs:
        return list(trial.user_attrs[SEED_SCORES])
    return final_means(trial)


def final_means(trial: FrozenTrial) -> list[float]:
    """Mean return of the final episodes of each training: what its last weights are worth, whereas
    a score may be that of several checkpoints."""
    return [mean(returns) for returns in trial.user_attrs.get(RETURNS, [])]


def last_return(trial: FrozenTrial) -> float | None:
    """The score of a finished trial, the return so far of a pruned one, or None."""
    if trial.state == TrialState.PRUNED and RETURNS in trial.user_attrs:
        return mean(seed_scores(trial))
    return trial.values[0] if trial.values else None


def are_returns(trials: Iterable[FrozenTrial]) -> bool:
    """Whether the scores of these trials can be compared with returns: not areas, nor times."""
    return not any(OWN_SCORE in trial.user_attrs for trial in trials)


def with_last_return(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Trials that finished, or were pruned after a checkpoint: by `last_return` they can be
    compared. Without the pruned ones where scores are no returns."""
    states = {TrialState.COMPLETE}
    if are_returns(trials):
        states.add(TrialState.PRUNED)
    return [trial for trial in trials if trial.state in states and last_return(trial) is not None]


def violated(trial: FrozenTrial) -> list[str]:
    """The constraints of its study that a finished trial does not keep."""
    return [name for name, excess in trial.constraints.items() if excess > 0]


class Ranked(NamedTuple):
    """A finished trial, and what to expect of its parameters."""

    trial: FrozenTrial
    likely: Expected


def expected(trials: Iterable[FrozenTrial]) -> list[Ranked]:
    """Finished trials and what to expect of their parameters, the best first, and behind all others
    those that violate a constraint.

    Of trials with the same parameters only the last to finish: its score includes all of them.
    Equal ones in the order of their scores, then of their numbers.
    """
    finished = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    finished.sort(key=lambda trial: (ended_at(trial), trial.number))
    same: dict[tuple[tuple[str, object], ...], list[FrozenTrial]] = {}
    for trial in finished:
        same.setdefault(parameters(trial), []).append(trial)
    likely = expected_returns(list(map(observed, same.values())))
    pairs = [Ranked(group[-1], one) for group, one in zip(same.values(), likely, strict=True)]
    pairs.sort(
        key=lambda one: (
            bool(violated(one.trial)),
            -one.likely.value,
            -one.trial.values[0],
            one.trial.number,
        )
    )
    return pairs


def observed(same: Sequence[FrozenTrial]) -> Observed:
    """What finished trials of the same parameters say about them, in the order of their ends."""
    reported, scores = same[-1].intermediate_values, [s for t in same for s in seed_scores(t)]
    if OWN_SCORE in same[-1].user_attrs:
        return Observed.of(same[-1].values[0], scores=scores, finals=[], checkpoints=[])
    return Observed.of(
        same[-1].values[0],
        scores=scores,
        finals=[final for trial in same for final in final_means(trial)],
        checkpoints=[reported[step] for step in sorted(reported)],
    )


def ranked(trials: Iterable[FrozenTrial]) -> list[FrozenTrial]:
    """Finished trials, the highest expected return first, as `expected`."""
    return [trial for trial, _ in expected(trials)]


def best_so_far(trials: Iterable[FrozenTrial]) -> list[float]:
    """The highest score after each finished trial, in the order of their numbers.

    It falls when the parameters that had it are trained again and score less.
    """
    last: dict[tuple[tuple[str, object], ...], FrozenTrial] = {}
    best, bests = -np.inf, list[float]()
    for trial in sorted(trials, key=lambda trial: trial.number):
        key = parameters(trial)
        before = last.get(key)
        if before is None or ended_at(before) <= ended_at(trial):
            last[key] = trial
        if before is not None and before.values[0] == best:
            best = max(other.values[0] for other in last.values())
        best = max(best, last[key].values[0])
        bests.append(best)
    return bests


def ended_at(trial: FrozenTrial) -> datetime:
    """When a finished trial ended, in UTC; `NEVER` if that is unknown."""
    return ended(trial) or NEVER


def parameters(trial: BaseTrial) -> tuple[tuple[str, object], ...]:
    """A key that is equal for trials of the same named point, or else of the same parameters."""
    point = trial.user_attrs.get(POINT)
    # in a confirmation it is a number; a point that is older than others may lack a parameter
    return ((POINT, point),) if isinstance(point, str) else tuple(sorted(trial.params.items()))


def best_of(trials: Iterable[FrozenTrial]) -> FrozenTrial | None:
    """The finished trial with the highest expected return; None if none has finished."""
    return next(iter(ranked(trials)), None)


def best_expected(trials: Iterable[FrozenTrial]) -> Ranked | None:
    """The same, with its expected return."""
    return next(iter(expected(trials)), None)


def base_among(trials: Iterable[FrozenTrial], ranks: Iterable[Ranked]) -> Ranked | None:
    """What the parameters of trial 0, the base of a search or the first of some points, had among
    the finished trials; None if that has not finished."""
    first = next((trial for trial in trials if root(trial) == 0), None)
    if first is None:
        return None
    base = parameters(first)
    return next((one for one in ranks if parameters(one.trial) == base), None)


def promise(number: int, likely: Expected) -> str:
    """A finished trial by its number, what it returned, and what to expect of its parameters.

    >>> promise(12, Expected(231.4, 18.1, promised=265.2))
    'trial 12, promised 265.2, expect 231 +- 18'
    """
    over = f" after {likely.trainings} trainings" if likely.trainings > 1 else ""
    return f"trial {number}, promised {likely.promised:.1f}, expect {likely}{over}"
