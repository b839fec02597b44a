"""One config, one result to the bit; every knob turns something; and it learns."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import lander.trainer
from lander import (
    ActorCritic,
    Divergence,
    EnvConfig,
    Evaluation,
    PolicyConfig,
    PPOConfig,
    Progress,
    TrainConfig,
    TrainResult,
    train,
)
from lander.fields import configure, flatten
from lander.metrics import CURVES, FINALS

SMALL = {
    "env.num_envs": 2,
    "ppo.rollout_steps": 32,
    "ppo.minibatch_size": 32,
    "policy.hidden_sizes": (16,),
    "total_steps": 128,
    "checkpoints": 1,
    "eval_episodes": 1,
    "final_episodes": 1,
}
# the defaults of the programs this one grew from, on an environment of 5 us a step
KNOBS = SMALL | {
    "env.id": "Pendulum-v1",
    "env.bins": 5,
    "policy.trunk": "shared",
    "ppo.advantage_norm": "none",
}


def run(values: dict[str, Any]) -> TrainResult:
    return train(configure(values, base=TrainConfig()))


def same_weights(left: ActorCritic, right: ActorCritic) -> bool:
    a, b = left.state_dict(), right.state_dict()
    return a.keys() == b.keys() and all(
        a[name].shape == b[name].shape and torch.equal(a[name], b[name]) for name in a
    )


def same_evaluation(left: Evaluation, right: Evaluation) -> bool:
    return (
        (left.seeds, left.returns, left.lengths) == (right.seeds, right.returns, right.lengths)
    ) and all(np.array_equal(a, b) for a, b in zip(left.actions, right.actions, strict=True))


@pytest.fixture(scope="module")
def knobs() -> TrainResult:
    return run(KNOBS)


@pytest.mark.parametrize(
    "extra",
    [
        {"env.id": "LunarLander-v3"},
        {"env.id": "LunarLanderContinuous-v3"},
        {"env.id": "LunarLanderContinuous-v3", "env.bins": 3},
    ],
)
def test_equal_configs_give_equal_results_to_the_bit(extra: dict[str, Any]) -> None:
    values = SMALL | extra | {"checkpoints": 2}
    first, second = run(values), run(values)
    assert first.config == second.config
    assert same_weights(first.policy, second.policy)
    assert same_weights(first.best_policy, second.best_policy)
    assert same_evaluation(first.final, second.final)
    assert same_evaluation(first.final_sampled, second.final_sampled)
    assert len(first.checkpoints) == 2
    for one, other in zip(first.checkpoints, second.checkpoints, strict=True):
        assert same_evaluation(one, other)


def test_the_resolved_config_trains_the_same_weights(knobs: TrainResult) -> None:
    assert knobs.config.policy.head == "categorical"
    assert same_weights(train(knobs.config).policy, knobs.policy)


def test_another_seed_gives_other_weights(knobs: TrainResult) -> None:
    assert not same_weights(run(KNOBS | {"seed": 1}).policy, knobs.policy)


@pytest.mark.parametrize(
    ("field", "other"), [("checkpoints", 3), ("eval_episodes", 3), ("final_episodes", 4)]
)
def test_evaluating_more_changes_nothing_in_training(field: str, other: int) -> None:
    values = SMALL | {"env.id": "CartPole-v1", "total_steps": 192}
    assert same_weights(run(values).policy, run(values | {field: other}).policy)


def test_global_random_states_are_left_alone() -> None:
    def states() -> tuple[object, ...]:
        numpy_state = np.random.mtrand._rand.get_state(legacy=False)
        return torch.get_rng_state().tolist(), repr(numpy_state), random.getstate()

    before = states()
    run(KNOBS)
    assert states() == before


@pytest.mark.parametrize(
    ("field", "other"),
    [
        # the six that are swept
        ("ppo.learning_rate", 1e-3),
        ("ppo.update_epochs", 7),
        ("ppo.clip_range", 0.05),
        ("ppo.gae_lambda", 0.9),
        ("env.reward_scale", 0.05),
        ("env.bins", 7),
        # the others
        ("env.num_envs", 4),
        ("policy.hidden_sizes", (16, 16)),
        ("policy.trunk", "separate"),
        ("policy.init", "torch"),
        ("policy.activation", "tanh"),
        ("ppo.rollout_steps", 16),
        ("ppo.advantage_norm", "batch"),
        ("ppo.advantage_norm", "minibatch"),
        ("ppo.anneal", False),
        ("ppo.entropy_coef", 0.01),
        ("ppo.value_coef", 1.0),
        ("ppo.max_grad_norm", 0.1),
        ("ppo.gamma", 0.9),
        ("ppo.minibatch_size", 16),
        ("total_steps", 192),
    ],
)
def test_every_field_changes_the_weights(field: str, other: object, knobs: TrainResult) -> None:
    assert flatten(knobs.config)[field] != other
    assert not same_weights(run(KNOBS | {field: other}).policy, knobs.policy)


def test_batch_and_minibatch_normalisation_differ() -> None:
    batch, minibatch = (
        run(KNOBS | {"ppo.advantage_norm": kind}).policy for kind in ("batch", "minibatch")
    )
    assert not same_weights(batch, minibatch)


def test_init_std_changes_the_weights_of_a_gaussian() -> None:
    values = KNOBS | {"env.bins": None}
    assert not same_weights(run(values).policy, run(values | {"policy.init_std": 0.5}).policy)


def test_training_moves_every_weight(knobs: TrainResult) -> None:
    """Each tensor, so none is left out of the optimizer."""
    still = run(KNOBS | {"ppo.learning_rate": 1e-30}).policy.state_dict()
    moved = {
        name: not torch.equal(tensor, still[name])
        for name, tensor in knobs.policy.state_dict().items()
    }
    levels = moved.pop("head.levels")
    assert not levels
    assert len(moved) == 8  # actor and critic trunk are one, under two names
    assert all(moved.values()), moved


def test_orthogonal_init_has_gains_sqrt_2_and_a_hundredth_and_1() -> None:
    policy = run(
        SMALL
        | {"env.id": "LunarLander-v3", "ppo.learning_rate": 1e-30, "policy.hidden_sizes": (32, 16)}
    ).policy
    weights = policy.state_dict()
    gains = {
        "actor_trunk.0.weight": 2**0.5,
        "critic_trunk.2.weight": 2**0.5,
        "actor.weight": 0.01,
        "critic.weight": 1.0,
    }
    for name, gain in gains.items():
        singular = torch.linalg.svdvals(weights[name])
        torch.testing.assert_close(singular, torch.full_like(singular, gain), rtol=1e-4, atol=0)


def test_progress_names_steps_checkpoints_and_curves() -> None:
    seen: list[Progress] = []
    config = configure(
        SMALL | {"env.id": "CartPole-v1", "total_steps": 640 + 63, "checkpoints": 4},
        base=TrainConfig(),
    )
    result = train(config, on_update=seen.append)
    assert [progress.env_steps for progress in seen] == [64 * k for k in range(1, 11)]
    evaluated = [k for k, progress in enumerate(seen, 1) if progress.evaluation is not None]
    assert evaluated == [3, 5, 8, 10]
    assert [progress.checkpoint for progress in seen] == [0, 0, 1, 1, 2, 2, 2, 3, 3, 4]
    for progress in seen:
        assert progress.metrics.keys() <= CURVES.keys()
        assert ("eval/return_mean" in progress.metrics) == (progress.evaluation is not None)
    assert set().union(*(progress.metrics for progress in seen)) == CURVES.keys()
    assert result.checkpoints == tuple(
        progress.evaluation for progress in seen if progress.evaluation is not None
    )
    assert result.metrics.keys() == FINALS.keys()
    assert result.metrics["final/return_mean"] == result.final.return_mean


def test_without_a_solved_return_there_is_no_success_rate(knobs: TrainResult) -> None:
    assert knobs.metrics.keys() == FINALS.keys() - {"final/success_rate"}


def test_returns_are_recorded_unscaled() -> None:
    """At a learning rate of nothing the flights are the same, whatever the scale."""

    def curve(scale: float) -> list[float | None]:
        seen: list[Progress] = []
        values = SMALL | {
            "env.id": "CartPole-v1",
            "env.reward_scale": scale,
            "ppo.learning_rate": 1e-30,
        }
        train(configure(values, base=TrainConfig()), on_update=seen.append)
        return [progress.metrics.get("train/return_mean") for progress in seen]

    assert curve(1e-3) == curve(10.0)
    assert all(score is not None and score >= 8 for score in curve(1e-3))


def test_what_on_update_raises_reaches_the_caller_unchanged() -> None:
    class Stop(Exception):
        pass

    stop = Stop("enough")
    calls: list[int] = []

    def on_update(progress: Progress) -> None:
        calls.append(progress.env_steps)
        raise stop

    with pytest.raises(Stop) as caught:
        train(configure(KNOBS, base=TrainConfig()), on_update=on_update)
    assert caught.value is stop
    assert calls == [64]


def test_divergence_names_the_update() -> None:
    with pytest.raises(Divergence, match=r"\Aupdate 1: \S[^\n]+\Z"):
        run(KNOBS | {"ppo.learning_rate": 1e38, "ppo.max_grad_norm": 1e30})


@pytest.mark.parametrize(
    ("scores", "best"),
    [
        ((1.0, 2.0, 3.0), 2),
        ((3.0, 2.0, 1.0), 0),
        ((1.0, 3.0, 2.0), 1),
        ((2.0, 2.0, 2.0), 0),
        ((1.0, 5.0, 5.0), 1),
        ((-300.0, -200.0, -250.0), 1),
    ],
)
def test_the_first_of_the_best_checkpoints_is_kept(
    scores: tuple[float, ...], best: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights: list[dict[str, Tensor]] = []

    def scripted(policy: ActorCritic, *_: object, seeds: Sequence[int], **__: object) -> Evaluation:
        weights.append({name: tensor.clone() for name, tensor in policy.state_dict().items()})
        score = scores[min(len(weights), len(scores)) - 1]
        return Evaluation(tuple(seeds), (score,), (1,), (np.zeros(1, np.int64),))

    monkeypatch.setattr(lander.trainer, "evaluate", scripted)
    result = run(SMALL | {"env.id": "CartPole-v1", "total_steps": 192, "checkpoints": 3})
    kept, last = result.best_policy.state_dict(), result.policy.state_dict()
    for k in range(3):
        equal = all(torch.equal(kept[name], weights[k][name]) for name in kept)
        assert equal == (k == best)
    assert all(torch.equal(last[name], weights[2][name]) for name in last)


@pytest.mark.parametrize(
    "extra",
    [
        {"env.id": "CartPole-v1"},
        {"env.id": "Pendulum-v1"},
        {"env.id": "LunarLander-v3"},
        {"env.id": "LunarLanderContinuous-v3"},
        {"env.id": "LunarLanderContinuous-v3", "env.bins": 11},
        {"env.id": "BipedalWalker-v3"},
    ],
)
def test_two_updates_run_everywhere(extra: dict[str, Any]) -> None:
    result = run(SMALL | extra)
    assert result.config.num_updates == 2
    assert np.isfinite(result.final.return_mean)


def test_it_learns_to_balance_a_pole() -> None:
    """Random actions last about 22 of 500 steps; 195 was called solved for a limit of 200."""
    config = TrainConfig(
        env=EnvConfig(id="CartPole-v1", num_envs=8, reward_scale=0.1),
        policy=PolicyConfig(hidden_sizes=(32, 32)),
        ppo=PPOConfig(
            rollout_steps=64,
            minibatch_size=128,
            update_epochs=8,
            learning_rate=5e-3,
            gamma=0.98,
            gae_lambda=0.95,
        ),
        total_steps=25_600,
        checkpoints=1,
        eval_episodes=1,
    )
    result = train(config)
    assert result.final.return_mean > 195
    assert result.final_sampled.return_mean > 150
