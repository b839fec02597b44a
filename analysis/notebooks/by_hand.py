"""Estimators and the clip on numbers that a reader can check by hand, for notebook 05_ladder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from torch import Tensor

from lander.advantages import gae, n_step, reward_to_go, td_errors
from lander.config import PPOConfig
from lander.distributions import Categorical
from lander.rollout import Rollout
from lander.surrogates import SURROGATES, Limits
from sweeps.charts.style import BLACK, COLOURS, GREY, STYLES


def episode(rewards: Sequence[float], values: Sequence[float]) -> Rollout:
    """A rollout (T, 1) of one whole episode that ends in a terminal state, from its numbers."""
    reward, value = (torch.tensor(column).float()[:, None] for column in (rewards, values))
    ends = torch.zeros_like(reward, dtype=torch.bool)
    ends[-1] = True
    steps = len(rewards)
    return Rollout(
        obs=torch.empty(steps, 1, 0),
        actions=torch.zeros(steps, 1, 1, dtype=torch.int64),
        log_probs=torch.zeros(steps, 1),
        pi=Categorical(torch.zeros(steps, 1, 1)),
        values=value,
        next_values=torch.cat((value[1:], torch.zeros(1, 1))),
        rewards=reward,
        terminated=ends,
        truncated=torch.zeros_like(ends),
    )


def monte_carlo(rollout: Rollout, *, gamma: float) -> Tensor:
    """G_t - V(s_t), (T, N)."""
    return reward_to_go(rollout, gamma=gamma, baseline="none") - rollout.values


def dial_table(rollout: Rollout, lambdas: Sequence[float], *, gamma: float) -> pd.DataFrame:
    """A row per step of one episode: r, V, delta, and the estimates between both ends."""
    columns = {
        "r": rollout.rewards,
        "V": rollout.values,
        "delta": td_errors(rollout, gamma=gamma),
        "n_step, n = 1": n_step(rollout, gamma=gamma, n=1),
        **{f"gae, λ = {dial:g}": gae(rollout, gamma=gamma, gae_lambda=dial) for dial in lambdas},
        "G - V": monte_carlo(rollout, gamma=gamma),
    }
    table = pd.DataFrame({name: column[:, 0].tolist() for name, column in columns.items()})
    return table.rename_axis("t")


def dial(rollout: Rollout, axes: Axes, *, gamma: float) -> Axes:
    """GAE of each step of one episode over lambda, with marks for the other estimators."""
    lambdas = np.linspace(0, 1, 101)
    estimates = torch.cat([gae(rollout, gamma=gamma, gae_lambda=x) for x in lambdas], dim=1)
    for t, row in enumerate(estimates):
        label, colour, style = f"gae at t = {t}", COLOURS[t], STYLES[t % len(STYLES)]
        axes.plot(lambdas, row, color=colour, linestyle=style, label=label)
    ends = {
        "n_step, n = 1": (0.0, "s", n_step(rollout, gamma=gamma, n=1)),
        "reward_to_go - V": (1.0, "o", monte_carlo(rollout, gamma=gamma)),
    }
    for label, (end, marker, estimate) in ends.items():
        points: dict[str, Any] = {"color": BLACK, "markerfacecolor": "none", "clip_on": False}
        x = np.full(len(estimate), end)
        axes.plot(x, estimate[:, 0], linestyle="none", marker=marker, label=label, **points)
    axes.set_xlabel("λ (ppo.gae_lambda)")
    axes.set_ylabel("advantage")
    axes.legend(fontsize=8, loc="best")
    return axes


def surrogates(axes: Axes, *, clip_range: float) -> Axes:
    """The clipped surrogate over the ratio, for A = 1 and A = -1; thin lines: r A unclipped."""
    ratio = torch.linspace(0, 2, 201)
    for advantage, colour, style in ((1.0, COLOURS[0], "-"), (-1.0, COLOURS[1], "--")):
        label = f"clip, A = {advantage:+.0f}"
        clipped = surrogate("clip", ratio, advantage, clip_range=clip_range)
        axes.plot(ratio, clipped, color=colour, linestyle=style, linewidth=2.5, label=label)
        free = surrogate("none", ratio, advantage, clip_range=clip_range)
        axes.plot(ratio, free, color=colour, linewidth=0.8)
        axes.annotate(f"none, A = {advantage:+.0f}", (1.3, 1.75 * advantage), color=colour)
    near = f"1 ± ε, ε = {clip_range:g}"
    axes.axvspan(1 - clip_range, 1 + clip_range, color=GREY, alpha=0.2, linewidth=0, label=near)
    axes.set_xlabel("ratio r = π(a|s) / π_old(a|s)")
    axes.set_ylabel("surrogate, one transition")
    axes.legend(fontsize=8, loc="upper left")
    return axes


def slopes(ratios: Sequence[float], *, clip_range: float) -> pd.DataFrame:
    """How the clipped surrogate changes with the ratio: a row per sign of A, a column per ratio."""
    rows = {}
    for advantage in (1.0, -1.0):
        ratio = torch.tensor(ratios, requires_grad=True)
        total = surrogate("clip", ratio, advantage, clip_range=clip_range).sum()
        rows[f"A = {advantage:+.0f}"] = torch.autograd.grad(total, ratio)[0].tolist()
    return pd.DataFrame.from_dict(rows, orient="index", columns=[f"r = {r:g}" for r in ratios])


def surrogate(name: str, ratio: Tensor, advantage: float, *, clip_range: float) -> Tensor:
    """The surrogate that an update maximises, (B,), for ratios (B,) and one advantage."""
    limits = Limits.of(PPOConfig(clip_range=clip_range))
    advantages = torch.full_like(ratio, advantage)
    return SURROGATES[name].objective(ratio, advantages, lambda: torch.zeros_like(ratio), limits)
