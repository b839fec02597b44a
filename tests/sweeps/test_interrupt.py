"""A real sweep of real processes, broken off."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from optuna.trial import TrialState

from sweeps.lifecycle.creation import is_created
from sweeps.schema import REASON, RUN_ID
from sweeps.store.store import Store
from sweeps.sweep import open_sweep
from tests.studies import MINI, changed


@pytest.mark.parametrize(
    "sent", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_an_interrupted_sweep_closes_its_trials_and_keeps_the_rest_waiting(
    store: Store, tmp_path: Path, sent: signal.Signals
) -> None:
    endless = tmp_path / "endless.toml"
    endless.write_text(changed(MINI, {"total_steps = 1_024": "total_steps = 100_000_000"}))
    command = [sys.executable, "-m", "sweeps", "run", "--study", str(endless), "--workers", "2"]
    process = subprocess.Popen(
        [*command, "--store", str(store.folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )

    def training() -> int:
        """Trials that are running and have said so in MLflow."""
        if not is_created(store, "mini"):
            return 0
        trials = open_sweep(store, "mini").read_trials().all
        return sum(t.state == TrialState.RUNNING and RUN_ID in t.user_attrs for t in trials)

    while process.poll() is None and training() < 2:
        time.sleep(0.2)
    process.send_signal(sent)
    output, error = process.communicate()
    assert process.returncode == 130, output + error
    assert "interrupted: the same command takes the sweep up again" in error
    assert "Traceback" not in output + error
    sweep = open_sweep(store, "mini")
    ended = [trial for trial in sweep.read_trials().all if trial.state == TrialState.FAIL]
    assert [trial.user_attrs[REASON] for trial in ended] == ["interrupted"] * 2
    assert len(ended) == len(sweep.read_trials().all)
    assert sweep.read_trials().total == 6
    status = {store.runs().get_run(trial.user_attrs[RUN_ID]).info.status for trial in ended}
    assert status == {"KILLED"}
