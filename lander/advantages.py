"""How much better than expected was each action? From plain policy gradient to GAE.

A new estimator is a function here, a line in `ADVANTAGES`, and one in `lander.options` that says
what it is and which fields it reads.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from lander.config import PPOConfig
from lander.rollout import Rollout


def gae(rollout: Rollout, *, gamma: float, gae_lambda: float) -> Tensor:
    """Generalised advantage estimates, (T, N) (arXiv:1506.02438, eq. 16).

    delta_t = r_t + gamma * V(s_{t+1}) * [s_{t+1} not terminal] - V(s_t)
    A_t     = delta_t + gamma * lambda * A_{t+1} * [episode continues]

    >>> from lander.distributions import Categorical
    >>> one, never = torch.ones(2, 1), torch.zeros(2, 1, dtype=torch.bool)
    >>> rollout = Rollout(
    ...     obs=one.unsqueeze(-1), actions=one.unsqueeze(-1).long(), log_probs=-0.7 * one,
    ...     pi=Categorical(torch.zeros(2, 1, 2)), values=0 * one, next_values=4 * one,
    ...     rewards=one, terminated=never, truncated=never,
    ... )
    >>> gae(rollout, gamma=0.5, gae_lambda=0.5).flatten().tolist()  # each delta is 1 + 0.5 * 4
    [3.75, 3.0]
    """
    return sum_ahead(td_errors(rollout, gamma=gamma), rollout, discount=gamma * gae_lambda)


def n_step(rollout: Rollout, *, gamma: float, n: int) -> Tensor:
    """n rewards, then V, minus V: (T, N) (arXiv:1506.02438, eq. 14).

    A_t = sum_{l < n} gamma^l delta_{t+l}, up to the end of the episode or of the rollout
    """
    term = td_errors(rollout, gamma=gamma)
    advantages, carry = term.clone(), gamma * rollout.continues[:-1]
    for _ in range(1, n):
        term = torch.cat((carry * term[1:], torch.zeros_like(term[:1])))
        advantages += term
    return advantages


def immediate(rollout: Rollout) -> Tensor:
    """A_t = r_t, (T, N)."""
    return rollout.rewards


def total_return(rollout: Rollout) -> Tensor:
    """A_t = r_0 + r_1 + ... of the whole episode, undiscounted, (T, N)."""
    so_far = torch.empty_like(rollout.rewards)
    total = torch.zeros_like(so_far[0])
    for t, reward in enumerate(rollout.rewards):
        so_far[t] = total  # of the rewards before t
        total = (total + reward) * rollout.continues[t]
    return so_far + sum_ahead(rollout.rewards, rollout, discount=1.0)


def reward_to_go(rollout: Rollout, *, gamma: float, baseline: str) -> Tensor:
    """A_t = G_t - b, (T, N), with G_t = r_t + gamma r_{t+1} + ... to the end of the episode."""
    returns = sum_ahead(rollout.rewards, rollout, discount=gamma)
    return returns - BASELINES[baseline](returns, rollout)


def no_baseline(returns: Tensor, _rollout: Rollout) -> Tensor:
    """b = 0."""
    return torch.zeros_like(returns)


def mean_baseline(returns: Tensor, _rollout: Rollout) -> Tensor:
    """b = mean of G over the rollout."""
    return returns.mean().expand_as(returns)


def time_baseline(returns: Tensor, rollout: Rollout) -> Tensor:
    """b_t = mean of G over the episodes of the rollout at their step t (arXiv:1506.02438, 6.1)."""
    steps = episode_steps(rollout)
    totals = torch.zeros(int(steps.max()) + 1).index_add(0, steps.flatten(), returns.flatten())
    return (totals / steps.flatten().bincount())[steps]


BASELINES: dict[str, Callable[[Tensor, Rollout], Tensor]] = {
    "none": no_baseline,
    "mean": mean_baseline,
    "time": time_baseline,
}
"""Baselines of reward_to_go, by their name in `ppo.baseline`."""


def td_errors(rollout: Rollout, *, gamma: float) -> Tensor:
    """delta_t = r_t + gamma * V(s_{t+1}) * [s_{t+1} not terminal] - V(s_t), (T, N)."""
    bootstrap = gamma * rollout.next_values * ~rollout.terminated
    return rollout.rewards + bootstrap - rollout.values


def sum_ahead(terms: Tensor, rollout: Rollout, *, discount: float) -> Tensor:
    """S_t = terms_t + discount * S_{t+1} * [episode continues], (T, N)."""
    sums = torch.empty_like(terms)
    # by NumPy, whose calls on a few numbers take a fifth of torch's time
    rows, carry, out = terms.numpy(), (discount * rollout.continues).numpy(), sums.numpy()
    ahead = np.zeros_like(rows[0])
    for t in reversed(range(len(rows))):
        ahead = rows[t] + carry[t] * ahead
        out[t] = ahead
    return sums


def episode_steps(rollout: Rollout) -> Tensor:
    """(T, N), int64: the steps of its episode before each; the rollout holds whole episodes."""
    steps = torch.empty(rollout.rewards.shape, dtype=torch.int64)
    step = torch.zeros_like(steps[0])
    for t in range(len(steps)):
        steps[t] = step
        step = (step + 1) * rollout.continues[t]
    return steps


ADVANTAGES: dict[str, Callable[[Rollout, PPOConfig], Tensor]] = {
    "gae": lambda rollout, ppo: gae(rollout, gamma=ppo.gamma, gae_lambda=ppo.gae_lambda),
    "n_step": lambda rollout, ppo: n_step(rollout, gamma=ppo.gamma, n=ppo.n_step),
    "reward_to_go": lambda rollout, ppo: reward_to_go(
        rollout, gamma=ppo.gamma, baseline=ppo.baseline
    ),
    "total_return": lambda rollout, _: total_return(rollout),
    "immediate": lambda rollout, _: immediate(rollout),
}
"""Estimators by their name in `ppo.advantage`."""
