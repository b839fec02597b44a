"""The page of a sweep in MLflow's UI: a note, and a table of its trials that opens sorted."""

from __future__ import annotations

import json
from urllib.parse import quote

from mlflow import MlflowClient

from sweeps.errors import redacted
from sweeps.hints import UI_PORT, hint
from sweeps.schema import (
    BEST_ALIAS,
    EXPECTED_ERROR,
    EXPECTED_RETURN,
    EXPERIMENT_KIND,
    NOTE,
    ROLE,
    RUN_ID,
    SCORE,
    SUPERSEDED,
    VIEW_STATE,
    Role,
)
from sweeps.scores import Ranked, best_expected, expected, promise
from sweeps.store.best_policy import recorded_policy
from sweeps.store.store import Store
from sweeps.store.trials import Trials
from sweeps.sweep import Sweep

VIEW = "sweep"
"""Key of the table that the printed link opens."""
HOST = "127.0.0.1"


def best_recorded(trials: Trials) -> Ranked | None:
    """The best trial that has a run in MLflow; a trial that another tool added has none."""
    return next((one for one in expected(trials.all) if RUN_ID in one.trial.user_attrs), None)


def describe(client: MlflowClient, sweep: Sweep, trials: Trials) -> None:
    """Record the note that the UI shows on the experiment and the parent run, and the table."""
    name, store = sweep.study.name, sweep.store.folder
    best = best_recorded(trials) or best_expected(trials.all)
    policy = recorded_policy(sweep.optuna)
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
            f"Best: {promise(best.trial.number, best.likely)}. The best of "
            "many scores is a lucky one; what to expect is the mean under fresh training seeds, "
            f"with its standard error. To measure it: `{hint('confirm', store, study=name)}`",
            "",
            f"Reproduce it bit for bit: `{hint('reproduce', store, study=name, trial='best')}`",
            "",
            f"Its config: `{hint('export', store, study=name, trial='best')}`",
        ]
    if policy is not None:
        lines += [
            "",
            f'Best policy: {policy}: `mlflow.pytorch.load_model("models:/{name}@{BEST_ALIAS}")`',
        ]
    note = "\n".join(lines)
    for key, value in (
        (NOTE, note),
        (EXPERIMENT_KIND, "custom_model_development"),
        (VIEW_STATE + VIEW, json.dumps(run_table(sweep, trials))),
    ):
        client.set_experiment_tag(sweep.experiment_id, key, value)
    client.set_tag(sweep.run_id, NOTE, note)


def run_table(sweep: Sweep, trials: Trials) -> dict[str, object]:
    """The state of MLflow's run table: trials that count, best first, with searched parameters.

    While trials are missing they are sorted by score: the expected return is recorded at the end.
    """
    columns = [f"metrics.`{metric}`" for metric in (EXPECTED_RETURN, EXPECTED_ERROR, SCORE)]
    order = columns[-1] if trials.left or trials.running else columns[0]
    return {
        "searchFilter": f"tags.`{ROLE}` = '{Role.TRIAL}' and tags.`{SUPERSEDED}` IS NULL",
        "orderByKey": order,
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": [*columns, *(f"params.`{field}`" for field in sweep.study.space)],
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
