"""A sweep in an environment of one's own: its arguments, its faults, and all that follows."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FixedTrial, TrialState

from lander.dotted import from_toml, to_toml
from lander.errors import ConfigError
from sweeps.lifecycle.start import start_sweep
from sweeps.run.objective import trial_configs
from sweeps.run.worker import objective_of
from sweeps.schema import CONFIG_FILE, LANDING_GIF, REASON, RUN_ID, WARNING
from sweeps.store.store import Store
from sweeps.study.space import suggest
from sweeps.study.study import Study, read_study
from sweeps.sweep import open_sweep
from tests.lander import odd_envs
from tests.processes import Completed, python_m
from tests.studies import GRAVITY, ODD, WIND, changed

assert odd_envs.STEPS == 20


def study(env: str = "Plain", *, base: str = WIND, space: str = GRAVITY) -> Study:
    text = changed(ODD, {"odd/Plain": f"odd/{env}", WIND: base, GRAVITY: space})
    return read_study(text, source="odd.toml")


def test_arguments_of_the_environment_are_searched_by_their_dotted_names() -> None:
    odd = study()
    assert odd.space["env.kwargs.gravity"].distribution == FloatDistribution(0.5, 2.0)
    params = {"ppo.update_epochs": 3, "env.kwargs.gravity": 1.25}
    config = suggest(FixedTrial(params), odd.space, odd.base)
    assert dict(config.env.kwargs) == {"gravity": 1.25, "wind": True}
    assert from_toml(to_toml(config), source=CONFIG_FILE) == config


@pytest.mark.parametrize(
    ("line", "distribution"),
    [
        ("{ low = 1, high = 3 }", IntDistribution(1, 3)),
        ("{ low = 1, high = 3.0 }", FloatDistribution(1.0, 3.0)),
        ("{ low = 0.1, high = 3.0, log = true }", FloatDistribution(0.1, 3.0, log=True)),
        ("{ choices = [1, 2.5] }", CategoricalDistribution([1, 2.5])),
    ],
)
def test_the_type_of_a_searched_argument_is_that_of_its_range(
    line: str, distribution: optuna.distributions.BaseDistribution
) -> None:
    odd = study(space=f'"env.kwargs.gravity" = {line}')
    assert odd.space["env.kwargs.gravity"].distribution == distribution


@pytest.mark.parametrize(
    ("base", "space", "line"),
    [
        ('"env.kwargs.gravty" = 3', "", "gravty=3: Plain.__init__() got an unexpected keyword"),
        ('"env.kwargs.gravity" = [3]', "", "gravity must be a finite number, a word"),
        (
            "",
            '"env.kwargs.gravity" = { low = -1.0, high = 1.0 }',
            "gravity must be above 0, got -1",
        ),
        ("", '"env.kwargs.wind" = { choices = [true, "yes"], low = 1 }', "stand alone"),
        ('"env.kwargs" = 3', "", "name one argument, as in env.kwargs.gravity"),
    ],
)
def test_a_wrong_argument_is_refused_when_the_study_is_read(
    base: str, space: str, line: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        study(base=base, space=space)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_study_without_arguments_is_the_study_that_it_was() -> None:
    """Its fingerprint is in stores that the version before has written."""
    odd = study("Item", base="", space="")
    assert not [name for name in odd.definition["base"] if "kwargs" in name]


def run_one(store: Store, odd: Study, *, check: Any = None) -> optuna.trial.FrozenTrial:
    """The first trial, as a worker runs it."""
    sweep = start_sweep(odd, store, trials=1, command=["run"])
    objective = objective_of(sweep, check=check or (lambda: None))
    sweep.optuna.optimize(objective, n_trials=1, catch=(Exception,))
    return open_sweep(store, odd.name).read_trials().all[0]


def test_a_trial_records_arguments_model_and_why_a_picture_is_missing(store: Store) -> None:
    trial = run_one(store, study())
    assert trial.state == TrialState.COMPLETE
    client = store.runs()
    run = client.get_run(trial.user_attrs[RUN_ID])
    gravity = trial.params["env.kwargs.gravity"]
    assert run.data.params["env.kwargs.gravity"] == str(gravity)
    assert run.data.params["env.kwargs.wind"] == "True"
    assert run.data.tags[WARNING].startswith(f"{LANDING_GIF} cannot be made: ")
    assert 20 <= run.data.metrics["final/return_mean"] <= 20 + 20 * gravity
    config = Path(client.download_artifacts(run.info.run_id, CONFIG_FILE)).read_text()
    (expected,) = trial_configs(trial, study())
    assert from_toml(config, source=CONFIG_FILE) == expected
    assert dict(expected.env.kwargs) == {"gravity": gravity, "wind": True}


def test_a_fault_of_the_environment_is_the_reason_of_a_failed_trial(store: Store) -> None:
    trial = run_one(store, study("NanReward", base="", space=""))
    assert trial.state == TrialState.FAIL
    reason = "odd/NanReward-v0, copy 0, step 13: the reward is nan, want a finite number"
    assert str(trial.user_attrs[REASON]).endswith(reason)


def test_an_interruption_ends_a_trial_in_the_middle_of_an_evaluation(store: Store) -> None:
    calls: list[int] = []

    def check() -> None:
        calls.append(1)
        if len(calls) == 12:  # two updates, and ten steps of the first evaluation
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_one(store, study("Item", base="", space=""), check=check)
    assert len(calls) == 12
    assert open_sweep(store, "odd").read_trials().all[0].user_attrs[REASON] == "interrupted"


MODULE = '''
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete


class Mine(gym.Env):
    """No pictures, float64, actions from -1, arguments."""

    observation_space, action_space = Box(-np.inf, np.inf, (3,), np.float64), Discrete(3, start=-1)

    def __init__(self, gravity=1.0, wind=False):
        self.gravity, self.wind = gravity, wind

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.np_random.normal(size=3), {}

    def step(self, action):
        assert self.action_space.contains(action)
        self.t += 1
        reward = self.gravity * float(action == 1) + self.wind
        return self.np_random.normal(size=3), reward, self.t >= 20, False, {}


gym.register("Mine-v0", Mine)
'''
MINE = changed(ODD, {"odd/Plain-v0": "mine:Mine-v0"})


def command(folder: Path, *argv: str) -> Completed:
    """A command in the folder that holds the user's module."""
    path = os.pathsep.join(entry for entry in sys.path if entry)
    return python_m(*argv, cwd=folder, environ=os.environ | {"PYTHONPATH": path})


