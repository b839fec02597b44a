"""Advantages against numbers worked out by hand, closed forms and a double sum."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lander.advantages import (
    ADVANTAGES,
    BASELINES,
    episode_steps,
    gae,
    immediate,
    n_step,
    reward_to_go,
    total_return,
)
from lander.config import PPOConfig
from lander.distributions import Categorical
from lander.rollout import Rollout


def rollout(
    rewards: Tensor,
    values: Tensor,
    next_values: Tensor,
    *,
    terminated: Tensor | None = None,
    truncated: Tensor | None = None,
) -> Rollout:
    """Only what estimators read; the rest is empty."""
    never = torch.zeros_like(rewards, dtype=torch.bool)
    return Rollout(
        obs=torch.empty(*rewards.shape, 0),
        actions=torch.empty(*rewards.shape, 0),
        log_probs=torch.zeros_like(rewards),
        pi=Categorical(torch.zeros(rewards.numel(), 1, 2)),
        values=values,
        next_values=next_values,
        rewards=rewards,
        terminated=never if terminated is None else terminated,
        truncated=never if truncated is None else truncated,
    )


def random_rollout(*, ends: bool) -> Rollout:
    """T = 12, N = 3; about a third of the steps end an episode, if asked."""
    generator = torch.Generator().manual_seed(0)

    def normal() -> Tensor:
        return torch.randn(12, 3, generator=generator)

    chance = torch.rand(12, 3, generator=generator)
    return rollout(
        normal(),
        normal(),
        normal(),
        terminated=(chance < 0.2) & ends,
        truncated=(chance > 0.85) & ends,
    )


def test_hand_computed_example_with_a_truncation_and_a_termination() -> None:
    """gamma = lambda = 1/2.

    Copy 0, truncated after t = 1 with V(true successor) = 8:
      t=3: 4 + 6/2 - 2 = 5                      A = 5
      t=2: 3 + 2/2 - 2 = 2                      A = 2 + 5/4 = 3.25
      t=1: 2 + 8/2 - 4 = 2, cut                 A = 2
      t=0: 1 + 4/2 - 2 = 1                      A = 1 + 2/4 = 1.5
    Copy 1, terminated after t = 2, where the 8 must not count:
      t=3: 1 + 4/2 - 1 = 2                      A = 2
      t=2: 5 - 3 = 2, terminal                  A = 2
      t=1: 0 + 3/2 - 1 = 0.5                    A = 0.5 + 2/4 = 1
      t=0: 1 + 1/2 - 2 = -0.5                   A = -0.5 + 1/4 = -0.25
    """
    played = rollout(
        rewards=torch.tensor([[1.0, 1.0], [2.0, 0.0], [3.0, 5.0], [4.0, 1.0]]),
        values=torch.tensor([[2.0, 2.0], [4.0, 1.0], [2.0, 3.0], [2.0, 1.0]]),
        next_values=torch.tensor([[4.0, 1.0], [8.0, 3.0], [2.0, 8.0], [6.0, 4.0]]),
        terminated=torch.tensor([[0, 0], [0, 0], [0, 1], [0, 0]], dtype=torch.bool),
        truncated=torch.tensor([[0, 0], [1, 0], [0, 0], [0, 0]], dtype=torch.bool),
    )
    expected = torch.tensor([[1.5, -0.25], [2.0, 1.0], [3.25, 2.0], [5.0, 2.0]])
    assert torch.equal(gae(played, gamma=0.5, gae_lambda=0.5), expected)


def test_lambda_0_is_the_td_error() -> None:
    played = random_rollout(ends=True)
    successor = torch.where(played.terminated, 0.0, played.next_values)
    td_error = played.rewards + 0.9 * successor - played.values
    torch.testing.assert_close(gae(played, gamma=0.9, gae_lambda=0.0), td_error)


def test_lambda_1_is_the_discounted_return_minus_v() -> None:
    """Needs V(s_{t+1}) to be the next row's V, as it is while an episode goes on."""
    played = random_rollout(ends=False)
    last_value = played.next_values[-1]
    next_values = torch.cat((played.values[1:], last_value.unsqueeze(0)))
    played = rollout(played.rewards, played.values, next_values)
    steps = len(played.rewards)
    for t in range(steps):
        discounted = sum(0.9 ** (k - t) * played.rewards[k] for k in range(t, steps))
        expected = discounted + 0.9 ** (steps - t) * last_value - played.values[t]
        advantages = gae(played, gamma=0.9, gae_lambda=1.0)[t]
        torch.testing.assert_close(advantages, expected, rtol=1e-5, atol=1e-5)


