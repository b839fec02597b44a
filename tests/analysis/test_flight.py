"""Flights looked at step by step: what the engines did, what was expected, how they ended."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from analysis.flight import Episode, best_policy, entropies, expected, fly, is_lander, realised
from analysis.notebooks import actions as action_answers
from analysis.notebooks import pilot as pilot_answers
from analysis.notebooks.pilot import Flown, fly_best
from analysis.notebooks.thrust import MAIN, SIDE, engines, idle, levels_of, thrust, usage
from lander.config import TrainConfig
from lander.dotted import configure
from lander.errors import ConfigError
from lander.evaluation import evaluate
from lander.policy import make_policy
from lander.resolve import resolve
from lander.seeds import FLIGHT_SEED, seed_range
from sweeps.lifecycle.start import start_sweep
from sweeps.publish.policies import TrainedPolicy
from sweeps.schema import BEST_ALIAS
from sweeps.store.store import Store
from sweeps.study.study import find_study
from sweeps.sweep import open_sweep

CONTINUOUS = "LunarLanderContinuous-v3"


def flight_of(*rewards: float, terminated: bool = True, x: float = 0.0) -> Episode:
    """One without pictures."""
    obs = np.zeros((len(rewards) + 1, 8), dtype=np.float32)
    obs[-1, 0] = x
    actions: NDArray[np.generic] = np.zeros(len(rewards), dtype=np.int64)
    return Episode(0, obs, actions, np.array(rewards), terminated)


def pilot(fields: dict[str, Any] | None = None) -> TrainedPolicy:
    """An untrained policy."""
    config = resolve(configure(fields or {}, base=TrainConfig())).config
    return TrainedPolicy(
        make_policy(config, generator=torch.Generator().manual_seed(0)), config, 0, 0
    )


@pytest.mark.parametrize(
    ("flight", "ending"),
    [
        (flight_of(1.0, 100.0), "came to rest"),
        (flight_of(1.0, -100.0), "crashed"),
        (flight_of(1.0, -100.0, x=-1.0), "flew away"),
        (flight_of(1.0, -1.0, terminated=False), "time limit"),
    ],
)
def test_an_ending_is_read_from_the_last_step(flight: Episode, ending: str) -> None:
    assert flight.ending == ending


def test_realised_returns_are_discounted_sums_of_what_followed() -> None:
    flight, half = flight_of(1.0, 2.0, 4.0), pilot({"ppo.gamma": 0.5})
    assert realised(half, flight).tolist() == [1 + 1 + 1, 2 + 2, 4]
    costly = pilot({"ppo.gamma": 1.0, "env.step_cost": 0.5})
    assert realised(costly, flight).tolist() == [5.5, 5.0, 3.5]


def test_after_a_time_limit_the_critic_estimates_what_would_follow() -> None:
    """Without it every hovering flight would say that the critic expects too much."""
    half = pilot({"ppo.gamma": 0.5, "env.reward_scale": 0.1})
    cut = flight_of(1.0, 2.0, 4.0, terminated=False, x=0.3)
    with torch.no_grad():
        end = 10 * float(half.policy.value(torch.from_numpy(cut.obs[-1:])))
    assert end != 0
    assert realised(half, cut) == pytest.approx([3 + end / 8, 4 + end / 4, 4 + end / 2])


def test_what_the_critic_expects_is_in_raw_units() -> None:
    flight = flight_of(1.0, 2.0)
    one, ten = pilot({"env.reward_scale": 1.0}), pilot({"env.reward_scale": 10.0})
    assert np.allclose(expected(one, flight), 10 * expected(ten, flight))
    with torch.no_grad():
        values = one.policy.value(torch.from_numpy(flight.obs[:-1]))
    assert expected(one, flight).tolist() == values.double().tolist()


def test_with_a_running_scale_the_unit_is_the_last_standard_deviation() -> None:
    flight, running = flight_of(1.0, 2.0), pilot({"env.reward_scale": "running"})
    moments = running.policy.reward_moments
    assert moments is not None
    moments.update(torch.tensor([-3.0, 3.0] * 1000))
    with torch.no_grad():
        values = running.policy.value(torch.from_numpy(flight.obs[:-1]))
    assert np.allclose(expected(running, flight), 3 * values.numpy(), rtol=1e-2)


def test_a_flight_is_the_evaluated_episode_step_by_step() -> None:
    flown = pilot()
    flights = fly(flown, 3)
    judged = evaluate(flown.policy, flown.config.env.id, seeds=seed_range(FLIGHT_SEED, 3))
    assert [flight.seed for flight in flights] == list(judged.seeds)
    assert [len(flight.rewards) for flight in flights] == list(judged.lengths)
    # summed in another order
    assert np.allclose([flight.total_reward for flight in flights], judged.returns, atol=1e-9)
    assert all(len(flight.obs) == len(flight.rewards) + 1 for flight in flights)
    ends = {"crashed", "flew away", "came to rest", "time limit"}
    assert {flight.ending for flight in flights} <= ends


def test_an_even_policy_has_the_entropy_of_its_number_of_actions() -> None:
    even = pilot()
    with torch.no_grad():
        even.policy.actor.weight.zero_()
        even.policy.actor.bias.zero_()
    assert np.allclose(entropies(even, flight_of(0.0, 0.0)), np.log(4))


def test_the_main_engine_starts_at_half_and_the_side_engines_past_half() -> None:
    main = thrust(CONTINUOUS, MAIN, [-1.0, 0.0, 0.5, 1.0])
    assert main == pytest.approx([0, 0, 0.75, 1], abs=1e-3)
    side = thrust(CONTINUOUS, SIDE, [-1.0, -0.75, -0.5, 0.0, 0.5, 0.75, 1.0])
    assert side == pytest.approx([1, 0.75, 0, 0, 0, 0.75, 1], abs=1e-3)


def test_thrust_of_actions_is_what_the_environment_gives() -> None:
    levels = [-1.0, -0.3, 0.0, 0.2, 0.6, 1.0]
    pairs = np.array([[level, level] for level in levels], dtype=np.float32)
    fired = engines(pairs)
    assert fired[:, MAIN] == pytest.approx(thrust(CONTINUOUS, MAIN, levels), abs=1e-3)
    assert np.abs(fired[:, SIDE]) == pytest.approx(thrust(CONTINUOUS, SIDE, levels), abs=1e-3)


def test_discrete_actions_are_nothing_left_main_right() -> None:
    assert engines(np.arange(4)).tolist() == [[0, 0], [0, -1], [1, 0], [0, 1]]


def test_levels_that_leave_an_engine_off() -> None:
    levels = levels_of(
        resolve(configure({"env.id": CONTINUOUS, "env.bins": 5}, base=TrainConfig())).config
    )
    assert levels[SIDE].tolist() == [-1, -0.5, 0, 0.5, 1]
    assert idle(levels[MAIN], MAIN).tolist() == [True, True, True, False, False]
    assert idle(levels[SIDE], SIDE).tolist() == [False, True, True, True, False]


def test_usage_counts_pairs_of_levels() -> None:
    levels = np.array([[-1.0, 0, 1], [-1, 0, 1]])
    actions = np.array([[1.0, -1], [1, -1], [0, 1]])
    assert usage(actions, levels).tolist() == [[0, 0, 0], [0, 0, 1], [2, 0, 0]]


def test_the_flight_in_the_middle_and_the_worst() -> None:
    flights = [flight_of(value) for value in (5.0, 1.0, 3.0)]
    flown = Flown(pilot(), flights, flights)
    assert flown.at(0.5).total_reward == 3
    assert flown.at(0).total_reward == 1
    assert flown.at(1).total_reward == 5


def test_shares_of_flights_come_with_wilsons_interval() -> None:
    landed = flight_of(200.0, 100.0)
    crashed = flight_of(0.0, -100.0, x=0.5)
    flown = Flown(pilot(), [landed] * 9 + [crashed], [landed] * 10)
    # 9 of 10 by Wilson: (0.9 + z^2/20 -+ z sqrt(0.009 + z^2/400)) / (1 + z^2/10), z = 1.96
    assert pilot_answers.failures(flown).startswith(
        "90.0% [59.6%, 98.2%] of 10 flights return at least 200. The worst, reset seed 0, crashed:"
    )
    assert pilot_answers.where_it_lands(flown).startswith("90% [60%, 98%] of 10 flights end")


def test_every_flight_is_a_row_beside_the_same_start_with_sampled_actions() -> None:
    landed, crashed = flight_of(1.0, 100.0), flight_of(-100.0)
    table = pilot_answers.flights_table(Flown(pilot(), [landed, crashed], [crashed, crashed]))
    assert table.to_dict("list") == {
        "seed": [0, 0],
        "ending": ["came to rest", "crashed"],
        "return": [101.0, -100.0],
        "steps": [2, 1],
        "sampled_return": [-100.0, -100.0],
        "sampled_ending": ["crashed", "crashed"],
    }
    assert pilot_answers.most_probable(table).startswith("On the same 2 reset seeds the most ")


def test_without_engines_a_sentence_says_so_and_the_tables_are_empty() -> None:
    pole = pilot({"env.id": "CartPole-v1"})
    flights = fly(pole, 2)
    flown = Flown(pole, flights, flights)
    for ask in (pilot_answers.where_it_lands, pilot_answers.on_the_way, pilot_answers.failures):
        assert ask(flown) == "CartPole-v1 has no craft, pad and engines to draw."
    assert pilot_answers.paths_table(flown).empty
    assert set(pilot_answers.flights_table(flown)["ending"]) <= {"", "time limit"}
    assert pilot_answers.steps_table(flown, flights[0])["height"].isna().all()


def test_without_a_critic_nothing_was_expected() -> None:
    alone = pilot(
        {"policy.critic": False, "ppo.advantage": "reward_to_go", "ppo.rollout_episodes": 16}
    )
    flown = Flown(alone, [flight_of(1.0)], [flight_of(1.0)])
    assert pilot_answers.values_table(flown, flown.at(0)).empty
    assert "without a critic" in pilot_answers.foreseen(flown)


def test_the_best_pilot_flies_as_it_is_recorded(mini: Store) -> None:
    sweep = open_sweep(mini, "mini")
    best, version = best_policy(sweep), mini.runs().get_model_version_by_alias("mini", BEST_ALIAS)
    assert str(best.trial) == version.tags["optuna.trial_number"]
    trial, recorded = sweep.read_trials().best, sweep.optuna.user_attrs["sweeps.best_policy"]
    assert trial is not None
    sweep.optuna.set_user_attr("sweeps.best_policy", None)  # as before it is published
    assert best_policy(open_sweep(mini, "mini")).trial == trial.number
    sweep.optuna.set_user_attr("sweeps.best_policy", recorded)
    assert is_lander(best)
    flown = fly_best(sweep, episodes=2)
    assert [flight.seed for flight in flown.flights] == [FLIGHT_SEED, FLIGHT_SEED + 1]
    assert action_answers.bins_searched(sweep) == [3, 5, 7]


def test_before_a_trial_has_finished_there_is_nobody_to_fly(store: Store) -> None:
    sweep = start_sweep(find_study("smoke"), store, trials=1, command=["run"])
    with pytest.raises(ConfigError, match="study smoke has no finished trial yet"):
        best_policy(sweep)
