"""A real miniature sweep through Optuna and MLflow, and all that it left behind."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import gymnasium as gym
import mlflow
import numpy as np
import optuna
import pytest
import torch
from mlflow.entities import Run
from PIL import Image

from lander.checkpoint import load
from lander.dotted import flatten, from_toml
from lander.evaluation import evaluate
from lander.metrics import CURVES, FINALS
from lander.options import inactive
from lander.seeds import FINAL_SEED, seed_range
from sweeps.endings import ending
from sweeps.estimates import Expected
from sweeps.publish.page import sweep_url
from sweeps.publish.view import view_states
from sweeps.run.objective import trial_configs
from sweeps.schema import RETURNS, RUN_ID
from sweeps.scores import expected, promise
from sweeps.store.best_policy import recorded_policy
from sweeps.store.store import Store
from sweeps.store.trials import Trials
from sweeps.sweep import Sweep, open_sweep
from tests.processes import python_m
from tests.studies import MINI


@pytest.fixture(scope="module")
def sweep(mini: Store) -> Sweep:
    return open_sweep(mini, "mini")


@pytest.fixture(scope="module")
def runs(sweep: Sweep) -> list[Run]:
    unsorted = sweep.store.runs().search_runs([sweep.experiment_id])
    return sorted(unsorted, key=lambda run: str(run.info.run_name))


def of_role(runs: list[Run], role: str) -> list[Run]:
    return [run for run in runs if run.data.tags["sweeps.role"] == role]


def test_every_trial_has_one_run_under_one_parent(sweep: Sweep, runs: list[Run]) -> None:
    (parent,) = of_role(runs, "study")
    trials = of_role(runs, "trial")
    assert parent.info.run_name == "mini"
    assert [run.info.run_name for run in trials] == [f"trial-{n:04d}" for n in range(6)]
    assert {run.data.tags["mlflow.parentRunId"] for run in trials} == {parent.info.run_id}
    assert [run.info.run_id for run in trials] == [
        trial.user_attrs[RUN_ID] for trial in sweep.read_trials().all
    ]


def test_run_status_mirrors_trial_state(sweep: Sweep, runs: list[Run]) -> None:
    status = {"COMPLETE": "FINISHED", "PRUNED": "KILLED", "FAIL": "FAILED"}
    for trial, run in zip(sweep.read_trials().all, of_role(runs, "trial"), strict=True):
        assert run.data.tags["optuna.state"] == trial.state.name
        assert run.info.status == status[trial.state.name]


def test_params_are_the_resolved_config_under_dotted_names(sweep: Sweep, runs: list[Run]) -> None:
    for trial, run in zip(sweep.read_trials().all, of_role(runs, "trial"), strict=True):
        config = flatten(trial_configs(trial, sweep.study)[0])
        idle = {name for name, value in config.items() if value is None} | inactive(config).keys()
        assert {"ppo.kl_coef", "policy.init_std", "ppo.n_step", "ppo.kl_stop"} <= idle
        assert run.data.params == {
            name: str(value) for name, value in config.items() if name not in idle
        }
        assert run.data.params["policy.head"] == "categorical"


def test_curves_and_finals_have_their_documented_names(sweep: Sweep, runs: list[Run]) -> None:
    run = of_role(runs, "trial")[0]
    recorded = set(run.data.metrics)
    published = {
        "score",
        "expected_return",
        "expected_return_error",
        "promised_return",
        "rank",
        "cost/seconds",
        "cost/env_steps",
        "cost/cpu_seconds",
        "cost/peak_memory",
        "cost/joules",
        "choice/return_mean",
        "test/return_mean",
    }
    assert recorded <= {*CURVES, *FINALS, *published}
    assert {*FINALS, "score"} <= recorded
    assert {"eval/return_mean", "loss/policy", "time/env_steps_per_second"} <= recorded
    history = sweep.store.runs().get_metric_history(run.info.run_id, "eval/return_mean")
    assert [point.step for point in history] == [512, 1024]


def test_the_value_of_a_trial_is_its_final_return(sweep: Sweep, runs: list[Run]) -> None:
    for trial, run in zip(sweep.read_trials().all, of_role(runs, "trial"), strict=True):
        if trial.state == optuna.trial.TrialState.COMPLETE:
            assert run.data.metrics["final/return_mean"] == trial.value
            assert run.data.metrics["score"] == trial.value


def test_tags_tell_seeds_versions_and_command(runs: list[Run]) -> None:
    tags = of_role(runs, "trial")[0].data.tags
    assert tags["seeds.training"] == of_role(runs, "trial")[0].data.params["seed"]
    assert tags["seeds.checkpoint"] == "1000000..1000001"
    assert tags["seeds.final"] == "2000000..2000001"
    assert tags["version.torch"] == torch.__version__.split("+")[0]
    assert tags["sweeps.command"].startswith("python -m sweeps work --study mini")
    assert tags["sweeps.physics"] == "lean"


def test_artifacts_of_a_trial_load_as_they_are(
    sweep: Sweep, runs: list[Run], tmp_path: Path
) -> None:
    run = of_role(runs, "trial")[0]
    client = sweep.store.runs()
    names = {artifact.path for artifact in client.list_artifacts(run.info.run_id)}
    assert names == {"config.toml", "policy.pt", "landing.gif"}
    for name in names:
        client.download_artifacts(run.info.run_id, name, str(tmp_path))
    config = from_toml((tmp_path / "config.toml").read_text(), source="config.toml")
    policy, same = load(tmp_path / "policy.pt")
    assert config == same
    final = evaluate(policy, config.env.id, seeds=seed_range(FINAL_SEED, config.final_episodes))
    assert final.return_mean == run.data.metrics["final/return_mean"]
    with Image.open(tmp_path / "landing.gif") as gif:
        assert gif.format == "GIF"


def test_the_parent_run_carries_pictures_and_the_study(sweep: Sweep, tmp_path: Path) -> None:
    client = sweep.store.runs()
    names = {artifact.path for artifact in client.list_artifacts(sweep.run_id)}
    pictures = {"history.png", "slices.png", "parallel_coordinates.png", "best.gif"}
    assert pictures | {"study.toml"} <= names
    assert (
        Path(client.download_artifacts(sweep.run_id, "study.toml", str(tmp_path))).read_text()
        == MINI
    )


def test_the_best_model_flies_stock_gymnasium_from_raw_observations(sweep: Sweep) -> None:
    mlflow.set_tracking_uri(sweep.store.tracking_uri)
    model = mlflow.pytorch.load_model("models:/mini@best")
    policy = recorded_policy(sweep.optuna)
    assert policy is not None
    env = gym.make("LunarLanderContinuous-v3")
    returns = []
    for seed in seed_range(FINAL_SEED, sweep.study.base.final_episodes):
        obs, _ = env.reset(seed=seed)
        total, over = 0.0, False
        while not over:
            action = model(torch.from_numpy(obs[None])).numpy()[0]
            assert action.dtype == np.float32
            obs, reward, terminated, truncated, _ = env.step(action)
            total += float(reward)
            over = terminated or truncated
        returns.append(total)
    env.close()
    trained = sweep.read_trials().all[policy.trial]
    assert returns == pytest.approx(trained.user_attrs[RETURNS][policy.training])


def test_the_store_holds_no_pickle(mini: Store) -> None:
    names = {path.name for path in mini.folder.rglob("*") if path.is_file()}
    assert not {name for name in names if name.endswith((".pkl", ".pickle", ".pth"))}


def test_the_printed_link_opens_the_table_that_the_experiment_carries(sweep: Sweep) -> None:
    experiment = sweep.store.runs().get_experiment(sweep.experiment_id)
    states = view_states(sweep.study, sweep.read_trials())
    assert set(states) == {"sweep", "fields"}
    for key, state in states.items():
        assert json.loads(experiment.tags[f"mlflow.sharedViewState.{key}"]) == state
    view = states["sweep"]
    assert (view["orderByKey"], view["orderByAsc"]) == ("metrics.`rank`", True)
    assert view["selectedColumns"][:2] == ["metrics.`rank`", "metrics.`expected_return`"]
    unfinished = Trials([], budget=1)  # expected returns are recorded at the end
    by_score = view_states(sweep.study, unfinished)["sweep"]
    assert (by_score["orderByKey"], by_score["orderByAsc"]) == ("metrics.`score`", False)
    assert f"params.`{'env.bins'}`" in view["selectedColumns"]
    assert sweep_url(sweep) == "http://127.0.0.1:5000/runs/mini"


def test_a_second_run_says_that_the_study_is_complete(mini: Store, mini_file: Path) -> None:
    done = python_m("sweeps", "run", "--study", mini_file, "--store", mini.folder)
    assert done.returncode == 0
    assert "study mini is complete: 6 trials" in done.stdout
    assert "TRIALS=12" in done.stdout


def test_status_counts_and_names_the_best(mini: Store, sweep: Sweep) -> None:
    done = python_m("sweeps", "status", "--store", mini.folder, "--json")
    (row,) = json.loads(done.stdout)
    assert row["study"] == "mini"
    assert sum(row["trials"].values()) == 6
    best = sweep.read_trials().best
    assert best is not None
    assert (row["best_trial"], row["best_value"]) == (best.number, best.values[0])
    likely = Expected(
        row["best_expected_return"],
        row["best_expected_return_error"],
        promised=row["best_promised"],
        trainings=row["best_trainings"],
    )
    assert likely == expected(sweep.read_trials().all)[0].likely
    line = python_m("sweeps", "status", "--store", mini.folder).stdout
    policy = recorded_policy(open_sweep(mini, "mini").optuna)
    assert policy is not None
    assert row["best_policy"]["test"] == policy.test
    of_best = promise(best.number, likely)
    assert line.endswith(f"; best: {of_best}; best policy: {policy}\n")


@pytest.mark.parametrize("which", ["best", pytest.param("0", marks=pytest.mark.slow)])
def test_a_trial_reproduces_bit_for_bit_and_the_replay_is_logged(
    mini: Store, sweep: Sweep, which: str
) -> None:
    done = python_m(
        "sweeps", "reproduce", "--study", "mini", "--trial", which, "--store", mini.folder
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PASS: 8 recorded numbers, every one bit-equal" in done.stdout
    replays = of_role(sweep.store.runs().search_runs([sweep.experiment_id]), "replay")
    assert replays[0].data.tags["sweeps.verdict"] == "PASS"
    assert replays[0].data.tags["sweeps.replay_of"] in {
        trial.user_attrs[RUN_ID] for trial in sweep.read_trials().all
    }


def test_trials_are_printed_as_csv_under_the_names_of_the_fields(mini: Store, sweep: Sweep) -> None:
    done = python_m("sweeps", "trials", "--study", "mini", "--store", mini.folder)
    rows = list(csv.DictReader(done.stdout.splitlines()))
    assert len(rows) == len(sweep.read_trials().all)
    for row, trial in zip(rows, sweep.read_trials().all, strict=True):
        config, *_ = trial_configs(trial, sweep.study)
        assert row["trial"] == str(trial.number)
        assert row["state"] == ending(trial)
        assert row["seeds"] == str(config.seed)
        assert row["reports"] == str(max(trial.intermediate_values, default=0))
        assert row["value"] == ("" if trial.value is None else repr(trial.value))
        for field in sweep.study.space:
            assert row[field] == str(flatten(config)[field])


def test_an_exported_config_trains_the_same_weights(
    mini: Store, mini_file: Path, runs: list[Run], tmp_path: Path
) -> None:
    done = python_m(
        "sweeps", "export", "--study", mini_file, "--trial", "0", "--store", mini.folder
    )
    (tmp_path / "config.toml").write_text(done.stdout)
    out = tmp_path / "out"
    trained = python_m("lander", "--config", tmp_path / "config.toml", "--out", out)
    assert trained.returncode == 0, trained.stderr
    path = mini.runs().download_artifacts(
        of_role(runs, "trial")[0].info.run_id, "policy.pt", str(tmp_path)
    )
    recorded, _ = load(Path(path))
    policy, _ = load(out / "policy.pt")
    for name, weights in recorded.state_dict().items():
        assert torch.equal(weights, policy.state_dict()[name])
