"""The page of a sweep in MLflow's UI: its description, a table of its trials, and charts."""

from __future__ import annotations

from urllib.parse import quote, urlencode

from mlflow import MlflowClient

from sweeps.errors import redacted
from sweeps.health.record import Health
from sweeps.hints import UI_PORT
from sweeps.publish.notes import Leaderboard, sweep_note
from sweeps.publish.view import TABLE, view_tags
from sweeps.schema import EXPERIMENT_KIND, NOTE
from sweeps.store.store import Store
from sweeps.sweep import Sweep

HOST = "127.0.0.1"
RUNS = "/runs/"
"""Followed by the name of a sweep, in the UI that `make ui` serves: its run table."""


def describe(
    client: MlflowClient, sweep: Sweep, board: Leaderboard, health: Health | None = None
) -> None:
    """Record what the UI shows of a sweep: its description, the run table and the charts."""
    note = sweep_note(sweep, board, health)
    tags = {NOTE: note, EXPERIMENT_KIND: "custom_model_development"}
    for key, value in (tags | view_tags(sweep.study, board.trials)).items():
        client.set_experiment_tag(sweep.experiment_id, key, value)
    client.set_tag(sweep.run_id, NOTE, note)


def sweep_url(sweep: Sweep, *, port: int = UI_PORT) -> str:
    """The run table of a sweep, on the tracking server or in the UI that `make ui` serves."""
    if sweep.store.tracked_remotely:
        return server_of(sweep.store) + experiment_path(sweep.experiment_id)
    return runs_url(sweep.study.name, port=port)


def runs_url(name: str, *, port: int) -> str:
    """The same in the UI that `make ui` serves."""
    return f"http://{HOST}:{port}{RUNS}{quote(name)}"


def server_of(store: Store) -> str:
    """The address of the store's tracking server; empty if `make ui` serves the runs."""
    return redacted(store.tracking_uri).rstrip("/") if store.tracked_remotely else ""


def experiment_path(experiment_id: str, *, view: str = TABLE, charts: bool = False) -> str:
    """What follows the address of a server for the runs of an experiment, as a table or charts."""
    query = {"workflowType": "machine_learning", "viewStateShareKey": view}
    if charts:
        query["compareRunsMode"] = "CHART"
    return f"/#/experiments/{quote(experiment_id)}/runs?{urlencode(query)}"


def run_path(experiment_id: str, run_id: str) -> str:
    """What follows it for the page of a run."""
    return f"/#/experiments/{quote(experiment_id)}/runs/{quote(run_id)}"
