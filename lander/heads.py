"""Heads: from the actor's outputs to a distribution, and from its actions to the environment's.

A new head is a class here, a line in `BOX_HEADS`, and one in `lander.options` that says what it is
and which fields it reads; the config check, `--help` and the tests that every head must pass
follow.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import log
from typing import Protocol

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray
from torch import Tensor, nn

from lander.config import TrainConfig
from lander.distributions import Categorical, DiagonalGaussian, Distribution
from lander.env import ActionSpace
from lander.errors import ConfigError

JOINT_LIMIT = 4096
"""Outputs beyond which a joint head is refused: its last layer would dwarf the rest."""


class Head(Protocol):
    """`outputs` numbers from the actor -> a distribution, and its actions -> the environment's.

    Every head is an `nn.Module`: its buffers and parameters are saved with the policy.
    """

    outputs: int
    """How many numbers the actor must give per state."""
    action_dims: int
    """A, as the distribution sees it."""

    def distribution(self, outputs: Tensor) -> Distribution:
        """pi(.|s) from the actor's outputs (B, outputs)."""

    def to_env(self, actions: Tensor) -> Tensor:
        """What `env.step` takes, from actions (B, A): (B,) int64 or (B, *shape) float32."""

    def anneal(self, remaining: float) -> None:
        """Follow the schedule; called before each rollout with the share of the budget that is
        left, 1 at first."""


class DiscreteHead(nn.Module):
    """One categorical over the actions of a Discrete space."""

    action_dims = 1

    def __init__(self, space: Discrete, config: TrainConfig) -> None:
        super().__init__()
        self._explore = config.policy.explore
        self.outputs = int(space.n)
        self._start = int(space.start)

    def distribution(self, outputs: Tensor) -> Distribution:
        return Categorical(outputs.unsqueeze(1), uniform=self._explore)

    def to_env(self, actions: Tensor) -> Tensor:
        return actions.squeeze(-1) + self._start

    def anneal(self, remaining: float) -> None:
        """No schedule."""


class CategoricalHead(nn.Module):
    """A categorical per dimension, over its bins: A * bins outputs (Tang and Agrawal 2020,
    arXiv:1901.10500). With `ordered` the outputs are summed up along the bins, so that these keep
    their order."""

    # Ordered, by their eq. 4, with s_j = sigmoid(l_j):
    # logit_i = sum_{j <= i} log s_j + sum_{j > i} log(1 - s_j).
    # Neighbours differ by logit_i - logit_{i-1} = log s_i - log(1 - s_i) = l_i, and a softmax sees
    # differences only, so the running sum of l is the same distribution and cannot overflow.
    # l_0 shifts all logits alike: it is never trained.

    def __init__(self, space: Box, config: TrainConfig, *, ordered: bool = False) -> None:
        super().__init__()
        self._shape, self._explore, self._ordered = space.shape, config.policy.explore, ordered
        levels = bin_levels(space, config)
        self.action_dims, self._bins = levels.shape
        self.outputs = self.action_dims * self._bins
        self.levels: Tensor
        self.register_buffer("levels", levels)

    def distribution(self, outputs: Tensor) -> Distribution:
        logits = outputs.view(-1, self.action_dims, self._bins)
        return Categorical(logits.cumsum(-1) if self._ordered else logits, uniform=self._explore)

    def to_env(self, actions: Tensor) -> Tensor:
        return self.levels.T.gather(0, actions).view(-1, *self._shape)

    def anneal(self, remaining: float) -> None:
        """No schedule."""


class JointHead(nn.Module):
    """One categorical over all combinations: bins ** A outputs."""

    action_dims = 1

    def __init__(self, space: Box, config: TrainConfig) -> None:
        super().__init__()
        self._shape, self._explore = space.shape, config.policy.explore
        levels = bin_levels(space, config)
        dims, bins = levels.shape
        self.outputs = bins ** min(dims, JOINT_LIMIT.bit_length())  # of more dims, already above
        if self.outputs > JOINT_LIMIT:
            power = f"{bins} ** {dims}" + (f" = {bins**dims}" if dims < 9 else "")
            raise ConfigError(
                f"policy.head = joint needs {power} outputs here, at most {JOINT_LIMIT}: take "
                "fewer env.bins, or policy.head = categorical"
            )
        self.levels: Tensor
        # row k holds the combination that the digits of k to the base `bins` name, first dim first
        self.register_buffer("levels", torch.cartesian_prod(*levels).view(-1, dims))

    def distribution(self, outputs: Tensor) -> Distribution:
        return Categorical(outputs.unsqueeze(1), uniform=self._explore)

    def to_env(self, actions: Tensor) -> Tensor:
        return self.levels[actions.squeeze(-1)].view(-1, *self._shape)

    def anneal(self, remaining: float) -> None:
        """No schedule."""


