"""python -m analysis confirm: train a sweep's candidates again, judge, record, register the winner.

The judgement is recorded on the confirmation's run in MLflow; the winner's policy becomes
models:/NAME@confirmed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from analysis.judgement import Judgement, draw_confirmation, judgement_of, legend, table_rows
from analysis.markdown import table
from analysis.stats import Estimate
from lander.errors import ConfigError
from lander.terminal import printable, unfiltered
from sweeps.charts.style import DPI, new_axes
from sweeps.confirm import Confirmed, start_confirmation
from sweeps.doctor.doctor import check_up
from sweeps.publish.publish import warn
from sweeps.publish.registry import move_alias
from sweeps.record.recorder import tolerated
from sweeps.run.supervisor import run_trials_left
from sweeps.schema import (
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
    CONFIRMED_ALIAS,
    LANDING_GIF,
    NOTE,
    RUN_ID,
    WARNING,
    WINNER,
    WINNER_GIF,
)
from sweeps.scores import median_index, ranked
from sweeps.store.store import Store, quiet
from sweeps.sweep import Sweep, open_sweep


def confirm(args: argparse.Namespace) -> int:
    """Run the missing trainings, judge, print and record the judgement; the exit code."""
    quiet()
    store = Store(args.store)
    command = ["confirm", *sys.argv[2:]]
    check_up(store, args.study, args.study + CONFIRM_SUFFIX)
    confirmation = start_confirmation(
        store, args.study, top=args.top, seeds=args.seeds, command=command
    )
    left = confirmation.read_trials().left
    finished = run_trials_left(confirmation, workers=args.workers) if left else True
    try:
        judgement = judgement_of(store, args.study)
    except ConfigError:
        if finished:
            raise
        store.runs().set_terminated(confirmation.run_id, "KILLED")
        return 130  # interrupted before there was anything to judge
    show(judgement)
    print(publish_judgement(store, args.study, judgement))
    return 0 if finished else 130


def show(judgement: Judgement) -> None:
    """Print the table and the verdict, as wide as the terminal allows."""
    width = None if sys.stdout.isatty() else 160
    console = Console(file=unfiltered(sys.stdout), width=width)
    head, *rows = table_rows(judgement)
    table = Table(*head, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(escape(printable(cell)) for cell in row))
    console.print(table)
    print(legend(len(judgement.winner.candidate.returns[0])))
    print(judgement.verdict)


def as_markdown(judgement: Judgement) -> str:
    """The table, its legend and the verdict, as Markdown."""
    episodes = len(judgement.winner.candidate.returns[0])
    parts = [table(table_rows(judgement)), f"*{legend(episodes)}*", f"**{judgement.verdict}**"]
    return "\n\n".join(parts) + "\n"


def as_json(judgement: Judgement) -> dict[str, Any]:
    """The whole judgement, for programs."""
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
                "mean": json_interval(row.mean),
                "iqm": json_interval(row.iqm),
                "success_rate": row.success_rate,
                "better": json_interval(row.better),
                "gain": json_interval(row.gain),
                "sweep_score": row.candidate.sweep_score,
                "optimism_gap": row.gap,
            }
            for row in judgement.standings
        ],
    }


def json_interval(estimate: Estimate | None) -> list[float | None] | None:
    """The value and both ends; None stands for NaN, which JSON does not have."""
    if estimate is None:
        return None
    ends = (estimate.low, estimate.high)
    return [estimate.value, *(end if np.isfinite(end) else None for end in ends)]


def winner_metrics(judgement: Judgement) -> Mapping[str, float]:
    """The winner's numbers, as metrics of the confirmation's run."""
    winner = judgement.winner
    metrics = {
        CONFIRM_MEAN: winner.mean.value,
        CONFIRM_MEAN_LOW: winner.mean.low,
        CONFIRM_MEAN_HIGH: winner.mean.high,
        CONFIRM_IQM: winner.iqm.value,
        CONFIRM_WORST_SEED: winner.worst,
    }
    if winner.success_rate is not None:
        metrics[CONFIRM_SUCCESS_RATE] = winner.success_rate
    if winner.better is not None and winner.gain is not None:
        metrics[CONFIRM_P_BETTER] = winner.better.value
        metrics[CONFIRM_GAIN] = winner.gain.value
    if winner.gap is not None:
        metrics[CONFIRM_OPTIMISM_GAP] = winner.gap
    return {name: value for name, value in metrics.items() if np.isfinite(value)}


def publish_judgement(store: Store, name: str, judgement: Judgement) -> str:
    """Record a judgement and, once every training is done, register its winner; the outcome in one
    sentence.

    Raises:
        RuntimeError: the winner's policy is missing; models:/NAME@confirmed and trial "best" stay.
    """
    sweep, confirmation = open_sweep(store, name), open_sweep(store, name + CONFIRM_SUFFIX)
    run_id = median_run(confirmation, judgement.winner.candidate)
    record_judgement(confirmation, judgement, winner_run=run_id)
    if judgement.waiting:
        return f"{judgement.waiting} trainings are missing: run the same command to resume"
    return register_winner(sweep, judgement, run_id=run_id)


def record_judgement(confirmation: Sweep, judgement: Judgement, *, winner_run: str) -> None:
    """Write a judgement to the confirmation's run; a picture that cannot be made is a warning."""
    client, run_id, warnings = confirmation.store.runs(), confirmation.run_id, list[str]()
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / CONFIRM_TABLE).write_text(as_markdown(judgement))
        (folder / CONFIRM_NUMBERS).write_text(json.dumps(as_json(judgement), indent=1))
        with tolerated(warnings, CONFIRM_CHART):
            figure, axes = new_axes(8, 1.6 + 0.5 * len(judgement.standings))
            draw_confirmation(judgement, axes, env=confirmation.study.base.env)
            figure.savefig(folder / CONFIRM_CHART, dpi=DPI)
        with tolerated(warnings, WINNER_GIF):
            gif = Path(client.download_artifacts(winner_run, LANDING_GIF, temporary))
            gif.rename(folder / WINNER_GIF)
        for path in sorted(folder.iterdir()):
            client.log_artifact(run_id, str(path))
    trials = len(confirmation.read_trials().all)
    for key, value in winner_metrics(judgement).items():
        client.log_metric(run_id, key, value, step=trials)
    client.set_tag(run_id, WINNER, str(judgement.winner.candidate.number))
    client.set_tag(run_id, NOTE, as_markdown(judgement))
    client.set_terminated(run_id, "KILLED" if judgement.waiting else "FINISHED")
    if warnings:
        client.set_tag(run_id, WARNING, "; ".join(warnings))
    for warning in warnings:
        warn(warning)


