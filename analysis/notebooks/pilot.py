"""What notebook 04 asks of a sweep's best policy: it flies episodes that nothing was chosen by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from analysis.flight import Episode, TrainedPolicy, best_pilot, entropies, expected, fly, realised
from analysis.notebooks.answer import Answer
from analysis.notebooks.thrust import ENGINES, engines
from analysis.stats import Estimate, mean_estimate, share_estimate
from lander.evaluation import Evaluation
from lander.gif import save_landing
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
from sweeps.sweep import Sweep

EPISODES = 100
ENDINGS = ("came to rest", "crashed", "flew away", "time limit")
FLAG = 0.2
"""Where the flags stand, on both sides of the pad's middle, in units of the observation."""
SECONDS = 1 / 50
"""Of a step of LunarLander."""
DRAWN = 30
"""Flights in one picture; more hide each other."""


@dataclass(frozen=True, slots=True)
class Flown:
    """The best policy of a sweep, and its flights on the same reset seeds, in their order."""

    pilot: TrainedPolicy
    flights: Sequence[Episode]
    """Most probable actions."""
    sampled: Sequence[Episode]
    """Drawn ones, as in training."""

    @property
    def returns(self) -> NDArray[np.float64]:
        return np.array([flight.total_reward for flight in self.flights])

    @property
    def solved(self) -> float | None:
        """The return from which its environment counts as solved."""
        return threshold_of(self.pilot.config.env)

    def at(self, place: float) -> Episode:
        """0 is the flight with the lowest return, 1 that with the highest."""
        order = np.argsort(self.returns, kind="stable")
        return self.flights[int(order[round(place * (len(order) - 1))])]


def fly_best(sweep: Sweep, *, episodes: int = EPISODES) -> Flown:
    """Take the best trial's policy up.

    Raises:
        ConfigError: no trial has finished.
    """
    pilot = best_pilot(sweep)
    return Flown(pilot, fly(pilot, episodes), fly(pilot, episodes, sampled=True))


def landing(flown: Flown) -> Answer:
    """How does it fly?"""
    shown, told = flown.at(0.5), mean_estimate(flown.returns.tolist())
    return Answer(
        f"Trial {flown.pilot.trial} returns {told} on {len(flown.flights)} unseen episodes; this "
        f"is the one in the middle, reset seed {shown.seed}: return {shown.total_reward:.1f}, "
        f"{len(shown.rewards)} steps.",
        gif=gif(flown.pilot, shown),
    )


def gif(pilot: TrainedPolicy, flight: Episode) -> bytes | None:
    """A flight as moving picture, if it can be drawn."""
    one = Evaluation(
        (flight.seed,), (flight.total_reward,), (len(flight.rewards),), (flight.actions,)
    )
    with TemporaryDirectory() as folder:
        path = Path(folder) / "flight.gif"
        save_landing(path, pilot.config.env, one)
        return path.read_bytes() if path.is_file() else None


def no_lander(flown: Flown) -> Answer | None:
    """What to say where the observations are not those of LunarLander."""
    if flown.pilot.is_lander:
        return None
    return Answer(f"{flown.pilot.config.env.id} has no craft, pad and engines to draw.")


def paths(flown: Flown) -> Answer:
    """Where does it land?"""
    if (other := no_lander(flown)) is not None:
        return other
    figure, axes = new_axes(8, 4.6)
    for flight in flown.flights[:DRAWN]:
        place = ENDINGS.index(flight.ending)
        x, y = flight.obs[:, 0], flight.obs[:, 1]
        axes.plot(x, y, color=COLOURS[place], linestyle=STYLES[place], linewidth=0.7, alpha=0.7)
        axes.plot(x[-1], y[-1], "o", color=COLOURS[place], markersize=4)
    for place, ending in enumerate(ENDINGS):
        if any(flight.ending == ending for flight in flown.flights[:DRAWN]):
            axes.plot([], [], color=COLOURS[place], linestyle=STYLES[place], label=ending)
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
    shown = flown.at(0.5)
    thrusts = engines(shown.actions)
    seconds = SECONDS * np.arange(len(shown.rewards))
    figure = new_figure(8.5, 6.2)
    height, main, side, spread = figure.subplots(
        4, 1, sharex=True, gridspec_kw={"height_ratios": [2, 1, 1, 1.4]}
    )
    height.plot(seconds, shown.obs[:-1, 1], color=COLOURS[0], label="height")
    height.plot(
        seconds, shown.obs[:-1, 3], color=COLOURS[1], linestyle="--", label="vertical velocity"
    )
    height.axhline(0, color=GREY, linewidth=0.8)
    height.legend(fontsize=8)
    height.set_ylabel("as observed")
    for axes, thrust, name in zip((main, side), thrusts.T, ENGINES, strict=True):
        axes.fill_between(seconds, thrust, step="post", color=COLOURS[2], linewidth=0)
        axes.set_ylabel(name.replace(" ", "\n"))
        axes.set_yticks([0, 1] if axes is main else [-1, 0, 1])
        axes.set_ylim(-0.05 if axes is main else -1.1, 1.1)
    spread.plot(seconds, entropies(flown.pilot, shown), color=COLOURS[3])
    spread.set_ylabel("entropy, nats")
    spread.set_xlabel("seconds")
    on = np.array([(engines(flight.actions) != 0).mean(axis=0) for flight in flown.flights])
    told = [mean_estimate(column.tolist()).shown(".0%") for column in on.T]
    return Answer(
        f"Per flight the {ENGINES[0]} burns in {told[0]} of the steps and the {ENGINES[1]} in "
        f"{told[1]}; drawn is the flight in the middle, reset seed {shown.seed}.",
        figure,
    )


