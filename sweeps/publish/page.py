"""The page of a sweep in MLflow's UI: its description, a table of its trials, and charts."""

from __future__ import annotations

from urllib.parse import quote, urlencode

from mlflow import MlflowClient

from sweeps.errors import redacted
from sweeps.hints import UI_PORT
from sweeps.publish.notes import Leaderboard, sweep_note
from sweeps.publish.view import TABLE, view_tags
from sweeps.schema import EXPERIMENT_KIND, NOTE
from sweeps.store.store import Store
from sweeps.sweep import Sweep

HOST = "127.0.0.1"


def describe(client: MlflowClient, sweep: Sweep, board: Leaderboard) -> None:
    """Record what the UI shows of a sweep: its description, the run table and the charts."""
    note = sweep_note(sweep, board)
    tags = {NOTE: note, EXPERIMENT_KIND: "custom_model_development"}
    for key, value in (tags | view_tags(sweep.study, board.trials)).items():
        client.set_experiment_tag(sweep.experiment_id, key, value)
    client.set_tag(sweep.run_id, NOTE, note)


def sweep_url(sweep: Sweep, *, port: int = UI_PORT) -> str:
    """The page of a sweep, on the tracking server or in the UI that `make ui` serves."""
    return experiment_url(sweep.store, sweep.experiment_id, port=port)


def experiment_url(
    store: Store, experiment_id: str, *, port: int, view: str = TABLE, charts: bool = False
) -> str:
    """The same for an experiment whose sweep cannot be opened; or another view of it, or charts."""
    server = redacted(store.tracking_uri) if store.tracked_remotely else f"http://{HOST}:{port}"
    query = {"workflowType": "machine_learning", "viewStateShareKey": view}
    if charts:
        query["compareRunsMode"] = "CHART"
    return f"{server.rstrip('/')}/#/experiments/{quote(experiment_id)}/runs?{urlencode(query)}"
