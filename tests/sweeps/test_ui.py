"""One address for all that shows a store: for this machine and its own pages, on a free port."""

from __future__ import annotations

import json
import signal
import socket
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from lander.errors import ConfigError
from sweeps.__main__ import main
from sweeps.lifecycle.start import start_sweep
from sweeps.publish.page import HOST
from sweeps.publish.ui import commands, dashboard, server
from sweeps.publish.ui.application import Application
from sweeps.publish.ui.dashboard import dashboard_application
from sweeps.publish.ui.server import Server, bound, guarded, own_hosts
from sweeps.store.store import Store, quiet
from sweeps.study.study import find_study
from tests.processes import free_port, starting, until


@pytest.fixture
def reported(store: Store) -> Store:
    """A store with some pages."""
    (store.folder / "reports" / "notebooks").mkdir(parents=True)
    (store.folder / "reports" / "notebooks" / "01_sweep.html").write_text("a notebook")
    (store.folder / "reports" / "smoke.html").write_text("a report")
    return store


@pytest.fixture
def filled(reported: Store) -> Store:
    """The same with the sweep that they are about."""
    quiet()
    start_sweep(find_study("smoke"), reported, trials=1, command=["run"])
    return reported


def says(text: str) -> Callable[..., Iterable[bytes]]:
    """An application that answers everything with this text and the address."""

    def application(environ: dict[str, str], start: Callable[..., object]) -> Iterable[bytes]:
        start("200 OK", [("Content-Type", "text/plain")])
        return [f"{text} {environ['PATH_INFO']}".encode()]

    return application