def register_winner(sweep: Sweep, judgement: Judgement, *, run_id: str) -> str:
    """Make a judgement's winner the sweep's best, in the registry and in Optuna; the outcome in one
    sentence."""
    store, alias = sweep.store, f"models:/{sweep.study.name}@{CONFIRMED_ALIAS}"
    try:  # first: if its policy is missing, nothing is renamed
        with store.publication_lock:  # two at once would each register it
            policy = f"The policy of {judgement.winner.name}'s median seed in the confirmation"
            move_alias(
                store.runs(), sweep, run_id=run_id, alias=CONFIRMED_ALIAS, description=policy
            )
    except ConfigError as error:
        raise RuntimeError(f"{alias} and trial best stay as they are: {error}") from None
    sweep.optuna.set_user_attr(WINNER, swept_trial(sweep, judgement.winner.candidate))
    policy = f"{judgement.winner.name}, the policy of its median seed"
    return f"{alias} is now {policy} (run {run_id})"


def swept_trial(sweep: Sweep, candidate: Confirmed) -> int:
    """The finished trial of its parameters in the sweep: that of the defaults may have been lost,
    and tried again under another number."""
    finished = ranked(sweep.read_trials().all)
    same = (trial.number for trial in finished if trial.params == candidate.params)
    return next(same, candidate.number)


def median_run(confirmation: Sweep, candidate: Confirmed) -> str:
    """The MLflow run of the median training of a candidate."""
    number = candidate.trials[median_index(candidate.scores)]
    trial = confirmation.read_trials().all[number]
    return str(trial.user_attrs[RUN_ID])
