"""An MLflow that is down, restarted, or answers nonsense: training goes on, and every point, param,
tag and file arrives once, in order."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import threading
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import replace
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import mlflow
import pytest
from mlflow.entities import Run
from optuna.trial import FrozenTrial, TrialState

from sweeps.lifecycle.creation import is_created
from sweeps.lifecycle.start import start_sweep
from sweeps.publish.publish import publish
from sweeps.record.delivery import deliver_all, drain
from sweeps.record.entries import Batch, KnownRun, RunBegun
from sweeps.record.outbox import RECORDS, Outbox, outbox_path
from sweeps.record.recorder import MlflowRecorder
from sweeps.run.worker import objective_of
from sweeps.schema import RUN_ID, WORKER
from sweeps.store import database_files
from sweeps.store.retry import explain
from sweeps.store.store import Store
from sweeps.store.worker_id import parse_worker, this_worker
from sweeps.study.study import read_study
from sweeps.sweep import Sweep, open_sweep
from tests.processes import Start, TrackingServer, output_of, python_m, until
from tests.studies import MINI, TINY, changed

FILES = {"config.toml", "policy.pt", "landing.gif"}
PATIENT = 60.0


class Proxy(ThreadingHTTPServer):
    """Between MLflow's client and its server."""

    daemon_threads = True

    def __init__(self, target: int) -> None:
        super().__init__(("127.0.0.1", 0), Carrier)
        self.target = target
        self.uri = f"http://127.0.0.1:{self.server_port}"
        self.down = False
        """Answers 500 to everything."""
        self.deaf = False
        """Carries out every request, and loses the first answer to each that writes."""
        self.lost: dict[tuple[str, bytes], None] = {}
        """The requests whose answers were."""