class GaussianHead(nn.Module):
    """A normal per dimension: A outputs, its means."""

    # The unclipped action is kept for the log-probability, the environment gets the clipped one.

    def __init__(self, space: Box, config: TrainConfig) -> None:
        super().__init__()
        self._shape, self._config = space.shape, config.policy
        bounded = torch.from_numpy(np.ravel(space.bounded_below & space.bounded_above))
        low, high = (torch.from_numpy(end) for end in ends(space))
        if config.policy.squash and not bounded.all():
            raise ConfigError(f"policy.squash needs a bounded action space, this is {space}")
        self.low: Tensor
        self.high: Tensor
        self.middle: Tensor
        self.half_range: Tensor
        self.log_std: Tensor
        self.register_buffer("low", low)
        self.register_buffer("high", high)
        # a dimension without both ends has no range: actions there are in the env's own unit
        middle, half_range = low / 2 + high / 2, high / 2 - low / 2
        self.register_buffer("middle", middle.where(bounded, torch.zeros_like(low)))
        self.register_buffer("half_range", half_range.where(bounded, torch.ones_like(low)))
        self.action_dims = self.outputs = len(low)
        log_std = torch.full((self.action_dims,), log(config.policy.init_std))
        if config.policy.std == "learned":
            self.log_std = nn.Parameter(log_std)
        else:
            self.register_buffer("log_std", log_std)

    def distribution(self, outputs: Tensor) -> Distribution:
        return DiagonalGaussian(outputs, self.log_std, squashed=self._config.squash)

    def to_env(self, actions: Tensor) -> Tensor:
        if self._config.squash:
            actions = actions.tanh()
        clipped = (self.middle + self.half_range * actions).clamp(self.low, self.high)
        return clipped.view(-1, *self._shape)

    def anneal(self, remaining: float) -> None:
        policy = self._config
        if policy.std == "decayed":
            std = policy.final_std + (policy.init_std - policy.final_std) * remaining
            self.log_std.fill_(log(std))


BOX_HEADS: dict[str, Callable[[Box, TrainConfig], Head]] = {
    "gaussian": GaussianHead,
    "categorical": CategoricalHead,
    "ordinal": partial(CategoricalHead, ordered=True),
    "joint": JointHead,
}
"""Heads for a Box action space, by their name in `policy.head`."""


def head_for(space: ActionSpace, config: TrainConfig) -> str:
    """The head of a config, with auto decided."""
    env_id, bins, head = config.env.id, config.env.bins, config.policy.head
    if isinstance(space, Discrete):
        if bins is not None:
            raise ConfigError(f"env.bins cuts a Box action space, {env_id} has {space}: omit it")
        if head not in {"auto", "categorical"}:
            raise ConfigError(f"policy.head = {head} needs a Box: {env_id} has {space}")
        return "categorical"
    if head == "auto":
        return "gaussian" if bins is None else "categorical"
    return head


def make_head(space: ActionSpace, config: TrainConfig) -> Head:
    """The head of a resolved config for an action space.

    Raises:
        ConfigError: the space is too large for the head, or unbounded.
    """
    if isinstance(space, Discrete):
        return DiscreteHead(space, config)
    return BOX_HEADS[config.policy.head](space, config)


def bin_levels(space: Box, config: TrainConfig) -> Tensor:
    """(A, bins), float32: the levels of each dimension, both ends included.

    Raises:
        ConfigError: no number of bins, or an unbounded space.
    """
    bins, head = config.env.bins, config.policy.head
    if bins is None:
        raise ConfigError(f"policy.head = {head} needs env.bins on {config.env.id}, for example 11")
    if not space.is_bounded():
        raise ConfigError(f"env.bins needs a bounded action space, {config.env.id} has {space}")
    # in float64, so that an odd number of bins holds exactly zero: the engine off
    low, high = (end.astype(np.float64) for end in ends(space))
    # contiguous, as linspace along the last axis is not
    return torch.as_tensor(np.linspace(low, high, bins, axis=-1), dtype=torch.float32).contiguous()


def ends(space: Box) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(A,) each: the bounds of a space, rounded inwards where float32 does not hold them."""
    low, high = space.low.astype(np.float32).ravel(), space.high.astype(np.float32).ravel()
    low = np.where(low < space.low.ravel(), np.nextafter(low, np.float32(np.inf)), low)
    high = np.where(high > space.high.ravel(), np.nextafter(high, np.float32(-np.inf)), high)
    return low, high
