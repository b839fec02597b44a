"""A confirmation judged: numbers checked by hand, and what may be said because of them."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from analysis.confirm import as_json, as_markdown, winner_metrics
from analysis.judgement import Judgement, judge, table_rows
from lander.errors import ConfigError
from sweeps.confirm import Confirmed

THRESHOLD = 200.0


def candidate(
    number: int,
    *returns: Sequence[float],
    sweep_score: float | None = 250.0,
    failed: int = 0,
) -> Confirmed:
    """One whose trainings flew these episodes."""
    return Confirmed(
        number=number,
        params={},
        sweep_score=sweep_score,
        returns=tuple(map(tuple, returns)),
        trials=tuple(range(len(returns))),
        failed=failed,
    )


def scored(number: int, *scores: float, sweep_score: float | None = 250.0) -> Confirmed:
    """One of one episode per training."""
    return candidate(number, *([score] for score in scores), sweep_score=sweep_score)


def judged(*candidates: Confirmed, waiting: int = 0) -> Judgement:
    return judge(candidates, threshold=THRESHOLD, waiting=waiting)


DEFAULTS = scored(0, 100.0, 110.0, 120.0, 130.0, sweep_score=140.0)
BETTER = scored(7, 200.0, 210.0, 220.0, 230.0, sweep_score=260.0)
ALIKE = scored(3, 101.0, 111.0, 121.0, 131.0, sweep_score=None)


def test_a_row_has_mean_interval_iqm_success_worst_seed_and_gap() -> None:
    trained = candidate(4, [190.0, 210.0], [240.0, 260.0], [100.0, 300.0], sweep_score=255.0)
    row = judged(DEFAULTS, trained).winner
    assert row.candidate.scores == [200, 250, 200]
    # mean 650 / 3, s = 28.868, half width t(0.975, 2) s / sqrt 3 = 4.3027 * 16.667
    assert str(row.mean) == "216.7 [145.0, 288.4]"
    assert row.iqm.value == pytest.approx(650 / 3)  # of three values none is cut off
    assert row.success_rate == 4 / 6
    assert row.worst == 200
    assert row.gap == pytest.approx(255 - 650 / 3)


def test_probability_and_gain_are_against_the_defaults() -> None:
    judgement = judged(ALIKE, DEFAULTS)
    alike, base = judgement.standings
    assert alike.better is not None
    assert alike.gain is not None
    # of 16 pairs: each of 4 beats those of the same place and below, 1 + 2 + 3 + 4
    assert alike.better.value == 10 / 16
    assert alike.gain.value == pytest.approx(1)
    assert base.better is None
    assert base.gain is None


def test_the_best_mean_comes_first_and_of_equal_ones_the_smaller_number() -> None:
    order = judged(DEFAULTS, scored(9, 120.0, 110.0, 130.0, 100.0), BETTER).standings
    assert [row.candidate.number for row in order] == [7, 0, 9]


def test_a_clear_winner_wins() -> None:
    verdict = judged(DEFAULTS, BETTER).verdict
    # Welch: 100 -+ t(0.975, 6) sqrt(2 * 166.67 / 4) = 2.4469 * 9.1287
    assert verdict == (
        "trial 7 wins: 100.0 [77.7, 122.3] above the defaults, better with probability "
        "1.00 [0.58, 1.00]."
    )


def test_a_winner_no_better_than_the_defaults_is_reported_as_such() -> None:
    verdict = judged(DEFAULTS, ALIKE).verdict
    assert verdict.startswith(
        "trial 3 is ahead, but not better than the defaults as far as 4 seeds can tell: 1.0 ["
    )


def test_where_the_defaults_are_best_they_stay() -> None:
    judgement = judged(DEFAULTS, scored(3, 90.0, 100.0))
    assert judgement.winner.name == "defaults"
    assert judgement.verdict == "No trial beats the defaults: keep them."


def test_one_training_each_gives_numbers_without_intervals_and_no_winner() -> None:
    judgement = judged(scored(0, 100.0), scored(5, 200.0))
    assert judgement.verdict.startswith("trial 5 is ahead, but not better")
    table = list(table_rows(judgement))
    assert table[1][:5] == ("trial 5", "1", "200.0", "200.0", "100.0%")
    json.dumps(as_json(judgement), allow_nan=False)
    assert "confirm/mean_low" not in winner_metrics(judgement)


def test_the_table_says_what_was_pruned_and_what_failed() -> None:
    some = candidate(5, [250.0], [260.0], failed=1)
    none = candidate(6, failed=2)
    judgement = judged(DEFAULTS, ALIKE, some, none)
    table = {row[0]: row for row in list(table_rows(judgement))[1:]}
    assert list(table) == ["trial 5", "trial 3", "defaults", "trial 6"]
    assert table["trial 5"][1] == "2 + 1 failed"
    assert table["trial 3"][-2:] == ("pruned", "")
    assert table["defaults"][-3:] == ("", "140.0", "+25.0")
    assert table["trial 6"] == ("trial 6", "0 + 2 failed", *[""] * 7)
    assert as_json(judgement)["failed"] == [{"trial": 6, "failed": 2}]


def test_without_a_solved_return_there_is_no_success_rate() -> None:
    row = judge([DEFAULTS], threshold=None, waiting=0).winner
    assert row.success_rate is None
    assert list(table_rows(judge([DEFAULTS], threshold=None, waiting=0)))[1][4] == ""


def test_before_the_defaults_are_trained_nothing_can_be_said() -> None:
    with pytest.raises(ConfigError, match="no finished training of the defaults yet"):
        judged(BETTER, candidate(0, failed=1), waiting=1)
    with pytest.raises(ConfigError, match="no finished training yet"):
        judged(candidate(7), candidate(0), waiting=2)


def test_the_others_are_judged_though_the_defaults_failed_everywhere() -> None:
    judgement = judged(candidate(0, failed=4), ALIKE, BETTER)
    assert [row.candidate.number for row in judgement.standings] == [7, 3]
    assert judgement.verdict == (
        "The defaults failed under every seed; trial 7 does best, 215.0 [194.5, 235.5]."
    )
    assert all(row.gain is None and row.better is None for row in judgement.standings)
    assert list(table_rows(judgement))[-1][:2] == ("defaults", "0 + 4 failed")
    json.dumps(as_json(judgement), allow_nan=False)
    assert "confirm/gain" not in winner_metrics(judgement)


def test_where_every_training_failed_it_is_said() -> None:
    with pytest.raises(ConfigError, match="every training of the confirmation has failed"):
        judged(candidate(0, failed=2), candidate(7, failed=2))


def test_the_run_shows_the_winners_numbers() -> None:
    assert winner_metrics(judged(DEFAULTS, BETTER)) == pytest.approx(
        {
            "confirm/mean": 215.0,
            "confirm/mean_low": 215 - 20.5426,  # t(0.975, 3) s / 2 = 3.1824 * 6.4550
            "confirm/mean_high": 215 + 20.5426,
            "confirm/iqm": 215.0,
            "confirm/worst_seed": 200.0,
            "confirm/success_rate": 1.0,
            "confirm/p_better": 1.0,
            "confirm/gain": 100.0,
            "confirm/optimism_gap": 45.0,
        },
        abs=1e-3,
    )


def test_the_note_is_table_legend_and_verdict() -> None:
    note = as_markdown(judged(DEFAULTS, BETTER))
    assert note.startswith("|")
    assert "flown deterministically on 1 episodes, reset seeds 4000000 and up" in note
    assert note.endswith(f"**{judged(DEFAULTS, BETTER).verdict}**\n")
