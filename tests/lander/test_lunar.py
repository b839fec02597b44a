"""LunarLander's lean physics are the stock environment's, to the bit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from contextlib import closing
from dataclasses import replace
from importlib import import_module
from itertools import cycle
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.wrappers import TimeAwareObservation
from numpy.typing import NDArray

from lander import evaluation, lunar
from lander.config import EnvConfig, TrainConfig, sorted_kwargs
from lander.dotted import configure
from lander.env import make_env, random_state
from lander.interface import CheckedEnv, EnvFault
from lander.lunar import MODES, LeanLander, Physics, training_physics
from lander.trainer import Progress, State, TrainResult, make_vector_env, train
from lander.vector import EpisodeStart, SerialVectorEnv, Step

ARGUMENTS: list[dict[str, Any]] = [
    {},
    {"gravity": -3.5, "enable_wind": True},
    {"gravity": -11, "enable_wind": True, "wind_power": 20, "turbulence_power": 2.0},
    {"enable_wind": True, "wind_power": 3.5, "turbulence_power": 0.0},
]
ENVS = [EnvConfig(id=name, kwargs=sorted_kwargs(given)) for name in MODES for given in ARGUMENTS]
KINDS: tuple[Physics, ...] = "stock", "lean"
Answer = tuple[NDArray[Any] | tuple[float, ...], float, bool, bool]
PILOTS: dict[str, tuple[float, float] | None] = {
    "random": None,
    "land": (0.0, 0.0),
    "leave": (2.0, 0.0),
    "hover": (0.0, -0.6),
}
"""How far from where it is the craft believes to be, in observations of the landing heuristic."""


@pytest.fixture
def unknown(monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    """As if the installed environment had never been compared."""
    monkeypatch.setattr(lunar, "CHECKED", {})
    lunar.unchecked.cache_clear()
    lunar.warn_unchecked.cache_clear()
    yield
    lunar.unchecked.cache_clear()


def copy_of(env: EnvConfig, *, limit: int | None = None) -> CheckedEnv:
    return CheckedEnv(make_env(env, time_limit=limit), f"{env.id}, copy 0")


def action_of(
    stock: Any,
    row: NDArray[Any] | tuple[float, ...],
    shift: tuple[float, float] | None,
    rng: np.random.Generator,
) -> NDArray[Any] | np.generic:
    """A random action, some of them out of range, or the heuristic's from a shifted position."""
    if shift is not None:
        # only now: its module imports Box2D, which cannot bear warnings as errors
        heuristic = import_module("gymnasium.envs.box2d.lunar_lander").heuristic
        chosen = heuristic(stock, np.array(row) + np.array([*shift, 0, 0, 0, 0, 0, 0]))
        return np.array(chosen, dtype=np.float32) if stock.continuous else np.int64(chosen)
    if stock.continuous:
        return rng.uniform(-1.3, 1.3, 2).astype(np.float32)
    return np.int64(rng.integers(4))


def kind_of_end(world: Any, reward: float, terminated: bool) -> str:
    if terminated and reward == 100:
        return "at rest"
    if terminated:
        return "crash" if world.game_over else "out of bounds"
    return "time limit"


def same(left: Answer, right: Answer) -> bool:
    """Whether two answers to a step are equal to the bit."""
    rows = [np.array(row, dtype=np.float32).tobytes() for row, *_ in (left, right)]
    rest = [np.array(numbers, dtype=np.float64).tobytes() for _, *numbers in (left, right)]
    return rows[0] == rows[1] and rest[0] == rest[1]


def ends(env: EnvConfig, *, steps: int) -> Counter[str]:
    """Fly a stock and a lean copy side by side, with and without seeds; how episodes ended."""
    counted: Counter[str] = Counter()
    rng = np.random.default_rng(1)
    with closing(copy_of(env)) as stock, closing(LeanLander(copy_of(env))) as lean:
        world: Any = stock.stock.unwrapped
        for episode, shift in enumerate(cycle(PILOTS.values())):
            seed = episode if episode in (0, 1) or episode % 3 == 0 else None
            answers: list[Answer] = [(one.reset(seed), 0.0, False, False) for one in (stock, lean)]
            assert same(*answers)
            while not any(answers[0][2:]):
                action = action_of(world, answers[0][0], shift, rng)
                answers = [one.step(action) for one in (stock, lean)]
                assert same(*answers), (env, episode, answers)
                counted["steps"] += 1
            assert random_state(stock.stock) == random_state(lean.stock)
            counted[kind_of_end(world, *answers[0][1:3])] += 1
            if counted["steps"] >= steps:
                return counted
    raise AssertionError


