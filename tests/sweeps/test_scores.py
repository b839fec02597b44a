"""What a trial is worth, and which one is best."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial
from scipy.stats import trim_mean

from sweeps.estimates import Observed
from sweeps.schema import RETURNS, SEED_SCORES
from sweeps.scores import (
    SCORES,
    best_of,
    best_so_far,
    expected,
    iqm,
    last_return,
    mean,
    observed,
    promise,
    ranked,
    seed_scores,
)

START = datetime(2030, 1, 1)


def trial(
    number: int,
    x: float,
    value: float | None,
    *,
    state: TrialState = TrialState.COMPLETE,
    end: int | None = None,
    returns: list[list[float]] | None = None,
    scores: list[float] | None = None,
    checkpoints: Sequence[float] = (),
) -> FrozenTrial:
    """Trial with one parameter; it ends `end` minutes after the start, by default as numbered."""
    attributes: dict[str, Any] = {} if returns is None else {RETURNS: returns}
    attributes |= {} if scores is None else {SEED_SCORES: scores}
    frozen = create_trial(
        state=state,
        params={"x": x},
        distributions={"x": FloatDistribution(0, 10)},
        value=value,
        user_attrs=attributes,
        intermediate_values=dict(enumerate(checkpoints, 1)),
    )
    frozen.number = number
    if state.is_finished():
        frozen.datetime_complete = START + timedelta(minutes=number if end is None else end)
    return frozen


@pytest.mark.parametrize(
    ("values", "middle"),
    [
        ([100.0, 1.0, 4.0, 2.0], 3.0),  # 2 and 4
        ([5.0, 90.0, 0.0, 3.0, 50.0, 2.0, 1.0, 6.0], 4.0),  # 2, 3, 5 and 6
        # a quarter of ten is two and a half, so two go: 1, 2, 3, 4, 5 and 9 stay
        ([70.0, 3.0, -50.0, 1.0, 9.0, 80.0, 5.0, -100.0, 2.0, 4.0], 4.0),
        ([1.0, 2.0, 6.0], 3.0),  # nothing to cut
    ],
)
def test_the_interquartile_mean_is_that_of_the_middle_half(
    values: list[float], middle: float
) -> None:
    assert iqm(values) == pytest.approx(middle)
    assert iqm(values) == pytest.approx(trim_mean(values, 0.25))


def test_a_study_file_says_mean_iqm_or_worst_seed() -> None:
    values = [1.0, 0.0, 2.0, 97.0]
    scores = {word: score(values) for word, score in SCORES.items()}
    assert scores == {"mean": 25.0, "iqm": 1.5, "worst_seed": 0.0}
    assert mean(values) == 25.0


def test_a_seeds_score_is_the_mean_over_its_episodes() -> None:
    assert seed_scores(trial(0, 1, 5, returns=[[1.0, 2.0, 6.0], [7.0, 7.0]])) == [3.0, 7.0]
    assert seed_scores(trial(0, 1, 5)) == []


def test_the_score_of_a_training_need_not_be_its_final_return() -> None:
    both = trial(0, 1, 5, returns=[[1.0, 2.0, 6.0], [7.0, 7.0]], scores=[2.0, 8.0])
    assert seed_scores(both) == [2.0, 8.0]


def test_what_is_observed_of_one_training_is_the_spread_of_its_checkpoints() -> None:
    once = trial(0, 1, 5.0, scores=[5.0], checkpoints=[-90.0, 4.0, 10.0])
    assert observed([once]) == Observed(5.0, spread=18.0)  # (10 - 4)^2 / 2
    assert observed([trial(0, 1, 5.0, scores=[5.0], checkpoints=[4.0])]) == Observed(5.0)
    assert observed([trial(0, 1, 5.0, checkpoints=[4.0, 10.0])]) == Observed(5.0)


def test_what_is_observed_is_how_far_scores_lag_behind_final_returns() -> None:
    both = trial(0, 1, 5.0, returns=[[1.0, 2.0, 6.0], [7.0, 7.0]], scores=[2.0, 6.0])
    assert observed([both]) == Observed(5.0, trainings=2, squares=8.0, lag=1.0)


def test_what_is_observed_of_several_trainings_is_their_spread() -> None:
    first = trial(0, 1, 4.0, scores=[3.0, 5.0], checkpoints=[0.0, 1.0, 2.0, 3.0])
    again = trial(1, 1, 5.0, scores=[7.0])
    assert observed([first, again]) == Observed(5.0, trainings=3, squares=8.0)


def test_a_score_that_repetitions_bear_out_is_better_than_a_higher_one() -> None:
    """Trials 6 to 8 repeat one configuration: its 148 is likelier than a single 150."""
    scores = [40.0, 60.0, 80.0, 100.0, 120.0, 150.0]
    trials = [
        trial(n, n + 1, score, scores=[score], checkpoints=[score - 20, score + 20])
        for n, score in enumerate(scores)
    ]
    trials += [trial(n, 9, 148.0, scores=[148.0]) for n in (6, 7, 8)]
    ranks = expected(trials)
    assert [one.trial.number for one in ranks][:2] == [8, 5]
    assert ranks[0].likely.value > ranks[1].likely.value
    assert ranks[0].likely.error < ranks[1].likely.error
    assert best_of(trials) is trials[8]
    assert best_so_far(trials)[-1] == 150.0
    said = f"trial 8, promised 148.0, expect {ranks[0].likely} after 3 trainings"
    assert promise(8, ranks[0].likely) == said


def test_the_last_return_is_the_value_of_a_finished_trial() -> None:
    # over all trials of its parameters, so not the mean of its own seeds
    assert last_return(trial(0, 1, 4.5, returns=[[1.0], [2.0]])) == 4.5


def test_the_last_return_of_a_pruned_trial_is_over_its_finished_seeds() -> None:
    between = trial(0, 1, -300.0, state=TrialState.PRUNED, returns=[[1.0, 5.0], [10.0, -300.0]])
    assert last_return(between) == (3.0 - 145.0) / 2
    in_the_first = trial(0, 1, -120.0, state=TrialState.PRUNED)
    assert last_return(in_the_first) == -120.0


@pytest.mark.parametrize("state", [TrialState.FAIL, TrialState.RUNNING, TrialState.WAITING])
def test_a_trial_without_an_end_has_no_last_return(state: TrialState) -> None:
    assert last_return(trial(0, 1, None, state=state, returns=[[5.0]])) is None


def test_only_finished_trials_are_ranked_the_first_of_equals_first() -> None:
    trials = [
        trial(0, 1, 10),
        trial(1, 2, 30),
        trial(2, 3, 99, state=TrialState.PRUNED),
        trial(3, 4, None, state=TrialState.FAIL),
        trial(4, 5, 30),
        trial(5, 6, None, state=TrialState.RUNNING),
        trial(6, 7, -5),
    ]
    assert [one.number for one in ranked(trials)] == [1, 4, 0, 6]
    assert best_of(reversed(trials)) is trials[1]


def test_of_equal_parameters_the_last_to_finish_stands_for_all() -> None:
    trials = [trial(0, 1, 80, end=9), trial(1, 1, 70), trial(2, 1, 75, end=8), trial(3, 2, 60)]
    # trial 0 took longest, so its value rests on the other two as well
    assert [one.number for one in ranked(trials)] == [0, 3]
    trials[0].datetime_complete = START
    assert [one.number for one in ranked(trials)] == [2, 3]


def test_without_a_finished_trial_there_is_no_best_one() -> None:
    assert best_of([]) is None
    assert best_of([trial(0, 1, 50, state=TrialState.PRUNED)]) is None
