"""However a trial ends, Optuna and MLflow say the same of it, and the sweep goes on."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from mlflow.entities import Run
from optuna.trial import TrialState

from lander import lunar
from lander.agent import Divergence
from lander.trainer import Progress
from sweeps.lifecycle.start import start_sweep
from sweeps.record.recorder import MlflowRecorder
from sweeps.record.trial_run import Outcome, outcome
from sweeps.reproduce.receipt import read_config
from sweeps.reproduce.reproduce import reproduce
from sweeps.run.worker import objective_of
from sweeps.schema import PHYSICS, REASON, RUN_ID
from sweeps.store.store import Store
from sweeps.study.study import read_study
from sweeps.sweep import Sweep
from tests.studies import MINI, changed


def test_the_outcome_of_a_trial_follows_from_its_exception() -> None:
    assert outcome(optuna.TrialPruned()) == Outcome(TrialState.PRUNED)
    diverged = outcome(Divergence("update 1: loss is nan"))
    assert diverged == Outcome(TrialState.FAIL, "diverged: update 1: loss is nan")
    assert outcome(KeyboardInterrupt()) == Outcome(TrialState.FAIL, "interrupted")
    bug = outcome(ValueError("at https://user:hidden@host"))
    assert (bug.state, bug.reason) == (TrialState.FAIL, "ValueError: at https://***@host")
    assert bug.traceback == "ValueError: at https://***@host\n"


@pytest.fixture
def sweep(store: Store) -> Sweep:
    study = read_study(MINI, source="mini.toml")
    return start_sweep(study, store, trials=2, command=["run"])


def run_one(sweep: Sweep) -> tuple[optuna.trial.FrozenTrial, Run]:
    """Take the next trial as a worker does; its two records."""
    objective = objective_of(sweep, check=lambda: None)
    sweep.optuna.optimize(objective, n_trials=1, catch=(Exception,))
    trial = [trial for trial in sweep.read_trials().all if trial.state.is_finished()][-1]
    return trial, sweep.store.runs().get_run(trial.user_attrs[RUN_ID])


def test_a_diverged_trial_fails_with_update_and_value_and_reproduces(store: Store) -> None:
    text = changed(MINI, {"low = 3e-4, high = 1e-2": "low = 1e-3, high = 1e38"})
    text = changed(text, {"checkpoints = 2": 'checkpoints = 2\n"ppo.learning_rate" = 1e37'})
    study = read_study(text, source="mini.toml")
    sweep = start_sweep(study, store, trials=2, command=["run"])
    trial, run = run_one(sweep)
    assert trial.state == TrialState.FAIL
    assert run.info.status == "FAILED"
    reason = run.data.tags[REASON]
    assert reason == trial.user_attrs[REASON]
    assert reason.startswith("diverged: update ")
    assert "nan" in reason or "inf" in reason or "not finite" in reason
    assert sweep.read_trials().left == 1
    lines: list[str] = []
    assert reproduce(store, "mini", "0", say=lines.append) == "PASS"
    assert lines[-1].startswith("PASS")


def test_a_trial_of_lean_physics_reproduces_on_the_stock_environment(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, run = run_one(sweep)
    assert run.data.tags[PHYSICS] == "lean"
    monkeypatch.setattr(lunar, "unchecked", lambda: "another LunarLander")
    lines: list[str] = []
    assert reproduce(sweep.store, "mini", "0", say=lines.append) == "PASS"
    assert lines[1] == "sweeps.physics: recorded lean, here stock, which changes no number"
    assert lines[-1].startswith("PASS")


@pytest.mark.parametrize(("line", "sampled"), [("sampled_episodes = 3\n", 3), ("", 9)])
def test_a_record_from_before_had_all_final_episodes_sampled(
    line: str, sampled: int, sweep: Sweep, tmp_path: Path
) -> None:
    _, run = run_one(sweep)
    client, artifact = sweep.store.runs(), tmp_path / "config.toml"
    artifact.write_text(f"final_episodes = 9\n{line}")
    client.log_artifact(run.info.run_id, str(artifact))
    config = read_config(client, run)
    assert (config.final_episodes, config.sampled_episodes) == (9, sampled)


def test_a_pruned_trial_is_killed_in_mlflow_and_reproduces_up_to_its_end(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def should_prune(trial: optuna.Trial) -> bool:
        asked.append(max(trial.storage.get_trial(trial._trial_id).intermediate_values))
        return True

    monkeypatch.setattr(optuna.Trial, "should_prune", should_prune)
    trial, run = run_one(sweep)
    assert asked == [1]
    assert (trial.state, run.info.status) == (TrialState.PRUNED, "KILLED")
    assert run.data.metrics["eval/return_mean"] == trial.value
    assert reproduce(sweep.store, "mini", "0", say=lambda line: None) == "PASS"


def test_the_pruner_is_not_asked_at_the_last_checkpoint(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def should_prune(trial: optuna.Trial) -> bool:
        asked.append(trial.number)
        return False

    monkeypatch.setattr(optuna.Trial, "should_prune", should_prune)
    trial, _ = run_one(sweep)
    assert trial.state == TrialState.COMPLETE, trial.user_attrs
    assert list(trial.intermediate_values) == [1, 2]
    assert len(asked) == 1


def test_an_interrupted_trial_is_killed_and_leaves_the_study(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(recorder: MlflowRecorder, progress: Progress, *, seed: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(MlflowRecorder, "progress", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_one(sweep)
    trial = sweep.read_trials().all[0]
    run = sweep.store.runs().get_run(trial.user_attrs[RUN_ID])
    assert (trial.state, run.info.status) == (TrialState.FAIL, "KILLED")
    assert run.data.tags[REASON] == trial.user_attrs[REASON] == "interrupted"


def test_a_bug_fails_its_trial_with_reason_and_traceback(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bug(recorder: MlflowRecorder, progress: Progress, *, seed: int) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(MlflowRecorder, "progress", bug)
    trial, run = run_one(sweep)
    assert (trial.state, run.info.status) == (TrialState.FAIL, "FAILED")
    assert run.data.tags[REASON] == "ZeroDivisionError: division by zero"
    names = {artifact.path for artifact in sweep.store.runs().list_artifacts(run.info.run_id)}
    assert "traceback.txt" in names


def test_a_receipt_that_differs_fails_and_names_the_first_difference(
    sweep: Sweep,
) -> None:
    trial, run = run_one(sweep)
    step = sweep.study.base.total_steps
    value = run.data.metrics["eval/return_mean"]
    # a newer point at the same step: the record now claims another number
    sweep.store.runs().log_metric(
        run.info.run_id, "eval/return_mean", value + 1e-9, timestamp=2**42, step=step
    )
    lines: list[str] = []
    assert reproduce(sweep.store, "mini", str(trial.number), say=lines.append) == "FAIL"
    assert any(
        line.startswith("FAIL: first difference: eval/return_mean at 1024") for line in lines
    )