def value(flown: Flown) -> Answer:
    """Does it know what will come?"""
    config = flown.pilot.config
    if not config.policy.critic:
        return Answer("This policy was trained without a critic: it has no V.")
    shown = [flown.at(0.5), flown.at(0)]
    figure = new_figure(9, 4.2)
    for axes, flight, name in zip(
        figure.subplots(1, 2, sharey=True), shown, ("median", "worst"), strict=True
    ):
        came = realised(flown.pilot, flight)
        axes.plot(expected(flown.pilot, flight), color=COLOURS[0], label="V(s), expected")
        axes.plot(came, color=COLOURS[1], linestyle="--", label="G, what came")
        axes.set_xlabel("step")
        axes.set_title(f"{name} flight, return {flight.total_reward:.1f}", fontsize=10)
        axes.legend(fontsize=8)
        if axes.get_subplotspec().is_first_col():
            axes.set_ylabel("discounted return to go, raw units")
    errors = [
        float(np.mean(expected(flown.pilot, flight) - realised(flown.pilot, flight)))
        for flight in flown.flights
    ]
    told = mean_estimate(errors)
    how = "too much" if told.low > 0 else "too little" if told.high < 0 else "neither too much nor"
    end = " too little on average" if how.startswith("neither") else ""
    return Answer(
        f"Averaged along a flight V - G is {told}, over {len(errors)} flights: the critic expects "
        f"{how}{end}. It learned what sampled actions earn; these flights take the most "
        "probable ones.",
        figure,
    )


def failures(flown: Flown) -> Answer:
    """What goes wrong?"""
    if (other := no_lander(flown)) is not None:
        return other
    figure, axes = new_axes(8, 3.2)
    for place, ending in enumerate(ENDINGS):
        ended = [f.total_reward for f in flown.flights if f.ending == ending]
        axes.plot(
            ended, np.full(len(ended), place), "|", color=COLOURS[place], markersize=16, mew=1.5
        )
    counts = [sum(flight.ending == ending for flight in flown.flights) for ending in ENDINGS]
    axes.set_yticks(
        range(len(ENDINGS)),
        [f"{ending}: {count}" for ending, count in zip(ENDINGS, counts, strict=True)],
    )
    axes.set_ylim(-0.6, len(ENDINGS) - 0.4)
    axes.invert_yaxis()
    axes.set_xlabel("return of one flight")
    solved_line(axes, flown.pilot.config.env, upright=True)
    shown, share = flown.at(0), ""
    if flown.solved is not None:
        good = share_estimate(int((flown.returns >= flown.solved).sum()), len(flown.flights))
        share = f"{good:.1%} of {len(flown.flights)} flights return at least {flown.solved:g}. "
    return Answer(
        f"{share}The worst, reset seed {shown.seed}, {shown.ending}: return "
        f"{shown.total_reward:.1f}, {len(shown.rewards)} steps.",
        figure,
        gif=gif(flown.pilot, shown),
    )


def most_probable(flown: Flown) -> Answer:
    """What does drawing actions cost?"""
    drawn = np.array([flight.total_reward for flight in flown.sampled])
    figure, axes = new_axes(6.4, 5)
    axes.plot(drawn, flown.returns, "o", color=COLOURS[0], markersize=4, alpha=0.7)
    ends = [min(drawn.min(), flown.returns.min()), max(drawn.max(), flown.returns.max())]
    axes.plot(ends, ends, color=GREY, linewidth=0.8)
    axes.set_xlabel("return with sampled actions")
    axes.set_ylabel("return with the most probable actions")
    told: Estimate = mean_estimate((flown.returns - drawn).tolist())
    limits = [sum(f.ending == "time limit" for f in of) for of in (flown.flights, flown.sampled)]
    return Answer(
        f"On the same {len(drawn)} reset seeds the most probable actions return {told} more than "
        f"sampled ones; {limits[0]} and {limits[1]} flights meet the time limit.",
        figure,
    )
