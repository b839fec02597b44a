"""The bake-off: worlds drawn from a landscape, sweeps simulated in them, rules compared."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm

import analysis.bakeoff.bakeoff as bakeoff
import analysis.experiments.documents
from analysis.__main__ import main
from analysis.bakeoff.bakeoff import Outcome, head_of, simulated, summary
from analysis.bakeoff.estimate import Finished, observed, ranked, repeated, resampled
from analysis.bakeoff.irace import IteratedRace
from analysis.bakeoff.process import Floats, fitted, matern
from analysis.bakeoff.racing import RaceAfter, winner
from analysis.bakeoff.rules import Challenge, EveryNth, Halving, ProcessSampler, Thompson
from analysis.bakeoff.searches import REFERENCE, Rule, rules
from analysis.bakeoff.simulate import STATISTICS, Candidate, Problem, Search
from analysis.bakeoff.surrogate import (
    CEILING,
    STUDIES,
    Drawn,
    Landscape,
    Surrogate,
    World,
    fit_of,
    landscape_of,
    predicted_apart,
    snapped,
    unit_cube,
)
from analysis.experiments.landscape import Measured
from analysis.experiments.results import results_path
from lander.errors import ConfigError
from sweeps.estimates import MOST
from sweeps.study.space import defaults
from sweeps.study.study import find_study

STUDY = find_study("lander")
FINAL = STATISTICS["final"]


def made_up(points: int = 40, seeds: int = 4) -> Landscape:
    """A bowl whose best is at 0.6 in every dimension, with more noise further down."""
    rng = np.random.default_rng(5)
    cube = snapped(rng.random((points, 6)), STUDY.space)
    means = 270 - 150 * np.sum((cube - 0.6) ** 2, axis=1)
    noise = np.exp(rng.normal(0, 0.3, (points, seeds, 7)))
    return Landscape(cube, CEILING - (CEILING - means[:, None, None]) * noise)


@pytest.fixture(scope="module")
def surrogate() -> Surrogate:
    return Surrogate(made_up(), STUDY.space)


@pytest.fixture(scope="module")
def problem(surrogate: Surrogate) -> Problem:
    return Problem(surrogate.world(0), STUDY, budget=12)


def drawn(*scores: float) -> list[Drawn]:
    """Trainings that return the same at every checkpoint and at the end."""
    return [Drawn(np.full(5, score), score, score) for score in scores]


def candidate(*scores: float, where: float = 0.5) -> Candidate:
    return Candidate({}, np.full(6, where), drawn(*scores))


@dataclass
class Scripted:
    """A world that returns what it is given, training by training, and then its last value."""

    values: Sequence[float]
    trained: list[float] = field(default_factory=list)

    def train(self, _point: Floats, _rng: np.random.Generator) -> Drawn:
        value = self.values[min(len(self.trained), len(self.values) - 1)]
        self.trained.append(value)
        return drawn(value)[0]


def scripted(*values: float, budget: float) -> tuple[Problem, Scripted]:
    world: Any = Scripted(values)
    return Problem(world, STUDY, budget), world


# processes


def test_the_kernel_is_that_of_matern() -> None:
    origin, both = np.array([[0.0, 0.0]]), np.array([[0.0, 0.0], [0.3, 0.4]])
    # half a width apart, at a length of a half: (1 + 5 ** 0.5 + 5 / 3) * exp(-(5 ** 0.5))
    near = matern(origin, both, np.array([0.5, 0.5]))
    assert near == pytest.approx(np.array([[1.0, 0.5239941]]), abs=1e-7)


def test_a_process_finds_the_length_noise_and_scale_of_a_function() -> None:
    rng = np.random.default_rng(1)
    points = rng.random((80, 2))
    signal = np.sin(5 * points[:, :1]) @ np.array([[1.0, 10.0]])  # the second dimension is idle
    process = fitted(points, signal + rng.normal(0, 0.1, (80, 1)) * np.array([[1.0, 10.0]]))
    assert process.lengths[0] < 1 < 4 < process.lengths[1]
    noise = np.sqrt(process.noise[0] * np.diag(process.covariance))
    assert noise == pytest.approx([0.1, 1.0], rel=0.25)
    inside = 0.2 + 0.6 * rng.random((200, 2))
    error = process.mean(inside) - np.sin(5 * inside[:, :1]) @ np.array([[1.0, 10.0]])
    assert np.sqrt(np.mean(error**2, axis=0)) == pytest.approx([0.03, 0.3], rel=0.5)
    assert process.mean(points + 50) == pytest.approx(np.tile(process.middle, (80, 1)))


def test_no_other_length_or_noise_explains_the_observations_better() -> None:
    rng = np.random.default_rng(6)
    points = rng.random((20, 2))
    values = np.sin(4 * points[:, :1]) + points[:, 1:] + rng.normal(0, 0.2, (20, 1))
    process = fitted(points, values)
    apart = values[:, 0] - values.mean()

    def likelihood(lengths: Floats, noise: float) -> float:
        covariance = matern(points, points, lengths) + noise * np.eye(20)
        scale = apart @ np.linalg.inv(covariance) @ apart / 20
        seen = multivariate_normal.logpdf(apart, cov=scale * covariance)
        return float(seen + norm.logpdf(np.log(lengths), 0, np.log(3)).sum())

    best = likelihood(process.lengths, process.noise[0])
    for factors in ([1.1, 1, 1], [0.9, 1, 1], [1, 1.1, 1], [1, 0.9, 1], [1, 1, 1.1], [1, 1, 0.9]):
        lengths, noise = process.lengths * factors[:2], process.noise[0] * factors[2]
        assert likelihood(lengths, noise) < best


def test_what_is_left_out_is_predicted_by_the_others() -> None:
    rng = np.random.default_rng(2)
    points, values = rng.random((12, 3)), rng.normal(size=(12, 2))
    process = fitted(points, values, np.arange(1.0, 13.0))
    covariance = matern(points, points, process.lengths) + np.diag(process.noise)
    others = np.arange(1, 12)
    inverse = np.linalg.inv(covariance[np.ix_(others, others)])
    left_out, variances = process.left_out()
    by_hand = process.middle + covariance[0, others] @ inverse @ process.values[others]
    assert left_out[0] == pytest.approx(by_hand)
    left = covariance[0, 0] - covariance[0, others] @ inverse @ covariance[others, 0]
    assert variances[0] == pytest.approx(left)


def test_an_observation_of_many_trainings_has_less_noise() -> None:
    rng = np.random.default_rng(3)
    points, values = rng.random((12, 2)), rng.normal(size=(12, 1))
    process = fitted(points, values, np.array([1.0, 4.0] * 6))
    assert process.noise[0] == pytest.approx(4 * process.noise[1])


def test_draws_scatter_around_the_mean_as_far_as_little_is_known() -> None:
    rng = np.random.default_rng(4)
    points = rng.random((15, 2))
    process = fitted(points, np.stack([points[:, 0], 3 * points[:, 0]], axis=1))
    asked = rng.random((5, 2)) * 2
    values = np.stack([process.draw(np.random.default_rng(seed))(asked) for seed in range(400)])
    deviation = np.sqrt(process.share(asked)[:, None] * np.diag(process.covariance))
    assert np.abs(values.mean(axis=0) - process.mean(asked)).max() < 0.2 * deviation.max()
    assert values.std(axis=0)[:, 0] == pytest.approx(deviation[:, 0], rel=0.15)
    correlation = np.corrcoef(values[:, 0, 0], values[:, 0, 1])[0, 1]
    assert correlation > 0.999  # the outputs are multiples of each other


# landscapes and worlds


def measured(point: str, seed: int, **changes: Any) -> Measured:
    config = {
        "ppo.learning_rate": 3e-4,
        "ppo.update_epochs": 20,
        "ppo.clip_range": 0.225,
        "ppo.gae_lambda": 0.999,
        "env.reward_scale": 10**-1.5,
        "env.bins": 7,
    }
    return Measured(
        point, seed, config | changes, (1, 2, 3, 4, 5), 6, 7, 0.5, 1.0, "paper", {"torch": "1.0"}
    )


def test_a_configuration_lies_in_the_cube_as_it_is_searched() -> None:
    cube = unit_cube(measured("0", 1).config, STUDY.space)
    # 20 is the part from 19.5 to 20.5; 1 - 0.999 is the low end; 7 is the third of five choices
    last = np.log(20 / 1.5) / np.log(20.5 / 1.5)
    assert cube == pytest.approx([0, last, 0.5, 0, 0.5, 0.5])


def test_a_landscape_has_the_points_with_all_seeds() -> None:
    rows = [
        measured("0", 1),
        measured("0", 2),
        measured("1", 1, **{"env.bins": 15}),
        measured("1", 2, **{"env.bins": 15}),
        measured("2", 1, **{"env.bins": 3}),
        measured("4", 1, **{"env.bins": 10}),
        measured("4", 2, **{"env.bins": 10}),
        # the same point of another study: one training of the same seed, one of a new one
        measured("3", 2),
        measured("3", 3),
    ]
    landscape = landscape_of(rows, STUDY.space)
    assert landscape.points[:, 5].tolist() == [0.5, 0.9, 0.7]
    assert landscape.numbers.shape == (3, 2, 7)
    assert landscape.numbers[1, 1].tolist() == [1, 2, 3, 4, 5, 6, 7]
    with pytest.raises(ConfigError, match="not measured yet: make experiment NAME=landscape"):
        landscape_of([], STUDY.space)


def test_noise_is_a_multiple_of_what_is_missing() -> None:
    landscape = Landscape(np.zeros((1, 6)), np.array([[[200.0], [100.0]]]))
    # 100 and 200 are missing of 300, 150 on average; two values show half of the variance
    deviation = 1 / 3 * np.sqrt(2)
    assert landscape.noise[0, :, 0] == pytest.approx([1 - deviation, 1 + deviation])


def test_trainings_of_a_world_average_to_what_its_points_are_worth(surrogate: Surrogate) -> None:
    world = surrogate.world(7)
    point = surrogate.landscape.points[3]
    rng = np.random.default_rng(0)
    reports = [world.train(point, rng).report for _ in range(3000)]
    assert np.mean(reports) == pytest.approx(world.worth(point[None])[0], abs=3)
    assert max(reports) <= 290
    perfect = World(surrogate, lambda points: np.full((len(points), 7), 20.0))
    assert perfect.train(point, rng).report == 290


def test_the_best_known_point_may_be_a_measured_one_or_any_other(surrogate: Surrogate) -> None:
    for target in (surrogate.landscape.points[3], surrogate.dense[-1]):

        def peak(points: Floats, target: Floats = target) -> Floats:
            apart = np.sum((points - target) ** 2, axis=1, keepdims=True)
            return np.tile(-5.0 - apart, 7)

        assert World(surrogate, peak).best == pytest.approx(CEILING - np.exp(5))


def test_noise_is_lent_by_close_points_of_like_mean(surrogate: Surrogate) -> None:
    landscape = surrogate.landscape
    levels = surrogate.process.mean(landscape.points)[:, -1]
    best = int(np.argmax(levels))
    lent = surrogate.noise(landscape.points[best], 1e9)
    assert lent.shape == (4 * 4, 7)
    assert any(np.array_equal(lent[:4], landscape.noise[point]) for point in [best])
    alike = set(np.argsort(levels)[-12:].tolist())
    lenders = [i for i in range(40) if any((landscape.noise[i][0] == row).all() for row in lent)]
    assert len(lenders) == 4
    assert set(lenders) <= alike
    low = surrogate.noise(landscape.points[best], -1e9)
    lenders = [i for i in range(40) if any((landscape.noise[i][0] == row).all() for row in low)]
    assert len(lenders) == 4
    assert set(lenders) <= set(np.argsort(levels)[:12].tolist())


def test_worlds_differ_by_seed_and_are_repeatable(surrogate: Surrogate) -> None:
    points = surrogate.landscape.points[:3]
    once, again = surrogate.world(1).worth(points), surrogate.world(1).worth(points)
    assert once.tolist() == again.tolist()
    assert (once != surrogate.world(2).worth(points)).all()


def test_the_fit_is_judged_by_points_that_were_left_out() -> None:
    landscape = made_up(points=24)
    predicted = predicted_apart(landscape)
    every = fit_of(landscape, predicted)
    assert every.points == 24
    assert every.noise < every.error < 60
    # by hand: two means, 210 and 240, each of two values 20 apart; the second is off by 20
    two = Landscape(np.zeros((2, 6)), np.array([[[200.0], [220.0]], [[230.0], [250.0]]]))
    fit = fit_of(two, -np.log(CEILING - np.array([210.0, 220.0])))
    assert fit.error == pytest.approx(np.sqrt(400 / 2))
    assert fit.median == pytest.approx(10)
    assert fit.noise == pytest.approx(10)
    assert fit_of(two, -np.log(CEILING - np.array([190.0, 220.0])), above=200).points == 1


# simulated sweeps


def test_statistics_replace_the_last_checkpoint_by_the_final_evaluation() -> None:
    training = Drawn(np.array([10.0, 20.0, 30.0, 40.0, 50.0]), 80.0, 0.0)
    scores = {name: score(training) for name, score in STATISTICS.items()}
    assert scores == {"final": 80, "last 2": 60, "last 3": 50, "all": 36}


def test_points_of_the_cube_are_configurations(problem: Problem) -> None:
    point = np.array([0.25, 0.0, 1.0, 0.5, 0.75, 0.3])
    params = problem.params(point)
    assert params["ppo.update_epochs"] == 2
    assert params["env.bins"] == 5
    assert params["ppo.learning_rate"] == pytest.approx(3e-4 * (1e-2 / 3e-4) ** 0.25)
    # two epochs are the part from 1.5 to 2.5 of 1.5 to 20.5
    point[1] = np.log(2 / 1.5) / np.log(20.5 / 1.5)
    assert problem.point(params) == pytest.approx(point)


def test_a_pruned_training_costs_what_it_has_flown() -> None:
    # five are finished; each of the others is below their median at checkpoint 2 of 5
    problem, world = scripted(*[200.0] * 5, 100.0, budget=7)
    search = Search("random", pruner="median", pruner_arguments={"n_warmup_steps": 2})
    candidates = search(problem, np.random.default_rng(0))
    assert len(candidates) == 5
    assert len(world.trained) == 10
    assert candidates[0].params == defaults(STUDY.space, STUDY.base)
    unpruned, world = scripted(200.0, budget=7)
    assert len(Search("random")(unpruned, np.random.default_rng(0))) == 7
    late = Search("random", pruner="median", pruner_arguments={"n_warmup_steps": 5})
    problem, world = scripted(*[200.0] * 5, 100.0, budget=7)
    assert len(late(problem, np.random.default_rng(0))) == 7  # what is at its end is not pruned


def test_a_candidate_that_is_trained_again_stays_one() -> None:
    problem, _ = scripted(1.0, 3.0, 5.0, budget=3)
    search = Search("random", replicate=lambda some, _spent, _rng: some[0] if some else None)
    (only,) = search(problem, np.random.default_rng(0))
    assert only.scores(FINAL) == [1, 3, 5]


def test_a_repetition_is_not_pruned() -> None:
    # the best of five is trained again, and returns less than the median at every checkpoint
    problem, world = scripted(*[200.0] * 5, 100.0, budget=7)
    search = Search(
        "random",
        pruner="median",
        pruner_arguments={"n_warmup_steps": 2},
        replicate=lambda some, _spent, _rng: some[0] if len(some) == 5 else None,
    )
    candidates = search(problem, np.random.default_rng(0))
    assert candidates[0].scores(FINAL) == [200, 100, 100]
    assert len(world.trained) == 7


def test_a_patient_pruner_spares_what_does_not_fall() -> None:
    problem, world = scripted(*[200.0] * 5, 100.0, budget=7)
    search = Search("random", pruner="median", pruner_arguments={"n_warmup_steps": 2}, patience=2)
    search(problem, np.random.default_rng(0))
    assert len(world.trained) == 7


def test_start_up_points_come_after_the_base_and_before_the_sampler(problem: Problem) -> None:
    asked: list[int] = []

    def sampler(problem: Problem, candidates: Sequence[Candidate], _rng: object) -> Any:
        asked.append(len(candidates))
        return problem.params(np.full(6, 0.5))

    Search(sampler, startup=5)(problem, np.random.default_rng(0))
    assert asked == list(range(6, 12))


def test_the_process_sampler_asks_where_the_best_is() -> None:
    rng = np.random.default_rng(0)
    points = rng.random((24, 6))
    candidates = [
        Candidate({}, point, drawn(250 - 300 * float(np.sum((point[:2] - 0.3) ** 2))))
        for point in points
    ]
    problem, _ = scripted(0.0, budget=1)
    params = [ProcessSampler("final")(problem, candidates, rng) for _ in range(5)]
    asked = np.mean([problem.point(each)[:2] for each in params], axis=0)
    assert asked == pytest.approx([0.3, 0.3], abs=0.15)
    first = ProcessSampler("final")(problem, [], rng)
    assert set(first) == set(defaults(STUDY.space, STUDY.base))


# what is trained again


def test_every_nth_training_goes_to_the_leader_with_the_fewest() -> None:
    some = [candidate(10.0 * n) for n in range(8)]
    some[7].trainings += drawn(70.0)  # nine trainings in all
    rule, rng = EveryNth(FINAL, n=3, of=2), np.random.default_rng(0)
    assert rule(some, 0.5, rng) is some[6]
    assert rule(some[:7], 0.5, rng) is None  # seven are not enough
    some[0].trainings += drawn(0.0)
    assert rule(some, 0.5, rng) is None  # ten


def test_halving_trains_the_better_half_once_more() -> None:
    rule, rng = Halving(FINAL, 0.5, first=2), np.random.default_rng(0)
    best, second, last = candidate(30.0), candidate(20.0), candidate(10.0)
    everybody = [last, second, best]
    assert rule(everybody, 0.4, rng) is None
    order = []
    while (again := rule(everybody, 0.5, rng)) is not None:
        order.append(again)
        again.trainings += drawn(FINAL(again.trainings[0]))
    assert order == [best, second, best]


def test_a_challenger_is_trained_until_it_is_worse_or_has_as_many() -> None:
    rule, rng = Challenge(FINAL, most=3), np.random.default_rng(0)
    incumbent = candidate(50.0, 40.0)
    assert rule([incumbent, candidate(45.0)], 0, rng) is None  # worse than 50
    better = candidate(60.0)
    assert rule([incumbent, better], 0, rng) is better
    better.trainings += drawn(10.0)  # 35 on average, against 45
    assert rule([incumbent, better], 0, rng) is None
    failed = [candidate(0.0) for _ in range(4)]
    assert rule([incumbent, *failed], 0, rng) is incumbent
    incumbent.trainings += drawn(45.0)
    assert rule([incumbent, *failed], 0, rng) is None  # three are the most


def test_top_two_thompson_trains_leaders_that_are_not_decided() -> None:
    rule, rng = Thompson(FINAL, 0.5), np.random.default_rng(0)
    leaders = [candidate(250.0, 240.0), candidate(245.0, 235.0)]
    others = [candidate(100.0 + n, 90.0 + n) for n in range(8)]
    assert rule(others + leaders, 0.4, rng) is None
    chosen = [rule(others + leaders, 0.6, rng) for _ in range(60)]
    assert sum(each in leaders for each in chosen if each) > 50
    assert all(sum(each is leader for each in chosen) > 20 for leader in leaders)
    leaders[0].trainings += drawn(*[245.0] * (MOST - 2))
    assert leaders[0] not in [rule(others + leaders, 0.6, rng) for _ in range(20)]


def test_iterated_racing_spends_the_budget_and_trains_survivors_most() -> None:
    world = Surrogate(made_up(), STUDY.space).world(0)
    candidates = IteratedRace()(Problem(world, STUDY, 32), np.random.default_rng(0))
    counts = [len(each.trainings) for each in candidates]
    assert 24 < sum(counts) <= 32
    assert max(counts) > 2
    assert len(counts) > 5
    assert candidates[0].params == defaults(STUDY.space, STUDY.base)


def test_a_race_measures_winner_and_base_on_seeds_that_chose_nothing() -> None:
    world = Surrogate(made_up(), STUDY.space).world(0)
    problem = Problem(world, STUDY, 12)
    search = RaceAfter(Search("random"), FINAL, observed, top=3, first=3)
    best, base = search(problem, np.random.default_rng(0))
    assert base.params == defaults(STUDY.space, STUDY.base) != best.params
    assert len(best.trainings) == len(base.trainings) >= 10
    assert winner(Finished([best, base], FINAL)).argmax() == 0


# what is recommended


def test_ties_go_to_the_higher_mean() -> None:
    sweep = Finished([candidate(3.0), candidate(1.0), candidate(2.0)], FINAL)
    assert ranked(sweep, np.array([5.0, 5.0, 6.0])) == [2, 0, 1]


def test_peers_recommend_among_what_was_trained_again() -> None:
    sweep = Finished([candidate(9.0), candidate(5.0, 5.0), candidate(4.0, 4.0, 4.0)], FINAL)
    assert observed(sweep).tolist() == [9, 5, 4]
    assert resampled(sweep).tolist() == [-np.inf, 5, 4]
    assert repeated(sweep).tolist() == [-np.inf, -np.inf, 4]
    assert resampled(Finished([candidate(9.0)], FINAL)).tolist() == [9]


def test_an_estimate_shrinks_single_trainings_more_than_repeated_ones() -> None:
    some = [candidate(100.0 + 10 * n, 100.0 + 10 * n + 30) for n in range(10)]
    lucky = candidate(260.0)
    values, variances = Finished([*some, lucky], FINAL).relative
    seen = -np.log(CEILING - np.array([*[115.0 + 10 * n for n in range(10)], 260.0]))
    # every estimate is pulled the same way: by noise / (noise + trainings x variance)
    shares = (seen - values) / (seen - values.mean())
    assert shares[-1] > shares[0] > 0
    assert variances[-1] > variances[0]


def test_a_model_is_asked_only_if_it_predicts_what_was_left_out() -> None:
    rng = np.random.default_rng(0)
    slope = [candidate(200.0 * x, where=x) for x in np.linspace(0, 1, 20)]
    noise = [candidate(float(rng.normal(100, 50)), where=x) for x in np.linspace(0, 1, 20)]
    assert Finished(slope, FINAL).model_fits
    assert not Finished(noise, FINAL).model_fits
    assert not Finished(slope[:5], FINAL).model_fits


def test_a_score_of_several_checkpoints_lags_behind_the_last_policy() -> None:
    training = Drawn(np.array([0.0, 0.0, 100.0, 150.0, 0.0]), 200.0, 0.0)
    some = [Candidate({}, np.zeros(6), [training]), candidate(-50.0)]
    assert Finished(some, STATISTICS["last 3"]).lag == 50


# the command


def test_a_sweep_is_repeatable_and_every_peer_runs(
    surrogate: Surrogate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bakeoff, "BUDGET", 12)
    world = surrogate.world(0)
    known = rules()
    assert next(iter(known)) == REFERENCE
    for name in (REFERENCE, "SMAC3", "CARBS", "irace", "combined: all"):
        once = simulated(known[name], world, STUDY, 3)
        assert once == simulated(known[name], world, STUDY, 3)
        assert all(outcome.regret >= 0 for outcome in once.values())
    assert once != simulated(known["combined: all"], world, STUDY, 4)


def test_means_have_students_interval_and_every_worth_is_kept() -> None:
    row = summary([Outcome(worth, 10 - worth, 1.0, 2) for worth in (1.4, 2.4, 3.4)])
    assert row["worth"] == [2.4, -0.08, 4.88]  # 4.3027 / sqrt(3) around it
    assert row["regret"] == [7.6, 5.12, 10.08]
    assert row["optimism"] == [1.0, 1.0, 1.0]
    assert row["tenth"][0] == 1.6
    assert (row["trainings"], row["worths"]) == (2.0, [1, 2, 3])


@pytest.fixture
def two_rules(
    surrogate: Surrogate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Rule]:
    """Two rules and a made-up landscape; sweeps are simulated in this process."""
    two = {
        "first": Rule("peers", Search("random"), FINAL, {"its own": observed}),
        "second": Rule("score", Search("random"), FINAL, {"best observed": observed}, every=2),
    }
    landscape = made_up(points=16)
    monkeypatch.setattr(bakeoff, "rules", lambda: two)
    monkeypatch.setattr(bakeoff, "prepared", lambda: (surrogate, STUDY))
    monkeypatch.setattr(bakeoff, "read_landscape", lambda _space: landscape)
    monkeypatch.setattr(bakeoff, "BUDGET", 3)
    monkeypatch.setattr(bakeoff, "PATH", tmp_path / "results" / "bakeoff.json")
    monkeypatch.setattr(bakeoff, "ProcessPoolExecutor", lambda *_, **__: ThreadPoolExecutor(1))
    monkeypatch.setattr(analysis.experiments.documents, "HERE", tmp_path)
    (tmp_path / "results").mkdir()
    return two


def test_what_is_done_is_kept_until_the_landscape_changes(
    two_rules: dict[str, Rule], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["bakeoff", "first", "--sweeps", "4", "--workers", "1"]) == 0
    assert "1 of 1 rules" in capsys.readouterr().out
    (row,) = json.loads(bakeoff.PATH.read_text())["rows"]
    assert (row["rule"], row["recommend"], row["sweeps"]) == ("first", "its own", 4)
    assert main(["bakeoff", "--sweeps", "4"]) == 0
    assert "first" not in capsys.readouterr().out
    rows = json.loads(bakeoff.PATH.read_text())["rows"]
    assert [(row["rule"], row["sweeps"]) for row in rows] == [("first", 4), ("second", 2)]
    assert rows[0] == row | {"seconds": rows[0]["seconds"]}
    assert main(["bakeoff", "first", "--sweeps", "3"]) == 0
    rows = json.loads(bakeoff.PATH.read_text())["rows"]
    assert [(row["rule"], row["sweeps"]) for row in rows] == [("first", 3), ("second", 2)]
    monkeypatch.setattr(bakeoff, "read_landscape", lambda _space: made_up(points=15))
    assert main(["bakeoff", "second", "--sweeps", "4"]) == 0
    results = json.loads(bakeoff.PATH.read_text())
    assert [row["rule"] for row in results["rows"]] == ["second"]
    assert results["landscape"]["points"] == 15


def test_an_unknown_rule_is_one_line(
    two_rules: dict[str, Rule], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bakeoff", "frist"]) == 2
    assert capsys.readouterr().err == 'analysis: unknown rule "frist": did you mean first?\n'


def test_the_head_says_what_the_worlds_are_drawn_from() -> None:
    head = head_of(made_up(points=16))
    assert (head["points"], head["seeds"], head["all"]["points"]) == (16, 4, 16)
    assert head["digest"] != head_of(made_up(points=16, seeds=3))["digest"]


def test_the_table_compares_rules_in_the_same_worlds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(analysis.experiments.documents, "HERE", tmp_path)
    (tmp_path / "results").mkdir()
    numbers = {name: [1.0, 0.5, 1.5] for name in ("worth", "tenth", "regret", "optimism")}
    rows = [
        {"rule": name, "group": group, "recommend": way, "sweeps": 3, "worths": worths} | numbers
        for name, group, way, worths in [
            (REFERENCE, "peers", "its own", [10, 20, 30]),
            (REFERENCE, "peers", "model", [10, 20, 33]),
            ("score: all", "score", "shrunken", [13, 22, 31]),
            ("score: all", "score", "model", [0, 0, 0]),
        ]
    ]
    (tmp_path / "results" / "bakeoff.json").write_text(json.dumps({"rows": rows}))
    document = tmp_path / "page.md"
    document.write_text("# Page\n<!-- bakeoff: score -->\n<!-- end -->\n")
    assert main(["tables", str(document)]) == 0
    line = document.read_text().splitlines()[5]
    # 3, 2 and 1 more than the reference
    assert line == (
        "| all | shrunken | 1.0 [0.5, 1.5] | 1.0 [0.5, 1.5] | 1.0 [0.5, 1.5] | 1.0 [0.5, 1.5] "
        "| +2.0 [-0.5, +4.5] | 3 |"
    )
    assert len(document.read_text().splitlines()) == 8
    document.write_text("<!-- bakeoff: recommend -->\n<!-- end -->\n")
    assert main(["tables", str(document)]) == 0
    (line,) = [line for line in document.read_text().splitlines() if "Optuna" in line]
    assert line.startswith("| Optuna, rl-zoo | model | ")
    fits = {
        "all": {"error": 41.0, "median": 30.0, "noise": 9.0},
        "good": {"error": 12.0, "median": 8.0, "noise": 7.0},
    }
    fits["good"]["points"] = 33
    head = {"points": 96, "seeds": 6, **fits}
    (tmp_path / "results" / "bakeoff.json").write_text(json.dumps({"landscape": head, "rows": []}))
    document.write_text("<!-- bakeoff: landscape -->\n<!-- end -->\n")
    assert main(["tables", str(document)]) == 0
    assert "of the 33 that are predicted above 200: 8.0, 12.0 and 7.0." in document.read_text()
    document.write_text("<!-- bakeoff: none -->\n<!-- end -->\n")
    assert main(["tables", str(document)]) == 2


def test_the_results_behind_the_landscape_are_in_the_repository() -> None:
    assert all(results_path(name).exists() for name in STUDIES)
