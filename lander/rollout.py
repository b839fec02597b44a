"""A rollout of T steps in N environments, and its advantages."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Rollout:
    """T steps of N environments; T runs first, so `rewards[t, i]` is copy i at time t."""

    obs: Tensor
    """(T, N, obs), float32: s_t."""
    actions: Tensor
    """(T, N, A), int64 or float32: a_t as the policy's distribution sees it."""
    log_probs: Tensor
    """(T, N): log pi_old(a_t|s_t)."""
    values: Tensor
    """(T, N): V_old(s_t)."""
    next_values: Tensor
    """(T, N): V_old(s_{t+1}) of the true successor, also where the episode was cut."""
    rewards: Tensor
    """(T, N): r_t * reward_scale."""
    terminated: Tensor
    """(T, N), bool: s_{t+1} is terminal, its value is zero."""
    truncated: Tensor
    """(T, N), bool: the time limit cut the episode after s_{t+1}."""


def gae(rollout: Rollout, *, gamma: float, gae_lambda: float) -> Tensor:
    """Generalised advantage estimates, (T, N) (arXiv:1506.02438, eq. 16).

    delta_t = r_t + gamma * V(s_{t+1}) * [s_{t+1} not terminal] - V(s_t)
    A_t     = delta_t + gamma * lambda * A_{t+1} * [episode goes on]
    """
    bootstrap = gamma * rollout.next_values * ~rollout.terminated
    deltas = rollout.rewards + bootstrap - rollout.values
    carry = gamma * gae_lambda * ~(rollout.terminated | rollout.truncated)
    advantages = torch.empty_like(deltas)
    advantage = torch.zeros_like(deltas[0])
    for t in reversed(range(len(deltas))):
        advantage = deltas[t] + carry[t] * advantage
        advantages[t] = advantage
    return advantages
