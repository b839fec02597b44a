"""A sweep in a real PostgreSQL, its runs behind a real MLflow server, from several hosts."""

from __future__ import annotations

import gc
import os
import re
import signal
import subprocess
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path

import mlflow
import psycopg
import pytest
from optuna.trial import FrozenTrial, TrialState

import analysis.__main__
import sweeps.store.budget_storage
from sweeps.__main__ import main
from sweeps.lifecycle.creation import is_created
from sweeps.schema import REASON, RETRY_OF, WINNER, WORKER, Reason
from sweeps.store.database import STORAGE_ENV
from sweeps.store.store import Store
from sweeps.sweep import open_sweep
from tests.cluster.conftest import TOKEN, TRACKING, kept_by
from tests.cluster.hosts import LIMIT, Host
from tests.cluster.postgres import Postgres, programs
from tests.processes import HEADER, TrackingServer, output_of, until
from tests.studies import MINI, changed
from tests.sweeps.test_survival import at_work, require_whole

pytestmark = pytest.mark.cluster
TOTAL = 8
STUDY = changed(MINI, {"trials = 6": f"trials = {TOTAL}", "steps = 1_024": "steps = 2_048"})


@dataclass(frozen=True)
class Swept:
    """A finished sweep: host "first" ran it, "second" joined for a while, "third" to the end."""

    first: Host
    second: Host
    third: Host
    left: int
    """Process id of the worker that left during a trial."""
    stayed: int
    """Process id of the worker that stayed."""
    said: str
    """All that was printed."""
    processes: str = field(repr=False)
    """The command lines that lists of processes showed."""

    @property
    def store(self) -> Store:
        return self.first.store


@pytest.fixture(scope="module")
def swept(
    server: Postgres, mlflow_server: TrackingServer, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Swept]:
    folder = tmp_path_factory.mktemp("hosts")
    study = folder / "mini.toml"
    study.write_text(STUDY)
    with (
        kept_by(server, mlflow_server, folder / "first"),
        Host(folder / "first") as first,
        Host(folder / "second") as second,
        Host(folder / "third") as third,
    ):
        run = first.start("run", "--study", study, "--workers", "2")
        until(lambda: is_created(first.store, "mini"), run)
        leaves = second.start("work", "--study", "mini")
        stays = third.start("work", "--study", "mini")
        until(lambda: leaves.pid in at_work(first.store).values(), run)
        processes = "".join(map(command_line, Path("/proc").glob("[0-9]*")))
        leaves.send_signal(signal.SIGINT)
        said = output_of(leaves, code=130)
        said += output_of(run, seconds=LIMIT) + output_of(stays, seconds=LIMIT)
        yield Swept(first, second, third, leaves.pid, stays.pid, said, processes)


