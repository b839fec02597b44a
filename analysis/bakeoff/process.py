"""Gaussian processes over the unit cube, by which the bake-off knows what lies between points.

A Matérn kernel of order 5/2 with a length for each dimension (Rasmussen and Williams 2006,
equation 4.17); several outputs share it and are scaled versions of each other's surprise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize

Floats = NDArray[np.float64]

LENGTHS: Final = (0.1, 10.0)
"""Bounds of a length, in widths of the cube: at the upper one a dimension does not matter."""
RATIOS: Final = (1e-3, 10.0)
"""Bounds of the variance of an observation's noise, as a multiple of the signal's."""
USUAL: Final = 1.0
"""The length that is expected beforehand, within a factor of `SPREAD`: few points say little."""
SPREAD: Final = 3.0
FEATURES: Final = 1_000
"""Cosines of a random function."""


def matern(a: Floats, b: Floats, lengths: Floats) -> Floats:
    """The correlation of points (m, d) with points (n, d), (m, n)."""
    squares = np.sum(((a[:, None] - b[None]) / lengths) ** 2, axis=2)
    near = np.sqrt(5 * squares)
    return np.asarray((1 + near + near**2 / 3) * np.exp(-near))


@dataclass(frozen=True, slots=True)
class Process:
    """What is known of a function of several outputs after noisy observations of it."""

    points: Floats
    """(n, d)."""
    lengths: Floats
    """(d,)."""
    noise: Floats
    """(n,): the variance of each observation's noise, as a multiple of the signal's."""
    inverse: Floats
    """(n, n): of the covariance of the observations, as a multiple of the signal's variance."""
    values: Floats
    """(n, k): the observations, as distances from their middle."""
    middle: Floats
    """(k,)."""
    covariance: Floats
    """(k, k): of the outputs at one point, without noise."""

    @property
    def weights(self) -> Floats:
        """(n, k)."""
        return np.asarray(self.inverse @ self.values)

    def mean(self, points: Floats) -> Floats:
        """The expected outputs at points (m, d), (m, k)."""
        near = matern(points, self.points, self.lengths)
        return np.asarray(self.middle + near @ self.weights)

    def share(self, points: Floats) -> Floats:
        """How much of the signal's variance is left at points (m, d), (m,)."""
        near = matern(points, self.points, self.lengths)
        explained = np.einsum("ij,jk,ik->i", near, self.inverse, near)
        return np.asarray(np.maximum(1 - explained, 1e-9))

    def left_out(self) -> tuple[Floats, Floats]:
        """Each observation as all others predict it, (n, k), and how much of the signal's variance
        it may then be off, (n,), its noise included (equation 5.12)."""
        variances = 1 / np.diag(self.inverse)
        off = self.weights * variances[:, None]
        return self.middle + self.values - off, variances

    def draw(self, rng: np.random.Generator) -> Callable[[Floats], Floats]:
        """A function that may be the true one: from points (m, d) to outputs (m, k).

        A random function of the prior, corrected by what was observed (Wilson et al. 2020,
        arXiv:2002.09309, equation 12).
        """
        n, d = self.points.shape
        k = len(self.middle)
        mixing = np.linalg.cholesky(self.covariance + 1e-9 * np.eye(k))
        # the spectrum of this kernel is Student's t with five degrees of freedom
        frequencies = rng.normal(size=(d, FEATURES)) / self.lengths[:, None]
        frequencies /= np.sqrt(rng.chisquare(5, size=FEATURES) / 5)
        phases = rng.uniform(0, 2 * np.pi, size=FEATURES)
        amplitudes = rng.normal(size=(FEATURES, k)) @ mixing.T * np.sqrt(2 / FEATURES)
        errors = np.sqrt(self.noise)[:, None] * rng.normal(size=(n, k)) @ mixing.T

        def prior(points: Floats) -> Floats:
            return np.asarray(np.cos(points @ frequencies + phases) @ amplitudes)

        correction = self.inverse @ (self.values - prior(self.points) - errors)

        def drawn(points: Floats) -> Floats:
            near = matern(points, self.points, self.lengths)
            return self.middle + prior(points) + near @ correction

        return drawn


def fitted(points: Floats, values: Floats, counts: Floats | None = None) -> Process:
    """The process that explains observations (n, k) at points (n, d) best; each is the mean of so
    many `counts` (n,), or of one."""
    middle = values.mean(axis=0)
    apart = values - middle
    shares = np.ones(len(points)) if counts is None else 1 / counts
    squares = (points[:, None] - points[None]) ** 2  # (n, n, d)
    n, d = points.shape

    def misfit(parameters: Floats) -> tuple[float, Floats]:
        """Minus the logarithm of the likelihood, the scale of each output being the best for it,
        and of what is expected of the lengths; with its gradient."""
        lengths, ratio = np.exp(parameters[:-1]), np.exp(parameters[-1])
        scaled = squares / lengths**2
        near = np.sqrt(5 * scaled.sum(axis=2))
        decay = np.exp(-near)
        factor = cho_factor((1 + near + near**2 / 3) * decay + np.diag(ratio * shares), lower=True)
        inverse = cho_solve(factor, np.eye(n))
        weights = inverse @ apart
        sizes = np.sum(apart * weights, axis=0)
        outputs = apart.shape[1]
        value = 0.5 * n * np.log(sizes).sum() + outputs * np.log(np.diag(factor[0])).sum()
        slope = 0.5 * outputs * inverse - 0.5 * n * (weights / sizes) @ weights.T
        by_length = np.einsum("ij,ijd->d", slope * (5 / 3 * (1 + near) * decay), scaled)
        by_ratio = ratio * np.sum(np.diag(slope) * shares)
        unusual = (parameters[:-1] - np.log(USUAL)) / np.log(SPREAD)
        value += 0.5 * np.sum(unusual**2)
        return float(value), np.append(by_length + unusual / np.log(SPREAD), by_ratio)

    start = np.append(np.full(d, np.log(USUAL)), np.log(0.3))
    bounds = [np.log(LENGTHS)] * d + [np.log(RATIOS)]
    best = minimize(misfit, start, jac=True, bounds=bounds, method="L-BFGS-B").x
    lengths, noise = np.exp(best[:-1]), np.exp(best[-1]) * shares
    inverse = np.asarray(np.linalg.inv(matern(points, points, lengths) + np.diag(noise)))
    covariance = apart.T @ inverse @ apart / n
    return Process(points, lengths, noise, inverse, apart, middle, covariance)
