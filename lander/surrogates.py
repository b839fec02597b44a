"""The objectives that a gradient step maximises, which keep the new policy near the old one.

A new surrogate is a function here, a line in `SURROGATES`, and one in `lander.options` that says
what it is and which fields it reads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor

from lander.config import PPOConfig

BETA_MIN, BETA_MAX = 2.0**-10, 2.0**10
"""Bounds of an adaptive beta."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds on the new policy in this update; scalars that change from update to update.

    They are tensors, so that a recorded gradient step takes them as inputs and serves every update.
    In float64 they are rounded where they meet float32, as Python's numbers are.
    """

    low: Tensor
    """1 - eps."""
    high: Tensor
    """1 + eps."""
    kl_coef: Tensor
    """beta."""

    @classmethod
    def of(cls, ppo: PPOConfig) -> Limits:
        """The limits of a config, after its schedules are applied."""
        numbers = (1 - ppo.clip_range, 1 + ppo.clip_range, ppo.kl_coef)
        return cls(*(torch.tensor(number, dtype=torch.float64) for number in numbers))

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        """The three limits in the order of the constructor."""
        return self.low, self.high, self.kl_coef


def no_metrics(_log_ratio: Tensor, _ppo: PPOConfig) -> dict[str, float]:
    """Nothing beyond what every surrogate records."""
    return {}


@dataclass(frozen=True, slots=True)
class Surrogate:
    """An objective, the numbers recorded with it, and how an update adapts it."""

    objective: Callable[[Tensor, Tensor, Callable[[], Tensor], Limits], Tensor]
    """(r, A, KL, limits) -> (B,): the ratio (B,), the advantage (B,), and a function that gives the
    exact KL(old || new) of each state (B,), called only where it is needed."""
    metrics: Callable[[Tensor, PPOConfig], dict[str, float]] = no_metrics
    """(log r of an update's transitions, config) -> metrics of this surrogate only."""
    adapt: Callable[[float, float, PPOConfig], float] | None = None
    """(beta, mean KL after an update, config) -> beta of the next update."""
    uses_kl: bool = False
    """Whether the objective calls for KL(old || new)."""


def unclipped(ratio: Tensor, advantages: Tensor, _kl: object, _limits: Limits) -> Tensor:
    """L_CPI = r A (arXiv:1707.06347, eq. 6)."""
    return ratio * advantages


def clipped(ratio: Tensor, advantages: Tensor, _kl: object, limits: Limits) -> Tensor:
    """L_CLIP = min(r A, clip(r, 1 - eps, 1 + eps) A) (eq. 7).

    The smaller one is min(r, 1 + eps) A where A is positive, and max(r, 1 - eps) A where it is
    negative: one range for each transition, half the operations, the same numbers to the bit.
    """
    low = torch.where(advantages < 0, limits.low.to(ratio), -inf)
    high = torch.where(advantages > 0, limits.high.to(ratio), inf)
    return ratio.clamp(low, high) * advantages


def clip_metrics(log_ratio: Tensor, ppo: PPOConfig) -> dict[str, float]:
    """The share of transitions whose ratio has left 1 +- eps."""
    outside = (log_ratio.exp() - 1).abs() > ppo.clip_range
    return {"policy/clip_fraction": float(outside.float().mean())}


def penalised(
    ratio: Tensor, advantages: Tensor, kl: Callable[[], Tensor], limits: Limits
) -> Tensor:
    """L_KLPEN = r A - beta KL(old || new) (eq. 8)."""
    return ratio * advantages - limits.kl_coef * kl()


def adapted(kl_coef: float, kl: float, ppo: PPOConfig) -> float:
    """beta halves where d < d_targ / 1.5, doubles where d > 1.5 d_targ (section 4).

    Within bounds from which it returns in a few updates: a first value of 0 would double for ever.
    """
    if kl < ppo.kl_target / 1.5:
        return min(max(kl_coef / 2, BETA_MIN), BETA_MAX)
    if kl > ppo.kl_target * 1.5:
        return min(max(kl_coef * 2, BETA_MIN), BETA_MAX)
    return kl_coef


def adaptive_metrics(_log_ratio: Tensor, ppo: PPOConfig) -> dict[str, float]:
    """The beta of this update."""
    return {"policy/kl_coef": ppo.kl_coef}


SURROGATES: dict[str, Surrogate] = {
    "clip": Surrogate(clipped, metrics=clip_metrics),
    "kl_fixed": Surrogate(penalised, uses_kl=True),
    "kl_adaptive": Surrogate(penalised, metrics=adaptive_metrics, adapt=adapted, uses_kl=True),
    "none": Surrogate(unclipped),
}
"""Surrogates by their name in `ppo.surrogate`."""
