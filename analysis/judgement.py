"""A confirmation judged: who won, by how much, and how sure that is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from analysis.charts.intervals import seeds_and_mean
from analysis.stats import (
    Estimate,
    bootstrap_estimate,
    difference,
    mean_estimate,
    probability_better,
)
from lander.env import AnyEnv, solved_return
from lander.errors import ConfigError
from lander.seeds import TEST_SEED
from sweeps.charts.style import COLOURS, solved_line
from sweeps.confirm import DEFAULTS, Confirmed, read_confirmation
from sweeps.lifecycle.points import missing
from sweeps.schema import CONFIRM_SUFFIX
from sweeps.store.store import Store
from sweeps.sweep import open_sweep


@dataclass(frozen=True, slots=True)
class Standing:
    """A candidate's row of the table."""

    candidate: Confirmed
    mean: Estimate
    iqm: Estimate
    success_rate: float | None
    """Share of test episodes that reach the solved return; None if the environment names none."""
    worst: float
    """Mean return under the worst test seed."""
    better: Estimate | None
    """Probability that a training beats one of the defaults; None as for `gain`."""
    gain: Estimate | None
    """Mean minus the defaults' mean; None for the defaults, and if those have failed."""

    @property
    def name(self) -> str:
        return name_of(self.candidate)

    @property
    def gap(self) -> float | None:
        """Optimism: the sweep's score minus the mean under fresh seeds."""
        score = self.candidate.sweep_score
        return None if score is None else score - self.mean.value


@dataclass(frozen=True, slots=True)
class Judgement:
    """The result of a confirmation."""

    standings: tuple[Standing, ...]
    """The best mean first."""
    waiting: int
    """Trainings that are still missing."""
    failed: tuple[Confirmed, ...] = ()
    """Candidates whose trainings have all failed so far; they have no numbers and cannot win."""

    @property
    def winner(self) -> Standing:
        return self.standings[0]

    @property
    def verdict(self) -> str:
        """One sentence, as strong as the numbers allow."""
        winner = self.winner
        if winner.candidate.number == DEFAULTS:
            return "No trial beats the defaults: keep them."
        if winner.gain is None or winner.better is None:
            return f"The defaults failed under every seed; {winner.name} does best, {winner.mean}."
        lead = f"{winner.gain} above the defaults, better with probability {winner.better:.2f}"
        if winner.gain.low > 0:
            return f"{winner.name} wins: {lead}."
        seeds = len(winner.candidate.scores)
        return (
            f"{winner.name} is ahead, but not better than the defaults as far as {seeds} seeds "
            f"can tell: {lead}."
        )


def judge(confirmed: Sequence[Confirmed], *, threshold: float | None, waiting: int) -> Judgement:
    """Compare the candidates that have a finished training with the defaults, or only with each
    other if the defaults failed under every seed.

    Raises:
        ConfigError: no training has finished, or none of the defaults has yet.
    """
    trained = [candidate for candidate in confirmed if candidate.scores]
    if not trained:
        over = "every training of the confirmation has failed"
        raise ConfigError("the confirmation has no finished training yet" if waiting else over)
    base = next((one.scores for one in trained if one.number == DEFAULTS), None)
    if base is None and waiting:
        raise ConfigError("the confirmation has no finished training of the defaults yet")
    standings = [standing(candidate, base, threshold) for candidate in trained]
    standings.sort(key=lambda row: (-row.mean.value, row.candidate.number))
    failed = tuple(one for one in confirmed if one.failed and not one.scores)
    return Judgement(tuple(standings), waiting, failed)


def name_of(candidate: Confirmed) -> str:
    """A candidate's name for people."""
    return "defaults" if candidate.number == DEFAULTS else f"trial {candidate.number}"


def standing(
    candidate: Confirmed, base: Sequence[float] | None, threshold: float | None
) -> Standing:
    """A candidate's numbers, compared with the scores of the defaults if they have any."""
    scores = candidate.scores
    other = None if candidate.number == DEFAULTS else base
    episodes = np.concatenate(candidate.returns)
    return Standing(
        candidate,
        mean=mean_estimate(scores),
        iqm=bootstrap_estimate(scores),
        success_rate=None if threshold is None else float(np.mean(episodes >= threshold)),
        worst=min(scores),
        better=None if other is None else probability_better(scores, other),
        gain=None if other is None else difference(scores, other),
    )


def judgement_of(store: Store, name: str) -> Judgement:
    """The judgement of a sweep's confirmation, as far as it has been trained.

    Raises:
        ConfigError: nothing can be judged yet.
    """
    confirmation = open_sweep(store, name + CONFIRM_SUFFIX)
    threshold = solved_return(confirmation.study.base.env)
    waiting = missing(confirmation)
    return judge(read_confirmation(store, name), threshold=threshold, waiting=waiting)


HEAD = (
    "",
    "seeds",
    "mean [95 %]",
    "IQM [95 %]",
    "success",
    "worst seed",
    "P(better than defaults)",
    "sweep score",
    "optimism gap",
)


def table_rows(judgement: Judgement) -> Iterator[Sequence[str]]:
    """The table of a judgement: its head, then a row per candidate."""
    yield HEAD
    for row in judgement.standings:
        failed = f" + {row.candidate.failed} failed" if row.candidate.failed else ""
        score, gap = row.candidate.sweep_score, row.gap
        yield (
            row.name,
            f"{len(row.candidate.scores)}{failed}",
            str(row.mean),
            str(row.iqm),
            "" if row.success_rate is None else f"{row.success_rate:.1%}",
            f"{row.worst:.1f}",
            f"{row.better:.2f}" if row.better else "",
            "pruned" if score is None else f"{score:.1f}",
            "" if gap is None else f"{gap:+.1f}",
        )
    for candidate in judgement.failed:
        yield name_of(candidate), f"0 + {candidate.failed} failed", *[""] * (len(HEAD) - 2)


def legend(episodes: int) -> str:
    """What the table shows, for people who did not run the confirmation."""
    return (
        "Each configuration trained anew under seeds that the sweep never used, each training "
        f"flown deterministically on {episodes} episodes, reset seeds {TEST_SEED} and up. Mean "
        "with Student's 95 % interval over trainings, interquartile mean with a bootstrap "
        "interval; P: Mann-Whitney, interval by Newcombe's method 5; optimism gap: the sweep's "
        "score minus the mean here."
    )


def draw_confirmation(judgement: Judgement, axes: Axes, *, env: AnyEnv) -> Axes:
    """One line per candidate, the best on top: each seed, mean with interval, the sweep's score."""
    order = list(reversed(judgement.standings))
    for y, row in enumerate(order):
        label = "one test seed" if y == 0 else None
        seeds_and_mean(axes, row.candidate.scores, row.mean, y, seed_label=label)
        if row.candidate.sweep_score is not None:
            axes.plot(
                row.candidate.sweep_score,
                y,
                linestyle="none",
                marker="D",
                markerfacecolor="none",
                color=COLOURS[1],
            )
    axes.plot(
        [],
        [],
        linestyle="none",
        marker="D",
        markerfacecolor="none",
        color=COLOURS[1],
        label="score in the sweep",
    )
    solved_line(axes, env, upright=True)
    axes.set_yticks(range(len(order)), [row.name for row in order])
    axes.set_ylim(-0.6, len(order) - 0.4)
    axes.set_xlabel("return on the test episodes")
    axes.legend(fontsize=8, loc="best")
    return axes