@pytest.mark.parametrize("steps", [20_000, pytest.param(200_000, marks=pytest.mark.slow)])
def test_every_step_in_every_mode_is_the_stock_one_to_the_bit(steps: int) -> None:
    counted = sum((ends(env, steps=steps // len(ENVS)) for env in ENVS), Counter[str]())
    assert counted["steps"] >= steps
    assert min(counted[end] for end in ("at rest", "crash", "out of bounds", "time limit")) >= 10


def vector(env: EnvConfig, physics: Physics) -> SerialVectorEnv:
    return SerialVectorEnv(env, env.num_envs, time_limit=env.time_limit, physics=physics)


def same_step(left: Step, right: Step) -> bool:
    arrays = [(step.obs, step.rewards, step.terminated, step.truncated) for step in (left, right)]
    return all(
        one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
        for one, other in zip(*arrays, strict=True)
    ) and np.array_equal(left.last_obs, right.last_obs)


def same_starts(left: list[EpisodeStart], right: list[EpisodeStart]) -> bool:
    return [(one.start, np.array(one.actions).tolist()) for one in left] == [
        (one.start, np.array(one.actions).tolist()) for one in right
    ]


@pytest.mark.parametrize("name", MODES)
def test_the_vector_loop_and_its_restored_copies_are_the_stock_ones(name: str) -> None:
    """Some copies rest in every other step; half-way each kind goes on from the other's state."""
    env = EnvConfig(id=name, num_envs=4, time_limit=90, kwargs=(("enable_wind", True),))
    rng = np.random.default_rng(2)
    stock, lean = (vector(env, physics) for physics in KINDS)
    assert np.array_equal(stock.reset(range(4)), lean.reset(range(4)))
    terminated = truncated = 0
    for turn in range(600):
        if turn == 300:
            left, right = stock.unfinished, lean.unfinished
            stock, lean = (vector(env, physics) for physics in KINDS)
            assert np.array_equal(stock.restore(right), lean.restore(left))
            assert same_starts(stock.unfinished, right)
        copies = np.flatnonzero(rng.random(4) < 0.7) if turn % 2 and turn % 7 else None
        if copies is not None and not len(copies):
            continue
        count = 4 if copies is None else len(copies)
        discrete = name == "LunarLander-v3"
        actions: NDArray[Any] = (
            rng.integers(4, size=count)
            if discrete
            else rng.uniform(-1, 1, (count, 2)).astype(np.float32)
        )
        step = stock.step(actions, copies)
        assert same_step(step, lean.step(actions, copies))
        assert same_starts(stock.unfinished, lean.unfinished)
        terminated, truncated = terminated + step.terminated.sum(), truncated + len(step.last_obs)
    assert terminated >= 10
    assert truncated >= 5


TINY = {
    "env.num_envs": 4,
    "env.time_limit": 100,
    "ppo.rollout_steps": 128,
    "ppo.minibatch_size": 128,
    "ppo.update_epochs": 2,
    "policy.hidden_sizes": (16,),
    "total_steps": 2048,
    "checkpoints": 2,
    "eval_episodes": 2,
    "final_episodes": 2,
}
CONFIGS: list[dict[str, Any]] = [
    {"env.id": "LunarLander-v3"},
    {"env.id": "LunarLanderContinuous-v3", "env.kwargs.enable_wind": True},
]


def trained(values: dict[str, Any], *, resume: State | None = None) -> tuple[TrainResult, State]:
    """A finished training, and its state half-way."""
    states: list[State] = []

    def on_update(progress: Progress) -> None:
        if progress.env_steps == 1024:
            states.append(progress.state())

    config = configure(TINY | values, base=TrainConfig())
    result = train(config, on_update=on_update, state=resume)
    return result, states[0] if states else {}


def same_result(left: TrainResult, right: TrainResult) -> bool:
    weights = [result.policy.state_dict() for result in (left, right)]
    return (
        all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
        and left.metrics == right.metrics
        and [one.returns for one in left.checkpoints] == [one.returns for one in right.checkpoints]
    )


@pytest.mark.parametrize("values", CONFIGS)
def test_a_training_has_the_same_weights_on_lean_and_stock_physics(
    values: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    lean, lean_state = trained(values)
    assert training_physics(lean.config.env) == "lean"
    request.getfixturevalue("unknown")
    stock, stock_state = trained(values)
    assert training_physics(lean.config.env) == "stock"
    assert same_result(lean, stock)
    assert same_result(lean, trained(values, resume=lean_state)[0])
    lunar.unchecked.cache_clear()
    assert flights(lean_state) == flights(stock_state)


def flights(state: State) -> list[Any]:
    """The unfinished episodes in a state, as plain numbers."""
    return [(flight["start"], flight["actions"].tolist()) for flight in state["runner"]["flights"]]


def test_checkpoints_are_played_on_lean_and_the_end_on_stock_physics(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    played: list[Physics] = []

    def under(physics: Physics, env: CheckedEnv) -> CheckedEnv | LeanLander:
        played.append(physics)
        return lunar.under(physics, env)

    monkeypatch.setattr(evaluation, "under", under)
    trained(CONFIGS[0])
    assert played == ["lean"] * 2 * 2 + ["stock"] * 2 * 2


@pytest.mark.usefixtures("unknown")
def test_unknown_physics_are_left_to_the_stock_environment_in_one_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for values in CONFIGS:
        env = configure(values, base=TrainConfig()).env
        with closing(make_vector_env(env)) as envs:
            assert not leans(envs)
    assert capsys.readouterr().err == (
        f"lander: the LunarLander of Gymnasium {gym.__version__} was not compared with the faster "
        "physics of lander/lunar.py: training uses stock Gymnasium, with the same results but "
        "slower\n"
    )


@pytest.mark.usefixtures("unknown")
def test_another_box2d_is_unknown_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(lunar, "BOX2D", "2.3.2")
    assert lunar.unchecked() == "Box2D 2.3.10"


def leans(envs: Any) -> bool:
    return all(isinstance(one, LeanLander) for one in envs._envs)


@pytest.mark.parametrize(
    "change",
    [
        {"entry_point": "mine:LunarLander"},
        {"kwargs": {"gravity": -1.62}},
        {"additional_wrappers": (TimeAwareObservation.wrapper_spec(),)},
    ],
)
def test_a_users_own_lunar_lander_is_stepped_by_itself(
    change: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    env = EnvConfig()
    assert training_physics(env) == "lean"
    spec = gym.registry["LunarLander-v3"]
    monkeypatch.setitem(gym.registry, env.id, replace(spec, **change))
    assert training_physics(env) == "stock"


@pytest.mark.parametrize(
    "env",
    [
        EnvConfig(id="CartPole-v1"),
        EnvConfig(id="BipedalWalker-v3"),
        EnvConfig(id="gymnasium.envs.box2d:LunarLander-v3"),
    ],
)
def test_nothing_else_has_lean_physics(env: EnvConfig) -> None:
    assert training_physics(env) == "stock"
    assert training_physics(replace(env, backend="envpool")) == "envpool"


def step_once(envs: SerialVectorEnv, actions: list[int]) -> None:
    envs.reset(range(len(envs)))
    envs.step(np.array(actions))


def test_numbers_that_are_not_finite_are_the_same_fault() -> None:
    messages = []
    for physics in KINDS:
        with closing(vector(EnvConfig(num_envs=2), physics)) as envs:
            step_once(envs, [0, 0])
            world: Any = envs._envs[1].stock.unwrapped
            world.lander.linearVelocity = (float("nan"), 0.0)
            with pytest.raises(EnvFault) as raised:
                envs.step(np.array([0, 0]))
            messages.append(str(raised.value))
    expected = "LunarLander-v3, copy 1, step 2: the reward is nan, want a finite number"
    assert messages == [expected] * 2


@pytest.mark.parametrize("action", [-1, 4])
def test_an_unknown_action_is_refused_by_gymnasium_itself(action: int) -> None:
    messages = []
    for physics in KINDS:
        with (
            closing(vector(EnvConfig(num_envs=2), physics)) as envs,
            pytest.raises(AssertionError) as raised,
        ):
            step_once(envs, [0, action])
        messages.append(str(raised.value))
    assert messages[0] == messages[1] == f"{np.int64(action)!r} ({np.int64}) invalid "
