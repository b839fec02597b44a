"""A confirmation judged: numbers checked by hand, and what may be said because of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np
import pytest

from analysis.confirm.figure import draw_confirmation, lines_of
from analysis.confirm.judgement import Judgement, judge, wanted_trainings
from analysis.confirm.record import as_json, as_markdown, shown_metrics
from analysis.confirm.words import elimination_line, prediction, tables, verdict
from analysis.race import LOSS, Plan
from lander.config import TrainConfig
from sweeps.charts.style import new_axes
from sweeps.confirm import Confirmed, Race, Training
from sweeps.estimates import Expected
from sweeps.study.study import TUNED

THRESHOLD = 200.0
PLAN = Plan(trainings=16, choosing=6)
"""Of two candidates: six trainings on choice seeds, five report seeds each."""
LOW = [100.0, 110.0, 120.0]
HIGH = [200.0, 210.0, 220.0]


def trained(scores: Sequence[float | None], *, first: int) -> tuple[Training, ...]:
    """Trainings of one episode each; None stands for one that failed."""
    return tuple(
        Training(first + at, () if score is None else (score,)) for at, score in enumerate(scores)
    )


def candidate(
    number: int, choice: Sequence[float | None], report: Sequence[float | None] = ()
) -> Confirmed:
    return Confirmed(
        number, {}, trained(choice, first=10 * number), trained(report, first=500 + 10 * number)
    )


def race(
    *candidates: Confirmed, plan: Plan = PLAN, before: Mapping[int, Sequence[float]] | None = None
) -> Race:
    return Race(2, {one.number: {} for one in candidates}, asdict(plan), before or {})


def judged(
    *candidates: Confirmed,
    plan: Plan = PLAN,
    looks: Sequence[int] = (),
    solved: bool = True,
    before: Mapping[int, Sequence[float]] | None = None,
) -> Judgement:
    return judge(
        race(*candidates, plan=plan, before=before),
        candidates,
        promises={
            0: Expected(130.0, 9.0, promised=140.0),
            7: Expected(231.0, 18.0, promised=260.0),
        },
        threshold=THRESHOLD if solved else None,
        looks=looks,
    )


def final(
    seven: Sequence[float | None], base: Sequence[float | None], *, looks: Sequence[int] = ()
) -> Judgement:
    """Trial 7 leads the race; both have these scores under report seeds."""
    return judged(candidate(0, [], base), candidate(3, LOW), candidate(7, HIGH, seven), looks=looks)


def test_before_the_first_look_nothing_is_said_of_anybody() -> None:
    judgement = judged(candidate(0, []), candidate(3, []), candidate(7, HIGH[:1]))
    assert verdict(judgement) == "The race is on: 2 of 2 candidates are in after 0 choice seeds."
    assert judgement.waiting == 6 - 1
    assert (judgement.final, judgement.confirmed, judgement.shown) == (None, None, None)
    (table,) = tables(judgement)
    assert [row[:2] for row in table[1:]] == [("trial 3", "0"), ("trial 7", "1")]
    json.dumps(as_json(judgement), allow_nan=False)
    assert shown_metrics(judgement) == {}


def test_after_the_race_its_winner_and_the_base_are_measured() -> None:
    judgement = final([250.0], [])
    assert judgement.waiting == 10 - 1
    assert verdict(judgement) == (
        "The race is over; trial 7 against the base: 1 of 10 trainings under report "
        "seeds have ended."
    )
    assert judgement.confirmed is None
    candidates = [row.candidate for row in (judgement.base, *judgement.standings)]
    wanted = list(wanted_trainings(race(*candidates), candidates))
    assert len(wanted) == 6 + 10
    assert wanted[-4:] == [(2003, 7), (2003, 0), (2004, 7), (2004, 0)]
    assert sorted(wanted[:6]) == [(1000 + seed, one) for seed in range(3) for one in (3, 7)]


def test_who_is_out_has_a_line_and_a_receipt() -> None:
    judgement = judged(candidate(0, []), candidate(3, LOW), candidate(7, HIGH))
    row = judgement.standings[-1]
    # Welch: t = 100 / (10 sqrt(2 / 3)) = 12.25 with 4 degrees of freedom
    assert elimination_line(row, judgement) == (
        "out after 3 choice seeds: trial 3, 110.0 against 210.0 of trial 7, p 0.00013 < 0.033"
    )
    assert as_json(judgement)["race"][-1]["out"] == {
        "seeds": 3,
        "leader": 7,
        "p": pytest.approx(0.000128, abs=1e-6),
        "limit": LOSS / (1 * 3),
    }
    assert as_json(judgement)["race"][-1]["choice"][0] == {
        "trial": 30,
        "score": 100.0,
        "returns": (100.0,),
    }


def test_the_winner_has_the_highest_mean_with_the_sweeps_trainings() -> None:
    three, seven = candidate(3, [200.0, 215.0, 230.0]), candidate(7, HIGH)
    assert [row.number for row in judged(candidate(0, []), three, seven).standings] == [3, 7]
    judgement = judged(candidate(0, []), three, seven, before={3: [175.0], 7: [250.0, 220.0]})
    # (175 + 645) / 4 = 205, (470 + 630) / 5 = 220
    (table,) = tables(judgement)
    assert table[0][3] == "with the sweep's"
    assert [(row[0], row[3]) for row in table[1:]] == [
        ("trial 7", "220.0 of 5"),
        ("trial 3", "205.0 of 4"),
    ]
    assert as_json(judgement)["race"][0]["sweep"] == (250.0, 220.0)


def test_what_is_plainly_better_than_the_base_is_confirmed() -> None:
    judgement = final([200.0, 210.0, 220.0, 230.0, 240.0], [100.0, 110.0, 120.0, 130.0, 140.0])
    # Welch: 100 -+ t(0.98, 8) sqrt(2 * 250 / 5) = 2.4490 * 10
    # 1 - theta = z(0.98) error(theta) at theta = 0.62
    assert verdict(judgement) == (
        "Confirmed: trial 7, better than the base. A training of trial 7 returns more than one of "
        "the base with probability 1.00 [0.62, 1.00], and 100.0 [75.5, 124.5] more on average (96 "
        "% intervals, 5 report seeds each)."
    )
    assert judgement.confirmed is not None
    assert judgement.confirmed.number == as_json(judgement)["confirmed"] == 7
    # each 220 -+ t(0.99, 4) sqrt(250 / 5) = 3.7469 * 7.0711, so that both hold with 96 %
    _, (head, seven, base) = tables(judgement)
    assert head[2] == "mean [98 %]"
    assert seven == (
        "trial 7",
        "5",
        "220.0 [193.5, 246.5]",
        "220.0",
        "100.0%",
        "200.0",
        "260.0",
        "231 +- 18",
        "+40.0",
    )
    assert base[-3:] == ("140.0", "130 +- 9", "+20.0")
    assert prediction(judgement) == (
        "The sweep promised 260.0 of trial 7 and expected 231 +- 18; under report seeds it is "
        "220.0 [193.5, 246.5]."
    )


def test_a_base_that_is_plainly_better_is_confirmed_itself() -> None:
    judgement = final([100.0, 110.0, 120.0, 130.0, 140.0], [200.0, 210.0, 220.0, 230.0, 240.0])
    assert verdict(judgement) == (
        "Confirmed: the base, better than trial 7, the winner of the race. A training of the base "
        "returns more than one of trial 7 with probability 1.00 [0.62, 1.00], and 100.0 [75.5, "
        "124.5] more on average (96 % intervals, 5 report seeds each)."
    )
    assert judgement.confirmed is not None
    assert judgement.confirmed.number == 0


def test_where_the_seeds_cannot_tell_it_is_said_what_would_decide() -> None:
    judgement = final([200.0, 210.0, 220.0, 230.0, 240.0], [190.0, 200.0, 210.0, 220.0, 230.0])
    assert verdict(judgement) == (
        "Not confirmed. A training of trial 7 returns more than one of the base with probability "
        "0.68 [0.32, 0.90], and 10.0 [-14.5, 34.5] more on average (96 % intervals, 5 report seeds "
        "each). If that is the probability, 61 seeds each decide."
    )
    assert judgement.trainings_to_decide == 6 + 2 * 61
    assert (judgement.confirmed, as_json(judgement)["confirmed"]) == (None, None)
    # what is shown was chosen by choice seeds, not by those that measure it
    assert judgement.shown is not None
    assert judgement.shown.number == 7


def test_equals_are_called_equal() -> None:
    for base in ([500.0] * 5, [490.0, 510.0, 500.0, 495.0, 505.0]):
        judgement = final([500.0] * 5, base)
        assert verdict(judgement).endswith("more than 1000 seeds each: call them equal.")
        assert judgement.trainings_to_decide is None


def test_each_look_is_stricter_than_the_one_before() -> None:
    scores = [200.0, 210.0, 220.0, 230.0, 240.0], [170.0, 180.0, 190.0, 200.0, 210.0]
    # Welch: 30 -+ t(0.98, 8) 10 and 30 -+ t(0.996, 8) 10 = 35.1
    assert "Confirmed: trial 7" in verdict(final(*scores))
    assert "0.92 [0.53, 0.99], and 30.0 [5.5, 54.5]" in verdict(final(*scores))
    second = verdict(final(*scores, looks=[4]))
    assert second.startswith("Not confirmed. A training of trial 7")
    assert "0.92 [0.42, 0.99], and 30.0 [-5.1, 65.1] more on average (99.2 % intervals" in second
    assert verdict(final(*scores, looks=[5])) == verdict(final(*scores))  # that very look
    assert "99.84 % intervals" in verdict(final(*scores, looks=[3, 4]))


def test_a_rare_crash_widens_the_mean_but_hardly_the_ranks() -> None:
    crashed = [-500.0, 110.0, 120.0, 130.0, 140.0]
    judgement = final([200.0, 210.0, 220.0, 230.0, 240.0], crashed)
    assert judgement.final is not None
    assert judgement.final.gain.low < 0
    assert judgement.confirmed is not None
    assert judgement.confirmed.number == 7


def test_who_is_mostly_better_but_worse_on_average_is_not_confirmed() -> None:
    seven = [200.0, 210.0, 220.0, 230.0, 240.0, 250.0, 260.0, -900.0]
    base = [100.0, 110.0, 120.0, 130.0, 140.0, 150.0, 160.0, 170.0]
    candidates = candidate(0, [], base), candidate(7, [], seven)
    judgement = judged(*candidates, plan=Plan(16, 3))
    assert judgement.final is not None
    assert judgement.final.chance.low > 0.5
    assert (judgement.confirmed, judgement.trainings_to_decide) == (None, None)
    assert verdict(judgement).startswith("Not confirmed. A training of trial 7 returns more than")
    assert verdict(judgement).endswith(
        "The mean of trial 7 is lower all the same, so neither is called better."
    )


def test_a_finalist_that_fails_is_not_confirmed() -> None:
    judgement = final([200.0, None, 220.0, 230.0, 240.0], [100.0, 110.0, 120.0, 130.0, 140.0])
    assert judgement.waiting == 0
    assert (
        verdict(judgement)
        == "Not confirmed: 1 of 5 trainings of trial 7 failed under report seeds."
    )
    assert (judgement.confirmed, judgement.trainings_to_decide) == (None, None)
    assert tables(judgement)[1][1][1] == "4 + 1 failed"
    failing = final([200.0, 210.0, 220.0, 230.0, 240.0], [100.0, None, 120.0, 130.0, 140.0])
    assert failing.confirmed is not None
    assert failing.confirmed.number == 7
    none = final([None] * 5, [100.0] * 5)
    assert none.waiting == 0
    assert verdict(none) == "Not confirmed: trial 7 or the base failed under every report seed."
    json.dumps(as_json(none), allow_nan=False)


def test_a_candidate_that_fails_in_the_race_is_out() -> None:
    judgement = judged(candidate(0, []), candidate(3, [250.0, None, 250.0]), candidate(7, HIGH))
    assert [row.number for row in judgement.standings] == [7, 3]
    assert elimination_line(judgement.standings[-1], judgement) == (
        "out: trial 3, a training failed"
    )
    assert tables(judgement)[0][-1] == ("trial 3", "2 + 1 failed", "", "", "failed", "", "")
    json.dumps(as_json(judgement), allow_nan=False)


def test_where_all_others_fail_there_is_nothing_to_compare() -> None:
    failing = [None, None, None]
    judgement = judged(candidate(0, []), candidate(3, failing), candidate(7, failing))
    assert verdict(judgement) == "Not confirmed: every candidate failed."
    assert (judgement.waiting, judgement.finalists, judgement.confirmed) == (0, None, None)
    assert len(tables(judgement)) == 1


def test_the_tuned_defaults_may_win() -> None:
    report = [*HIGH, 230.0, 240.0]
    candidates = candidate(0, [], [100.0] * 5), candidate(3, LOW), candidate(TUNED, HIGH, report)
    judgement = judged(*candidates)
    assert verdict(judgement).startswith("Confirmed: the tuned defaults, better than the base")
    assert prediction(judgement) == ""  # no trial of the sweep has them


def test_a_single_candidate_needs_no_choice() -> None:
    low, high = [*LOW, 130.0], [*HIGH, 230.0]
    judgement = judged(candidate(0, [], low), candidate(7, [], high), plan=Plan(8, 3))
    assert judgement.course.used == judgement.waiting == 0
    assert verdict(judgement).startswith("Confirmed: trial 7, better than the base. A training of")


def test_without_a_solved_return_there_is_no_success_rate() -> None:
    candidates = candidate(0, [], LOW), candidate(7, [], HIGH)
    judgement = judged(*candidates, plan=Plan(6, 3), solved=False)
    assert judgement.final is not None
    assert judgement.final.rival.success_rate is None
    assert tables(judgement)[1][1][4] == ""
    assert "confirm/success_rate" not in shown_metrics(judgement)


def test_the_run_shows_the_numbers_of_what_is_confirmed() -> None:
    judgement = final([200.0, 210.0, 220.0, 230.0, 240.0], [100.0, 110.0, 120.0, 130.0, 140.0])
    assert shown_metrics(judgement) == pytest.approx(
        {
            "confirm/mean": 220.0,
            "confirm/mean_low": 220 - 26.4948,
            "confirm/mean_high": 220 + 26.4948,
            "confirm/iqm": 220.0,
            "confirm/worst_seed": 200.0,
            "confirm/success_rate": 1.0,
            "confirm/p_better": 1.0,
            "confirm/gain": 100.0,
            "confirm/optimism_gap": 40.0,
        },
        abs=1e-3,
    )


def test_the_note_is_tables_legend_and_verdict() -> None:
    judgement = final([200.0, 210.0, 220.0, 230.0, 240.0], [100.0, 110.0, 120.0, 130.0, 140.0])
    note = as_markdown(judgement)
    assert note.startswith("|")
    assert "on reset seeds 6000000 and up" in note
    assert f"**{verdict(judgement)}**" in note


def test_the_figure_shows_finalists_above_the_race() -> None:
    judgement = final([200.0, 210.0], [100.0, 110.0])
    assert [(line.name, len(line.scores)) for line in lines_of(judgement)] == [
        ("trial 7, report", 2),
        ("the base, report", 2),
        ("trial 7, choice", 3),
        ("trial 3, choice", 3),
    ]
    axes = draw_confirmation(judgement, new_axes()[1], env=TrainConfig().env)
    diamonds = next(line for line in axes.get_lines() if line.get_marker() == "D")
    assert np.asarray(diamonds.get_xdata()).tolist() == [231.0, 130.0, 231.0]