@pytest.fixture
def imitation(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A package optuna_dashboard, which need not be installed; the notes that it keeps."""
    notes = dict[str, str]()
    module = ModuleType("optuna_dashboard")
    module.__spec__ = ModuleSpec("optuna_dashboard", None)
    functions: dict[str, Any] = {
        "wsgi": lambda storage: says(str([s.study_name for s in storage.get_all_studies()])),
        "get_note": lambda study: notes.get(study.study_name, ""),
        "save_note": lambda study, text: notes.update({study.study_name: text}),
    }
    for name, function in functions.items():
        monkeypatch.setattr(module, name, function, raising=False)
    monkeypatch.setitem(sys.modules, "optuna_dashboard", module)
    return notes


def asked(
    application: Callable[..., Iterable[bytes]], path: str, *, method: str = "GET", **headers: str
) -> tuple[str, dict[str, str], str]:
    """Status, headers and text of an answer."""
    answers: list[tuple[str, dict[str, str]]] = []

    def start(status: str, headers: list[tuple[str, str]], *_: object) -> Callable[..., object]:
        answers.append((status, dict(headers)))
        return bytes

    body = b"".join(application({"REQUEST_METHOD": method, "PATH_INFO": path, **headers}, start))
    ((status, sent),) = answers
    return status, sent, body.decode()


def test_every_part_has_its_addresses(reported: Store) -> None:
    pages = Application(reported, mlflow=says("mlflow"), dashboard=says("optuna"))
    of_mlflow = ["/", "/api/2.0/mlflow/runs/get", "/ajax-api/3.0/x", "/get-artifact", "/graphql"]
    of_mlflow += ["/static-files/x.js", "/startle", "/reports", "/runs"]
    of_optuna = ["/dashboard", "/dashboard/studies/1", "/static/x.js", "/api/studies", "/api/meta"]
    for part, paths in (("mlflow", of_mlflow), ("optuna", of_optuna)):
        for path in paths:
            assert asked(pages, path)[2] == f"{part} {path}"
    assert asked(pages, "/health")[2] == "OK"
    alone = Application(reported)
    for path in (*of_mlflow, *of_optuna):
        assert asked(alone, path)[0] == "404 Not Found"


def test_the_start_page_leads_to_all_that_is_there(filled: Store) -> None:
    status, _, page = asked(Application(filled, dashboard=says("optuna")), "/start")
    assert status == "200 OK"
    for address in (
        "/reports/smoke.html",
        "/reports/notebooks/01_sweep.html",
        "/#/experiments/1/runs?workflowType=machine_learning&amp;viewStateShareKey=sweep",
        "viewStateShareKey=fields&amp;compareRunsMode=CHART",
        "/dashboard/studies/1",
    ):
        assert f'{address}"' in page
    assert "1 waiting" in page
    assert 'src="http' not in page


def test_the_start_page_says_what_the_confirmation_says_of_a_sweep(filled: Store) -> None:
    filled.load_study("smoke").set_user_attr("sweeps.confirmation", "Not confirmed: <equal>.")
    assert "<p>Not confirmed: &lt;equal&gt;.</p>" in asked(Application(filled), "/start")[2]


def test_what_is_missing_is_a_command_on_the_start_page(filled: Store) -> None:
    (filled.folder / "reports" / "smoke.html").unlink()
    (filled.folder / "reports" / "notebooks" / "01_sweep.html").unlink()
    page = asked(Application(filled), "/start")[2]
    assert f"make report STUDY=smoke STORE={filled.folder}" in page
    assert f"make notebooks STORE={filled.folder}" in page
    assert "/dashboard" not in page


def test_a_short_link_leads_to_the_run_table_without_the_assistant(filled: Store) -> None:
    page = asked(Application(filled), "/runs/smoke")[2]
    assert "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1" in page
    assert "0; url=/#/experiments/1/runs?workflowType=machine_learning&amp;viewState" in page
    assert asked(Application(filled), "/runs/other")[0] == "404 Not Found"


def test_a_report_is_served_in_a_sandbox(reported: Store) -> None:
    status, headers, text = asked(Application(reported), "/reports/smoke.html")
    assert (status, text) == ("200 OK", "a report")
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("sandbox allow-scripts ")
    assert "allow-same-origin" not in policy
    assert "default-src 'none'" in policy
    assert headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "path",
    [
        "../optuna.db",
        "../secret.html",
        "notebooks/../../secret.html",
        "linked.html",
        "folder/secret.html",
        ".smoke.tmp/smoke.html",
        "notebooks",
        "notebooks/",
        "missing.html",
        "//etc/passwd",
        "smoke.html\0.png",
        "smoke.js",
        "",
    ],
)
def test_no_address_leads_out_of_the_reports(reported: Store, path: str) -> None:
    outside, reports = reported.folder / "secret.html", reported.folder / "reports"
    outside.write_text("secret")
    (reports / "smoke.js").write_text("alert(1)")
    (reports / "linked.html").symlink_to(outside)
    (reports / "folder").symlink_to(reported.folder)
    (reports / ".smoke.tmp").mkdir()
    (reports / ".smoke.tmp" / "smoke.html").write_text("half of it")
    assert asked(Application(reported), f"/reports/{path}")[0] == "404 Not Found"


def test_reports_that_are_a_link_out_of_the_store_are_not_served(
    store: Store, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere" / "notebooks").mkdir(parents=True)
    (tmp_path / "elsewhere" / "notebooks" / "x.html").write_text("secret")
    (store.folder / "reports").symlink_to(tmp_path / "elsewhere")
    pages = Application(store)
    assert asked(pages, "/reports/notebooks/x.html")[0] == "404 Not Found"
    assert "x.html" not in asked(pages, "/start")[2]


def test_our_own_pages_can_only_be_read(reported: Store) -> None:
    for path in ("/start", "/reports/smoke.html", "/runs/smoke"):
        status = asked(Application(reported, says("mlflow")), path, method="POST")[0]
        assert status == "405 Method Not Allowed"


def test_the_note_in_optunas_dashboard_leads_to_the_run(
    filled: Store, imitation: dict[str, str]
) -> None:
    assert asked(dashboard_application(filled), "/x")[2] == "['smoke'] /x"
    run_id = filled.load_study("smoke").user_attrs["mlflow.run_id"]
    assert imitation == {"smoke": f"[smoke in MLflow](/#/experiments/1/runs/{run_id})"}
    imitation["smoke"] = "a note of the user's"
    dashboard_application(filled)
    assert imitation["smoke"] == "a note of the user's"


def test_without_the_package_the_command_says_how_to_get_it(
    filled: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(dashboard, "find_spec", lambda name: None)
    assert main(["dashboard", "--store", str(filled.folder)]) == 2
    out, err = capsys.readouterr()
    assert (out, err) == (
        "",
        "sweeps: optuna-dashboard is missing: make install EXTRAS=dashboard\n",
    )


@contextmanager
def listening() -> Iterator[int]:
    """A port that another program uses."""
    with closing(socket.socket()) as other:
        other.bind((HOST, 0))
        other.listen()
        yield int(other.getsockname()[1])


def test_a_port_in_use_is_passed_over() -> None:
    with listening() as port, bound(port) as next_one:
        assert port < next_one.port < port + server.TRIES


def test_without_a_free_port_one_line_says_so(
    filled: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(server, "TRIES", 1)
    with listening() as port:
        assert main(["ui", "--store", str(filled.folder), "--port", str(port)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"sweeps: ports {port} to {port} are all in use: choose another with --port\n"


def test_another_obstacle_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(server, "Server", refuse)
    with pytest.raises(ConfigError, match=r"cannot serve on port \d+: Permission denied"):
        bound(free_port())


@pytest.mark.parametrize(
    ("method", "headers", "allowed"),
    [
        ("GET", {"HTTP_HOST": "127.0.0.1:8080"}, True),
        ("GET", {"HTTP_HOST": "LOCALHOST:8080"}, True),
        ("DELETE", {"HTTP_HOST": "localhost:8080", "HTTP_ORIGIN": "http://localhost:8080"}, True),
        ("POST", {"HTTP_HOST": "127.0.0.1:8080"}, True),  # no browser
        ("GET", {"HTTP_HOST": "evil.example"}, False),
        ("GET", {"HTTP_HOST": "evil.example:8080"}, False),
        ("GET", {"HTTP_HOST": "127.0.0.1.evil.example:8080"}, False),
        ("GET", {"HTTP_HOST": "127.0.0.1:9090"}, False),
        ("GET", {"HTTP_HOST": ""}, False),
        ("GET", {}, False),
        ("DELETE", {"HTTP_HOST": "localhost:8080", "HTTP_ORIGIN": "http://evil.example"}, False),
        ("POST", {"HTTP_HOST": "localhost:8080", "HTTP_ORIGIN": "null"}, False),
        ("POST", {"HTTP_HOST": "localhost:8080", "HTTP_ORIGIN": "http://localhost:9090"}, False),
        ("PUT", {"HTTP_HOST": "localhost:8080", "HTTP_SEC_FETCH_SITE": "cross-site"}, False),
        ("POST", {"HTTP_HOST": "localhost:8080", "HTTP_SEC_FETCH_SITE": "same-site"}, False),
    ],
)
def test_it_answers_to_its_own_names_and_its_own_pages_only(
    method: str, headers: dict[str, str], allowed: bool
) -> None:
    guard = guarded(says("pages"), hosts=own_hosts(8080))
    status, _, body = asked(guard, "/start", method=method, **headers)
    assert (status == "200 OK", body == "pages /start") == (allowed, allowed)
    assert allowed or status == "403 Forbidden"


def test_it_answers_to_the_names_that_the_shell_adds() -> None:
    guard = guarded(says("pages"), hosts=["*.lab.example"])
    for host, status in (("a.lab.example", "200 OK"), ("lab.example.evil", "403 Forbidden")):
        assert asked(guard, "/", HTTP_HOST=host)[0] == status


def test_a_browser_opens_the_start_page_on_request(
    filled: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened, folder = list[str](), str(filled.folder)

    def serve(server: Server, *_: object, ready: Any, **__: object) -> None:
        with server:
            ready()

    monkeypatch.setattr(commands, "serve", serve)
    monkeypatch.setattr(commands, "server_application", lambda *_, **__: says("mlflow"))
    monkeypatch.setattr("webbrowser.open", opened.append)
    monkeypatch.setenv("MLFLOW_SERVER_ALLOWED_HOSTS", "")
    with listening() as port:
        for option in ([], ["--open"]):
            assert main(["ui", "--store", folder, "--port", str(port), *option]) == 0
    *_, first, second, last = capsys.readouterr().out.splitlines()
    (link,) = opened
    assert second == f"everything: {link}"
    assert link.endswith("/start")
    assert first == f"smoke: {link.removesuffix('/start')}/runs/smoke"
    assert last == f"port {port} is in use; Ctrl-C stops the server"


def test_it_starts_quietly_serves_all_and_stops_by_ctrl_c(filled: Store) -> None:
    port, lines = free_port(), list[str]()

    def get(path: str, host: str = "127.0.0.1") -> tuple[int, bytes]:
        connection = HTTPConnection(HOST, port, timeout=60)
        with closing(connection):
            connection.request("GET", path, headers={"Host": f"{host}:{port}"})
            answer = connection.getresponse()
            return answer.status, answer.read()

    with starting() as start:
        process = start("sweeps", "ui", "--store", filled.folder, "--port", str(port))
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if "Ctrl-C" in line:
                break
        assert lines == [
            f"smoke: http://127.0.0.1:{port}/runs/smoke\n",
            f"everything: http://127.0.0.1:{port}/start\n",
            "Ctrl-C stops the server\n",
        ]
        assert get("/health") == (200, b"OK")
        assert b"/reports/smoke.html" in get("/start")[1]
        status, answer = get("/ajax-api/2.0/mlflow/experiments/get-by-name?experiment_name=smoke")
        assert (status, json.loads(answer)["experiment"]["experiment_id"]) == (200, "1")
        status, answer = get("/")
        assert (status, b"<title>MLflow</title>" in answer) == (200, True)
        for path in ("/", "/start", "/reports/smoke.html"):
            assert get(path, host="evil.example")[0] == 403
        process.send_signal(signal.SIGINT)
        until(lambda: process.poll() is not None)
        out, err = process.communicate()
        assert (process.returncode, out, err) == (0, "", "")
