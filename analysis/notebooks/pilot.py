"""The answers of notebook 04: how the best policy flies episodes that nothing was chosen by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from analysis.flight import Episode, best_policy, entropies, expected, fly, is_lander, realised
from analysis.notebooks.answer import Answer
from analysis.notebooks.thrust import ENGINES, engines
from analysis.stats import mean_estimate, share_estimate
from lander.evaluation import Evaluation
from lander.film import save_landing
from sweeps.charts.style import (
    BLACK,
    COLOURS,
    GREY,
    STYLES,
    new_axes,
    new_figure,
    solved_line,
    threshold_of,
)
from sweeps.publish.policies import TrainedPolicy
from sweeps.sweep import Sweep

EPISODES = 100
ENDINGS = ("came to rest", "crashed", "flew away", "time limit")
FLAG = 0.2
"""Distance of the flags from the middle of the pad, in units of the observation."""
SECONDS = 1 / 50
"""Duration of a step of LunarLander."""
DRAWN = 30
"""Flights in one picture; more would hide each other."""


@dataclass(frozen=True, slots=True)
class Flown:
    """The best policy of a sweep and its flights, both sorts on the same reset seeds."""

    trained: TrainedPolicy
    flights: Sequence[Episode]
    """Flown with the most probable actions."""
    sampled: Sequence[Episode]
    """Flown with sampled actions, as in training."""

    @property
    def returns(self) -> NDArray[np.float64]:
        return np.array([flight.total_reward for flight in self.flights])

    @property
    def solved(self) -> float | None:
        """The return at which the environment counts as solved; None if it names none."""
        return threshold_of(self.trained.config.env)

    def at(self, quantile: float) -> Episode:
        """The flight at a quantile of the returns: 0 has the lowest, 1 the highest."""
        order = np.argsort(self.returns, kind="stable")
        return self.flights[int(order[round(quantile * (len(order) - 1))])]


def fly_best(sweep: Sweep, *, episodes: int = EPISODES) -> Flown:
    """Fly the best policy of a sweep.

    Raises:
        ConfigError: no trial has finished.
    """
    trained = best_policy(sweep)
    return Flown(trained, fly(trained, episodes), fly(trained, episodes, sampled=True))


def landing(flown: Flown) -> Answer:
    """How does it fly?"""
    flight, mean = flown.at(0.5), mean_estimate(flown.returns.tolist())
    return Answer(
        f"Trial {flown.trained.trial} returns {mean} on {len(flown.flights)} unseen episodes; this "
        f"is the median one, reset seed {flight.seed}: return {flight.total_reward:.1f}, "
        f"{len(flight.rewards)} steps.",
        gif=gif(flown.trained, flight),
    )


def gif(trained: TrainedPolicy, flight: Episode) -> bytes | None:
    """A flight as a moving picture; None if the environment cannot be drawn."""
    one = Evaluation(
        (flight.seed,), (flight.total_reward,), (len(flight.rewards),), (flight.actions,)
    )
    with TemporaryDirectory() as folder:
        path = Path(folder) / "flight.gif"
        save_landing(path, trained.config.env, one, title=f"trial {trained.trial}")
        return path.read_bytes() if path.is_file() else None


def no_lander(flown: Flown) -> Answer | None:
    """The answer for an environment whose observations are not those of LunarLander."""
    if is_lander(flown.trained):
        return None
    return Answer(f"{flown.trained.config.env.id} has no craft, pad and engines to draw.")


def paths(flown: Flown) -> Answer:
    """Where does it land?"""
    if (other := no_lander(flown)) is not None:
        return other
    figure, axes = new_axes(8, 4.6)
    for flight in flown.flights[:DRAWN]:
        kind = ENDINGS.index(flight.ending)
        x, y = flight.obs[:, 0], flight.obs[:, 1]
        axes.plot(x, y, color=COLOURS[kind], linestyle=STYLES[kind], linewidth=0.7, alpha=0.7)
        axes.plot(x[-1], y[-1], "o", color=COLOURS[kind], markersize=4)
    for kind, ending in enumerate(ENDINGS):
        if any(flight.ending == ending for flight in flown.flights[:DRAWN]):
            axes.plot([], [], color=COLOURS[kind], linestyle=STYLES[kind], label=ending)
    axes.plot([-FLAG, FLAG], [0, 0], color=BLACK, linewidth=4, solid_capstyle="butt")
    axes.annotate("pad", (0, -0.04), ha="center", va="top", fontsize=8)
    axes.set_xlabel("x, in half widths of the frame")
    axes.set_ylabel("height above the pad, in half heights")
    axes.margins(y=0.08)
    axes.legend(fontsize=8)
    ends = np.array([flight.obs[-1, 0] for flight in flown.flights])
    between = share_estimate(int((np.abs(ends) <= FLAG).sum()), len(ends))
    away = mean_estimate(np.abs(ends).tolist())
    return Answer(
        f"{between:.0%} of {len(ends)} flights end between the flags (x within "
        f"{FLAG} of the middle), {away:.2f} from the middle on average; the first "
        f"{min(DRAWN, len(ends))} are drawn.",
        figure,
    )


def along(flown: Flown) -> Answer:
    """What does it do on the way down?"""
    if (other := no_lander(flown)) is not None:
        return other
    flight = flown.at(0.5)
    thrusts = engines(flight.actions)
    seconds = SECONDS * np.arange(len(flight.rewards))
    figure = new_figure(8.5, 6.2)
    height, main, side, spread = figure.subplots(
        4, 1, sharex=True, gridspec_kw={"height_ratios": [2, 1, 1, 1.4]}
    )
    height.plot(seconds, flight.obs[:-1, 1], color=COLOURS[0], label="height")
    height.plot(
        seconds, flight.obs[:-1, 3], color=COLOURS[1], linestyle="--", label="vertical velocity"
    )
    height.axhline(0, color=GREY, linewidth=0.8)
    height.legend(fontsize=8)
    height.set_ylabel("as observed")
    for axes, thrust, name in zip((main, side), thrusts.T, ENGINES, strict=True):
        axes.fill_between(seconds, thrust, step="post", color=COLOURS[2], linewidth=0)
        axes.set_ylabel(name.replace(" ", "\n"))
        axes.set_yticks([0, 1] if axes is main else [-1, 0, 1])
        axes.set_ylim(-0.05 if axes is main else -1.1, 1.1)
    spread.plot(seconds, entropies(flown.trained, flight), color=COLOURS[3])
    spread.set_ylabel("entropy, nats")
    spread.set_xlabel("seconds")
    burning = np.array([(engines(other.actions) != 0).mean(axis=0) for other in flown.flights])
    main_share, side_share = (mean_estimate(column.tolist()) for column in burning.T)
    return Answer(
        f"Per flight the {ENGINES[0]} burns in {main_share:.0%} of the steps and the {ENGINES[1]} "
        f"in {side_share:.0%}; the median flight, reset seed {flight.seed}, is drawn.",
        figure,
    )


def value(flown: Flown) -> Answer:
    """Does it know what will come?"""
    config = flown.trained.config
    if not config.policy.critic:
        return Answer("This policy was trained without a critic: it has no V.")
    flights = [flown.at(0.5), flown.at(0)]
    figure = new_figure(9, 4.2)
    for axes, flight, name in zip(
        figure.subplots(1, 2, sharey=True), flights, ("median", "worst"), strict=True
    ):
        came = realised(flown.trained, flight)
        axes.plot(expected(flown.trained, flight), color=COLOURS[0], label="V(s), expected")
        axes.plot(came, color=COLOURS[1], linestyle="--", label="G, what came")
        axes.set_xlabel("step")
        axes.set_title(f"{name} flight, return {flight.total_reward:.1f}", fontsize=10)
        axes.legend(fontsize=8)
        if axes.get_subplotspec().is_first_col():
            axes.set_ylabel("discounted return to go, raw units")
    errors = [
        float(np.mean(expected(flown.trained, flight) - realised(flown.trained, flight)))
        for flight in flown.flights
    ]
    error = mean_estimate(errors)
    bias = "too much" if error.low > 0 else "too little" if error.high < 0 else ""
    return Answer(
        f"Averaged along a flight V - G is {error}, over {len(errors)} flights: the critic expects "
        f"{bias or 'neither too much nor too little on average'}. It learned what sampled actions "
        "earn; these flights take the most probable ones.",
        figure,
    )


def failures(flown: Flown) -> Answer:
    """What goes wrong?"""
    if (other := no_lander(flown)) is not None:
        return other
    figure, axes = new_axes(8, 3.2)
    for y, ending in enumerate(ENDINGS):
        returns = [f.total_reward for f in flown.flights if f.ending == ending]
        axes.plot(returns, np.full(len(returns), y), "|", color=COLOURS[y], markersize=16, mew=1.5)
    counts = [sum(flight.ending == ending for flight in flown.flights) for ending in ENDINGS]
    axes.set_yticks(
        range(len(ENDINGS)),
        [f"{ending}: {count}" for ending, count in zip(ENDINGS, counts, strict=True)],
    )
    axes.set_ylim(-0.6, len(ENDINGS) - 0.4)
    axes.invert_yaxis()
    axes.set_xlabel("return of one flight")
    solved_line(axes, flown.trained.config.env, upright=True)
    worst, share = flown.at(0), ""
    if flown.solved is not None:
        good = share_estimate(int((flown.returns >= flown.solved).sum()), len(flown.flights))
        share = f"{good:.1%} of {len(flown.flights)} flights return at least {flown.solved:g}. "
    return Answer(
        f"{share}The worst, reset seed {worst.seed}, {worst.ending}: return "
        f"{worst.total_reward:.1f}, {len(worst.rewards)} steps.",
        figure,
        gif=gif(flown.trained, worst),
    )


def most_probable(flown: Flown) -> Answer:
    """What does sampling actions cost?"""
    sampled = np.array([flight.total_reward for flight in flown.sampled])
    figure, axes = new_axes(6.4, 5)
    axes.plot(sampled, flown.returns, "o", color=COLOURS[0], markersize=4, alpha=0.7)
    ends = [min(sampled.min(), flown.returns.min()), max(sampled.max(), flown.returns.max())]
    axes.plot(ends, ends, color=GREY, linewidth=0.8)
    axes.set_xlabel("return with sampled actions")
    axes.set_ylabel("return with the most probable actions")
    gain = mean_estimate((flown.returns - sampled).tolist())
    cut = [
        sum(flight.ending == "time limit" for flight in flights)
        for flights in (flown.flights, flown.sampled)
    ]
    return Answer(
        f"On the same {len(sampled)} reset seeds the most probable actions return {gain} more than "
        f"sampled ones; the time limit cuts {cut[0]} and {cut[1]} flights.",
        figure,
    )
