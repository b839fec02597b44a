"""A real sweep of real processes, broken off."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from optuna.trial import TrialState

from sweeps.lifecycle.creation import is_created
from sweeps.schema import REASON, RUN_ID
from sweeps.store.store import Store
from sweeps.sweep import open_sweep
from tests.processes import Start, output_of, until
from tests.studies import MINI, changed


@pytest.mark.parametrize(
    "sent", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_an_interrupted_sweep_closes_its_trials_and_keeps_the_rest_waiting(
    store: Store, tmp_path: Path, start: Start, sent: signal.Signals
) -> None:
    endless = tmp_path / "endless.toml"
    endless.write_text(changed(MINI, {"total_steps = 1_024": "total_steps = 100_000_000"}))
    command = ("run", "--study", endless, "--workers", "2", "--store", store.folder)
    process = start("sweeps", *command)

    def training() -> int:
        """Trials that are running and have said so in MLflow."""
        if not is_created(store, "mini"):
            return 0
        trials = open_sweep(store, "mini").read_trials().all
        return sum(t.state == TrialState.RUNNING and RUN_ID in t.user_attrs for t in trials)

    until(lambda: training() == 2, process)
    process.send_signal(sent)
    output = output_of(process, code=130)
    assert "interrupted; run the same command to resume" in output
    assert "Traceback" not in output
    sweep = open_sweep(store, "mini")
    ended = [trial for trial in sweep.read_trials().all if trial.state == TrialState.FAIL]
    assert [trial.user_attrs[REASON] for trial in ended] == ["interrupted"] * 2
    assert len(ended) == len(sweep.read_trials().all)
    assert sweep.read_trials().total == 6
    status = {store.runs().get_run(trial.user_attrs[RUN_ID]).info.status for trial in ended}
    assert status == {"KILLED"}
