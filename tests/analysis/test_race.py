"""Who is eliminated from a race, how often the best one is, and what a comparison can prove."""

from __future__ import annotations

from itertools import count
from math import inf

import numpy as np
import pytest
from scipy import stats

from analysis.race import (
    FAILED,
    LEVEL,
    LOSS,
    POWER,
    Plan,
    course_of,
    level_of,
    p_worse,
    report_seeds,
    run_race,
    seeds_needed,
    smallest_chance,
    smallest_difference,
)

PLAN = Plan(trainings=40, choosing=20, first=3, looks=3)


def test_p_is_that_of_scipys_welch_test() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        one, other = rng.normal(0, 1, 4).tolist(), rng.normal(1, 3, 7).tolist()
        expected = stats.ttest_ind(one, other, equal_var=False, alternative="less").pvalue
        assert p_worse(one, other) == pytest.approx(expected, rel=1e-9)


def test_values_that_do_not_vary_are_equal_or_plainly_worse() -> None:
    assert p_worse([1.0, 1.0], [1.0, 1.0]) == 1.0
    assert p_worse([1.0, 1.0], [2.0, 2.0]) == 0.0


def test_every_candidate_begins_under_the_first_choice_seeds() -> None:
    course = course_of({0: [], 3: [], 7: []}, PLAN)
    assert course.wanted == {0: 3, 3: 3, 7: 3}
    assert not course.over
    assert course_of({0: [1.0] * 3, 3: [], 7: [5.0] * 3}, PLAN).wanted == course.wanted


def test_a_race_without_a_choice_is_over_at_once() -> None:
    course = course_of({3: []}, PLAN)
    assert (course.over, course.used, course.order) == (True, 0, [3])


def test_who_is_plainly_worse_is_out_after_the_first_look() -> None:
    scores = {0: [250.0, 251.0, 252.0], 3: [10.0, 11.0, 12.0], 7: [249.0, 252.0, 253.0]}
    course = course_of({**scores, 9: [248.0, 249.0, 256.0]}, PLAN)
    assert list(course.out) == [3]
    assert (course.out[3].seeds, course.out[3].leader) == (3, 7)
    assert course.out[3].p < course.out[3].limit == LOSS / (3 * 3)
    assert course.wanted == {0: 4, 3: 3, 7: 4, 9: 4}


def test_a_race_is_over_when_one_is_in() -> None:
    scores = {1: [20.0, 21.0, 22.0], 3: [10.0, 11.0, 12.0], 7: [240.0, 252.0, 253.0]}
    course = course_of(scores, PLAN)
    assert course.over
    assert course.order == [7, 1, 3]
    assert course.used == 9


def test_a_race_is_over_when_its_trainings_for_choosing_are_used() -> None:
    rng = np.random.default_rng(1)
    scores = {one: rng.normal(0, 1, 9).tolist() for one in range(6)}
    course = course_of(scores, PLAN)
    assert (course.over, course.seeds, course.used) == (True, 3, 18)
    assert report_seeds(PLAN, used=course.used) == 11
    course = course_of({one: scores[one] for one in range(5)}, PLAN)
    assert (course.over, course.seeds, course.used) == (True, 4, 20)
    assert report_seeds(PLAN, used=course.used) == 10
    course = course_of({one: scores[one] for one in range(3)}, PLAN)
    assert (course.over, course.seeds, course.used) == (True, 6, 18)


def test_who_was_eliminated_late_ranks_above_who_was_early() -> None:
    plan = Plan(trainings=60, choosing=30)
    scores = {
        0: [250.0, 251.0, 252.0, 250.0, 250.0],
        1: [90.0, 91.0, 92.0],
        2: [170.0, 180.0, 230.0, 181.0, 160.0],
        3: [251.0, 250.0, 252.0, 253.0, 251.0],
        4: [249.0, 250.0, 249.0, 251.0, 251.0],
    }
    course = course_of(scores, plan)
    assert {one: why.seeds for one, why in course.out.items()} == {1: 3, 2: 5}
    assert course.wanted == {0: 6, 1: 3, 2: 5, 3: 6, 4: 6}
    scores |= {one: [*scores[one], 250.0] for one in (0, 3, 4)}
    assert course_of(scores, plan).order == [3, 0, 4, 2, 1]


