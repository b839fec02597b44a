"""Simulated races: equals are rarely confirmed, and differences as often as a forecast promises."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from scipy import stats

from analysis.bakeoff import races
from analysis.bakeoff.races import (
    FILE,
    NOISES,
    PROMISED,
    SPREAD,
    Setting,
    power,
    real_deviations,
    settings,
    simulate,
    simulate_all,
)
from analysis.race import LEVEL, LOSS, POWER, level_of, smallest_difference


@pytest.mark.parametrize("noise", PROMISED)
@pytest.mark.parametrize("candidates", [1, 5])
def test_equals_are_confirmed_in_5_percent_of_races_at_most(noise: str, candidates: int) -> None:
    shares = simulate(Setting(noise, candidates, 40), races=400)
    assert shares.confirmed <= shares.confirmed_in_all <= stats.binom.ppf(0.999, 400, LEVEL)
    assert shares.best_lost <= stats.binom.ppf(0.999, 400, LOSS)


@pytest.mark.parametrize("difference", [20.0, 50.0])
def test_a_difference_is_confirmed_as_often_as_promised(difference: float) -> None:
    shares = simulate(Setting("normal", 5, 40, difference), races=400)
    assert shares.promised_power is not None
    low, high = stats.binom.interval(0.999, 400, shares.promised_power)
    assert low <= shares.confirmed <= high


def test_the_promise_is_the_inverse_of_the_smallest_difference() -> None:
    difference = smallest_difference(SPREAD, 11, level=level_of(0))
    assert power(difference, SPREAD, 11) == pytest.approx(POWER)


def test_real_deviations_have_the_spread_of_the_others() -> None:
    deviations = real_deviations()
    assert len(deviations) % 6 == 0  # seeds of each point
    assert deviations.std() == pytest.approx(1)
    assert deviations.mean() == pytest.approx(0, abs=1e-12)
    assert stats.skew(deviations) < -0.5


def test_the_same_seed_simulates_the_same_races() -> None:
    setting = Setting("lower tail", 4, 40)
    assert simulate(setting, races=50, seed=3) == simulate(setting, races=50, seed=3)
    assert simulate(setting, races=50, seed=3) != simulate(setting, races=50, seed=4)


def test_the_recorded_shares_keep_what_is_promised() -> None:
    rows = json.loads(FILE.read_text())
    named = [(row["noise"], row["candidates"], row["trainings"], row["difference"]) for row in rows]
    assert named == [
        (each.noise, each.candidates, each.trainings, each.difference) for each in settings()
    ]
    assert {row["races"] for row in rows} == {4000}
    equals = [row for row in rows if not row["difference"] and row["noise"] in PROMISED]
    assert len(equals) == 6 * len(PROMISED) < 6 * len(NOISES)
    assert all(row["confirmed_in_all"] <= LEVEL * row["races"] for row in equals)
    assert all(row["best_lost"] <= LOSS * row["races"] for row in rows)
    better = [row for row in rows if row["difference"]]
    assert len(better) == 12
    surplus = [row["share_confirmed"][0] - row["promised_power"] for row in better]
    assert min(surplus) > -0.02
    assert max(surplus) < 0.03


def test_every_setting_is_simulated_and_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = [Setting("normal", 1, 8), Setting("normal", 1, 8, 60.0)]
    monkeypatch.setattr(races, "settings", lambda: both)
    path = simulate_all(races=20, path=tmp_path / "races.json")
    equal, better = json.loads(path.read_text())
    assert (equal["report_seeds"], equal["promised_power"]) == (4.0, None)
    assert better["confirmed"] > equal["confirmed"]
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("normal, 1 candidates, 8 trainings, difference 0: confirmed ")
    assert f"; promised {better['promised_power']:.1%}" in second
