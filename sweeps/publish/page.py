"""The page of a sweep in MLflow's UI: a note, and a table of its trials that opens sorted."""

from __future__ import annotations

import json
from urllib.parse import quote

from mlflow import MlflowClient
from optuna.trial import FrozenTrial

from sweeps.errors import redacted
from sweeps.hints import UI_PORT, hint
from sweeps.schema import (
    BEST_ALIAS,
    EXPERIMENT_KIND,
    NOTE,
    ROLE,
    RUN_ID,
    SCORE,
    SUPERSEDED,
    VIEW_STATE,
    Role,
)
from sweeps.scores import best_of
from sweeps.store.store import Store
from sweeps.store.trials import Trials
from sweeps.sweep import Sweep

VIEW = "sweep"
"""Key of the table that the printed link opens."""
HOST = "127.0.0.1"


def best_recorded(trials: Trials) -> FrozenTrial | None:
    """The best trial that has a run in MLflow; a trial that another tool added has none."""
    return best_of([trial for trial in trials.all if RUN_ID in trial.user_attrs])


def describe(client: MlflowClient, sweep: Sweep, trials: Trials) -> None:
    """Record the note that the UI shows on the experiment and the parent run, and the table."""
    name, best, store = sweep.study.name, best_recorded(trials) or trials.best, sweep.store.folder
    lines = [
        f"**{name}**: PPO on `{sweep.study.base.env.id}`, {trials.total} trials of "
        f"{max(config.total_steps for config in sweep.study.configs):,} environment steps, "
        + ("of points that differ in " if sweep.study.has_points else "searching ")
        + ", ".join(f"`{field}`" for field in sweep.study.space)
        + "."
    ]
    if best is not None:
        lines += [
            "",
            f"Best: trial {best.number}, score {best.value:.1f} over "
            f"{sweep.study.base.final_episodes} episodes of fixed seeds. It is the best of "
            "many, so its score on fresh seeds will be lower; to measure it: "
            f"`{hint('confirm', store, study=name)}`",
            "",
            f"Reproduce it bit for bit: `{hint('reproduce', store, study=name, trial='best')}`",
            "",
            f"Its config: `{hint('export', store, study=name, trial='best')}`",
            "",
            f'Its policy: `mlflow.pytorch.load_model("models:/{name}@{BEST_ALIAS}")`',
        ]
    note = "\n".join(lines)
    for key, value in (
        (NOTE, note),
        (EXPERIMENT_KIND, "custom_model_development"),
        (VIEW_STATE + VIEW, json.dumps(run_table(sweep))),
    ):
        client.set_experiment_tag(sweep.experiment_id, key, value)
    client.set_tag(sweep.run_id, NOTE, note)


def run_table(sweep: Sweep) -> dict[str, object]:
    """The state of MLflow's run table: trials that count, best first, with searched parameters."""
    order = f"metrics.`{SCORE}`"
    return {
        "searchFilter": f"tags.`{ROLE}` = '{Role.TRIAL}' and tags.`{SUPERSEDED}` IS NULL",
        "orderByKey": order,
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": [order, *(f"params.`{field}`" for field in sweep.study.space)],
        "runsExpanded": {},
    }


def sweep_url(sweep: Sweep, *, port: int = UI_PORT) -> str:
    """The page of a sweep, on the tracking server or in the UI that `make ui` serves."""
    return experiment_url(sweep.store, sweep.experiment_id, port=port)


def experiment_url(store: Store, experiment_id: str, *, port: int) -> str:
    """The same for an experiment whose sweep cannot be opened."""
    server = redacted(store.tracking_uri) if store.tracked_remotely else f"http://{HOST}:{port}"
    query = f"workflowType=machine_learning&viewStateShareKey={quote(VIEW)}"
    return f"{server.rstrip('/')}/#/experiments/{quote(experiment_id)}/runs?{query}"
