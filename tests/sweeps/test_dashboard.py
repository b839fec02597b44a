"""Optuna's dashboard: served from the sweep's own database, to this machine."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

import sweeps.publish.dashboard
from sweeps.__main__ import main
from sweeps.hints import CHECKOUT
from sweeps.lifecycle.start import start_sweep
from sweeps.publish.dashboard import Server, serve
from sweeps.store.store import Store, quiet
from sweeps.study.study import find_study
from tests.processes import free_port


@pytest.fixture
def filled(store: Store) -> Store:
    """A store with one sweep."""
    quiet()
    start_sweep(find_study("smoke"), store, trials=1, command=["run"])
    return store


@pytest.fixture
def imitation(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package of that name, which need not be installed: its page tells whose trials it has."""

    def wsgi(storage: Any) -> Callable[..., Iterable[bytes]]:
        def application(environ: object, start: Callable[..., object]) -> Iterable[bytes]:
            start("200 OK", [("Content-Type", "application/json")])
            return [json.dumps([study.study_name for study in storage.get_all_studies()]).encode()]

        return application

    module = ModuleType("optuna_dashboard")
    module.__spec__ = ModuleSpec("optuna_dashboard", None)
    monkeypatch.setattr(module, "wsgi", wsgi, raising=False)
    monkeypatch.setitem(sys.modules, "optuna_dashboard", module)


def answer(
    store: Store, path: str, *, port: int, monkeypatch: pytest.MonkeyPatch, host: str = "localhost"
) -> Any:
    """What a dashboard says to its only request, after which it is interrupted."""
    answers: list[Any] = []

    def ask() -> Any:
        headers = {"Host": f"{host}:{port}"}
        request = Request(f"http://127.0.0.1:{port}{path}", headers=headers)
        with urlopen(request, timeout=60) as response:
            return json.loads(response.read())

    def once(server: Server) -> None:
        with ThreadPoolExecutor() as pool:
            asked = pool.submit(ask)
            server.handle_request()
            answers.append((server.server_address, asked.result()))
        raise KeyboardInterrupt

    monkeypatch.setattr(Server, "serve_forever", once)
    serve(store, port=port)
    ((address, content),) = answers
    assert address == ("127.0.0.1", port)
    return content


@pytest.mark.usefixtures("imitation")
def test_it_shows_the_trials_of_this_store_and_a_link_per_study(
    filled: Store, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    assert answer(filled, "/", port=port, monkeypatch=monkeypatch) == ["smoke"]
    out, err = capfd.readouterr()
    assert out == f"smoke: http://127.0.0.1:{port}/dashboard/studies/1\n"
    assert err == ""


def test_the_real_one_finds_the_study_behind_the_link(
    filled: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("optuna_dashboard", reason="the extra [dashboard] is not installed")
    listed = answer(filled, "/api/studies/1", port=free_port(), monkeypatch=monkeypatch)
    assert (listed["name"], len(listed["trials"])) == ("smoke", 1)


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a user gets."""
    assert main(["dashboard", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


def test_without_the_package_it_says_how_to_get_it(
    filled: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(CHECKOUT)
    monkeypatch.setattr(sweeps.publish.dashboard, "find_spec", lambda name: None)
    line = refused(["--store", str(filled.folder)], capsys)
    remedy = "make install EXTRAS=dashboard"
    assert line == f"sweeps: optuna-dashboard is missing: {remedy}\n"


@pytest.mark.usefixtures("imitation")
def test_a_taken_port_is_named(filled: Store, capsys: pytest.CaptureFixture[str]) -> None:
    with closing(socket.socket()) as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        line = refused(["--store", str(filled.folder), "--port", str(port)], capsys)
    assert f"cannot serve on port {port}: Address already in use: choose another with" in line


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
    statuses: list[str] = []

    def application(environ: object, start: Callable[..., object]) -> Iterable[bytes]:
        start("200 OK", [])
        return [b"studies"]

    def start(status: str, *_: object) -> Callable[[bytes], object]:
        statuses.append(status)
        return bytes

    guard = sweeps.publish.dashboard.guarded(application, port=8080)
    body = b"".join(guard({"REQUEST_METHOD": method, **headers}, start))
    assert statuses == ["200 OK" if allowed else "403 Forbidden"]
    assert (body == b"studies") == allowed


@pytest.mark.usefixtures("imitation")
def test_the_served_dashboard_is_guarded(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(HTTPError, match="403") as refused:
        answer(filled, "/", port=free_port(), monkeypatch=monkeypatch, host="evil.example")
    refused.value.close()
