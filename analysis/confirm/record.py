"""Records a judgement on the confirmation's run in MLflow, and names what is confirmed:
models:/NAME@confirmed and the study's winner."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from analysis.confirm.figure import confirmation_figure
from analysis.confirm.judgement import Comparison, Finalist, Judgement, Standing, judgement_of
from analysis.confirm.words import legend, prediction, tables, verdict
from analysis.race import report_seeds
from analysis.stats import Estimate
from lander.errors import ConfigError
from lander.seeds import TEST_SEED
from sweeps.charts.style import DPI
from sweeps.confirm import Training, add_look
from sweeps.publish.markdown import table
from sweeps.publish.notes import Leaderboard
from sweeps.publish.page import describe
from sweeps.publish.publish import warn
from sweeps.publish.registry import NOBODY, move_alias, refresh_cards, remove_alias
from sweeps.record.recorder import tolerated
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
    CONFIRMATION,
    CONFIRMED_ALIAS,
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


def conclude(store: Store, name: str) -> tuple[Judgement, str]:
    """Judge a confirmation, record that and settle what is confirmed; the judgement, and what
    became of models:/NAME@confirmed in one sentence. A complete race is one look at the verdict.

    Raises:
        RuntimeError: the policy of what is confirmed is missing; alias and winner stay.
    """
    sweep, confirmation = open_sweep(store, name), open_sweep(store, name + CONFIRM_SUFFIX)
    judgement = judgement_of(store, name)
    if judgement.final is not None and not judgement.waiting:
        add_look(confirmation, report_seeds(judgement.plan, used=judgement.course.used))
    record_judgement(confirmation, judgement)
    if judgement.waiting:
        return (
            judgement,
            f"{judgement.waiting} trainings are missing: run the same command to resume",
        )
    return judgement, settle(sweep, confirmation, judgement)


def as_markdown(judgement: Judgement) -> str:
    """Tables, legend and verdict, as Markdown."""
    parts = [*map(table, tables(judgement)), f"*{legend()}*", f"**{verdict(judgement)}**"]
    return "\n\n".join([*parts, *filter(None, [prediction(judgement)])]) + "\n"


def as_json(judgement: Judgement) -> dict[str, Any]:
    """The whole judgement, for programs: every elimination and the verdict with the trials, seeds
    and p that they rest on."""
    confirmed, final = judgement.confirmed, judgement.final
    plan = judgement.plan
    return {
        "verdict": verdict(judgement),
        "confirmed": None if confirmed is None else confirmed.number,
        "waiting": judgement.waiting,
        "plan": {name: getattr(plan, name) for name in plan.__slots__},
        "race": [json_standing(row) for row in judgement.standings],
        "final": None if final is None else json_final(final),
        "trainings_to_decide": judgement.trainings_to_decide,
    }


def json_standing(row: Standing) -> dict[str, Any]:
    """A candidate's part in the race, with the receipt of its elimination."""
    out = row.out
    return {
        "trial": row.number,
        "choice": json_trainings(row.trainings),
        "sweep": row.before,
        "mean": None if row.mean is None else json_interval(row.mean),
        "promised": row.promise and row.promise.promised,
        "expected": row.promise and [row.promise.value, row.promise.known_error],
        "out": out and {"seeds": out.seeds, "leader": out.leader, "p": out.p, "limit": out.limit},
    }


def json_final(final: Comparison) -> dict[str, Any]:
    """The comparison of the finalists."""
    return {
        "look": final.look,
        "level": final.level,
        "chance": json_interval(final.chance),
        "gain": json_interval(final.gain),
        "finalists": [
            {
                "trial": one.number,
                "report": json_trainings(one.standing.candidate.report),
                "mean": json_interval(one.mean),
                "iqm": one.iqm,
                "success_rate": one.success_rate,
                "worst_seed": one.worst,
                "optimism_gap": one.gap,
            }
            for one in (final.rival, final.base)
        ],
    }


def json_trainings(trainings: tuple[Training, ...]) -> list[dict[str, Any]]:
    """Trainings with their trial in the confirmation; no score if they failed."""
    return [
        {"trial": one.trial, "score": None if one.failed else one.score, "returns": one.returns}
        for one in trainings
    ]


def json_interval(estimate: Estimate) -> list[float | None]:
    """The value and both ends; None stands for NaN, which JSON does not have."""
    ends = (estimate.low, estimate.high)
    return [estimate.value, *(end if np.isfinite(end) else None for end in ends)]


