"""What is said while a sweep runs."""

from __future__ import annotations

from sweeps.watch import clock


def test_times_are_written_as_on_a_clock() -> None:
    assert [clock(s) for s in (0, 59.6, 61, 3599, 3661)] == [
        "0:00",
        "1:00",
        "1:01",
        "59:59",
        "1:01:01",
    ]
