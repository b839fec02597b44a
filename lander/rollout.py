"""A rollout: T steps in N environments, or whole episodes one after another."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from lander.distributions import Distribution


@dataclass(frozen=True, slots=True)
class Rollout:
    """T steps of N environments; T runs first, so `rewards[t, i]` is copy i at time t.

    Whole episodes follow one another in a single column: N = 1, T their total length.
    """

    obs: Tensor
    """(T, N, obs), float32: s_t."""
    actions: Tensor
    """(T, N, A), int64 or float32: a_t as the policy's distribution sees it."""
    log_probs: Tensor
    """(T, N): log pi_old(a_t|s_t)."""
    pi: Distribution
    """pi_old(.|s_t), T * N rows in the order of `obs.flatten(0, 1)`."""
    values: Tensor
    """(T, N): V_old(s_t); zero without a critic."""
    next_values: Tensor
    """(T, N): V_old(s_{t+1}) of the true successor, also where the episode was cut."""
    rewards: Tensor
    """(T, N): r_t, scaled."""
    terminated: Tensor
    """(T, N), bool: s_{t+1} is terminal, its value is zero."""
    truncated: Tensor
    """(T, N), bool: the time limit cut the episode after s_{t+1}."""

    @property
    def env_steps(self) -> int:
        """T * N."""
        return self.rewards.numel()

    @property
    def continues(self) -> Tensor:
        """(T, N), bool: the episode does not end here, so t + 1 belongs to it too."""
        return ~(self.terminated | self.truncated)
