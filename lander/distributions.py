"""Probability distributions over actions, one per state.

Actions are kept as the distribution sees them, (B, A): bin indices or unclipped reals; a head
(`lander.heads`) turns them into what `env.step` takes. Log-probabilities, entropies and divergences
are summed over the A dimensions.
"""

from __future__ import annotations

from math import log, pi, sqrt
from typing import Protocol, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import softplus


class Distribution(Protocol):
    """pi(.|s) in B states."""

    @classmethod
    def of(cls, *tensors: Tensor) -> Self:
        """The distribution that gave these `tensors`."""

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All that it is made of."""

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
        """The same in some of the states only."""

    def detached(self) -> Self:
        """As it is now, whatever becomes of the network."""


class Categorical:
    """A independent choices among K levels; `logits` is (B, A, K).

    A share `uniform` of the choices is made by a fair die: p = (1 - uniform) softmax + uniform / K.

    >>> pi = Categorical(torch.tensor([[[0.0, 100.0], [0.0, 0.0]]]))  # B = 1, A = 2, K = 2
    >>> pi.mode().tolist(), round(float(pi.entropy()), 4)  # 0 + log 2
    ([[1, 0]], 0.6931)
    """

    def __init__(self, logits: Tensor, *, uniform: float = 0.0) -> None:
        self._log_probs = logits.log_softmax(-1)
        if uniform > 0:
            chosen = self._log_probs + log(1 - uniform)
            by_die = torch.full_like(chosen, log(uniform / logits.shape[-1]))
            self._log_probs = torch.logaddexp(chosen, by_die)

    @classmethod
    def of(cls, *tensors: Tensor) -> Self:
        """From log-probabilities, which are not normalised again."""
        made = cls.__new__(cls)
        (made._log_probs,) = tensors
        return made

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return (self._log_probs,)

    def sample(self, generator: torch.Generator) -> Tensor:
        # argmax_k p_k / e_k with e_k ~ Exp(1) has probability p_k (the exponential race)
        race = torch.empty_like(self._log_probs).exponential_(generator=generator)
        return (self._log_probs.exp() / race).argmax(-1)

    def mode(self) -> Tensor:
        return self._log_probs.argmax(-1)

    def log_prob(self, actions: Tensor) -> Tensor:
        return self._log_probs.gather(-1, actions.unsqueeze(-1)).squeeze(-1).sum(-1)

    def entropy(self) -> Tensor:
        return -(self._log_probs.exp() * self._log_probs).sum((-2, -1))

    def kl(self, other: Self) -> Tensor:
        return (self._log_probs.exp() * (self._log_probs - other._log_probs)).sum((-2, -1))

    def rows(self, index: Tensor | slice) -> Self:
        return self.of(self._log_probs[index])

    def detached(self) -> Self:
        return self.of(self._log_probs.detach())


class DiagonalGaussian:
    """A independent normals; `mean` is (B, A), `log_std` (A,)."""

    def __init__(self, mean: Tensor, log_std: Tensor) -> None:
        self.mean = mean
        self.log_std = log_std

    @classmethod
    def of(cls, *tensors: Tensor) -> Self:
        mean, log_std = tensors
        return cls(mean, log_std)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return self.mean, self.log_std

    def sample(self, generator: torch.Generator) -> Tensor:
        noise = torch.empty_like(self.mean).normal_(generator=generator)
        return self.mean + self.log_std.exp() * noise

    def mode(self) -> Tensor:
        return self.mean

    def log_prob(self, actions: Tensor) -> Tensor:
        z = (actions - self.mean) / self.log_std.exp()
        return -(0.5 * z.square() + self.log_std + 0.5 * log(2 * pi)).sum(-1)

    def entropy(self) -> Tensor:
        per_state = (self.log_std + 0.5 * (1 + log(2 * pi))).sum()
        return per_state.expand(len(self.mean))

    def kl(self, other: Self) -> Tensor:
        variance, shift = (2 * self.log_std).exp(), self.mean - other.mean
        other_variance = (2 * other.log_std).exp()
        ratio = (variance + shift.square()) / other_variance
        return (other.log_std - self.log_std + 0.5 * (ratio - 1)).sum(-1)

    def rows(self, index: Tensor | slice) -> Self:
        return type(self)(self.mean[index], self.log_std)

    def detached(self) -> Self:
        # a copy: the parameter behind log_std changes in place
        return type(self)(self.mean.detach(), self.log_std.detach().clone())


class SquashedGaussian(DiagonalGaussian):
    """tanh(u), u ~ DiagonalGaussian; actions are kept as u, so nothing has to be inverted.

    log pi(tanh(u)) = log N(u) - sum log(1 - tanh(u)^2) (arXiv:1801.01290, eq. 21). The divergence
    is that of the normals: an invertible map leaves it as it is.
    """

    def log_prob(self, actions: Tensor) -> Tensor:
        return super().log_prob(actions) - log_slope(actions).sum(-1)

    def entropy(self) -> Tensor:
        """H(N) + sum E[log(1 - tanh(u)^2)], the expectation by Gauss-Hermite quadrature."""
        nodes, weights = (torch.from_numpy(part).to(self.mean) for part in HERMITE)
        u = self.mean.unsqueeze(-1) + sqrt(2) * self.log_std.exp().unsqueeze(-1) * nodes
        return super().entropy() + (log_slope(u) @ weights).sum(-1) / sqrt(pi)


HERMITE = np.polynomial.hermite.hermgauss(24)
"""Nodes and weights: the error stays below 1e-3 nats up to a standard deviation of 2."""


def log_slope(u: Tensor) -> Tensor:
    """log d tanh(u) / du = log(1 - tanh(u)^2), without the overflow of its factors."""
    return 2 * (log(2) - u - softplus(-2 * u))
