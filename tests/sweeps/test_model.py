"""Models of trials, written by this process or by the one beside the workers."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from lander.errors import ConfigError
from sweeps.record import model
from sweeps.record.model import answer, save_model


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> Generator[socket.socket]:
    """The other process's end of the channel."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        monkeypatch.setattr(model, "EXPORTER", [theirs])
        yield ours


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Generator[Callable[[], Future[None]]]:
    """Asks for a model in a thread."""
    monkeypatch.chdir(tmp_path)
    with ThreadPoolExecutor() as pool:
        yield lambda: pool.submit(save_model, Path("policy.pt"), Path("model"))


def test_the_process_beside_the_workers_writes_their_models(
    requests: socket.socket,
    asked: Callable[[], Future[None]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    written: list[tuple[Path, Path, threading.Thread]] = []

    def export(policy: Path, folder: Path) -> None:
        written.append((policy, folder, threading.current_thread()))

    monkeypatch.setattr(model, "export", export)
    saving = asked()
    answer(requests)
    assert saving.result() is None
    here = threading.current_thread()
    assert written == [(tmp_path / "policy.pt", tmp_path / "model", here)]


def test_what_it_cannot_write_is_an_error_of_the_worker(
    requests: socket.socket, asked: Callable[[], Future[None]]
) -> None:
    saving = asked()
    answer(requests)
    with pytest.raises(RuntimeError, match=r"no policy at .*policy\.pt"):
        saving.result()


def test_without_it_a_worker_writes_its_model_itself(
    requests: socket.socket, asked: Callable[[], Future[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    requests.close()
    with pytest.raises(ConfigError, match="no policy at policy"):
        asked().result()
    monkeypatch.setattr(model, "EXPORTER", [])
    with pytest.raises(ConfigError, match="no policy at policy"):
        asked().result()