def command_line(process: Path) -> str:
    """The command line of a process of this test; empty for others."""
    try:
        line = (process / "cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""
    return line if any(word in line for word in ("sweeps", "mlflow", "postgres")) else ""


# one sweep, several hosts


def test_hosts_join_and_leave_and_the_total_is_exact(swept: Swept, server: Postgres) -> None:
    sweep = require_whole(swept.store, total=TOTAL)
    interrupted = [trial for trial in sweep.read_trials().all if trial.state == TrialState.FAIL]
    assert [trial.user_attrs[REASON] for trial in interrupted] == [Reason.INTERRUPTED]
    assert worker(interrupted[0]) == swept.left
    assert [trial.user_attrs.get(RETRY_OF) for trial in sweep.read_trials().all].count(
        interrupted[0].number
    ) == 1
    assert swept.stayed in {worker(trial) for trial in sweep.read_trials().counted}
    assert not doubled(server)


def worker(trial: FrozenTrial) -> int:
    """Process id of the worker that ran a trial."""
    return int(trial.user_attrs[WORKER].split(":")[1])


def doubled(server: Postgres) -> list[tuple[object, ...]]:
    """Points of curves that are recorded twice."""
    return server.execute(
        "SELECT run_uuid, key, step FROM metrics GROUP BY run_uuid, key, step HAVING count(*) > 1",
        "mlflow",
    )


def test_a_host_that_has_seen_nothing_reads_reproduces_and_reports(
    swept: Swept, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*args: str) -> str:
        assert main([*args, "--store", str(tmp_path)]) == 0
        return capsys.readouterr().out

    of_study = ("--study", "mini")
    assert re.match(
        r"mini: \d finished.*, 1 interrupted; best: trial \d, promised -?\d", said("status")
    )
    assert len(said("trials", *of_study).splitlines()) == 1 + TOTAL + 1  # one was interrupted
    assert 'id = "LunarLanderContinuous-v3"' in said("export", *of_study)
    assert "every one bit-equal" in said("reproduce", *of_study)
    assert said("doctor") == f"nothing is wrong in {tmp_path}: mini\n"
    assert analysis.__main__.main(["report", *of_study, "--store", str(tmp_path)]) == 0
    (page,) = tmp_path.glob("reports/*.html")
    assert "mini" in page.read_text()


def test_a_host_that_has_seen_nothing_confirms(
    swept: Swept, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    options = ["--study", "mini", "--top", "1", "--trainings", "4", "--store", str(tmp_path)]
    command = ["confirm", *options]
    assert analysis.__main__.main([*command, "--workers", "2"]) == 0, capfd.readouterr()
    sweep = open_sweep(swept.store, "mini")
    confirmation = open_sweep(swept.store, "mini@confirm")
    assert [trial.state for trial in confirmation.read_trials().all] == [TrialState.COMPLETE] * 4
    aliases = swept.store.runs().get_registered_model("mini").aliases
    assert ("confirmed" in aliases) is (sweep.optuna.user_attrs[WINNER] is not None)
    assert main(["doctor", "--store", str(tmp_path)]) == 0
    mlflow.pytorch.load_model("models:/mini@best")


def test_artifacts_are_with_the_server_and_folders_keep_logs_and_pages(
    swept: Swept, mlflow_server: TrackingServer
) -> None:
    assert len(list(mlflow_server.artifacts.rglob("policy.pt"))) >= TOTAL
    for host in (swept.first, swept.second, swept.third):
        left = {path.relative_to(host.folder) for path in host.folder.rglob("*") if path.is_file()}
        kept = {("mlruns", name) for name in ("logs", "reports", "spool", "flights.lock")}
        assert {path.parts[:2] for path in left} <= kept
        assert {path.name for path in left if "spool" in path.parts} <= {".lock"}
    assert {path.read_text() for path in swept.store.folder.glob("logs/*")} == {""}


# secrets are never shown


def test_passwords_are_in_no_output_record_artifact_or_process_list(
    swept: Swept, server: Postgres, mlflow_server: TrackingServer
) -> None:
    assert "-m sweeps work" in swept.processes
    assert TOKEN in os.environ[TRACKING]
    places = [swept.said, swept.processes, mlflow_server.log, server.log]
    for name in ("mlflow", os.environ[STORAGE_ENV].rpartition("/")[2]):
        places.append(dump(server, name))
        assert "sweeps." in places[-1]
    folders = [host.folder for host in (swept.first, swept.second, swept.third)]
    files = [file for folder in (*folders, mlflow_server.folder) for file in folder.rglob("*")]
    places += [file.read_bytes().decode("latin-1") for file in files if file.is_file()]
    for password in (server.password, TOKEN):
        assert not [text[:300] for text in places if password in text]


def dump(server: Postgres, database: str) -> str:
    """A dump of a database."""
    command = [str(programs() / "bin" / "pg_dump"), "-d", server.address(database)]
    return str(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


# wrong URLs


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        (("postgresql://", "mysql://"), 2, "must be postgresql://HOST/DATABASE"),
        (("postgresql://", "sqlite:///"), 2, "must be postgresql://HOST/DATABASE"),
        (("postgresql://", ""), 2, "must be postgresql://HOST/DATABASE"),
        (("/postgres", ""), 2, "must be postgresql://HOST/DATABASE"),
        (("/postgres", "/nowhere"), 2, 'database "nowhere" does not exist'),
        ((":hidden", ":wrong"), 2, "password authentication failed"),
        (("sweeper:", "stranger:"), 2, "password authentication failed"),
        (("PORT", "1"), 1, "Connection refused"),
        (("127.0.0.1", "nowhere.invalid"), 1, "resolve"),
        (("/postgres", "/mlflow"), 2, "if it is not MLflow's, which needs a database of its own"),
    ],
)
@pytest.mark.parametrize("command", ["run", "work"])
@pytest.mark.filterwarnings("ignore:.*was deleted while still open:ResourceWarning")
def test_a_wrong_address_is_one_line_without_its_password(
    tracking: TrackingServer,
    server: Postgres,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    change: tuple[str, str],
    code: int,
    message: str,
    command: str,
) -> None:
    old, new = change
    right = server.address("postgres")
    monkeypatch.setattr(sweeps.store.budget_storage, "FIRST_RETRY_SECONDS", 0.2)
    monkeypatch.setenv(STORAGE_ENV, right.replace(str(server.port) if old == "PORT" else old, new))
    monkeypatch.setenv(TRACKING, tracking.uri)
    study = tmp_path / "mini.toml"
    study.write_text(STUDY)
    name = {"run": str(study), "work": "mini"}[command]
    assert main([command, "--study", name, "--store", str(tmp_path / "store")]) == code
    output, error = capfd.readouterr()
    assert all(row.startswith(HEADER) for row in output.splitlines()), output
    assert error.count("\n") == 1, error
    assert message in error
    assert server.password not in output + error
    gc.collect()  # with the connections of a storage that did not come about


@pytest.mark.parametrize("command", ["run", "work", "reproduce", "trials", "doctor"])
def test_who_forgets_the_tracking_server_is_told_so_and_records_nothing(
    swept: Swept,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
) -> None:
    before = len(swept.store.load_study("mini").trials)
    monkeypatch.delenv(TRACKING)
    study = tmp_path / "mini.toml"
    study.write_text(STUDY)
    of_study = {"run": ["--study", str(study)], "doctor": []}.get(command, ["--study", "mini"])
    assert main([command, *of_study, "--store", str(tmp_path / "store")]) == 2
    _, error = capsys.readouterr()
    assert error.startswith("sweeps: mini is recorded at a tracking server, not at file://")
    assert error.endswith("set or unset MLFLOW_TRACKING_URI accordingly\n")
    monkeypatch.undo()
    assert len(swept.store.load_study("mini").trials) == before


def test_the_driver_gives_the_sqlstate_by_which_refusals_are_known() -> None:
    see = "psycopg has another sqlstate on its errors: adapt sweeps.store.retry.is_transient"
    assert psycopg.OperationalError().sqlstate is None, see
    assert psycopg.errors.InvalidPassword.sqlstate == "28P01", see
    assert psycopg.errors.InvalidCatalogName.sqlstate == "3D000", see