def shown_metrics(judgement: Judgement) -> Mapping[str, float]:
    """The numbers of the finalist that is shown, as metrics of the confirmation's run."""
    final, shown = judgement.final, judgement.shown
    if final is None or shown is None:
        return {}
    metrics = {
        CONFIRM_MEAN: shown.mean.value,
        CONFIRM_MEAN_LOW: shown.mean.low,
        CONFIRM_MEAN_HIGH: shown.mean.high,
        CONFIRM_IQM: shown.iqm,
        CONFIRM_WORST_SEED: shown.worst,
    }
    if shown.success_rate is not None:
        metrics[CONFIRM_SUCCESS_RATE] = shown.success_rate
    if shown is final.rival:
        metrics[CONFIRM_P_BETTER] = final.chance.value
        metrics[CONFIRM_GAIN] = final.gain.value
    if shown.gap is not None:
        metrics[CONFIRM_OPTIMISM_GAP] = shown.gap
    return {name: value for name, value in metrics.items() if np.isfinite(value)}


def record_judgement(confirmation: Sweep, judgement: Judgement) -> None:
    """Write a judgement to the confirmation's run; a picture that cannot be made is a warning."""
    client, run_id, warnings = confirmation.store.runs(), confirmation.run_id, list[str]()
    confirmed = judgement.confirmed
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / CONFIRM_TABLE).write_text(as_markdown(judgement))
        (folder / CONFIRM_NUMBERS).write_text(json.dumps(as_json(judgement), indent=1))
        with tolerated(warnings, CONFIRM_CHART):
            figure = confirmation_figure(judgement, env=confirmation.study.base.env)
            figure.savefig(folder / CONFIRM_CHART, dpi=DPI)
        if judgement.shown is not None:
            with tolerated(warnings, WINNER_GIF):
                run = median_run(confirmation, judgement.shown)
                gif = Path(client.download_artifacts(run, LANDING_GIF, temporary))
                gif.rename(folder / WINNER_GIF)
        for path in sorted(folder.iterdir()):
            client.log_artifact(run_id, str(path))
    trials = len(confirmation.read_trials().all)
    for key, value in shown_metrics(judgement).items():
        client.log_metric(run_id, key, value, step=trials)
    client.set_tag(run_id, WINNER, NOBODY if confirmed is None else str(confirmed.number))
    client.set_tag(run_id, NOTE, as_markdown(judgement))
    client.set_terminated(run_id, "KILLED" if judgement.waiting else "FINISHED")
    if warnings:
        client.set_tag(run_id, WARNING, "; ".join(warnings))
    for warning in warnings:
        warn(warning)


def settle(sweep: Sweep, confirmation: Sweep, judgement: Judgement) -> str:
    """Let alias and winner follow the verdict of a complete race; the outcome in one sentence."""
    store, alias = sweep.store, f"models:/{sweep.study.name}@{CONFIRMED_ALIAS}"
    confirmed = judgement.confirmed
    try:  # first: if its policy is missing, nothing is renamed
        with store.publication_lock:
            if confirmed is None:
                removed = remove_alias(store.runs(), sweep, alias=CONFIRMED_ALIAS)
            else:
                move_alias(
                    store.runs(),
                    sweep,
                    run_id=median_run(confirmation, confirmed),
                    alias=CONFIRMED_ALIAS,
                    description=f"{verdict(judgement)} The policy of its median training there, "
                    f"flown on reset seeds {TEST_SEED} and up.",
                )
    except ConfigError as error:
        raise RuntimeError(f"{alias} and the confirmed trial stay as they are: {error}") from None
    sweep.optuna.set_user_attr(WINNER, swept_trial(sweep, confirmed))
    sweep.optuna.set_user_attr(CONFIRMATION, verdict(judgement))
    with store.publication_lock:
        refresh_cards(store.runs(), sweep)
    describe(store.runs(), sweep, Leaderboard(sweep.read_trials()))
    if confirmed is None:
        outcome = "is removed: it is no longer confirmed" if removed else "does not exist"
        return f"{alias} {outcome}"
    return f"{alias} is the policy of the median training of {confirmed.name} under report seeds"


def swept_trial(sweep: Sweep, finalist: Finalist | None) -> int | None:
    """The finished trial of its parameters in the sweep, which may be a retry of the candidate's;
    None for the tuned defaults, which no trial has."""
    if finalist is None:
        return None
    params = finalist.standing.candidate.params
    finished = ranked(sweep.read_trials().all)
    return next((trial.number for trial in finished if trial.params == params), None)


def median_run(confirmation: Sweep, finalist: Finalist) -> str:
    """The MLflow run of the median training of a finalist under report seeds."""
    trial = confirmation.read_trials().all[finalist.median.trial]
    return str(trial.user_attrs[RUN_ID])
