"""The learning curves of a trial with several training seeds: mean, lowest and highest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from lander.env import AnyEnv
from lander.metrics import EVAL_RETURN
from sweeps.charts.style import BLUE, new_axes, solved_line


def seed_curves(points: Sequence[Sequence[tuple[int, float]]], *, env: AnyEnv) -> Figure:
    """`points[i][j]`: environment steps and return of training j at checkpoint i."""
    table = np.array(points)  # (checkpoints, seeds, 2)
    steps, returns = table[:, :, 0].max(axis=1), table[:, :, 1]
    figure, axes = new_axes(7, 4)
    axes.plot(steps, returns, color=BLUE, linewidth=0.6, alpha=0.5)
    label = f"{returns.shape[1]} training seeds: lowest to highest"
    axes.fill_between(
        steps, returns.min(axis=1), returns.max(axis=1), color=BLUE, alpha=0.15, label=label
    )
    axes.plot(steps, returns.mean(axis=1), color=BLUE, linewidth=2, marker="o", label="mean")
    solved_line(axes, env)
    axes.xaxis.set_major_formatter(EngFormatter())
    axes.set_xlabel("environment steps")
    axes.set_ylabel(f"mean return at the checkpoint\n{EVAL_RETURN}")
    axes.legend(loc="lower right", fontsize=8, frameon=False)
    return figure
