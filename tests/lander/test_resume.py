"""A training taken up again ends as if it had never stopped, to the bit."""

from __future__ import annotations

import csv
import shutil
import signal
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray
from torch import Tensor

from lander.__main__ import main
from lander.checkpoint import load
from lander.config import TrainConfig
from lander.dotted import configure
from lander.errors import ConfigError
from lander.evaluation import Evaluation
from lander.run_folder import RunFolder
from lander.terminal import program
from lander.trainer import Progress, State, TrainResult, train
from tests.lander.conftest import refused
from tests.processes import starting

SMALL: dict[str, Any] = {
    "env.num_envs": 2,
    "policy.hidden_sizes": (8,),
    "ppo.rollout_steps": 64,
    "ppo.minibatch_size": 64,
    "ppo.update_epochs": 2,
    "total_steps": 512,
    "checkpoints": 3,
    "eval_episodes": 1,
    "final_episodes": 1,
    "seed": 5,
}
RUNS: dict[str, dict[str, Any]] = {
    "continuous": {
        "env.id": "LunarLanderContinuous-v3",
        "env.obs_norm": True,
        "env.reward_scale": "running",
        "ppo.surrogate": "kl_adaptive",
        "policy.std": "decayed",
    },
    "bins": {"env.id": "LunarLanderContinuous-v3", "env.bins": 5},
    "whole episodes": {
        "env.id": "CartPole-v1",
        "env.reward_scale": "running",
        "policy.critic": False,
        "ppo.advantage": "reward_to_go",
        "ppo.rollout_episodes": 4,
        "ppo.rollout_steps": TrainConfig().ppo.rollout_steps,
        "total_steps": 400,
    },
    "two step sizes": {"env.id": "Pendulum-v1", "ppo.critic_learning_rate": 1e-3},
    "discrete": {"env.id": "LunarLander-v3", "env.obs_norm": True, "env.step_cost": 0.1},
    "schedules": {
        "env.id": "CartPole-v1",
        "env.time_limit": 25,
        "ppo.clip_range_schedule": "linear",
        "ppo.kl_stop": 0.02,
        "policy.trunk": "shared",
    },
}


@dataclass(frozen=True)
class Course:
    """A training: where it ended, and its points and states on the way."""

    result: TrainResult
    points: list[Progress]
    states: list[State]
    written: list[bytes]
    """Each state as it was when it was taken."""


def config_of(values: dict[str, Any]) -> TrainConfig:
    return configure(SMALL | values, base=TrainConfig())


def follow(values: dict[str, Any], state: State | None = None) -> Course:
    points: list[Progress] = []
    states: list[State] = []
    written: list[bytes] = []

    def keep(progress: Progress) -> None:
        points.append(progress)
        states.append(progress.state())
        file = BytesIO()
        torch.save(states[-1], file)
        written.append(file.getvalue())

    result = train(config_of(values), on_update=keep, state=state)
    return Course(result, points, states, written)


@cache
def course(name: str) -> Course:
    """An uninterrupted run."""
    return follow(RUNS[name])


def read(written: bytes) -> State:
    return dict(torch.load(BytesIO(written), weights_only=True))


def same(left: Any, right: Any) -> bool:
    """Equal in value and type all the way down, tensors to the bit."""
    if type(left) is not type(right):
        return False
    if isinstance(left, Tensor):
        return left.dtype == right.dtype and torch.equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right)


def flown(flights: Evaluation) -> dict[str, Any]:
    return {**flights.state(), "lengths": list(flights.lengths)}


def outcome(result: TrainResult) -> dict[str, Any]:
    return {
        "env_steps": result.env_steps,
        "policy": dict(result.policy.state_dict()),
        "best": dict(result.best_policy.state_dict()),
        "checkpoints": [flown(flights) for flights in result.checkpoints],
        "final": flown(result.final),
        "sampled": flown(result.final_sampled),
    }


def point(progress: Progress) -> dict[str, Any]:
    metrics = {k: v for k, v in progress.metrics.items() if not k.startswith("time/")}
    evaluation = progress.evaluation and flown(progress.evaluation)
    return {
        "at": (progress.env_steps, progress.checkpoint),
        "metrics": metrics,
        "evaluation": evaluation,
    }


