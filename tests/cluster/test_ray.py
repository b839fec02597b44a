"""Workers on two real Ray nodes, trials in a real PostgreSQL, runs behind a real MLflow server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
from optuna.trial import TrialState

from sweeps.doctor.doctor import examine
from sweeps.lifecycle.creation import is_created
from sweeps.schema import REASON, WORKER, Reason
from sweeps.store.store import Store
from sweeps.sweep import Sweep, open_sweep
from tests.cluster.nodes import Nodes
from tests.studies import ENDLESS, SHORT
from tests.sweeps.test_survival import DEADLINE

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def nodes() -> Generator[Nodes]:
    with Nodes() as nodes:
        yield nodes


@pytest.fixture
def start(
    nodes: Nodes, remote: Store, tmp_path: Path
) -> Generator[Callable[[str], subprocess.Popen[str]]]:
    """python -m sweeps run --launcher ray, of a study given as text."""
    started: list[subprocess.Popen[str]] = []

    def start(text: str) -> subprocess.Popen[str]:
        study = tmp_path / "mini.toml"
        study.write_text(text)
        command = [sys.executable, "-m", "sweeps", "run", "--study", str(study)]
        command += ["--launcher", "ray", "--address", nodes.address]
        process = subprocess.Popen(
            [*command, "--store", str(remote.folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | nodes.environ,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        with process:
            process.kill()


def at_work(store: Store) -> set[str]:
    """Who trains."""
    if not is_created(store, "mini"):
        return set()
    trials = open_sweep(store, "mini").read_trials().all
    running = [trial.user_attrs for trial in trials if trial.state == TrialState.RUNNING]
    return {attrs[WORKER] for attrs in running if WORKER in attrs}  # taken first, then signed


def until(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + DEADLINE
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.1)


def require_whole(store: Store, *, total: int) -> Sweep:
    sweep = open_sweep(store, "mini")
    assert len(sweep.read_trials().counted) == total
    assert all(trial.state.is_finished() for trial in sweep.read_trials().all)
    assert not list(examine(store, dry_run=True))
    return sweep


def test_ctrl_c_closes_the_trials_on_every_node(
    remote: Store, start: Callable[[str], subprocess.Popen[str]]
) -> None:
    run = start(ENDLESS)
    until(lambda: len(at_work(remote)) == 2, run)
    run.send_signal(signal.SIGINT)
    output, error = run.communicate(timeout=DEADLINE)
    assert run.returncode == 130, output + error
    assert "Traceback" not in output + error
    ended = open_sweep(remote, "mini").read_trials().all
    assert [trial.user_attrs[REASON] for trial in ended] == ["interrupted"] * 2


def test_the_trials_of_a_lost_node_are_tried_again_on_another(
    nodes: Nodes, remote: Store, start: Callable[[str], subprocess.Popen[str]]
) -> None:
    run = start(SHORT)
    until(lambda: len(at_work(remote)) == 2, run)
    nodes.lose()
    output, error = run.communicate(timeout=DEADLINE)
    assert run.returncode == 0, output + error
    sweep = require_whole(remote, total=3)
    failed = [trial for trial in sweep.read_trials().all if trial.state == TrialState.FAIL]
    assert [trial.user_attrs[REASON] for trial in failed] == [Reason.LOST]
