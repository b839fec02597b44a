"""What departs from Gymnasium's interface, or is no finite number, is reported in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from lander.__main__ import main
from lander.config import EnvConfig, TrainConfig
from lander.dotted import configure
from lander.env import env_spec, make_env, spaces
from lander.errors import ConfigError
from lander.evaluation import evaluate
from lander.interface import CheckedEnv, EnvFault, handed
from lander.policy import make_policy
from lander.resolve import resolve
from lander.trainer import train
from tests.lander import odd_envs
from tests.lander.conftest import refused

SMALL = {
    "env.num_envs": 2,
    "ppo.rollout_steps": 32,
    "ppo.minibatch_size": 32,
    "ppo.update_epochs": 1,
    "policy.hidden_sizes": (8,),
    "total_steps": 128,
    "checkpoints": 2,
    "eval_episodes": 2,
    "final_episodes": 3,
}
WANT_FIVE = "want (observation, reward, terminated, truncated, info)"
FAULTS = {
    "NanReward": "copy 0, step 13: the reward is nan, want a finite number",
    "NoReward": "copy 0, step 1: the reward is None, want a finite number",
    "ListReward": "copy 0, step 1: the reward is an array of float64, shape (1,), want a finite",
    "InfObs": "copy 0, step 13: observation[1] is inf, want finite numbers",
    "NanStart": "copy 0, reset: observation[2] is nan, want finite numbers",
    "TupleObs": "copy 0, reset: the observation is a tuple of 3, want an array of numbers of shape",
    "LongObs": "copy 0, reset: the observation is an array of float32, shape (4,), want an array",
    "LaterLongObs": "copy 0, step 13: the observation is an array of float32, shape (1,), want an",
    "WordObs": "copy 0, reset: the observation is an array of <U1, shape (3,), want an array of",
    "NumberEnds": "copy 0, step 1: terminated is 0, want True or False",
    "NoTruncated": "copy 0, step 1: truncated is None, want True or False",
    "FourValues": f"copy 0, step 1: step gave a tuple of 4, {WANT_FIVE}",
    "FourLimited": "copy 0, step 1: step(action): not enough values to unpack (expected 5, got 4)",
    "ObsOnly": "copy 0, reset: reset gave an array of float32, shape (3,), want (observation, info",
    "NoSeedArgument": "copy 0, reset: reset(seed=...): bare_reset() got an unexpected keyword",
}


def config(name: str, **values: object) -> TrainConfig:
    return configure({**SMALL, "env.id": f"odd/{name}-v0", **values}, base=TrainConfig())


def options(name: str, *more: str) -> list[str]:
    flat = {name: "8" if name == "policy.hidden_sizes" else str(x) for name, x in SMALL.items()}
    typed = [word for field, value in flat.items() for word in (f"--{field}", value)]
    return ["--env.id", f"odd/{name}-v0", *typed, *more]


@pytest.mark.parametrize(("name", "line"), FAULTS.items())
def test_a_departure_is_reported_with_copy_step_and_value(name: str, line: str) -> None:
    limit = {"env.time_limit": 100} if name == "FourLimited" else {}
    with pytest.raises(EnvFault) as caught:
        train(config(name, **limit))
    message = str(caught.value)
    assert message.startswith(f"odd/{name}-v0, {line}")
    assert "\n" not in message


def test_a_fault_of_another_copy_names_that_copy() -> None:
    """Only the second copy has walked so far."""
    envs = [CheckedEnv(make_env("odd/NanReward-v0"), f"copy {copy}") for copy in range(2)]
    for env in envs:
        env.reset(seed=1)
    for _ in range(12):
        envs[1].step(np.int64(0))
    envs[0].step(np.int64(0))
    with pytest.raises(EnvFault, match=r"^copy 1, step 13: the reward is nan"):
        envs[1].step(np.int64(0))


@pytest.mark.parametrize("name", ["NanReward", "InfObs", "NanStart", "TupleObs"])
def test_an_evaluation_names_the_reset_seed_instead_of_the_copy(name: str) -> None:
    policy = make_policy(resolve(config("Item")).config, generator=torch.Generator().manual_seed(0))
    with pytest.raises(EnvFault, match=rf"^odd/{name}-v0, evaluation episode of reset seed 5, "):
        evaluate(policy, f"odd/{name}-v0", seeds=[5, 6])


def test_the_command_line_reports_a_fault_in_one_line_no_divergence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(options("NanReward", "--out", str(tmp_path / "run"))) == 1
    err = capsys.readouterr().err
    assert err == (
        "lander: environment odd/NanReward-v0, copy 0, step 13: the reward is nan, want a finite "
        "number\n"
    )


def test_an_error_of_the_environments_own_code_keeps_its_traceback() -> None:
    with pytest.raises(ValueError, match="licence has expired") as caught:
        train(config("Raises"))
    assert "odd_envs.py" in str(caught.traceback[-1].path)


def test_rewards_that_make_training_explode_are_named_with_the_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(options("Huge", "--out", str(tmp_path / "run"))) == 1
    err = capsys.readouterr().err
    assert err.startswith("lander: training diverged: update 1: loss/value = ")
    assert err.endswith("; scaled rewards reach 3e+07: lower env.reward_scale, now 0.03\n")


@pytest.mark.parametrize(
    ("env_id", "remedy"),
    [
        ("FrozenLake-v1", "observes Discrete(16), a flat Box is needed: register it under an id"),
        ("odd/Whole-v0", "acts in Box(0, 5, (1,), int64), Discrete or a Box of floats is needed"),
        ("odd/Many-v0", "acts in MultiDiscrete([2 3]), Discrete or a Box of floats is needed"),
        ("odd/Nothing-v0", "acts in Box([], [], (0,), float32), Discrete or a Box of floats is"),
        ("odd/Blind-v0", "observes Box([], [], (0,), float32), a flat Box is needed"),
        ("odd/Spaceless-v0", "observes None, a flat Box is needed"),
    ],
)
def test_unplayable_spaces_are_refused_with_the_wrapper_that_helps(
    env_id: str, remedy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refused(["--env.id", env_id], capsys)
    assert line.startswith(f"lander: env.id: {env_id} {remedy}")
    assert "gymnasium.wrappers." in line


def test_a_constructor_that_fails_is_refused_in_one_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    line = refused(["--env.id", "odd/Broken-v0"], capsys)
    assert line == "lander: env.id: cannot make \"odd/Broken-v0\": KeyError: 'ROBOT'\n"


def test_actions_are_what_stock_spaces_sample() -> None:
    discrete, box = np.arange(3), np.ones((2, 2), np.float32)
    assert [type(handed(action)) for action in discrete] == [np.int64] * 3
    given = handed(box[0])
    assert isinstance(given, np.ndarray)
    given *= 0
    assert box[0].tolist() == [1, 1]
    scalar = handed(np.ones(2, np.float32)[0])
    assert isinstance(scalar, np.ndarray)
    assert scalar.shape == ()
    assert scalar.dtype == np.float32


def test_spaces_are_read_from_one_copy_and_each_reader_gets_its_own() -> None:
    odd_envs.Counted.made = 0
    first = [resolve(config("Counted")).config for _ in range(3)]
    assert odd_envs.Counted.made <= 1
    assert len(set(first)) == 1
    _, space = spaces("odd/Counted-v0")
    space.seed(1)
    drawn = [int(space.sample()) for _ in range(20)]
    _, other = spaces("odd/Counted-v0")
    other.seed(1)
    assert [int(other.sample()) for _ in range(20)] == drawn


def test_an_id_that_is_registered_anew_is_read_anew() -> None:
    first: Any = odd_envs.Odd
    second: Any = odd_envs.Wide
    gym.register("odd/Again-v0", first, max_episode_steps=7)
    assert env_spec("odd/Again-v0").max_episode_steps == 7
    del gym.registry["odd/Again-v0"]
    gym.register("odd/Again-v0", second, max_episode_steps=8)
    assert env_spec("odd/Again-v0").max_episode_steps == 8
    assert spaces("odd/Again-v0")[1] == odd_envs.Wide.action_space


def test_equal_arguments_of_another_type_are_other_arguments() -> None:
    """1 == 1.0 == True in Python, and not to every environment."""
    for one, dims in ((1, 1), (True, 2), (1.0, 3)):
        env = EnvConfig(id="odd/Typed-v0", kwargs=(("value", one),))
        assert env_spec(env).obs_dim == dims


@pytest.mark.parametrize("name", ["render_mode", "max_episode_steps", "id", "no name", "class-"])
def test_arguments_that_the_environment_never_gets_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"^env\.kwargs"):
        configure({f"env.kwargs.{name}": 1}, base=TrainConfig())