class Carrier(BaseHTTPRequestHandler):
    server: Proxy

    def carry(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.server.down:
            return self.answer(500, b"<html>the proxy is unwell</html>")
        connection = HTTPConnection("127.0.0.1", self.server.target, timeout=PATIENT)
        connection.request(self.command, self.path, body, dict(self.headers))
        reply = connection.getresponse()
        content = reply.read()
        connection.close()
        request = self.path.rpartition("mlflow/")[2], body
        reads = self.command == "GET" or self.path.endswith("search")
        if self.server.deaf and not reads and request not in self.server.lost:
            self.server.lost[request] = None
            return self.answer(500, b"")
        return self.answer(reply.status, content)

    def answer(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
    setattr(Carrier, f"do_{method}", Carrier.carry)


@pytest.fixture(scope="module")
def server(empty: Path, tmp_path_factory: pytest.TempPathFactory) -> Generator[TrackingServer]:
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(empty / "mlflow.db", folder)
    with TrackingServer(f"sqlite:///{folder / 'mlflow.db'}", folder) as server:
        yield server


@pytest.fixture(scope="module")
def proxy(server: TrackingServer) -> Generator[Proxy]:
    with Proxy(server.port) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        yield proxy
        proxy.shutdown()


@pytest.fixture(autouse=True)
def asked_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a process that has not yet seen MLflow silent; later tests too."""
    monkeypatch.setattr(Outbox, "_not_before", {})


@pytest.fixture
def recorded_curves(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[tuple[int, float]]]:
    """Every point that the trials of this process record, by curve."""
    curves: dict[str, list[tuple[int, float]]] = {}
    metrics = MlflowRecorder.metrics

    def note(self: MlflowRecorder, values: dict[str, float], *, step: int, under: str = "") -> None:
        for name, value in values.items():
            curves.setdefault(under + name, []).append((step, value))
        metrics(self, values, step=step, under=under)

    monkeypatch.setattr(MlflowRecorder, "metrics", note)
    return curves


def begin(store: Store, name: str, uri: str, monkeypatch: pytest.MonkeyPatch) -> Sweep:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    study = read_study(changed(MINI, {'"mini"': f'"{name}"'}), source="mini.toml")
    return start_sweep(study, store, trials=2, command=["run"])


def run_one(sweep: Sweep, check: Callable[[], None]) -> FrozenTrial:
    """The next trial, as a worker runs it; `check` is called after every update."""
    objective = objective_of(sweep, check=check)
    sweep.optuna.optimize(objective, n_trials=1)
    return [trial for trial in sweep.read_trials().all if trial.state.is_finished()][-1]


def interrupted() -> None:
    raise KeyboardInterrupt


def recorded(sweep: Sweep) -> list[Run]:
    return list(
        sweep.store.runs().search_runs(
            [sweep.experiment_id], filter_string="tags.`sweeps.role` = 'trial'"
        )
    )


def require_whole(sweep: Sweep, recorded_curves: dict[str, list[tuple[int, float]]]) -> None:
    """The one trial so far has one run, in which nothing is missing and nothing is twice."""
    (run,), client = recorded(sweep), sweep.store.runs()
    trial = open_sweep(sweep.store, sweep.study.name).read_trials().all[0]
    assert trial.state == TrialState.COMPLETE
    assert trial.user_attrs[RUN_ID] == run.info.run_id
    assert run.info.status == "FINISHED"
    assert run.data.tags["optuna.state"] == "COMPLETE"
    assert run.data.params["total_steps"] == "1024"
    assert set(run.data.metrics) == set(recorded_curves)
    for name, points in recorded_curves.items():
        history = client.get_metric_history(run.info.run_id, name)
        assert [(point.step, point.value) for point in history] == points
    assert len(recorded_curves["loss/policy"]) == 4
    assert {file.path for file in client.list_artifacts(run.info.run_id)} == FILES
    (model,) = client.search_logged_models([sweep.experiment_id])
    assert model.status == "READY"
    assert run.outputs is not None
    assert [output.model_id for output in run.outputs.model_outputs] == [model.model_id]
    assert {metric.key for metric in model.metrics or []} >= {"final/return_mean"}
    mlflow.pytorch.load_model(model.model_uri)
    assert not list(sweep.store.folder.glob(f"spool/*/{RECORDS}"))


@pytest.mark.slow
def test_a_worker_waits_with_its_records_until_there_is_a_server(
    server: TrackingServer, store: Store, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = begin(store, "joined", server.uri, monkeypatch)
    server.stop("kill")
    worker = start("sweeps", "work", "--study", "joined", "--store", store.folder)
    until(lambda: [trial.state.is_finished() for trial in sweep.read_trials().all] == [True, True])
    assert worker.stderr is not None
    assert worker.stderr.readline().startswith("sweeps: waiting for MLflow: ")
    server.start()
    assert worker.wait(PATIENT) == 0
    assert [run.info.status for run in recorded(sweep)] == ["FINISHED"] * 2
    assert not list(store.folder.glob(f"spool/*/{RECORDS}"))


def test_a_server_killed_during_a_trial_gets_all_of_it_once_it_is_back(
    server: TrackingServer,
    store: Store,
    recorded_curves: dict[str, list[tuple[int, float]]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sweep = begin(store, "killed", server.uri, monkeypatch)
    trial = run_one(sweep, lambda: server.stop("kill"))
    assert trial.state == TrialState.COMPLETE
    assert deliver_all(store) != ""
    with pytest.raises(KeyboardInterrupt):
        drain(store, seconds=60, later="doctor", check=interrupted)
    waiting, warning = capsys.readouterr().err.splitlines()
    assert waiting.startswith("sweeps: waiting for MLflow: MlflowException: ")
    assert warning.startswith(
        f"sweeps: warning: undelivered records are kept in {store.folder}/spool (Mlflow"
    )
    assert warning.endswith("; to deliver them later: doctor")
    server.start()
    assert drain(store, seconds=0, later="doctor", check=interrupted)
    assert deliver_all(store) == ""
    require_whole(sweep, recorded_curves)


def test_a_trial_that_begins_without_the_server_gets_its_run_later(
    proxy: Proxy,
    store: Store,
    recorded_curves: dict[str, list[tuple[int, float]]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sweep = begin(store, "unwell", proxy.uri, monkeypatch)
    proxy.down = True
    trial = run_one(sweep, lambda: None)
    publish(sweep, patience=0)
    proxy.down = False
    assert trial.state == TrialState.COMPLETE
    assert RUN_ID not in trial.user_attrs
    (warning,) = capsys.readouterr().err.splitlines()
    assert "records are kept in " in warning
    assert "spool (MlflowException: API request" in warning
    assert warning.endswith("; to deliver them later: run the same command again")
    assert recorded(sweep) == []
    sweep = begin(store, "unwell", proxy.uri, monkeypatch)  # the next start delivers it
    require_whole(sweep, recorded_curves)


def test_what_was_carried_out_and_not_acknowledged_is_not_there_twice(
    proxy: Proxy,
    store: Store,
    recorded_curves: dict[str, list[tuple[int, float]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sweep = begin(store, "deaf", proxy.uri, monkeypatch)
    proxy.deaf = True
    run_one(sweep, lambda: None)
    until(lambda: deliver_all(store) == "")
    proxy.deaf = False
    lost = {path for path, _ in proxy.lost}
    assert {"runs/create", "runs/log-batch", "logged-models", "runs/update"} <= lost
    require_whole(sweep, recorded_curves)


def test_what_a_killed_worker_left_arrives_before_its_run_is_closed(store: Store) -> None:
    study = read_study(MINI, source="mini.toml")
    sweep = start_sweep(study, store, trials=2, command=["run"])
    with pytest.warns(UserWarning, match="Heartbeat"):
        trial = sweep.optuna.ask()
    trial.set_user_attr(WORKER, str(replace(parse_worker(this_worker()), started="1")))
    spool = Outbox(outbox_path(store, "mini", 0), store.runs(), link=print)
    tags = {"sweeps.role": "trial"}
    spool.write(RunBegun(sweep.experiment_id, "trial-0000", 1, tags))
    spool.points([("loss/policy", 0.5, 1, 256), ("loss/policy", 0.25, 1, 512)])
    with (spool.folder / RECORDS).open("a") as records:
        records.write('{"kind": "batch", "points": [["loss/pol')
    sweep = start_sweep(study, store, trials=2, command=["run"])
    (run,) = recorded(sweep)
    assert sweep.read_trials().all[0].user_attrs[RUN_ID] == run.info.run_id
    assert (run.info.status, run.data.tags["sweeps.reason"]) == ("FAILED", "worker lost")
    history = store.runs().get_metric_history(run.info.run_id, "loss/policy")
    assert [(point.step, point.value) for point in history] == [(256, 0.5), (512, 0.25)]
    assert not spool.folder.exists()


def test_a_record_that_mlflow_refuses_is_set_aside_with_a_warning(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    study = read_study(MINI, source="mini.toml")
    sweep = start_sweep(study, store, trials=2, command=["run"])
    with pytest.warns(UserWarning, match="Heartbeat"):
        sweep.optuna.tell(sweep.optuna.ask(), 1.0)
    spool = Outbox(outbox_path(store, "mini", 0), store.runs(), link=print)
    spool.write(KnownRun(sweep.run_id))
    spool.write(Batch(params={"x" * 1000: "1"}))
    assert deliver_all(store) == ""
    (warning,) = capsys.readouterr().err.splitlines()
    assert (
        "1 of the records of mini-0000 cannot be delivered to MLflow (MlflowException: " in warning
    )
    assert f"set aside as {store.folder}/spool/mini-0000.refused; " in warning
    first, refused = (store.folder / "spool/mini-0000.refused" / RECORDS).read_text().splitlines()
    assert json.loads(first) == {"kind": "known_run", "run_id": sweep.run_id}
    assert json.loads(refused)["params"] == {"x" * 1000: "1"}
    assert deliver_all(store) == ""
    assert capsys.readouterr().err == ""


@pytest.mark.slow
def test_a_locked_database_is_waited_for_once_and_gets_the_rest_later(
    store: Store,
    recorded_curves: dict[str, list[tuple[int, float]]],
) -> None:
    study = read_study(MINI, source="mini.toml")
    sweep = start_sweep(study, store, trials=2, command=["run"])
    other = sqlite3.connect(store.folder / "mlflow.db", check_same_thread=False)
    trial = run_one(sweep, lambda: None if other.in_transaction else lock(other))
    assert trial.state == TrialState.COMPLETE
    assert deliver_all(store) != ""
    other.rollback()
    assert deliver_all(store) == ""
    require_whole(sweep, recorded_curves)
    other.close()


def test_a_record_waits_while_another_program_locks_mlflows_database(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = start_sweep(read_study(TINY, source=""), store, trials=1, command=["run"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Outbox, "deliver", lambda *_, **__: False)
        run_one(sweep, lambda: None)
    patient = database_files.connect

    def connect(file: Path, mode: str) -> sqlite3.Connection:
        connection = patient(file, mode)
        connection.execute("PRAGMA busy_timeout = 0")
        return connection

    monkeypatch.setattr(database_files, "connect", connect)
    with closing(sqlite3.connect(store.folder / "mlflow.db")) as other:
        lock(other)
        assert deliver_all(store) == "OperationalError: database is locked"
        with pytest.raises(sqlite3.OperationalError) as refused:
            store.runs()
        assert explain(refused.value).startswith("try again when the database can be read")
        other.rollback()
    assert deliver_all(store) == ""
    assert not list(store.folder.glob("spool/tiny*/records.jsonl"))


def lock(database: sqlite3.Connection) -> None:
    """Nobody else can write to it until it is rolled back."""
    database.execute("begin exclusive")


@pytest.mark.slow
def test_a_sweep_whose_server_restarts_records_every_trial_once(
    server: TrackingServer, store: Store, start: Start, tmp_path: Path
) -> None:
    file = tmp_path / "restart.toml"
    file.write_text(changed(MINI, {'"mini"': '"restart"'}))
    command = ("run", "--study", file, "--workers", "2", "--store", store.folder)
    environ = os.environ | {"MLFLOW_TRACKING_URI": server.uri}
    process = start("sweeps", *command, environ=environ)

    def ended() -> int:
        if not is_created(store, "restart"):
            return 0
        sweep = open_sweep(store, "restart", anywhere=True)  # which this process is not
        return sum(trial.state.is_finished() for trial in sweep.read_trials().all)

    until(lambda: process.poll() is not None or ended() >= 1)
    server.stop("kill")
    until(lambda: process.poll() is not None or ended() >= 4)
    server.start()
    output_of(process)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", server.uri)
        again = python_m("sweeps", *command, environ=environ)
        assert again.returncode == 0, again.stderr
        sweep = open_sweep(store, "restart")
        runs = {run.info.run_id: run for run in recorded(sweep)}
        assert len(runs) == len(sweep.read_trials().all) == 6
        for trial in sweep.read_trials().all:
            run = runs[trial.user_attrs[RUN_ID]]
            assert run.data.tags["optuna.state"] == trial.state.name
            for name in run.data.metrics:
                history = store.runs().get_metric_history(run.info.run_id, name)
                steps = [point.step for point in history]
                assert steps == sorted(set(steps))
            if trial.state == TrialState.COMPLETE:
                history = store.runs().get_metric_history(run.info.run_id, "loss/policy")
                assert [point.step for point in history] == [256, 512, 768, 1024]
                assert run.data.metrics["final/return_mean"] == trial.value
