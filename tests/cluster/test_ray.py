"""Workers on two real Ray nodes, trials in a real PostgreSQL, runs behind a real MLflow server."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator

import pytest
from optuna.trial import TrialState

from sweeps.doctor.doctor import examine
from sweeps.lifecycle.creation import is_created
from sweeps.schema import REASON, WORKER, Reason
from sweeps.store.store import Store
from sweeps.sweep import Sweep, open_sweep
from tests.cluster.nodes import Nodes
from tests.processes import DEADLINE, Process, Start, output_of, until
from tests.studies import ENDLESS, SHORT

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def nodes() -> Generator[Nodes]:
    with Nodes() as nodes:
        yield nodes


def begin(start: Start, text: str, nodes: Nodes, store: Store) -> Process:
    """Start `python -m sweeps run --launcher ray` with a study given as text."""
    study = store.folder.parent / "mini.toml"
    study.write_text(text)
    return start(
        *("sweeps", "run", "--study", study, "--store", store.folder),
        *("--launcher", "ray", "--address", nodes.address),
        environ=os.environ | nodes.environ,
    )


def at_work(store: Store) -> set[str]:
    """The workers that train."""
    if not is_created(store, "mini"):
        return set()
    trials = open_sweep(store, "mini").read_trials().all
    running = [trial.user_attrs for trial in trials if trial.state == TrialState.RUNNING]
    return {attrs[WORKER] for attrs in running if WORKER in attrs}  # taken first, then signed


def require_whole(store: Store, *, total: int) -> Sweep:
    sweep = open_sweep(store, "mini")
    assert len(sweep.read_trials().counted) == total
    assert all(trial.state.is_finished() for trial in sweep.read_trials().all)
    assert not list(examine(store, dry_run=True))
    return sweep


def test_ctrl_c_closes_the_trials_on_every_node(nodes: Nodes, remote: Store, start: Start) -> None:
    run = begin(start, ENDLESS, nodes, remote)
    until(lambda: len(at_work(remote)) == 2, run)
    run.send_signal(signal.SIGINT)
    assert "Traceback" not in output_of(run, code=130, seconds=DEADLINE)
    ended = open_sweep(remote, "mini").read_trials().all
    assert [trial.user_attrs[REASON] for trial in ended] == ["interrupted"] * 2


def test_the_trials_of_a_lost_node_are_tried_again_on_another(
    nodes: Nodes, remote: Store, start: Start
) -> None:
    run = begin(start, SHORT, nodes, remote)
    until(lambda: len(at_work(remote)) == 2, run)
    nodes.lose()
    output_of(run, seconds=DEADLINE)
    sweep = require_whole(remote, total=3)
    failed = [trial for trial in sweep.read_trials().all if trial.state == TrialState.FAIL]
    assert [trial.user_attrs[REASON] for trial in failed] == [Reason.LOST]
