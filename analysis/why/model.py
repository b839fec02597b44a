"""What the trials of a sweep say about its space: a quadratic of all searched fields.

Bayesian ridge regression (Bishop 2006, section 3.3) of the return on each field, its square, and
the product of every two fields, each field on the scale on which it is searched. Few noisy trials
say little: `Model.explained` is how much of trials that were left out it predicts, and whatever
else is said rests on it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Final

import numpy as np
import scipy  # imports scipy.special once it is used
from optuna.trial import FrozenTrial

from analysis.stats import Floats
from sweeps.charts.importance import score_of
from sweeps.charts.style import floor_of
from sweeps.scores import with_last_return
from sweeps.study.space import Space
from sweeps.study.timing import columns_of

FEWEST: Final = 12
"""Fewer trials that ended with a return say nothing about a quadratic."""
STRENGTHS: Final = tuple(10.0**power for power in range(-2, 4))
"""Ratios of the variance of noise to that of a slope, of which the best for left-out trials is
taken."""
CURVED: Final = 0.5
"""How large squares and products are expected to be, in relation to the fields themselves."""
DRAWS: Final = 4_096
"""Random points of the space over which shares of variance are taken."""
MIDDLE: Final = 1 / 12
"""The mean square of a field, which lies evenly from -0.5 to 0.5."""

Pair = tuple[str, str]


@dataclass(frozen=True)
class Model:
    """A quadratic of the searched fields, and how sure it is."""

    space: Space
    features: Floats
    """(n, p): of the trials behind it."""
    inverse: Floats
    """(n, n): of the covariance of their returns, as a multiple of a slope's variance."""
    weights: Floats
    """(n,)."""
    variance: float
    """Of a slope."""
    explained: float
    """The share of the variance of left-out returns that it predicts; below 0: it misleads."""

    @property
    def slopes(self) -> Floats:
        """(p,)."""
        return np.asarray(self.features.T @ self.weights)

    def gain(self, points: Floats, base: Floats) -> Floats:
        """The expected return at points (m, columns), minus that of the base."""
        return np.asarray((self.expand(points) - self.expand(base[None])) @ self.slopes)

    def not_worse(self, points: Floats, base: Floats) -> Floats:
        """The probability that points (m, columns) return on average as much as the base."""
        apart = self.expand(points) - self.expand(base[None])
        known = apart @ self.features.T
        left = np.sum(apart**2, axis=1) - np.einsum("ij,jk,ik->i", known, self.inverse, known)
        spread = np.sqrt(self.variance * np.maximum(left, 1e-12))
        return np.asarray(scipy.special.ndtr(apart @ self.slopes / spread))

    def expand(self, points: Floats) -> Floats:
        """Columns of points as features, (m, p)."""
        return np.concatenate([part for _, part in terms(points, self.space)], axis=1)

    def pairs(self, *, seed: int = 0) -> dict[Pair, float]:
        """The share of each pair of fields in the variance over the space that the two make only
        together, the largest first."""
        rng = np.random.default_rng(seed)
        points = at_shares(rng.random((DRAWS, len(self.space))), self.space)
        total, first = float(np.var(self.expand(points) @ self.slopes)), 0
        shares = dict[Pair, float]()
        for names, part in terms(points, self.space):
            own = self.slopes[first : first + part.shape[1]]
            first += part.shape[1]
            if len(names) == 2:
                shares[names[0], names[1]] = float(np.var(part @ own)) / total if total else 0.0
        return dict(sorted(shares.items(), key=lambda item: -item[1]))


def terms(points: Floats, space: Space) -> list[tuple[tuple[str, ...], Floats]]:
    """Features by the fields they are made of: each field with its square, then each pair. All have
    about the same variance over the space, but those of pairs and squares, which have less."""
    blocks, first = dict[str, Floats](), 0
    for name, range_ in space.items():
        width = len(columns_of(range_, {}))
        block = points[:, first : first + width]
        first += width
        blocks[name] = (block - 1 / width if width > 1 else block) / MIDDLE**0.5
    single: list[tuple[tuple[str, ...], Floats]] = []
    for name, block in blocks.items():
        curved = CURVED * (block**2 - 1) if block.shape[1] == 1 else block[:, :0]
        single.append(((name,), np.concatenate([block, curved], axis=1)))
    paired: list[tuple[tuple[str, ...], Floats]] = [
        ((one, other), CURVED * np.einsum("mi,mj->mij", a, b).reshape(len(points), -1))
        for (one, a), (other, b) in combinations(blocks.items(), 2)
    ]
    return [*single, *paired]


def vector(params: Mapping[str, Any], space: Space) -> Floats:
    """Optuna's parameters as a point, (columns,)."""
    return np.array([value for range_ in space.values() for value in columns_of(range_, params)])


def at_shares(shares: Floats, space: Space) -> Floats:
    """Points at shares (m, fields) of each range, 0 to 1, (m, columns)."""
    parts = []
    for range_, share in zip(space.values(), shares.T, strict=True):
        width = len(columns_of(range_, {}))
        if hasattr(range_.distribution, "choices"):
            parts.append(np.eye(width)[np.minimum(share * width, width - 1).astype(int)])
        else:
            parts.append((share - 0.5)[:, None] * (not range_.distribution.single()))
    return np.concatenate(parts, axis=1)


def model_of(trials: Sequence[FrozenTrial], space: Space) -> Model | None:
    """The model by the trials that ended with a return; None if they are too few.

    Pruned ones count with their last return, and the worst are raised to `floor_of`: how bad a
    failure is says nothing about the good ones.
    """
    known = [trial for trial in with_last_return(trials) if np.isfinite(score_of(trial))]
    if len(known) < FEWEST:
        return None
    returns = np.array([score_of(trial) for trial in known])
    apart = np.maximum(returns, floor_of(returns))
    apart = apart - apart.mean()
    points = np.array([vector(trial.params, space) for trial in known])
    features = np.concatenate([part for _, part in terms(points, space)], axis=1)
    count, best = len(known), np.inf
    alike = features @ features.T
    for strength in STRENGTHS:
        inverse = np.linalg.inv(alike + strength * np.eye(count))
        weights = inverse @ apart
        left_out = float(np.sum((weights / np.diag(inverse)) ** 2))
        if left_out < best:
            best, chosen = left_out, (inverse, weights)
    inverse, weights = chosen
    alone = float(np.sum((apart * count / (count - 1)) ** 2))
    return Model(
        space=space,
        features=features,
        inverse=inverse,
        weights=weights,
        variance=float(apart @ weights) / count,
        explained=1 - best / alone if alone else 0.0,
    )
