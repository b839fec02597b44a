"""From plain policy gradient to PPO, a rung at a time: what each changes and what it is worth.

The rungs are the points of the study `ladder`, from the bottom up. Notebook 05_ladder explains
them; the functions here word and draw their results for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis.charts.curves import curves
from analysis.charts.intervals import seeds_and_mean
from analysis.experiments.results import UNSEEN, Outcome, Results, read_results
from analysis.stats import difference, mean_estimate
from lander.config import TrainConfig
from lander.dotted import flatten
from lander.env import AnyEnv
from lander.errors import ConfigError, unknown
from lander.evaluation import play, random_act_fn
from lander.options import inactive
from sweeps.charts.style import solved_line
from sweeps.study.study import find_study

POINTS: Final = 12
"""Of a learning curve: a training has as many checkpoints."""
MARGIN: Final = 30.0
"""Of return, above and below the curves of single trainings; wider intervals are cut off."""


@dataclass(frozen=True, slots=True)
class Ladder:
    """The rungs by name, from the bottom up, and the outcomes of their trainings."""

    configs: Mapping[str, TrainConfig]
    results: Results

    @property
    def rungs(self) -> list[str]:
        return list(self.configs)

    def below(self, rung: str) -> str | None:
        """The rung before, if this is not the first.

        Raises:
            ConfigError: no such rung.
        """
        if rung not in self.rungs:
            raise ConfigError(unknown("rung", rung, self.rungs))
        index = self.rungs.index(rung)
        return self.rungs[index - 1] if index else None

    def returns(self, rung: str) -> list[float]:
        """Mean return of each training's flights with sampled actions."""
        return [float(np.mean(outcome.sampled)) for outcome in self.results[rung]]


def read_ladder() -> Ladder:
    """The rungs with all their outcomes.

    Raises:
        ConfigError: trainings are missing.
    """
    study = find_study("ladder")
    return Ladder(study.points, read_results(study))


def changes(ladder: Ladder, rung: str) -> dict[str, Any]:
    """Fields that act in this rung and have another value in the one below: {name: value}.

    A field that does nothing stands at its default, whatever it was below.
    """
    below = ladder.below(rung)
    if below is None:
        return {}
    here, before = (flatten(ladder.configs[name]) for name in (rung, below))
    idle = inactive(here)
    return {
        name: value for name, value in here.items() if value != before[name] and name not in idle
    }


def sentence(ladder: Ladder, rung: str, *, below: str | None = None) -> str:
    """What the step up to this rung is worth: difference of mean returns, Welch's 95 % interval.

    Against the rung before, or any other `below`; of the first rung by itself the mean alone, with
    Student's interval.
    """
    below = below or ladder.below(rung)
    seeds, flights = len(ladder.results[rung]), len(ladder.results[rung][0].sampled)
    made = f"({seeds} training seeds, {flights} unseen flights of each)"
    if below is None:
        return f"{rung}: mean return {mean_estimate(ladder.returns(rung))} {made}."
    gain = difference(ladder.returns(rung), ladder.returns(below))
    verdict = "that can be chance"
    if gain.low > 0 or gain.high < 0:
        verdict = f"{rung} is {'better' if gain.low > 0 else 'worse'}"
    return f"{rung} minus {below}: {gain:+.1f} of return {made}: {verdict}."


def pilot_sentence(ladder: Ladder, rung: str) -> str:
    """What becomes of a rung's policies when the most probable action is flown, not a sampled one:
    mean over trainings of the difference within each, Student's 95 % interval."""
    pairs = [
        (outcome.return_mean, float(np.mean(outcome.sampled))) for outcome in ladder.results[rung]
    ]
    change = mean_estimate([probable - sampled for probable, sampled in pairs])
    return f"{rung}, most probable minus sampled actions: {change:+.1f} of return."


def learning(ladder: Ladder, rung: str, axes: Axes) -> Axes:
    """Learning curves of this rung and of the one below: mean over seeds, its 95 % interval."""
    names = [name for name in (ladder.below(rung), rung) if name is not None]
    tables = {name: curve_table(ladder.results[name]) for name in names}
    curves(tables, axes, label="return of training episodes", points=POINTS)
    if len(names) > 1:
        axes.get_lines()[0].set_linestyle("--")  # the two differ in a grey print, too
    axes.legend(fontsize=8, loc="best")
    values = pd.concat(tables.values())["value"]
    axes.set_ylim(values.min() - MARGIN, values.max() + MARGIN)
    solved_line(axes, ladder.configs[rung].env)
    return axes


def curve_table(outcomes: Sequence[Outcome]) -> pd.DataFrame:
    """Curves of some trainings as `analysis.charts.curves.curves` takes them."""
    rows = [
        {"trial": 0, "seed": outcome.seed, "env_steps": steps, "value": value}
        for outcome in outcomes
        for steps, value in outcome.curve
    ]
    return pd.DataFrame(rows, columns=["trial", "seed", "env_steps", "value"])


def overview(ladder: Ladder, axes: Axes) -> Axes:
    """The whole ladder, first rung at the bottom: every seed, their mean and its 95 % interval."""
    for y, rung in enumerate(ladder.rungs):
        scores = ladder.returns(rung)
        label = "one seed" if y == 0 else None
        seeds_and_mean(axes, scores, mean_estimate(scores), y, seed_label=label)
    axes.set_yticks(range(len(ladder.rungs)), ladder.rungs)
    axes.set_xlabel("return of unseen flights, actions sampled")
    axes.legend(fontsize=8, loc="best")
    return axes


def summary(ladder: Ladder) -> pd.DataFrame:
    """A row per rung: its changes, and the mean return of its flights with actions sampled and
    with the most probable ones, over seeds."""
    rows = [
        {
            "rung": rung,
            "what changes": ", ".join(
                f"{k} = {worded(v)}" for k, v in changes(ladder, rung).items()
            ),
            "sampled": str(mean_estimate(ladder.returns(rung))),
            "most probable": str(mean_estimate([o.return_mean for o in ladder.results[rung]])),
        }
        for rung in ladder.rungs
    ]
    return pd.DataFrame(rows).set_index("rung")


def worded(value: object) -> str:
    """As a study file writes it, without quotes."""
    return {"True": "true", "False": "false", "None": "none"}.get(str(value), str(value))


def random_return(env: AnyEnv) -> float:
    """Mean return of random actions on the unseen episodes."""
    return play(random_act_fn(env, seed=0), env, seeds=UNSEEN).return_mean