def test_scores_of_the_sweep_choose_the_winner_but_eliminate_nobody() -> None:
    scores = {0: [250.0, 251.0, 252.0] * 2, 3: [249.0, 250.0, 251.0] * 2}
    before = {3: [1000.0], 0: [10.0]}
    assert course_of(scores, PLAN).order == [0, 3]
    course = course_of(scores, PLAN, before=before)
    assert (course.order, dict(course.out)) == ([3, 0], {})
    # who is out stays behind, whatever the sweep says
    scores[3] = [100.0, 101.0, 102.0]
    assert course_of(scores, PLAN, before=before).order == [0, 3]


def test_a_candidate_whose_training_failed_is_out() -> None:
    scores = {0: [250.0, FAILED, 252.0], 3: [100.0, 251.0, 252.0], 7: [249.0, 252.0, 253.0]}
    course = course_of(scores, PLAN)
    assert list(course.out) == [0]
    assert course.out[0].p == 0.0
    failed = course_of({0: [1.0] * 3, 3: [FAILED] * 3, 7: [FAILED] * 3}, PLAN)
    assert failed.order[0] == 0
    assert sorted(failed.out) == [3, 7]
    assert sorted(course_of({0: [FAILED] * 3, 3: [FAILED] * 3}, PLAN).out) == [0, 3]


@pytest.mark.parametrize("candidates", [3, 6])
def test_the_best_of_equals_is_rarely_eliminated(candidates: int) -> None:
    """Candidate 1 is no worse than anybody; it is out in about LOSS of 400 races at most."""
    rng, lost = np.random.default_rng(candidates), 0
    for _ in range(400):
        course = run_race(lambda *_: rng.normal(), range(candidates), PLAN)
        lost += 1 in course.out
    assert lost <= stats.binom.ppf(0.999, 400, LOSS)


def test_a_race_trains_each_candidate_once_under_each_seed() -> None:
    asked: list[tuple[int, int]] = []

    def train(one: int, seed: int) -> float:
        asked.append((one, seed))
        return 10.0 * seed + one

    course = run_race(train, (0, 3, 7), PLAN)
    assert course.order == [7, 3, 0]
    assert sorted(asked) == [(one, seed) for one in (0, 3, 7) for seed in range(6)]


def test_all_looks_at_a_verdict_share_one_level() -> None:
    assert [level_of(look) for look in range(3)] == pytest.approx([0.04, 0.008, 0.0016])
    assert sum(level_of(look) for look in range(50)) == pytest.approx(LEVEL)


@pytest.mark.parametrize("level", [0.05, 0.008])
def test_the_smallest_difference_is_detected_as_often_as_promised(level: float) -> None:
    rng, seeds, deviation = np.random.default_rng(1), 14, 30.0
    difference = smallest_difference(deviation, seeds, level=level)
    one = rng.normal(0, deviation, (2000, seeds))
    other = rng.normal(difference, deviation, (2000, seeds))
    test = stats.mannwhitneyu(other, one, axis=1, method="asymptotic", use_continuity=False)
    assert POWER - 0.02 <= np.mean(test.pvalue < level) <= POWER + 0.04
    assert smallest_difference(deviation, 1, level=level) == inf


def test_the_smallest_chance_solves_its_equation() -> None:
    # by hand, n = 10: error(1/2) = sqrt(21 / 1200), error(t) of Hanley and McNeil
    chance = smallest_chance(10, level=0.04)
    spread = 1 + 9 * ((1 - chance) / (2 - chance) + chance / (1 + chance))
    error = np.sqrt(chance * (1 - chance) * spread / 100)
    z = stats.norm.ppf([0.98, POWER])
    assert chance == pytest.approx(0.8477, abs=1e-4)
    assert smallest_difference(30.0, 10, level=0.04) == pytest.approx(43.56, abs=0.01)
    assert chance - 0.5 == pytest.approx(z[0] * np.sqrt(21 / 1200) + z[1] * error)
    assert smallest_chance(1, level=0.04) == smallest_chance(2, level=0.04) == 1.0
    assert smallest_difference(30.0, 2, level=0.04) == inf


def test_seeds_needed_are_the_first_that_suffice() -> None:
    seeds = seeds_needed(0.7, level=0.04)
    expected = next(n for n in count(2) if smallest_chance(n, level=0.04) <= 0.7)
    assert seeds == expected == 34
    assert seeds_needed(0.501, level=0.04, most=100) is None
