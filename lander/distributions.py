"""What the actor's outputs mean: a head turns them into a distribution over actions.

Actions are kept as the distribution sees them, (B, A): bin indices or unclipped reals. Only
`Head.to_env` turns them into what `env.step` takes. Log-probabilities and entropies are summed
over the A dimensions.
"""

from __future__ import annotations

from math import log, pi
from typing import Protocol

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from torch import Tensor, nn

from lander.config import TrainConfig
from lander.env import ActionSpace


class Distribution(Protocol):
    """pi(.|s) in B states."""

    def sample(self, generator: torch.Generator) -> Tensor:
        """One random action per state, (B, A)."""

    def mode(self) -> Tensor:
        """The most probable action per state, (B, A)."""

    def log_prob(self, actions: Tensor) -> Tensor:
        """log pi(a|s), (B,), for actions (B, A)."""

    def entropy(self) -> Tensor:
        """(B,), in nats."""


class Categorical:
    """A independent choices among K levels; `logits` is (B, A, K)."""

    def __init__(self, logits: Tensor) -> None:
        self._log_probs = logits.log_softmax(-1)

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


class DiagonalGaussian:
    """A independent normals; `mean` is (B, A), `log_std` (A,)."""

    def __init__(self, mean: Tensor, log_std: Tensor) -> None:
        self._mean = mean
        self._log_std = log_std

    def sample(self, generator: torch.Generator) -> Tensor:
        noise = torch.empty_like(self._mean).normal_(generator=generator)
        return self._mean + self._log_std.exp() * noise

    def mode(self) -> Tensor:
        return self._mean

    def log_prob(self, actions: Tensor) -> Tensor:
        z = (actions - self._mean) / self._log_std.exp()
        return -(0.5 * z.square() + self._log_std + 0.5 * log(2 * pi)).sum(-1)

    def entropy(self) -> Tensor:
        per_state = (self._log_std + 0.5 * (1 + log(2 * pi))).sum()
        return per_state.expand(len(self._mean))


class Head(nn.Module):
    """Interface: `outputs` numbers from the actor -> distribution, and its actions -> env."""

    outputs: int
    """How many numbers the actor must give per state."""
    action_dtype: torch.dtype
    """Of actions as the distribution sees them."""
    action_dims: int
    """A."""

    def distribution(self, outputs: Tensor) -> Distribution:
        """pi(.|s) from the actor's outputs (B, outputs)."""
        raise NotImplementedError

    def to_env(self, actions: Tensor) -> Tensor:
        """What `env.step` takes, from actions (B, A): (B,) int64 or (B, A) float32."""
        raise NotImplementedError


class DiscreteHead(Head):
    """Categorical over the actions of a Discrete space."""

    action_dtype = torch.int64
    action_dims = 1

    def __init__(self, space: Discrete) -> None:
        super().__init__()
        self.outputs = int(space.n)
        self._start = int(space.start)

    def distribution(self, outputs: Tensor) -> Distribution:
        return Categorical(outputs.unsqueeze(1))

    def to_env(self, actions: Tensor) -> Tensor:
        return actions.squeeze(-1) + self._start


class BinsHead(Head):
    """Factorised categorical: each dimension of a Box cut into `bins` levels, ends included.

    A * bins outputs instead of bins^A (Tang & Agrawal 2020, arXiv:1901.10500).
    """

    action_dtype = torch.int64

    def __init__(self, space: Box, bins: int) -> None:
        super().__init__()
        # in float64, so that an odd number of bins holds exactly zero: the engine off
        ends = space.low.astype(np.float64), space.high.astype(np.float64)
        levels = np.linspace(*ends, bins, axis=-1)
        self.action_dims = len(levels)
        self.outputs = self.action_dims * bins
        self.levels: Tensor
        # contiguous, as linspace along the last axis is not
        self.register_buffer("levels", torch.as_tensor(levels, dtype=torch.float32).contiguous())
        self._bins = bins

    def distribution(self, outputs: Tensor) -> Distribution:
        return Categorical(outputs.view(-1, self.action_dims, self._bins))

    def to_env(self, actions: Tensor) -> Tensor:
        return self.levels.T.gather(0, actions)


class GaussianHead(Head):
    """Diagonal Gaussian with a learned, state-independent standard deviation.

    Outputs are in units of half the action range around its middle where the space is bounded. The
    unclipped action is kept for the log-probability; the environment gets the clipped one.
    """

    action_dtype = torch.float32

    def __init__(self, space: Box, init_std: float) -> None:
        super().__init__()
        bounded = space.is_bounded()
        low = torch.as_tensor(space.low, dtype=torch.float32)
        high = torch.as_tensor(space.high, dtype=torch.float32)
        self.low: Tensor
        self.high: Tensor
        self.middle: Tensor
        self.half_range: Tensor
        self.register_buffer("low", low)
        self.register_buffer("high", high)
        self.register_buffer("middle", (low + high) / 2 if bounded else torch.zeros_like(low))
        self.register_buffer("half_range", (high - low) / 2 if bounded else torch.ones_like(low))
        self.action_dims = self.outputs = len(low)
        self.log_std = nn.Parameter(torch.full((self.action_dims,), log(init_std)))

    def distribution(self, outputs: Tensor) -> Distribution:
        return DiagonalGaussian(outputs, self.log_std)

    def to_env(self, actions: Tensor) -> Tensor:
        return (self.middle + self.half_range * actions).clamp(self.low, self.high)


def make_head(space: ActionSpace, config: TrainConfig) -> Head:
    """The head of a resolved config for an action space."""
    if isinstance(space, Discrete):
        return DiscreteHead(space)
    if config.env.bins is not None:
        return BinsHead(space, config.env.bins)
    return GaussianHead(space, config.policy.init_std)