@pytest.mark.parametrize("name", RUNS)
def test_from_the_state_after_any_update_training_ends_the_same(name: str) -> None:
    whole = course(name)
    assert len(whole.states) >= 3
    for done, written in enumerate(whole.written, 1):
        rest = follow(RUNS[name], state=read(written))
        assert same(outcome(rest.result), outcome(whole.result))
        assert same([point(p) for p in rest.points], [point(p) for p in whole.points[done:]])
        assert same(rest.states, whole.states[done:])


@pytest.mark.parametrize("name", RUNS)
def test_later_updates_leave_a_state_as_it_was_written(name: str) -> None:
    for state, written in zip(course(name).states, course(name).written, strict=True):
        assert same(state, read(written))


@pytest.mark.parametrize("name", ["continuous", "whole episodes", "two step sizes"])
def test_a_state_serves_more_than_once(name: str) -> None:
    state = deepcopy(course(name).states[0])
    train(config_of(RUNS[name]), state=state)
    assert same(state, course(name).states[0])


def test_the_states_hold_unfinished_episodes_first_and_later_ones() -> None:
    """Else the tests above would not show that an episode is flown again."""
    flights = [
        flight
        for name in ("continuous", "bins", "discrete")
        for state in course(name).states
        for flight in state["runner"]["flights"]
    ]
    assert {type(flight["start"]) for flight in flights} == {int, dict}
    assert sum(len(flight["actions"]) > 0 for flight in flights) > len(flights) / 2


@pytest.mark.parametrize("values", [{"seed": 6}, {"ppo.gamma": 0.9}, {"env.id": "Acrobot-v1"}])
def test_a_state_of_another_config_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"\A.*another config.*\Z"):
        train(config_of(RUNS["schedules"] | values), state=course("schedules").states[0])


@pytest.mark.parametrize("missing", ["env_steps", "policy", "generator", "runner", "agent"])
def test_a_state_that_lacks_a_part_is_refused(missing: str) -> None:
    state = {key: part for key, part in course("schedules").states[0].items() if key != missing}
    with pytest.raises(ConfigError, match=rf"\A[^\n]*{missing}[^\n]*\Z"):
        train(config_of(RUNS["schedules"]), state=state)


class Weather(gym.Env[NDArray[np.float32], np.int64]):
    """Observes what no seed determines."""

    render_mode = None
    observation_space = Box(-1, 1, (1,), np.float32)
    action_space = Discrete(2)
    unseeded = np.random.default_rng()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        super().reset(seed=seed)
        return self.look(), {}

    def step(
        self, action: np.int64
    ) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        return self.look(), 1.0, False, False, {}

    def look(self) -> NDArray[np.float32]:
        return self.unseeded.uniform(-1, 1, 1).astype(np.float32)


def weather(**kwargs: Any) -> Weather:
    return Weather()


def test_an_environment_that_does_not_repeat_itself_is_refused() -> None:
    gym.register("resume/Weather-v0", weather, max_episode_steps=10)
    values = {"env.id": "resume/Weather-v0"}
    states = follow(values).states
    with pytest.raises(ConfigError, match=r"\Aresume/Weather-v0 does not repeat [^\n]+\Z"):
        train(config_of(values), state=states[0])


CLI = [
    *("--env.id", "CartPole-v1", "--env.num-envs", "2", "--ppo.rollout-steps", "64"),
    *("--ppo.minibatch-size", "64", "--ppo.update-epochs", "2", "--policy.hidden-sizes", "8"),
    *("--total-steps", "8192", "--checkpoints", "8", "--eval-episodes", "1"),
    *("--final-episodes", "1", "--env.reward-scale", "running", "--seed", "1"),
]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("resume") / "run"
    assert main([*CLI, "--out", str(folder)]) == 0
    return folder


def rows(path: Path) -> list[dict[str, str]]:
    """The lines of a curve.csv, without what a clock measured."""
    with path.open(newline="") as file:
        return [
            {name: cell for name, cell in row.items() if not name.startswith("time/")}
            for row in csv.DictReader(file)
        ]


