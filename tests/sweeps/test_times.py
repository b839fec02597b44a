"""Times are UTC: workers of one sweep may be on hosts in several zones, or live through a change
of the clock."""

from __future__ import annotations

import time
from collections.abc import Generator
from datetime import UTC, datetime, timedelta

import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from analysis.report.tables import at_once
from sweeps.endings import covered, ended, seconds, started
from sweeps.run.failures import repeated_failure
from sweeps.schema import ENDED, REASON, STARTED
from sweeps.scores import ranked
from sweeps.store.store import Store
from tests.sweeps.test_sweep import finish, start, take

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    """This host is five hours behind."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "EST5")
        time.tzset()
        yield
    time.tzset()


def trial(minutes: float, *, number: int = 0, reason: str = "", hours: int = 0) -> FrozenTrial:
    """One that ended so long after noon, on a host so many hours ahead of UTC."""
    end = NOON + timedelta(minutes=minutes)
    frozen = create_trial(
        state=TrialState.FAIL if reason else TrialState.COMPLETE,
        value=None if reason else float(number),
        user_attrs={ENDED: end.isoformat(), STARTED: NOON.isoformat()}
        | ({REASON: reason} if reason else {}),
    )
    frozen.number = number
    frozen.datetime_complete = end.replace(tzinfo=None) + timedelta(
        hours=hours
    )  # as Optuna notes it
    return frozen


def test_a_trial_notes_when_it_began_and_ended_in_utc_wherever_it_runs(
    store: Store, zone: None
) -> None:
    before = datetime.now(UTC)
    sweep = start(store)
    running = take(sweep)
    assert ended(sweep.read_trials().all[running.number]) is None
    assert seconds(sweep.read_trials().all[running.number]) is None
    finish(sweep)
    frozen = sweep.read_trials().all[1]
    begin, end = started(frozen), ended(frozen)
    assert begin is not None
    assert end is not None
    assert before <= begin <= end <= datetime.now(UTC)
    assert begin.utcoffset() == timedelta(0)
    assert seconds(frozen) == (end - begin).total_seconds()


def test_local_times_of_an_earlier_version_count_as_those_of_this_host(
    zone: None,
) -> None:
    old = create_trial(value=1.0)
    old.datetime_start = datetime(2026, 1, 1, 7)
    old.datetime_complete = datetime(2026, 1, 1, 8)
    assert (started(old), ended(old)) == (NOON, NOON + timedelta(hours=1))


def test_a_clock_that_was_set_back_gives_no_negative_time() -> None:
    assert seconds(trial(-5)) == 0.0


def test_the_last_trials_to_end_are_the_last_ones_in_any_zone() -> None:
    failed = [trial(i, number=i, reason="TypeError: x", hours=9) for i in range(5)]
    assert repeated_failure(failed) == "TypeError: x"
    assert repeated_failure([*failed, trial(10, number=5, hours=-9)]) == ""


def test_of_equal_parameters_the_last_to_end_counts_in_any_zone() -> None:
    assert [t.number for t in ranked([trial(5, number=1), trial(3, number=2, hours=9)])] == [1]


def test_spans_of_trials_overlap_as_they_did() -> None:
    def at(minutes: int) -> datetime:
        return NOON + timedelta(minutes=minutes)

    spans = [(at(0), at(10)), (at(5), at(15)), (at(15), at(20)), (at(30), at(40))]
    assert at_once(spans) == 2
    assert at_once([]) == 0
    assert covered(spans) == 30 * 60
