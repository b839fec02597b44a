"""Small models of a sweep: how its fields' values go with the ranks of what they are worth.

Letters of shapes: N configurations, C columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import fdtrc, ncfdtr
from scipy.stats import rankdata

from sweeps.health.evidence import Configuration, Floats, is_choice, positions, worths
from sweeps.study.ranges import Range


def columns(range_: Range, configurations: Sequence[Configuration]) -> Floats:
    """(N, C): a field's values for a linear model; 0 where the field does nothing.

    A number by its position and the square of that, so that the best may lie in the middle; choices
    by a column each that was tried.
    """
    values = [one.params.get(range_.parameter) for one in configurations]
    if is_choice(range_):
        tried = [value for value in dict.fromkeys(values) if value is not None]
        one_each: Floats = np.array([[float(v == choice) for choice in tried] for v in values])
        return one_each
    at = 2 * positions(range_, configurations) - 1
    both: Floats = np.nan_to_num(np.column_stack([at, at**2 - 1 / 3]))
    return both


def ranks(configurations: Sequence[Configuration]) -> Floats:
    """(N,): the ranks of what they are worth, about 0: a few failures far below count no more than
    others that are low."""
    order = rankdata(worths(configurations)) / len(configurations)
    centred: Floats = order - order.mean()
    return centred


@dataclass(frozen=True, slots=True)
class Effect:
    """How much of the ranks a field accounts for by itself, in some configurations."""

    share: float
    """R2 of `columns`."""
    p: float
    """How likely so high a share is if the field has no effect: by the F test."""
    columns: int
    count: int
    """Configurations."""

    def highest(self, level: float) -> float:
        """The upper end of the share's one-sided interval, which is too low in a share `level` of
        cases: the largest true share under which one so low is not too rare.

        By the noncentral F distribution (Steiger 2004, doi:10.1037/1082-989X.9.2.164), whose
        noncentrality is N R2 / (1 - R2).
        """
        freedom = self.count - self.columns - 1
        f = self.share / self.columns / max(1 - self.share, 1e-12) * freedom

        def likely(share: float) -> float:
            return float(ncfdtr(self.columns, freedom, self.count * share / (1 - share), f))

        low, high = 0.0, 0.999
        for _ in range(40):  # halves it to less than anybody reads
            middle = (low + high) / 2
            low, high = (middle, high) if likely(middle) > level else (low, middle)
        return high


def effect_of(range_: Range, configurations: Sequence[Configuration]) -> Effect | None:
    """The effect of one field; None if it does not vary, or too few configurations have it."""
    x, y = columns(range_, configurations), ranks(configurations)
    centred = x - x.mean(axis=0)
    centred = centred[:, np.abs(centred).max(axis=0) > 1e-9] if len(x) else centred
    rank = int(np.linalg.matrix_rank(centred)) if centred.size else 0
    freedom = len(y) - rank - 1
    if not rank or freedom < 1 or not y.any():
        return None
    fitted = centred @ np.linalg.lstsq(centred, y, rcond=None)[0]
    share = float(np.clip(fitted @ fitted / (y @ y), 0, 1))
    f = share / rank / max(1 - share, 1e-12) * freedom
    return Effect(share, float(fdtrc(rank, freedom, f)), rank, len(y))
