"""What answers at MLflow's address is not always MLflow: nothing that it says costs a record."""

from __future__ import annotations

import json
import threading
from collections.abc import Generator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from requests import HTTPError, Response

from sweeps.__main__ import main
from sweeps.record.entries import File, RunBegun
from sweeps.record.outbox import RECORDS, Outbox
from sweeps.store.mlflow_errors import affects_every_record, is_retryable
from tests.studies import MINI

HTML = "<html>please log in</html>"
INTERNAL = json.dumps({"error_code": "INTERNAL_ERROR", "message": "it broke"})
INVALID = json.dumps({"error_code": "INVALID_PARAMETER_VALUE", "message": "too long"})


class Odd(ThreadingHTTPServer):
    """Answers everything alike, uploads of files perhaps otherwise."""

    daemon_threads = True
    answer: tuple[int, str] = (200, "{}")
    upload: tuple[int, str] = (200, "{}")

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Answers(BaseHTTPRequestHandler):
    server: Odd

    def reply(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        is_upload = "mlflow-artifacts" in self.path
        status, body = self.server.upload if is_upload else self.server.answer
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


for method in ("GET", "POST", "PUT", "PATCH"):
    setattr(Answers, f"do_{method}", Answers.reply)


@pytest.fixture
def odd(monkeypatch: pytest.MonkeyPatch) -> Generator[Odd]:
    monkeypatch.setattr(Outbox, "_not_before", {})
    with Odd(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def spooled(odd: Odd, folder: Path) -> Outbox:
    spool = Outbox(folder / "mini-0000", MlflowClient(odd.uri), link=lambda _: None)
    spool.write(RunBegun("1", "trial-0000", 1, {}))
    (spool.folder / "policy.pt").write_text("weights")
    spool.write(File("policy.pt"))
    return spool


@pytest.mark.parametrize(
    "answer",
    [
        (200, "{}"),
        (200, ""),
        (200, "[]"),
        (200, HTML),
        (204, ""),
        (400, "The plain HTTP request was sent to an HTTPS port"),
        (401, HTML),
        (403, "{}"),
        (404, HTML),
        (405, ""),
        (429, ""),
        (500, INTERNAL),
        (500, ""),
        (502, HTML),
    ],
)
def test_a_record_waits_as_long_as_its_run_is_not_acknowledged(
    odd: Odd, tmp_path: Path, answer: tuple[int, str]
) -> None:
    odd.answer = answer
    spool = spooled(odd, tmp_path)
    assert not spool.deliver(now=True)
    assert spool.obstacle
    assert len((spool.folder / RECORDS).read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("status", "body", "refused"),
    [
        (413, HTML, True),
        (400, INVALID, True),
        (400, HTML, False),
        (401, HTML, False),
        (404, HTML, False),
        (500, "", False),
        (503, "", False),
        (507, "", False),
    ],
)
def test_an_upload_that_is_too_large_is_set_aside_and_one_that_fails_waits(
    odd: Odd,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    status: int,
    body: str,
    refused: bool,
) -> None:
    # MLflow keeps a connection for each run, whatever server it is at
    run = {"info": {"run_id": f"r{odd.server_port}", "artifact_uri": "mlflow-artifacts:/r"}}
    odd.answer, odd.upload = (200, json.dumps({"run": run})), (status, body)
    spool = spooled(odd, tmp_path)
    assert spool.deliver(now=True) == refused, spool.obstacle
    if refused:
        spool.clean_up()
        (warning,) = capsys.readouterr().err.splitlines()
        assert f"(HTTPError: {status} Client Error" in warning
        assert (tmp_path / "mini-0000.refused" / "policy.pt").read_text() == "weights"


def test_a_request_too_large_for_a_proxy_is_refused_whatever_it_holds() -> None:
    too_large = "API request to endpoint /x failed with error code 413 != 200. Response body: ''"
    assert not is_retryable(MlflowException(too_large))
    assert is_retryable(MlflowException(too_large.replace("413", "502")))


def test_an_answer_about_one_record_does_not_keep_the_others_waiting() -> None:
    response = Response()
    error = HTTPError(response=response)
    response.status_code = 500
    assert not affects_every_record(error)
    response.status_code = 502
    assert affects_every_record(error)
    assert not affects_every_record(PermissionError(13, "Permission denied", "artifacts/x"))
    assert affects_every_record(MlflowException("API request to x failed with exception y"))


@pytest.mark.parametrize("body", ["{}", ""])
def test_a_sweep_on_a_server_that_answers_nothing_ends_in_one_line(
    odd: Odd,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    body: str,
) -> None:
    odd.answer = 200, body
    (tmp_path / "mini.toml").write_text(MINI)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", odd.uri)
    options = ["--store", str(tmp_path / "store")]
    assert main(["run", "--study", str(tmp_path / "mini.toml"), *options]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("sweeps: try again when MLflow answers: ")
    assert "is no MLflow server" in line
