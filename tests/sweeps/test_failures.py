"""Divergence fails a trial, a bug stops a sweep, and a chart that nobody can draw costs nothing."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow.entities import Run
from optuna.trial import FrozenTrial, TrialState, create_trial

from lander.agent import EXPLODED, Divergence
from lander.config import TrainConfig
from lander.dotted import configure
from lander.trainer import train
from sweeps.lifecycle.start import start_sweep
from sweeps.publish.publish import publish
from sweeps.run.failures import repeated_failure
from sweeps.run.worker import objective_of
from sweeps.schema import REASON, RUN_ID, WARNING
from sweeps.store.store import Store
from sweeps.study.study import read_study
from sweeps.sweep import Sweep, open_sweep
from tests.processes import python_m
from tests.studies import MINI, changed

SMALL: dict[str, Any] = {
    "env.id": "LunarLanderContinuous-v3",
    "env.bins": 7,
    "env.num_envs": 4,
    "ppo.rollout_steps": 64,
    "ppo.minibatch_size": 256,
    "total_steps": 1024,
    "checkpoints": 2,
    "eval_episodes": 2,
    "final_episodes": 2,
}


def started(store: Store, text: str = MINI) -> Sweep:
    return start_sweep(read_study(text, source="mini.toml"), store, trials=2, command=["run"])


def run_one(sweep: Sweep) -> tuple[FrozenTrial, Run]:
    """The next trial, as a worker runs it; its two records."""
    objective = objective_of(sweep, check=lambda: None)
    sweep.optuna.optimize(objective, n_trials=1, catch=(Exception,))
    trial = [trial for trial in sweep.read_trials().all if trial.state.is_finished()][-1]
    return trial, sweep.store.runs().get_run(trial.user_attrs[RUN_ID])


def files(sweep: Sweep, run_id: str) -> set[str]:
    return {artifact.path for artifact in sweep.store.runs().list_artifacts(run_id)}


def fails(what: str) -> Callable[..., None]:
    """In the place of a function: raises OSError."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(f"{what} failed at http://me:secret@host/x")

    return fail


# divergence


@pytest.mark.parametrize(
    ("rate", "reason"),
    [(1e3, "has exploded"), (1e8, "loss/policy = nan")],
)
def test_a_diverged_trial_fails_with_its_reason_and_finite_points_only(
    store: Store, rate: float, reason: str
) -> None:
    text = changed(MINI, {"low = 3e-4, high = 1e-2": "low = 3e-4, high = 1e38"})
    text = changed(text, {"checkpoints = 2": f'checkpoints = 2\n"ppo.learning_rate" = {rate}'})
    sweep = started(store, text)
    trial, run = run_one(sweep)
    assert trial.state == TrialState.FAIL
    assert (run.info.status, run.data.tags["optuna.state"]) == ("FAILED", "FAIL")
    assert trial.user_attrs[REASON].startswith("diverged: update ")
    assert reason in trial.user_attrs[REASON]
    for name in run.data.metrics:
        for point in sweep.store.runs().get_metric_history(run.info.run_id, name):
            assert abs(point.value) <= EXPLODED**2
    assert "traceback.txt" not in files(sweep, run.info.run_id)


def test_weights_hidden_by_a_finite_loss_diverge_by_the_action() -> None:
    # one step: the loss is that of the weights before it, their sums overflow after it
    once = {"ppo.update_epochs": 1, "ppo.learning_rate": 1e37, "policy.trunk": "separate"}
    config = configure({**SMALL, **once}, base=TrainConfig())
    with pytest.raises(Divergence, match="update 1: an action is not finite"):
        train(config)


def test_a_reward_that_is_no_number_diverges(monkeypatch: pytest.MonkeyPatch) -> None:
    nan = {"train/return_mean": float("nan")}
    monkeypatch.setattr("lander.trainer.episode_metrics", lambda episodes: nan)
    with pytest.raises(Divergence, match="update 1: train/return_mean = nan"):
        train(configure(SMALL, base=TrainConfig()))


def test_beyond_the_bound_float32_loses_a_reward() -> None:
    value = torch.tensor(EXPLODED)
    assert value + 1 == value
    assert value / 2 + 1 != value / 2


# bugs


def ended(*reasons: str | None) -> list[FrozenTrial]:
    """Trials in the order in which they ended, listed backwards: None for one that finished."""
    trials = []
    for minutes, reason in enumerate(reasons):
        state = TrialState.COMPLETE if reason is None else TrialState.FAIL
        trial = create_trial(
            state=state,
            value=1.0 if reason is None else None,
            user_attrs={} if reason is None else {REASON: reason},
        )
        trial.datetime_complete = datetime(2026, 1, 1) + timedelta(minutes=minutes)
        trials.append(trial)
    return trials[::-1]


