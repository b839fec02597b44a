"""EnvPool in the place of Gymnasium: other random numbers, nothing else."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lander.config import TrainConfig
from lander.dotted import configure
from lander.envpool_env import EnvPoolVectorEnv, require_pooled
from lander.errors import ConfigError
from lander.resolve import resolve
from lander.trainer import Training, make_vector_env, train
from lander.vector import SerialVectorEnv, Step, VectorEnv

FAST = {
    "env.backend": "envpool",
    "env.num_envs": 8,
    "ppo.rollout_steps": 64,
    "ppo.minibatch_size": 128,
    "ppo.update_epochs": 2,
    "total_steps": 2048,
    "checkpoints": 1,
    "eval_episodes": 1,
    "final_episodes": 2,
}


@pytest.fixture(autouse=True)
def _installed(request: pytest.FixtureRequest) -> None:
    if not {"without_envpool", "shuffling_envpool"} & set(request.fixturenames):
        pytest.importorskip("envpool", reason="the extra [fast] is not installed")


@pytest.fixture
def without_envpool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "envpool", None)


class Shuffling:
    """EnvPool as it may be with several threads: results in the order in which they are done.

    Copy i observes i + 1 / 8, earns i, and ends every second step.
    """

    def __init__(self, num_envs: int) -> None:
        self._stream = np.random.default_rng(1)
        self._steps = np.zeros(num_envs, dtype=int)

    def _shuffled(self, copies: NDArray[np.int32]) -> tuple[NDArray[np.int32], dict[str, Any]]:
        done = self._stream.permutation(copies)
        return done, {"env_id": done}

    def reset(self, copies: NDArray[np.int32] | None = None) -> tuple[Any, ...]:
        everyone = np.arange(len(self._steps), dtype=np.int32)
        done, info = self._shuffled(everyone if copies is None else copies)
        return done[:, None] + 0.125, info

    def step(self, actions: NDArray[Any], copies: NDArray[np.int32]) -> tuple[Any, ...]:
        done, info = self._shuffled(copies)
        self._steps[copies] += 1
        over = (self._steps[done] + done) % 2 == 0
        sent = dict(zip(copies.tolist(), actions.tolist(), strict=True))
        obs = np.array([[sent[copy]] for copy in done.tolist()], dtype=np.float32)
        return obs, done.astype(float), over & (done % 3 == 0), over, info


@pytest.fixture
def shuffling_envpool(monkeypatch: pytest.MonkeyPatch) -> None:
    def make_gymnasium(_env_id: str, *, num_envs: int, **_: object) -> Shuffling:
        return Shuffling(num_envs)

    fake = SimpleNamespace(list_all_envs=lambda: ["Any-v0"], make_gymnasium=make_gymnasium)
    monkeypatch.setitem(sys.modules, "envpool", fake)


@pytest.mark.usefixtures("shuffling_envpool")
def test_results_belong_to_their_copies_in_whatever_order_they_come() -> None:
    envs = EnvPoolVectorEnv("Any-v0", 8)
    assert envs.reset(range(8))[:, 0].tolist() == [copy + 0.125 for copy in range(8)]
    for copies in (np.arange(8), np.array([1, 4, 6]), np.array([7, 0, 3])):
        step = envs.step(10 * copies, copies)
        assert step.rewards.tolist() == copies.tolist()
        over = step.terminated | step.truncated
        expected = np.where(over, copies + 0.125, 10 * copies)
        assert step.obs[:, 0].tolist() == expected.tolist()
        assert [row.item() for row in step.last_obs] == (10 * copies)[step.truncated].tolist()
        assert not (step.terminated & (copies % 3 != 0)).any()


def played(
    envs: VectorEnv, *, copies: int, steps: int, actions: int = 4
) -> Iterator[tuple[NDArray[np.int64], Step]]:
    """Random actions and what came of them."""
    stream = np.random.default_rng(0)
    envs.reset(range(copies))
    for _ in range(steps):
        chosen = stream.integers(actions, size=copies)
        yield chosen, envs.step(chosen)


def returns(envs: VectorEnv, *, copies: int) -> NDArray[np.float64]:
    """Of the first episode of each copy: the first to end, whoever flies, would be the short."""
    total, ended = np.zeros(copies), np.zeros(copies, dtype=bool)
    for _, step in played(envs, copies=copies, steps=1000):
        total += np.where(ended, 0.0, step.rewards)
        ended |= step.terminated | step.truncated
        if ended.all():
            break
    return total


def test_random_flights_score_as_on_gymnasium() -> None:
    """Two samples of 250 from one distribution: means within 4 standard errors, spreads alike."""
    with (
        closing(EnvPoolVectorEnv("LunarLander-v3", 250)) as pool,
        closing(SerialVectorEnv("LunarLander-v3", 250)) as stock,
    ):
        ours, theirs = (returns(envs, copies=250) for envs in (pool, stock))
    error = np.sqrt((ours.var() + theirs.var()) / 250)
    assert abs(ours.mean() - theirs.mean()) < 4 * error
    assert 0.8 < ours.std() / theirs.std() < 1.25
    assert error < 15


def test_the_row_after_an_ended_episode_is_a_first_row_and_no_step_is_lost() -> None:
    seen = 0
    with closing(EnvPoolVectorEnv("LunarLander-v3", 8)) as envs:
        for _, step in played(envs, copies=8, steps=400):
            ended = step.terminated | step.truncated
            # a craft begins in the middle, at the top, with its legs in the air
            assert (np.abs(step.obs[ended, 0]) < 0.02).all()
            assert (np.abs(step.obs[ended, 1] - 1.4) < 0.05).all()
            assert not step.obs[ended, 6:].any()
            # EnvPool's own reset step would give exactly zero
            assert (step.rewards != 0).all()
            seen += int(ended.sum())
    assert seen > 20


def test_a_time_limit_truncates_and_hands_out_the_true_successor() -> None:
    with (
        closing(EnvPoolVectorEnv("LunarLander-v3", 4, time_limit=5)) as envs,
        closing(EnvPoolVectorEnv("LunarLander-v3", 4)) as unlimited,
    ):
        pairs = zip(
            played(envs, copies=4, steps=5), played(unlimited, copies=4, steps=5), strict=True
        )
        for t, ((_, step), (_, free)) in enumerate(pairs, 1):
            assert step.truncated.tolist() == [t == 5] * 4
            assert not step.terminated.any()
            if t == 5:
                assert np.array_equal(np.stack(step.last_obs), free.obs)
                assert not np.array_equal(step.obs, free.obs)


def test_a_step_of_some_copies_leaves_the_others_where_they_were() -> None:
    with (
        closing(EnvPoolVectorEnv("LunarLander-v3", 3)) as envs,
        closing(EnvPoolVectorEnv("LunarLander-v3", 3)) as all_of_them,
    ):
        envs.reset([5, 6, 7])
        all_of_them.reset([5, 6, 7])
        first = envs.step(np.array([2, 3]), np.array([0, 2]))
        second = envs.step(np.array([1]), np.array([1]))
        whole = all_of_them.step(np.array([2, 1, 3]))
        assert np.array_equal(first.obs, whole.obs[[0, 2]])
        assert np.array_equal(second.obs, whole.obs[[1]])
        assert np.array_equal(first.rewards, whole.rewards[[0, 2]])


def test_equal_configs_give_equal_results_to_the_bit() -> None:
    config = configure(FAST, base=TrainConfig())
    first, second = train(config), train(config)
    assert first.config.env.backend == "envpool"
    assert first.final.returns == second.final.returns
    for one, other in zip(first.policy.parameters(), second.policy.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    "values",
    [
        {"env.id": "LunarLanderContinuous-v3"},
        {"env.id": "LunarLanderContinuous-v3", "env.bins": 5},
        {
            "policy.critic": False,
            "ppo.advantage": "reward_to_go",
            "ppo.rollout_episodes": 8,
            "ppo.rollout_steps": TrainConfig().ppo.rollout_steps,
            "total_steps": 1000,
        },
    ],
)
def test_every_kind_of_action_and_rollout_is_played(values: dict[str, Any]) -> None:
    result = train(configure(FAST | values, base=TrainConfig()))
    assert result.env_steps >= 1000
    assert len(result.final.returns) == 2


def test_an_unfinished_training_cannot_go_on() -> None:
    config = resolve(configure(FAST, base=TrainConfig())).config
    with closing(make_vector_env(config.env)) as envs:
        training = Training(config, envs)
        training.update()
        state = training.state()
    with pytest.raises(ConfigError, match=r"cannot play an unfinished episode again.*gymnasium"):
        train(config, state=state)


def test_an_unknown_environment_is_refused_with_the_way_out() -> None:
    with pytest.raises(ConfigError, match=r"^env\.backend = envpool has no Nope-v3: take env\."):
        require_pooled("Nope-v3")


def test_without_the_extra_it_says_what_to_install(without_envpool: None) -> None:
    with pytest.raises(ConfigError, match=r"needs the extra \[fast\]"):
        resolve(configure({"env.backend": "envpool"}, base=TrainConfig()))
