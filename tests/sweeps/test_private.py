"""Private interfaces of other libraries: each test fails with what an upgrade broke, and where."""

from __future__ import annotations

import ast
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import mlflow
import optuna
import pytest
from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput, LoggedModelStatus, Metric
from optuna.trial import TrialState
from sqlalchemy import Engine, create_engine, event, exc, text

from lander.errors import ConfigError
from sweeps.optuna_private import fix_params, fixed_params, heartbeat, id_of, stored, study_id_of
from sweeps.publish.ui.start_page import ASSISTANT_SEEN
from sweeps.publish.view import WITHOUT_SLASH, view_states
from sweeps.run.worker import run_next
from sweeps.schema import BUDGET
from sweeps.store import mlflow_private, retry
from sweeps.store.budget_storage import NoTrialLeft
from sweeps.store.database_files import MLFLOW_FILE, OPTUNA_FILE, query
from sweeps.store.engines import require_same_file
from sweeps.store.mlflow_private import PATH_COLUMNS, engines, histories, move_paths
from sweeps.store.retry import is_transient
from sweeps.store.store import Store
from sweeps.store.trial_cache import TrialCache
from sweeps.store.trials import Trials
from sweeps.study.study import read_study
from tests.studies import TINY

pytestmark = pytest.mark.filterwarnings("ignore:Heartbeat of storage")  # without `optimize`
ROOT = Path(__file__).parents[2]
NAMES = {
    "_trial_id": "sweeps/optuna_private.py",
    "_study_id": "sweeps/optuna_private.py",
    "_storage": "sweeps/optuna_private.py",
    "fixed_params": "sweeps/schema.py",
    "optuna.storages._heartbeat": "sweeps/optuna_private.py",
    "optuna.storages._rdb": "sweeps/store/trial_rows.py",
    "optuna.storages._cached_storage": "sweeps/store/trial_cache.py",
    "_create_new_trial": "sweeps/store/optuna_storage.py",
    "_get_stale_trial_ids": "sweeps/store/optuna_storage.py",
    "_set_trial_param": "sweeps/store/optuna_storage.py",
    "_tracking_client": "sweeps/store/mlflow_private.py",
    "_get_registry_client": "sweeps/store/mlflow_private.py",
}
"""Private name -> the only product file that uses it."""


def broken(library: str, what: str, *, see: str) -> str:
    """The sentence of a failed contract."""
    return (
        f"{library} {version(library)} {what}: adapt {see}, or keep the version before this one "
        "in pyproject.toml and constraints.txt"
    )


def private_names(path: Path) -> set[str]:
    """Those of `NAMES` that stand in a file as an attribute, a method, a module or a string."""
    source, names = path.read_text(), set[str]()
    if not any(name in source for name in NAMES):
        return names
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Attribute(attr=name) | ast.ImportFrom(module=str(name)):
                names.add(name)
            case ast.Constant(value=str(name)):
                names.add(name)
            case ast.FunctionDef(name=name) if name.startswith("_"):
                names.add(name)
    return names & NAMES.keys()


def test_each_private_name_is_used_in_one_file() -> None:
    used: dict[str, set[str]] = {}
    for path in (*ROOT.glob("sweeps/**/*.py"), *ROOT.glob("analysis/**/*.py")):
        for name in private_names(path):
            used.setdefault(name, set()).add(str(path.relative_to(ROOT)))
    assert used == {name: {file} for name, file in NAMES.items()}


@pytest.fixture
def study(store: Store) -> optuna.Study:
    """A study of three trials in a real database."""
    study = optuna.create_study(study_name="x", storage=store.trials(), direction="maximize")
    study.set_user_attr(BUDGET, 3)
    return study


def test_optuna_ids(study: optuna.Study, store: Store) -> None:
    see = broken("optuna", "keeps no id in trial._trial_id or study._study_id", see="id_of")
    study.enqueue_trial({"x": 0.5})
    trial = study.ask()
    study_id = store.trials().get_study_id_from_name("x")
    assert study_id_of(study) == study_id, see
    expected = store.trials().get_trial_id_from_study_id_trial_number(study_id, 0)
    assert id_of(trial) == id_of(study.get_trials()[0]) == expected, see


def test_optuna_rereads_a_running_trial(study: optuna.Study, store: Store) -> None:
    trial = study.ask()
    store.trials().set_trial_state_values(id_of(trial), TrialState.FAIL)
    assert stored(trial).state == TrialState.FAIL, broken(
        "optuna", "caches a running trial in trial.storage.get_trial", see="optuna_private.stored"
    )


