"""Who won, and by how much: a confirmation judged, told and recorded."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from analysis.markdown import table
from analysis.stats import (
    Estimate,
    bootstrap_estimate,
    difference,
    mean_estimate,
    probability_better,
)
from lander.env import AnyEnv, solved_return
from lander.errors import ConfigError
from lander.evaluation import TEST_SEED
from sweeps.charts.style import COLOURS, GREY, new_axes, solved_line
from sweeps.confirm import DEFAULTS, Confirmed, missing, read_confirmation
from sweeps.publish.publish import warn
from sweeps.publish.registry import move_alias
from sweeps.record.recorder import tolerated
from sweeps.schema import (
    BEST_ALIAS,
    CONFIRM_CHART,
    CONFIRM_GAIN,
    CONFIRM_IQM,
    CONFIRM_MEAN,
    CONFIRM_MEAN_HIGH,
    CONFIRM_MEAN_LOW,
    CONFIRM_NUMBERS,
    CONFIRM_OPTIMISM_GAP,
    CONFIRM_P_BETTER,
    CONFIRM_SUCCESS_RATE,
    CONFIRM_SUFFIX,
    CONFIRM_TABLE,
    CONFIRM_WORST_SEED,
    LANDING_GIF,
    NOTE,
    RUN_ID,
    WARNING,
    WINNER,
    WINNER_GIF,
)
from sweeps.scores import ranked
from sweeps.store.store import Store
from sweeps.sweep import Sweep, open_sweep


def draw_confirmation(judgement: Judgement, axes: Axes, *, env: AnyEnv) -> Axes:
    """A line per candidate, the best on top: every seed, mean with interval, the sweep's score."""
    order = list(reversed(judgement.standings))
    for y, row in enumerate(order):
        scores = row.candidate.scores
        axes.plot(
            scores,
            np.full(len(scores), y),
            linestyle="none",
            marker="|",
            markersize=12,
            color=GREY,
            label="one test seed" if y == 0 else None,
        )
        axes.errorbar(
            row.mean.value,
            y,
            xerr=np.nan_to_num([[row.mean.value - row.mean.low], [row.mean.high - row.mean.value]]),
            marker="o",
            capsize=4,
            color=COLOURS[0],
            label="mean and its 95 % interval" if y == 0 else None,
        )
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
        label="what the sweep thought",
    )
    solved_line(axes, env, upright=True)
    axes.set_yticks(range(len(order)), [row.name for row in order])
    axes.set_ylim(-0.6, len(order) - 0.4)
    axes.set_xlabel("return on the test episodes")
    axes.legend(fontsize=8, loc="best")
    return axes


@dataclass(frozen=True, slots=True)
class Standing:
    """A candidate's row of the table."""

    candidate: Confirmed
    mean: Estimate
    iqm: Estimate
    success_rate: float | None
    """Share of all test episodes that reach the solved return; None if the environment has none."""
    worst: float
    """Mean return under the worst test seed."""
    better: Estimate | None
    """Probability that one training of it beats one of the defaults; None as for `gain`."""
    gain: Estimate | None
    """Mean minus that of the defaults; None for the defaults, and where those have failed."""

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
    """A confirmation, judged."""

    standings: tuple[Standing, ...]
    """The best mean first."""
    waiting: int
    """Trainings still to be done."""
    failed: tuple[Confirmed, ...] = ()
    """Candidates of which every training so far has failed: without numbers, and no winners."""

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
        told = (
            f"{winner.gain} above the defaults, better with probability "
            f"{winner.better.shown('.2f')}"
        )
        if winner.gain.low > 0:
            return f"{winner.name} wins: {told}."
        seeds = len(winner.candidate.scores)
        return (
            f"{winner.name} is ahead, but not better than the defaults as far as {seeds} seeds "
            f"can tell: {told}."
        )


def judge(confirmed: Sequence[Confirmed], *, threshold: float | None, waiting: int) -> Judgement:
    """Compare every candidate that has a finished training; without the defaults if they have
    failed under every seed.

    Raises:
        ConfigError: none has, or the defaults have not yet.
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
    """What people call it."""
    return "defaults" if candidate.number == DEFAULTS else f"trial {candidate.number}"


def standing(
    candidate: Confirmed, base: Sequence[float] | None, threshold: float | None
) -> Standing:
    """A candidate's numbers beside those of the defaults, if there are any."""
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


def judge_sweep(store: Store, name: str) -> Judgement:
    """What a sweep's confirmation says so far."""
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


def rows(judgement: Judgement) -> Iterable[Sequence[str]]:
    """The table, its head first."""
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
            row.better.shown(".2f") if row.better else "",
            "pruned" if score is None else f"{score:.1f}",
            "" if gap is None else f"{gap:+.1f}",
        )
    for candidate in judgement.failed:
        yield name_of(candidate), f"0 + {candidate.failed} failed", *[""] * (len(HEAD) - 2)


def legend(episodes: int) -> str:
    """How the table came about, for people who were not there."""
    return (
        "Each configuration trained anew under seeds that the sweep never used, each training "
        f"flown deterministically on {episodes} episodes, reset seeds {TEST_SEED} and up. Mean "
        "with Student's 95 % interval over trainings, interquartile mean with a bootstrap "
        "interval; P: Mann-Whitney, interval by Newcombe's method 5; optimism gap: the sweep's "
        "score minus the mean here."
    )


