"""Points that cover a space evenly: a scrambled Sobol sequence, with every choice equally often.

Random points leave gaps: eight of them miss one of five choices in two of three cases.
"""

from __future__ import annotations

from math import ceil, log2
from typing import Any

import numpy as np
from optuna.distributions import CategoricalDistribution

from sweeps.study.space import Space


def covering_points(space: Space, count: int, *, seed: int) -> list[dict[str, Any]]:
    """`count` points of Optuna's parameters, the same for the same seed."""
    if not count:
        return []
    from scipy.stats import qmc  # takes half a second, which most commands do not need

    sequence = qmc.Sobol(len(space), rng=np.random.default_rng(seed))
    shares = sequence.random_base2(ceil(log2(count)))[:count]
    even = (shares.argsort(axis=0).argsort(axis=0) + 0.5) / count  # in the order of the sequence
    columns = {
        range_.parameter: [
            range_.at(float(share))
            for share in (even if is_choice(range_.distribution) else shares)[:, dimension]
        ]
        for dimension, range_ in enumerate(space.values())
    }
    return [{name: column[point] for name, column in columns.items()} for point in range(count)]


def is_choice(distribution: object) -> bool:
    """Whether a field is searched by choices."""
    return isinstance(distribution, CategoricalDistribution)