def stopped(out: Path, number: signal.Signals) -> tuple[int, list[str]]:
    """Exit code and stderr of a training that got a signal after its first checkpoint."""
    with starting() as start:
        process = start("lander", *CLI, "--out", out)
        assert process.stdout is not None
        assert "1,024 steps" in process.stdout.readline()
        process.send_signal(number)
        _, err = process.communicate()
    return process.returncode, err.splitlines()


def assert_same_run(left: Path, right: Path) -> None:
    """File by file; what a clock measured is left out."""
    files = [sorted(path.relative_to(run) for path in run.rglob("*")) for run in (left, right)]
    assert files[0] == files[1]
    for name in ("config.toml", "landing.gif"):
        assert (left / name).read_bytes() == (right / name).read_bytes()
    assert rows(left / "curve.csv") == rows(right / "curve.csv")
    for path in (path for path in files[0] if path.suffix == ".pt"):
        (policy, config), (other, other_config) = load(left / path), load(right / path)
        assert config == other_config
        assert same(dict(policy.state_dict()), dict(other.state_dict()))


@pytest.mark.parametrize(
    "number",
    [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow), signal.SIGKILL],
)
def test_a_stopped_run_goes_on_to_the_same_result(
    number: signal.Signals,
    uninterrupted: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, unfinished = tmp_path / "run", tmp_path / "run.unfinished"
    code, err = stopped(out, number)
    if number == signal.SIGKILL:
        assert (code, err) == (-signal.SIGKILL, [])
    else:
        assert code == 130
        assert err == [f"lander: interrupted: resume with {program('lander')} resume {out}"]
    assert [path.name for path in tmp_path.iterdir()] == ["run.unfinished"]
    state = torch.load(unfinished / "training.pt", weights_only=True)["training"]
    assert 1024 <= state["env_steps"] < 8192
    assert (unfinished / "checkpoints" / "1024.pt").is_file()
    assert f"{program('lander')} resume {out}" in refused([*CLI, "--out", str(out)], capsys)
    assert main(["resume", str(out)]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert_same_run(out, uninterrupted)


def test_a_run_can_be_stopped_again_and_again_at_any_update(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the first checkpoint, between two, and after the last."""
    short = [*CLI, "--total-steps", "640", "--checkpoints", "2"]
    whole, out = tmp_path / "whole", tmp_path / "run"
    assert main([*short, "--out", str(whole)]) == 0
    add = RunFolder.add
    for updates, argv in ((1, [*short, "--out", str(out)]), (3, []), (5, [])):

        def add_and_stop(folder: RunFolder, progress: Progress, updates: int = updates) -> None:
            add(folder, progress)
            if len(folder.curve) == updates:
                signal.raise_signal(signal.SIGINT)

        monkeypatch.setattr(RunFolder, "add", add_and_stop)
        assert main(argv or ["resume", str(out)]) == 130
        assert len(rows(tmp_path / "run.unfinished" / "curve.csv")) == updates
        assert not out.exists()
    monkeypatch.undo()
    assert main(["resume", str(out)]) == 0
    assert_same_run(out, whole)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "whole"]


def test_a_finished_run_is_not_resumed(
    uninterrupted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "is finished" in refused(["resume", str(uninterrupted)], capsys)


@pytest.mark.parametrize("argv", [["absent"], ["deep/absent"], ["."], [".."], []])
def test_nothing_is_not_resumed(
    argv: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    refused(["resume", *argv], capsys)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "policy", "no steps", "no config"])
def test_a_damaged_state_is_refused_in_one_line(
    damage: str, uninterrupted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run.unfinished" / "training.pt"
    path.parent.mkdir()
    state = course("schedules").states[0]
    torch.save({"training": state, "curve": []}, path)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:2000])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "text":
        path.write_text("not\na\nstate\n")
    elif damage == "policy":
        shutil.copy(uninterrupted / "policy.pt", path)
    else:
        missing = "env_steps" if damage == "no steps" else "config"
        rest = {key: part for key, part in state.items() if key != missing}
        torch.save({"training": rest, "curve": []}, path)
    refused(["resume", str(tmp_path / "run")], capsys)
    assert list(tmp_path.rglob("*.pt")) == [path]