@pytest.mark.slow
def test_all_of_the_product_works_in_an_environment_of_ones_own(tmp_path: Path) -> None:
    """Sweep, status, reproduce, confirm, report, notebooks' tables, the exported policy."""
    (tmp_path / "mine.py").write_text(MODULE)
    limited = changed(MINE, {WIND: f'{WIND}\n"env.time_limit" = 60'})
    (tmp_path / "odd.toml").write_text(limited)
    (tmp_path / "unlimited.toml").write_text(MINE)
    refused = command(tmp_path, "sweeps", "run", "--study", "unlimited.toml")
    assert refused.returncode == 2
    assert "env.time_limit" in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert not (tmp_path / "mlruns").exists()
    trust = ("--trust-env", "mine")
    for argv in (
        ("sweeps", "run", "--study", "odd.toml", "--workers", "2"),
        ("sweeps", "status"),
        ("sweeps", "reproduce", "--study", "odd", "--trial", "best", *trust),
        ("analysis", "confirm", "--study", "odd", "--top", "1", "--trainings", "4", *trust),
        ("sweeps", "reproduce", "--study", "odd@confirm", "--trial", "0"),
        ("analysis", "report", "--study", "odd"),
        ("sweeps", "doctor"),
    ):
        done = command(tmp_path, *argv)
        assert done.returncode == 0, f"{argv}\n{done.stdout}{done.stderr}"
        assert "Traceback" not in done.stdout + done.stderr
    exported = command(tmp_path, "sweeps", "export", "--study", "odd", "--trial", "best")
    assert "[env.kwargs]\ngravity = " in exported.stdout
    (tmp_path / "best.toml").write_text(exported.stdout)
    again = command(tmp_path, "lander", "--config", "best.toml", "--out", "again")
    assert again.returncode == 0, again.stderr
    fly = """
import gymnasium as gym, mlflow, torch, mine
mlflow.set_tracking_uri("sqlite:///mlruns/mlflow.db")
policy = mlflow.pytorch.load_model("models:/odd@best")
env = gym.make("Mine-v0", gravity=1.5)
obs, over, total = env.reset(seed=1)[0], False, 0.0
while not over:
    obs, reward, terminated, truncated, _ = env.step(policy(torch.from_numpy(obs[None])).numpy()[0])
    over, total = terminated or truncated, total + reward
print(total)
"""
    (tmp_path / "fly.py").write_text(fly)
    flown = command(tmp_path, "fly")
    assert flown.returncode == 0, flown.stderr
    assert 0 <= float(flown.stdout.split()[-1]) <= 30