@pytest.mark.parametrize(
    ("reasons", "message"),
    [
        (["TypeError: x"] * 5, "TypeError: x"),
        ([None, *["TypeError: x"] * 5], "TypeError: x"),
        (["TypeError: x"] * 4, ""),
        ([*["TypeError: x"] * 4, None], ""),
        (["TypeError: x", None, *["TypeError: x"] * 4], ""),
        ([*["TypeError: x"] * 4, "KeyError: x"], ""),
        (["diverged: update 3: loss/value = inf"] * 9, ""),
        ([f"OSError: run {i}{i}c2f3a9be01 at 0x{i}f" for i in range(5)], "OSError: run 44c2f3"),
    ],
)
def test_five_failures_alike_in_a_row_are_a_bug(reasons: list[str | None], message: str) -> None:
    assert repeated_failure(ended(*reasons)).startswith(message)
    assert bool(repeated_failure(ended(*reasons))) == bool(message)


BROKEN = """
import gymnasium
from gymnasium.envs.box2d.lunar_lander import LunarLander

class Broken(LunarLander):
    def step(self, action):
        raise ZeroDivisionError(f"engine {id(self)} is out of order")

gymnasium.register("Broken-v0", Broken, max_episode_steps=100)
"""


@pytest.mark.slow
def test_a_sweep_whose_trials_all_fail_alike_stops_with_that_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "broken.py").write_text(BROKEN)
    file, store = tmp_path / "mini.toml", Store(tmp_path / "store")
    text = changed(MINI, {"LunarLanderContinuous-v3": "broken:Broken-v0", "trials = 6": ""})
    file.write_text(changed(text, {'"env.bins" = 7': "", '"env.bins"  ': '# "env.bins"'}))
    done = python_m(
        *("sweeps", "run", "--study", file, "--trials", "20"),
        *("--store", store.folder, "--workers", "2"),
        environ=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{Path.cwd()}"},
    )
    assert done.returncode == 1, done.stdout + done.stderr
    (line,) = done.stderr.splitlines()
    assert "stopped after 5 identical failures: ZeroDivisionError: engine" in line
    sweep = open_sweep(store, "mini")
    failed = [trial for trial in sweep.read_trials().all if trial.state == TrialState.FAIL]
    assert len(failed) in (5, 6)
    assert sweep.read_trials().left == 20 - len(failed)
    for trial in failed:
        assert "traceback.txt" in files(sweep, trial.user_attrs[RUN_ID])
    assert store.runs().get_run(sweep.run_id).info.status == "KILLED"


def test_a_sweep_of_which_every_trial_failed_ends_with_1(tmp_path: Path) -> None:
    file, rate = tmp_path / "mini.toml", {"low = 3e-4, high = 1e-2": "low = 3e-4, high = 1e38"}
    text = changed(MINI, rate | {"trials = 6": "trials = 1"})
    file.write_text(
        changed(text, {"checkpoints = 2": 'checkpoints = 2\n"ppo.learning_rate" = 1e3'})
    )
    done = python_m("sweeps", "run", "--study", file, "--store", tmp_path / "store")
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stderr == ""
    assert "no trial finished; first failure: diverged: update " in done.stdout


# pictures and models


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("sweeps.record.recorder.save_landing", "landing.gif"),
        ("mlflow.pytorch.save_model", "the model"),
        ("sweeps.charts.seeds.seed_curves", "seeds.png"),
    ],
)
def test_a_part_that_cannot_be_recorded_is_a_warning_and_the_score_stays(
    store: Store, monkeypatch: pytest.MonkeyPatch, name: str, missing: str
) -> None:
    sweep = started(store, changed(MINI, {"seed = 3": "seed = 3\nseeds_per_trial = 2"}))
    monkeypatch.setattr(name, fails(name))
    trial, run = run_one(sweep)
    assert (trial.state, run.info.status) == (TrialState.COMPLETE, "FINISHED")
    assert trial.value == run.data.metrics["final/return_mean"]
    warning = run.data.tags[WARNING]
    assert warning == f"{missing} is missing: OSError: {name} failed at http://***@host/x"
    whole = {"config.toml", "landing.gif", "seed_0", "seed_1", "seeds.png"}
    assert files(sweep, run.info.run_id) == whole - {missing}


def test_a_whole_record_has_no_warning(store: Store) -> None:
    _, run = run_one(started(store))
    assert WARNING not in run.data.tags


def test_a_sweep_is_published_though_figures_and_registry_fail(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = started(store)
    run_one(sweep)
    run_one(sweep)
    with monkeypatch.context() as patch:
        patch.setattr("sweeps.charts.search.write_figures", fails("matplotlib"))
        patch.setattr("sweeps.publish.best_policy.move_alias", fails("registry"))
        publish(sweep)
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(" is missing")[0] for line in lines] == [
        "sweeps: warning: a figure",
        "sweeps: warning: the best policy in the registry",
    ]
    assert "secret" not in "".join(lines)
    run = store.runs().get_run(sweep.run_id)
    assert run.info.status == "FINISHED"
    best = sweep.read_trials().best
    assert run.data.tags["sweeps.best_trial"] == str(best.number if best else None)
    assert run.data.tags[WARNING].startswith("a figure is missing: OSError: matplotlib failed")
    assert "best.gif" in files(sweep, sweep.run_id)
    publish(sweep)
    assert capsys.readouterr().err == ""
    assert store.runs().get_run(sweep.run_id).data.tags[WARNING] == ""
    assert "history.png" in files(sweep, sweep.run_id)
