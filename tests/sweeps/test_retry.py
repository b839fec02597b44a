"""What is waited for, and what is not."""

from __future__ import annotations

import sqlite3

import pytest
from optuna.exceptions import StorageInternalError
from sqlalchemy import exc

from sweeps.store import retry
from sweeps.store.retry import is_transient, retrying


class Refusal(Exception):
    """As psycopg's errors: with a SQLSTATE once there was a connection."""

    def __init__(self, text: str, sqlstate: str | None = None) -> None:
        super().__init__(text)
        self.sqlstate = sqlstate


def operational(cause: Exception, *, broken: bool = False) -> exc.OperationalError:
    return exc.OperationalError("SELECT 1", {}, cause, connection_invalidated=broken)


def wrapped(cause: Exception) -> StorageInternalError:
    """As Optuna raises it."""
    error = StorageInternalError("An exception is raised during the commit.")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        wrapped(operational(Refusal("terminating connection", "57P01"), broken=True)),
        operational(Refusal("connection refused")),
        operational(Refusal("FATAL: the database system is starting up")),
        operational(Refusal("FATAL: sorry, too many clients already")),
        operational(Refusal("too many connections", "53300")),
        wrapped(exc.TimeoutError("QueuePool limit")),
        exc.PendingRollbackError("the transaction broke"),
    ],
)
def test_a_server_that_is_away_is_waited_for(error: Exception) -> None:
    assert is_transient(error)


@pytest.mark.parametrize(
    "error",
    [
        operational(Refusal('password authentication failed for user "x"')),
        operational(Refusal('database "x" does not exist')),
        operational(Refusal("deadlock detected", "40P01")),
        wrapped(operational(sqlite3.OperationalError("database is locked"))),
        operational(sqlite3.OperationalError("database or disk is full")),
        wrapped(ValueError("x")),
        KeyError("x"),
    ],
)
def test_what_will_not_change_by_itself_is_not(error: Exception) -> None:
    assert not is_transient(error)


def test_it_is_asked_again_until_it_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "LONGEST_PAUSE", 0.0)
    answers: list[Exception | int] = [operational(Refusal("connection refused")), 7]

    def ask() -> int:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert retrying(ask)() == 7


def test_there_is_an_end_to_it() -> None:
    asked = []

    def ask() -> None:
        asked.append(1)
        raise operational(Refusal("connection refused"))

    with pytest.raises(exc.OperationalError):
        retrying(ask, seconds=0.0)()
    assert len(asked) in {1, 2}