def test_optuna_heartbeat(study: optuna.Study, store: Store) -> None:
    trial = study.ask()
    table = "SELECT trial_id FROM trial_heartbeats"
    with store.trials().engine.begin() as connection:
        connection.execute(text("DELETE FROM trial_heartbeats"))
    with heartbeat(trial):
        pass
    see = broken("optuna", "records no heartbeat in get_heartbeat_thread", see="heartbeat")
    assert query(store.file(OPTUNA_FILE), table) == [(id_of(trial),)], see


def test_optuna_fixed_params(study: optuna.Study) -> None:
    see = broken("optuna", "does not read system_attrs['fixed_params']", see="fixed_params")
    study.enqueue_trial({"x": 0.25})
    (waiting,) = study.get_trials()
    assert fixed_params(waiting) == {"x": 0.25}, see
    assert study.ask().suggest_float("x", 0, 1) == 0.25, see

    class Fixing(optuna.samplers.RandomSampler):
        def before_trial(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
            assert fixed_params(trial) == {}
            fix_params(study, trial, {"x": 0.75})

    study.sampler = Fixing()
    assert study.ask().suggest_float("x", 0, 1) == 0.75, see
    assert fixed_params(study.get_trials()[1]) == {"x": 0.75}, see


def test_optuna_asks_the_budget(study: optuna.Study) -> None:
    see = broken("optuna", "hands trials out past _create_new_trial", see="RetryingStorage")
    for number in range(3):
        assert study.ask().number == number
    try:
        study.ask()
    except NoTrialLeft:
        return
    pytest.fail(see)


def test_optuna_models(study: optuna.Study, store: Store) -> None:
    see = broken("optuna", "has other tables than models.py of 5.0", see="RetryingStorage")
    storage, study_id = store.trials(), study_id_of(study)
    trial = study.ask()
    assert storage.count_trials(study_id) == 1, see
    assert storage.read_failed(study_id) == storage.read_retries(study_id) == [], see
    study.tell(trial, state=TrialState.FAIL)
    (failed,) = study.get_trials(deepcopy=False)
    storage.set_late_attr(failed, "sweeps.reason", "interrupted")
    assert storage.read_failed(study_id) == [(0, TrialState.FAIL, "interrupted", None)], see
    retry_of_it = study.ask()
    study.tell(retry_of_it, 1.0)
    assert storage.read_retries(study_id) == [(1, TrialState.COMPLETE, None, 0)], see
    assert storage.get_trial(id_of(failed)).user_attrs["sweeps.reason"] == "interrupted", see


class Flaky:
    """A storage whose database goes away once in every call, at the first statement."""

    def __init__(self, storage: Any) -> None:
        self.storage = storage
        self.failed: set[str] = set()
        self._calling = threading.local()  # heartbeats have a thread of their own
        event.listen(storage.engine, "before_cursor_execute", self._fail)

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self.storage, name)
        return self._armed(name, attribute) if callable(attribute) else attribute

    def _armed(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self._calling.name = name
            try:
                return method(*args, **kwargs)
            finally:
                self._calling.name = ""

        return call

    def _fail(self, *_: object) -> None:
        name, self._calling.name = getattr(self._calling, "name", ""), ""
        if name:
            self.failed.add(name)
            lost = ConnectionError("server closed the connection unexpectedly")
            raise exc.OperationalError("", {}, lost, connection_invalidated=True)


def test_every_storage_method_that_optuna_calls_during_a_sweep_retries(
    study: optuna.Study, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "time", SimpleNamespace(sleep=lambda _: None, monotonic=float))
    flaky = Flaky(store.trials())
    cached = TrialCache(cast(Any, flaky))
    study = optuna.load_study(study_name="x", storage=cached)
    study.sampler = optuna.samplers.RandomSampler(seed=0)
    study.pruner = optuna.pruners.MedianPruner(n_startup_trials=0)

    def objective(trial: optuna.Trial) -> float:
        x = trial.suggest_float("x", 0, 1)
        trial.set_user_attr("seed", trial.number)
        trial.set_constraint("c", 0.0)
        trial.report(x, 1)
        if trial.should_prune():
            raise optuna.TrialPruned
        return x

    study.enqueue_trial({"x": 0.25})
    run_next(study, objective)
    study.set_user_attr("sweeps.checked", 1)
    for _ in range(2):
        run_next(study, objective)
    trials = study.get_trials()
    assert TrialState.FAIL not in {trial.state for trial in trials}, broken(
        "optuna", "calls a storage method that is not retried", see="RetryingStorage"
    )
    with pytest.raises(NoTrialLeft):
        run_next(study, objective)
    assert len(trials) == 3
    assert trials[0].values == [0.25]
    assert {trial.user_attrs["seed"] for trial in trials} == {0, 1, 2}
    assert study.user_attrs == {BUDGET: 3, "sweeps.checked": 1}
    assert study.metric_names is None
    assert flaky.failed >= {
        "_create_new_trial",
        "_set_trial_param",
        "get_study_directions",
        "get_study_id_from_name",
        "get_study_system_attrs",
        "get_study_user_attrs",
        "get_trial",
        "new_or_open",
        "read",
        "record_heartbeat",
        "set_study_user_attr",
        "set_trial_intermediate_value",
        "set_trial_state_values",
        "set_trial_system_attr",
        "set_trial_user_attr",
    }


def test_mlflow_waits_for_locks_of_a_store_as_long_as_optuna(store: Store) -> None:
    see = broken("mlflow", "sets busy_timeout in another statement", see="extend_busy_timeout")
    for engine in engines(store.runs()):
        with engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA busy_timeout = 20000")
            assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 60_000
    client = cast(Any, store.runs())
    for part in (client._tracking_client.store, client._get_registry_client().store):
        with part.ManagedSessionMaker() as session:
            timeout = session.connection().exec_driver_sql("PRAGMA busy_timeout").scalar()
            assert timeout == 60_000, see
    with create_engine("sqlite://").connect() as connection:  # an engine of somebody else's
        connection.exec_driver_sql("PRAGMA busy_timeout = 20000")
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 20_000


def test_mlflow_engines(store: Store) -> None:
    see = broken("mlflow", "keeps its engines elsewhere", see="mlflow_private.engines")
    for engine in engines(store.runs()):
        assert engine.url.database == str(store.file(MLFLOW_FILE)), see
        assert event.contains(engine, "checkout", require_same_file), see


def curves(client: MlflowClient, store: Store) -> list[str]:
    """Three runs, of which two have a curve."""
    experiment = client.create_experiment("x", f"{store.artifacts_uri}/x")
    runs = [client.create_run(experiment).info.run_id for _ in range(3)]
    for run, values in zip(runs, ([0.5, 0.25], [], [4.0]), strict=True):
        for step, value in enumerate(values):
            client.log_metric(run, "loss", value, step=step)
    return runs


def test_mlflow_histories(store: Store) -> None:
    client = store.runs()
    first, second, third = curves(client, store)
    points = [(first, 0, 0.5), (first, 1, 0.25), (third, 0, 4.0)]
    slow = "is read by one curve per query, so that reports of large sweeps take minutes"
    database = getattr(cast(Any, client)._tracking_client.store, "engine", None)
    assert isinstance(database, Engine), broken("mlflow", slow, see="mlflow_private.histories")
    see = broken("mlflow", "keeps curves otherwise", see="mlflow_private.selected")
    assert sorted(histories(client, [first, second, third], "loss")) == sorted(points), see


@pytest.mark.parametrize("private", [{}, {"_tracking_client": SimpleNamespace(store=None)}])
def test_mlflow_histories_without_a_private_interface(
    store: Store, private: dict[str, Any]
) -> None:
    client = store.runs()
    runs = curves(client, store)
    public = SimpleNamespace(get_metric_history=client.get_metric_history, **private)
    assert list(histories(cast(MlflowClient, public), runs, "loss")) == [
        (runs[0], 0, 0.5),
        (runs[0], 1, 0.25),
        (runs[2], 0, 4.0),
    ]


def test_a_server_is_asked_for_the_next_curves_while_it_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    together = threading.Barrier(2)  # breaks if the second request waits for the first answer

    def request(credentials: None, run_ids: list[str], metric: str) -> list[mlflow_private.Point]:
        together.wait(timeout=30)
        return [(run_id, 0, 0.5) for run_id in run_ids]

    monkeypatch.setattr(mlflow_private, "request", request)
    monkeypatch.setattr(mlflow_private, "RUNS_PER_REQUEST", 1)
    server = SimpleNamespace(get_host_creds=lambda: None)
    client = SimpleNamespace(_tracking_client=SimpleNamespace(store=server))
    runs = ["b", "a", "d", "c"]
    assert [point[0] for point in histories(cast(MlflowClient, client), runs, "loss")] == runs


def addresses(file: Path, beginning: str) -> set[tuple[str, str]]:
    """Table and column of every value in a database that begins so."""
    with closing(sqlite3.connect(file)) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        columns = [
            (str(table), str(row[1]))
            for (table,) in tables.fetchall()
            for row in connection.execute(f"PRAGMA table_info({table})").fetchall()
        ]
        return {
            (table, column)
            for table, column in columns
            if connection.execute(
                f"SELECT 1 FROM {table} WHERE substr({column}, 1, ?) = ?",
                (len(beginning), beginning),
            ).fetchone()
        }


def test_mlflow_paths_of_a_moved_store(store: Store) -> None:
    see = broken("mlflow", "keeps addresses in other columns", see="PATH_COLUMNS")
    client, file = store.runs(), store.file(MLFLOW_FILE)
    (run_id, *_) = curves(client, store)
    experiment = client.get_run(run_id).info.experiment_id
    model = client.create_logged_model(experiment, "policy", source_run_id=run_id)
    client.create_registered_model("x")
    client.create_model_version("x", str(model.artifact_location), run_id=run_id)
    expected = {(table, column) for table, columns in PATH_COLUMNS.items() for column in columns}
    assert addresses(file, store.artifacts_uri) == expected, see
    store.close()
    with closing(sqlite3.connect(file)) as connection, connection:
        move_paths(connection, store.artifacts_uri, "file:///moved")
    assert addresses(file, store.artifacts_uri) == set()
    assert addresses(file, "file:///moved/x") == expected


@pytest.mark.parametrize("table", PATH_COLUMNS)
def test_mlflow_paths_are_not_half_rewritten_in_another_schema(store: Store, table: str) -> None:
    curves(store.runs(), store)
    store.close()
    column = PATH_COLUMNS[table][-1]
    with closing(sqlite3.connect(store.file(MLFLOW_FILE))) as connection:
        connection.execute(f"ALTER TABLE {table} RENAME COLUMN {column} TO elsewhere")
        with pytest.raises(ConfigError, match=f"whose table {table} has no {column}: install"):
            move_paths(connection, store.artifacts_uri, "file:///moved")
        assert not connection.in_transaction


def test_mlflow_run_table() -> None:
    script = b"".join(
        path.read_bytes() for path in Path(mlflow.__path__[0]).glob("server/js/build/**/*.js")
    )
    study = read_study(TINY, source="tiny.toml")
    words = {"mlflow.sharedViewState", "mlflow.experimentKind", "viewStateShareKey"}
    words |= {"compareRunsMode", "deflate;", "runDateAndNestInfo", WITHOUT_SLASH}
    words.add(ASSISTANT_SEEN.removesuffix("_v1"))
    for state in view_states(study, Trials([], budget=1)).values():
        words |= state.keys()
        words |= {word for part in state["compareRunSections"] for word in part}
        words |= {word for chart in state["compareRunCharts"] for word in chart}
        words |= {state["runsHiddenMode"], *(chart["type"] for chart in state["compareRunCharts"])}
    missing = sorted(word for word in words if word.encode() not in script)
    assert not missing, broken(
        "mlflow",
        f"no longer reads {missing} in its pages, so the printed link opens an unsorted table",
        see="publish.view",
    )


def test_mlflow_server() -> None:
    folder = Path(mlflow.__path__[0]) / "server"  # to import it takes seconds
    text = (folder / "constants.py").read_text() + (folder / "__init__.py").read_text()
    names = ("BACKEND_STORE_URI_ENV_VAR = ", "ARTIFACT_ROOT_ENV_VAR = ", "\napp = Flask(")
    assert all(name in text for name in names), broken(
        "mlflow", "starts its server in another way", see="mlflow_private.server_application"
    )


def test_mlflow_logged_model(store: Store, tmp_path: Path) -> None:
    see = broken("mlflow", "writes a LoggedModel in other steps", see="Sender._model")
    client = store.runs()
    (run_id, *_) = curves(client, store)
    experiment = client.get_run(run_id).info.experiment_id
    model = client.create_logged_model(experiment, "policy", source_run_id=run_id)
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, 7)])
    client.log_batch(run_id, metrics=[Metric("score", 1.0, 0, 0, model_id=model.model_id)])
    folder = tmp_path / "policy"
    folder.mkdir()
    (folder / "MLmodel").write_text("flavors: {}")
    client.log_model_artifacts(model.model_id, str(folder))
    client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    (ready,) = client.search_logged_models([experiment], f"source_run_id = '{run_id}'")
    assert ready.status == LoggedModelStatus.READY, see
    assert ready.metrics is not None, see
    assert [(metric.key, metric.value) for metric in ready.metrics] == [("score", 1.0)], see
    outputs = client.get_run(run_id).outputs
    assert outputs is not None, see
    assert [output.step for output in outputs.model_outputs or []] == [7], see
    assert (Path(str(ready.artifact_location).removeprefix("file://")) / "MLmodel").is_file(), see


@pytest.mark.parametrize("state", ["28P01", "28000", "3D000"])
def test_postgresql_refusals_are_final_in_any_language(state: str) -> None:
    refusal = SimpleNamespace(sqlstate=state, __str__=lambda: "Passwort falsch")
    error = exc.OperationalError("", {}, cast(Any, refusal), connection_invalidated=False)
    assert not is_transient(error)
