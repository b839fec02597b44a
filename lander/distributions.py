"""Probability distributions over actions, one per state.

Actions are kept as the distribution sees them, (B, A): bin indices or unclipped reals; a head
(`lander.heads`) turns them into what `env.step` takes. Log-probabilities, entropies and divergences
are summed over the A dimensions.
"""

from __future__ import annotations

from functools import cached_property
from math import log, pi, sqrt
from typing import Protocol, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import softplus


class Distribution(Protocol):
    """pi(.|s) in B states."""

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The tensors that it consists of."""

    def like(self, *tensors: Tensor) -> Self:
        """A distribution of the same kind from other `tensors`."""

    def noise(self, count: int, generator: torch.Generator) -> Tensor:
        """The random numbers of `count` draws, one along the first dimension for each."""

    def pick(self, noise: Tensor) -> Tensor:
        """The action per state, (B, A), to which the random numbers of one draw lead."""

    def sample(self, generator: torch.Generator) -> Tensor:
        """One random action per state, (B, A)."""

    def mode(self) -> Tensor:
        """The most probable action per state, (B, A)."""

    def log_prob(self, actions: Tensor) -> Tensor:
        """log pi(a|s), (B,), for actions (B, A)."""

    def entropy(self) -> Tensor:
        """(B,), in nats."""

    def kl(self, other: Self) -> Tensor:
        """KL(self || other), (B,), in nats; `other` is of the same kind, in the same states."""

    def rows(self, index: Tensor | slice) -> Self:
        """The distribution in some of the states only."""

    def detached(self) -> Self:
        """A copy that later updates of the network do not change."""


class Categorical:
    """A independent choices among K levels; `logits` is (B, A, K).

    It keeps logits and log-probabilities as (A, K, B): a softmax over few levels is vectorised
    along the states, and then it is fifteen times as fast.

    A share `uniform` of the choices is made by a fair die: p = (1 - uniform) softmax + uniform / K.

    >>> pi = Categorical(torch.tensor([[[0.0, 100.0], [0.0, 0.0]]]))  # B = 1, A = 2, K = 2
    >>> pi.mode().tolist(), round(float(pi.entropy()), 4)  # 0 + log 2
    ([[1, 0]], 0.6931)
    """

    def __init__(self, logits: Tensor, *, uniform: float = 0.0) -> None:
        self._logits = logits.movedim(0, -1)
        if uniform > 0:
            chosen = self._log_probs + log(1 - uniform)
            by_die = torch.full_like(chosen, log(uniform / logits.shape[-1]))
            self._logits = self._log_probs = torch.logaddexp(chosen, by_die)

    @cached_property
    def _log_probs(self) -> Tensor:
        return self._logits.log_softmax(1)

    def like(self, *tensors: Tensor) -> Self:
        made = object.__new__(type(self))
        (made._log_probs,) = tensors  # not to be normalised again
        made._logits = made._log_probs
        return made

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return (self._log_probs,)

    def noise(self, count: int, generator: torch.Generator) -> Tensor:
        shape = (count, *self._logits.shape)
        return -self._logits.new_empty(shape).exponential_(generator=generator).log()

    def sample(self, generator: torch.Generator) -> Tensor:
        return self.pick(self.noise(1, generator)[0])

    def pick(self, noise: Tensor) -> Tensor:
        # argmax_k l_k + g_k with g_k ~ Gumbel(0, 1) has probability softmax(l)_k (Gumbel-max trick)
        return (self._logits + noise).argmax(1).T

    def mode(self) -> Tensor:
        return self._logits.argmax(1).T

    def log_prob(self, actions: Tensor) -> Tensor:
        return self._log_probs.gather(1, actions.T.unsqueeze(1)).sum((0, 1))

    def entropy(self) -> Tensor:
        return -(self._log_probs.exp() * self._log_probs).sum((0, 1))

    def kl(self, other: Self) -> Tensor:
        return (self._log_probs.exp() * (self._log_probs - other._log_probs)).sum((0, 1))

    def rows(self, index: Tensor | slice) -> Self:
        return self.like(self._log_probs[..., index])

    def detached(self) -> Self:
        return self.like(self._log_probs.detach())


class DiagonalGaussian:
    """A independent normals; `mean` is (B, A), `log_std` (A,).

    `squashed`: tanh(u), u ~ N; actions are kept as u, so nothing has to be inverted.
    log pi(tanh(u)) = log N(u) - sum log(1 - tanh(u)^2) (arXiv:1801.01290, eq. 21). The divergence
    is that of the normals: an invertible map leaves it as it is.
    """

    def __init__(self, mean: Tensor, log_std: Tensor, *, squashed: bool = False) -> None:
        self.mean = mean
        self.log_std = log_std
        self._squashed = squashed

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return self.mean, self.log_std

    def like(self, *tensors: Tensor) -> Self:
        mean, log_std = tensors
        return type(self)(mean, log_std, squashed=self._squashed)

    def noise(self, count: int, generator: torch.Generator) -> Tensor:
        return self.mean.new_empty((count, *self.mean.shape)).normal_(generator=generator)

    def sample(self, generator: torch.Generator) -> Tensor:
        return self.pick(self.noise(1, generator)[0])

    def pick(self, noise: Tensor) -> Tensor:
        return self.mean + self.log_std.exp() * noise

    def mode(self) -> Tensor:
        return self.mean

    def log_prob(self, actions: Tensor) -> Tensor:
        z = (actions - self.mean) / self.log_std.exp()
        log_prob = -(0.5 * z.square() + self.log_std + 0.5 * log(2 * pi)).sum(-1)
        return log_prob - log_slope(actions).sum(-1) if self._squashed else log_prob

    def entropy(self) -> Tensor:
        """H(N); squashed: H(N) + sum E[log(1 - tanh(u)^2)], by Gauss-Hermite quadrature."""
        entropy = (self.log_std + 0.5 * (1 + log(2 * pi))).sum().expand(len(self.mean))
        if not self._squashed:
            return entropy
        nodes, weights = (torch.from_numpy(part).to(self.mean) for part in HERMITE)
        u = self.mean.unsqueeze(-1) + sqrt(2) * self.log_std.exp().unsqueeze(-1) * nodes
        return entropy + (log_slope(u) @ weights).sum(-1) / sqrt(pi)

    def kl(self, other: Self) -> Tensor:
        variance, shift = (2 * self.log_std).exp(), self.mean - other.mean
        other_variance = (2 * other.log_std).exp()
        ratio = (variance + shift.square()) / other_variance
        return (other.log_std - self.log_std + 0.5 * (ratio - 1)).sum(-1)

    def rows(self, index: Tensor | slice) -> Self:
        return self.like(self.mean[index], self.log_std)

    def detached(self) -> Self:
        # a copy: the parameter behind log_std changes in place
        return self.like(self.mean.detach(), self.log_std.detach().clone())


HERMITE = np.polynomial.hermite.hermgauss(24)
"""Nodes and weights: the error stays below 1e-3 nats up to a standard deviation of 2."""


def log_slope(u: Tensor) -> Tensor:
    """log d tanh(u) / du = log(1 - tanh(u)^2), without the overflow of its factors."""
    return 2 * (log(2) - u - softplus(-2 * u))