def test_equals_the_sum_of_td_errors_up_to_the_end_of_the_episode() -> None:
    """A_t = sum_l (gamma lambda)^l delta_{t+l}, written out with two loops."""
    played = random_rollout(ends=True)
    assert played.terminated.any()
    assert played.truncated.any()
    expected = torch.zeros_like(played.rewards)
    steps, copies = played.rewards.shape
    for i in range(copies):
        for t in range(steps):
            for k in range(t, steps):
                successor = 0.0 if played.terminated[k, i] else float(played.next_values[k, i])
                delta = played.rewards[k, i] + 0.95 * successor - played.values[k, i]
                expected[t, i] += (0.95 * 0.7) ** (k - t) * delta
                if played.terminated[k, i] or played.truncated[k, i]:
                    break
    advantages = gae(played, gamma=0.95, gae_lambda=0.7)
    torch.testing.assert_close(advantages, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("gae_lambda", [0.0, 0.5, 1.0])
def test_a_time_limit_gives_no_advantage_where_v_is_the_endless_return(gae_lambda: float) -> None:
    """Reward 1 for ever is worth 1 / (1 - gamma) = 4 everywhere, and a limit takes nothing away."""
    fours = torch.full((9, 2), 4.0)
    truncated = torch.zeros(9, 2, dtype=torch.bool)
    truncated[2::3] = True
    played = rollout(torch.ones(9, 2), fours, fours, truncated=truncated)
    assert torch.equal(gae(played, gamma=0.75, gae_lambda=gae_lambda), torch.zeros(9, 2))
    assert torch.equal(n_step(played, gamma=0.75, n=4), torch.zeros(9, 2))


def td_errors(played: Rollout, gamma: float) -> Tensor:
    successor = torch.where(played.terminated, 0.0, played.next_values)
    return played.rewards + gamma * successor - played.values


@pytest.mark.parametrize("n", [1, 2, 3, 5, 12, 40])
def test_n_step_is_the_sum_of_n_td_errors_within_the_episode(n: int) -> None:
    played = random_rollout(ends=True)
    deltas = td_errors(played, 0.9)
    expected = torch.zeros_like(deltas)
    for i in range(3):
        for t in range(12):
            for k in range(t, min(t + n, 12)):
                expected[t, i] += 0.9 ** (k - t) * deltas[k, i]
                if played.terminated[k, i] or played.truncated[k, i]:
                    break
    torch.testing.assert_close(n_step(played, gamma=0.9, n=n), expected, rtol=1e-5, atol=1e-5)


def test_n_step_lies_between_lambda_0_and_lambda_1() -> None:
    played = random_rollout(ends=True)
    one, every = (n_step(played, gamma=0.9, n=n) for n in (1, 12))
    torch.testing.assert_close(one, gae(played, gamma=0.9, gae_lambda=0.0))
    torch.testing.assert_close(every, gae(played, gamma=0.9, gae_lambda=1.0))


def test_gae_is_the_weighted_mean_of_all_n_step_advantages() -> None:
    """(1 - lambda) sum_n lambda^(n-1) A^(n); the last one has all the weight that is left."""
    played = random_rollout(ends=True)
    weights = [0.3 * 0.7 ** (n - 1) for n in range(1, 12)] + [0.7**11]
    mean = sum(weight * n_step(played, gamma=0.9, n=n) for n, weight in enumerate(weights, start=1))
    advantages = gae(played, gamma=0.9, gae_lambda=0.7)
    torch.testing.assert_close(advantages, mean, rtol=1e-5, atol=1e-5)


def test_v_0_and_lambda_below_1_is_a_discount_of_gamma_lambda() -> None:
    """Why lambda without a critic is refused: it would change the discount in silence."""
    column = torch.tensor([[1.0], [2.0], [4.0]])
    zeros = torch.zeros_like(column)
    ended = torch.tensor([[0], [0], [1]], dtype=torch.bool)
    played = rollout(column, zeros, zeros, terminated=ended)
    silent = gae(played, gamma=0.5, gae_lambda=0.5)
    assert torch.equal(silent, reward_to_go(played, gamma=0.25, baseline="none"))


def three_episodes() -> Rollout:
    """Rewards 1 2 4 terminated, 3 5 truncated, 2.5 terminated; V is never looked at."""
    rewards = column(1, 2, 4, 3, 5, 2.5)
    values = torch.full((6, 1), 99.0)
    return rollout(
        rewards,
        values,
        values,
        terminated=column(0, 0, 1, 0, 0, 1).bool(),
        truncated=column(0, 0, 0, 0, 1, 0).bool(),
    )


def column(*numbers: float) -> Tensor:
    return torch.tensor(numbers).unsqueeze(1)


def test_immediate_is_the_reward() -> None:
    assert torch.equal(immediate(three_episodes()), column(1, 2, 4, 3, 5, 2.5))


def test_total_return_is_that_of_the_whole_episode_at_each_of_its_steps() -> None:
    assert torch.equal(total_return(three_episodes()), column(7, 7, 7, 8, 8, 2.5))


@pytest.mark.parametrize(
    ("baseline", "expected"),
    [
        # gamma = 1/2: G = 1 + 1 + 1, 2 + 2, 4; 3 + 2.5, 5; 2.5
        ("none", (3.0, 4.0, 4.0, 5.5, 5.0, 2.5)),
        # mean 24 / 6 = 4
        ("mean", (-1.0, 0.0, 0.0, 1.5, 1.0, -1.5)),
        # per step: (3 + 5.5 + 2.5) / 3 = 11 / 3, (4 + 5) / 2 = 4.5, 4 alone
        ("time", (-2 / 3, -0.5, 0.0, 11 / 6, 0.5, -7 / 6)),
    ],
)
def test_reward_to_go_minus_its_baseline(baseline: str, expected: tuple[float, ...]) -> None:
    assert baseline in BASELINES
    advantages = reward_to_go(three_episodes(), gamma=0.5, baseline=baseline)
    torch.testing.assert_close(advantages, column(*expected))


def test_steps_are_counted_from_the_beginning_of_each_episode() -> None:
    assert episode_steps(three_episodes()).flatten().tolist() == [0, 1, 2, 0, 1, 0]


def test_the_table_hands_each_estimator_the_fields_it_reads() -> None:
    played = random_rollout(ends=True)
    config = PPOConfig(gamma=0.9, gae_lambda=0.7, n_step=3, baseline="time")
    expected = {
        "gae": gae(played, gamma=0.9, gae_lambda=0.7),
        "n_step": n_step(played, gamma=0.9, n=3),
        "reward_to_go": reward_to_go(played, gamma=0.9, baseline="time"),
        "total_return": total_return(played),
        "immediate": immediate(played),
    }
    assert expected.keys() == ADVANTAGES.keys()
    for name, advantages in expected.items():
        assert torch.equal(ADVANTAGES[name](played, config), advantages)
