"""The answers of notebook 04: how the best policy flies episodes that nothing was chosen by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.charts.flights import ENDINGS, FLAG
from analysis.flight import Episode, best_policy, entropies, expected, fly, is_lander, realised
from analysis.notebooks.thrust import ENGINES, engines
from analysis.stats import mean_estimate, share_estimate
from lander.evaluation import Evaluation
from lander.film import save_landing
from sweeps.charts.style import threshold_of
from sweeps.publish.policies import TrainedPolicy
from sweeps.sweep import Sweep

EPISODES = 100
SECONDS = 1 / 50
"""Duration of a step of LunarLander."""
FLIGHTS = ["seed", "ending", "return", "steps", "sampled_return", "sampled_ending"]
CRAFT = ["x", "height", "velocity", "main", "side"]
"""Columns that only LunarLander has."""


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


def flights_table(flown: Flown) -> pd.DataFrame:
    """A row per flight: its reset seed, how it ended, return and steps, and how the same start
    ended with sampled actions. Endings are those of LunarLander; elsewhere only the time limit has
    a name."""
    lander = is_lander(flown.trained)

    def ending(flight: Episode) -> str:
        return flight.ending if lander or not flight.terminated else ""

    rows = [
        (
            flight.seed,
            ending(flight),
            flight.total_reward,
            len(flight.rewards),
            sampled.total_reward,
            ending(sampled),
        )
        for flight, sampled in zip(flown.flights, flown.sampled, strict=True)
    ]
    return pd.DataFrame(rows, columns=FLIGHTS).rename_axis("flight")


def steps_table(flown: Flown, flight: Episode) -> pd.DataFrame:
    """A row per step of a flight: seconds, x, height and velocity as observed, thrust of both
    engines as a share of the full one, entropy of the actions in nats."""
    table = pd.DataFrame({"seconds": SECONDS * np.arange(len(flight.rewards))})
    craft = np.full((len(table), len(CRAFT)), np.nan)
    if is_lander(flown.trained):
        craft = np.column_stack([flight.obs[:-1, [0, 1, 3]], engines(flight.actions)])
    table[CRAFT] = craft
    return table.assign(entropy=entropies(flown.trained, flight))


def paths_table(flown: Flown) -> pd.DataFrame:
    """A row per state of every flight, the last one included: flight, ending, x and height."""
    if not is_lander(flown.trained):
        return pd.DataFrame(columns=["flight", "ending", "x", "height"])
    tables = [
        pd.DataFrame(
            {"flight": number, "ending": one.ending, "x": one.obs[:, 0], "height": one.obs[:, 1]}
        )
        for number, one in enumerate(flown.flights)
    ]
    return pd.concat(tables, ignore_index=True)


def values_table(flown: Flown, flight: Episode) -> pd.DataFrame:
    """A row per step of a flight: V(s), what the critic expected, and G, what came. Without rows if
    the policy was trained without a critic."""
    if not flown.trained.config.policy.critic:
        return pd.DataFrame(columns=["expected", "came"])
    return pd.DataFrame(
        {"expected": expected(flown.trained, flight), "came": realised(flown.trained, flight)}
    )


def landing(flown: Flown) -> str:
    """How does it fly?"""
    flight, mean = flown.at(0.5), mean_estimate(flown.returns.tolist())
    return (
        f"Trial {flown.trained.trial} returns {mean} on {len(flown.flights)} unseen episodes; this "
        f"is the median one, reset seed {flight.seed}: return {flight.total_reward:.1f}, "
        f"{len(flight.rewards)} steps."
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


def no_lander(flown: Flown) -> str:
    """The answer for an environment whose observations are not those of LunarLander, else empty."""
    if is_lander(flown.trained):
        return ""
    return f"{flown.trained.config.env.id} has no craft, pad and engines to draw."


def where_it_lands(flown: Flown) -> str:
    """Where does it land?"""
    if no_lander(flown):
        return no_lander(flown)
    ends = np.array([flight.obs[-1, 0] for flight in flown.flights])
    between = share_estimate(int((np.abs(ends) <= FLAG).sum()), len(ends))
    away = mean_estimate(np.abs(ends).tolist())
    return (
        f"{between:.0%} of {len(ends)} flights end between the flags (x within "
        f"{FLAG} of the middle), {away:.2f} from the middle on average."
    )


def on_the_way(flown: Flown) -> str:
    """What does it do on the way down?"""
    if no_lander(flown):
        return no_lander(flown)
    burning = np.array([(engines(other.actions) != 0).mean(axis=0) for other in flown.flights])
    main_share, side_share = (mean_estimate(column.tolist()) for column in burning.T)
    return (
        f"Per flight the {ENGINES[0]} burns in {main_share:.0%} of the steps and the {ENGINES[1]} "
        f"in {side_share:.0%}; the median flight, reset seed {flown.at(0.5).seed}, is drawn."
    )


def foreseen(flown: Flown) -> str:
    """Does it know what will come?"""
    if not flown.trained.config.policy.critic:
        return "This policy was trained without a critic: it has no V."
    tables = [values_table(flown, flight) for flight in flown.flights]
    error = mean_estimate([float((each["expected"] - each["came"]).mean()) for each in tables])
    bias = "too much" if error.low > 0 else "too little" if error.high < 0 else ""
    return (
        f"Averaged along a flight V - G is {error}, over {len(tables)} flights: the critic expects "
        f"{bias or 'neither too much nor too little on average'}. It learned what sampled actions "
        "earn; these flights take the most probable ones."
    )


def failures(flown: Flown) -> str:
    """What goes wrong?"""
    if no_lander(flown):
        return no_lander(flown)
    worst, share = flown.at(0), ""
    if flown.solved is not None:
        good = share_estimate(int((flown.returns >= flown.solved).sum()), len(flown.flights))
        share = f"{good:.1%} of {len(flown.flights)} flights return at least {flown.solved:g}. "
    return (
        f"{share}The worst, reset seed {worst.seed}, {worst.ending}: return "
        f"{worst.total_reward:.1f}, {len(worst.rewards)} steps."
    )


def most_probable(flights: pd.DataFrame) -> str:
    """What does sampling actions cost?"""
    gain = mean_estimate((flights["return"] - flights["sampled_return"]).tolist())
    cut = [(flights[column] == ENDINGS[-1]).sum() for column in ("ending", "sampled_ending")]
    return (
        f"On the same {len(flights)} reset seeds the most probable actions return {gain} more than "
        f"sampled ones; the time limit cuts {cut[0]} and {cut[1]} flights."
    )