def as_markdown(judgement: Judgement) -> str:
    """Table, legend and verdict."""
    episodes = len(judgement.winner.candidate.returns[0])
    parts = [table(rows(judgement)), f"*{legend(episodes)}*", f"**{judgement.verdict}**"]
    return "\n\n".join(parts) + "\n"


def as_numbers(judgement: Judgement) -> dict[str, Any]:
    """All of it, for programs."""
    return {
        "verdict": judgement.verdict,
        "winner": judgement.winner.candidate.number,
        "waiting": judgement.waiting,
        "failed": [{"trial": one.number, "failed": one.failed} for one in judgement.failed],
        "standings": [
            {
                "trial": row.candidate.number,
                "confirm_trials": row.candidate.trials,
                "scores": row.candidate.scores,
                "returns": row.candidate.returns,
                "failed": row.candidate.failed,
                "mean": interval(row.mean),
                "iqm": interval(row.iqm),
                "success_rate": row.success_rate,
                "better": interval(row.better),
                "gain": interval(row.gain),
                "sweep_score": row.candidate.sweep_score,
                "optimism_gap": row.gap,
            }
            for row in judgement.standings
        ],
    }


def interval(estimate: Estimate | None) -> list[float | None] | None:
    """Value and both ends; None where one training is all there is, for JSON has no NaN."""
    if estimate is None:
        return None
    ends = (estimate.low, estimate.high)
    return [estimate.value, *(end if np.isfinite(end) else None for end in ends)]


def numbers(judgement: Judgement) -> Mapping[str, float]:
    """What the confirmation's run shows of its winner."""
    winner = judgement.winner
    found = {
        CONFIRM_MEAN: winner.mean.value,
        CONFIRM_MEAN_LOW: winner.mean.low,
        CONFIRM_MEAN_HIGH: winner.mean.high,
        CONFIRM_IQM: winner.iqm.value,
        CONFIRM_WORST_SEED: winner.worst,
    }
    if winner.success_rate is not None:
        found[CONFIRM_SUCCESS_RATE] = winner.success_rate
    if winner.better is not None and winner.gain is not None:
        found[CONFIRM_P_BETTER] = winner.better.value
        found[CONFIRM_GAIN] = winner.gain.value
    if winner.gap is not None:
        found[CONFIRM_OPTIMISM_GAP] = winner.gap
    return {name: value for name, value in found.items() if np.isfinite(value)}


def record(store: Store, name: str, judgement: Judgement) -> str:
    """Write it to the confirmation's run, make the winner the best; what was done, for people.

    A picture that is missing is a warning.

    Raises:
        RuntimeError: the winner's policy is missing; models:/NAME@best and trial "best" stay.
    """
    sweep, confirmation = open_sweep(store, name), open_sweep(store, name + CONFIRM_SUFFIX)
    client = store.runs()
    run_id, warnings = typical_run(confirmation, judgement.winner.candidate), list[str]()
    with TemporaryDirectory() as folder:
        place = Path(folder)
        (place / CONFIRM_TABLE).write_text(as_markdown(judgement))
        (place / CONFIRM_NUMBERS).write_text(json.dumps(as_numbers(judgement), indent=1))
        with tolerated(warnings, CONFIRM_CHART):
            figure, axes = new_axes(8, 1.6 + 0.5 * len(judgement.standings))
            draw_confirmation(judgement, axes, env=confirmation.study.base.env)
            figure.savefig(place / CONFIRM_CHART, dpi=110)
        with tolerated(warnings, WINNER_GIF):
            gif = Path(client.download_artifacts(run_id, LANDING_GIF, folder))
            gif.rename(place / WINNER_GIF)
        for path in sorted(place.iterdir()):
            client.log_artifact(confirmation.run_id, str(path))
    for key, value in numbers(judgement).items():
        client.log_metric(confirmation.run_id, key, value, step=len(confirmation.read_trials().all))
    client.set_tag(confirmation.run_id, WINNER, str(judgement.winner.candidate.number))
    client.set_tag(confirmation.run_id, NOTE, as_markdown(judgement))
    client.set_terminated(confirmation.run_id, "KILLED" if judgement.waiting else "FINISHED")
    if warnings:
        client.set_tag(confirmation.run_id, WARNING, "; ".join(warnings))
    for warning in warnings:
        warn(warning)
    if judgement.waiting:
        return f"{judgement.waiting} trainings are missing: the same command goes on"
    try:  # first: if its policy is missing, nothing is renamed
        with store.publication_lock:  # two at once would each register it
            move_alias(client, sweep, run_id=run_id)
    except ConfigError as error:
        raise RuntimeError(
            f"models:/{name}@{BEST_ALIAS} and trial best stay as they are: {error}"
        ) from None
    sweep.optuna.set_user_attr(WINNER, swept_trial(sweep, judgement.winner.candidate))
    who = f"{judgement.winner.name}, the policy of its median seed"
    return f"models:/{name}@{BEST_ALIAS} is now {who} (run {run_id})"


def swept_trial(sweep: Sweep, candidate: Confirmed) -> int:
    """The finished trial of its parameters in the sweep: that of the defaults may have been lost,
    and tried again under another number."""
    finished = ranked(sweep.read_trials().all)
    same = (trial.number for trial in finished if trial.params == candidate.params)
    return next(same, candidate.number)


def typical_run(confirmation: Sweep, candidate: Confirmed) -> str:
    """The run of its training in the middle, of two the worse: what to expect of it."""
    order = np.argsort(candidate.scores, kind="stable")
    trial = confirmation.read_trials().all[candidate.trials[order[(len(order) - 1) // 2]]]
    return str(trial.user_attrs[RUN_ID])
