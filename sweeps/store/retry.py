"""Retries database calls while a server is down, restarting or out of connections.

A loop of its own rather than a library's: how long to try depends on what the server answers, and
between two attempts every pool gives its connections back.
"""

from __future__ import annotations

import functools
import random
import sqlite3
import sys
import time
from collections.abc import Callable
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from optuna.exceptions import StorageInternalError
from sqlalchemy import exc

from lander.terminal import say
from sweeps.errors import one_line, redacted
from sweeps.store.engines import give_back_connections

RETRY_SECONDS: Final = 300.0
"""A server that is restarted, or moved to another machine, is back by then."""
LONGEST_PAUSE: Final = 5.0
"""Seconds between two attempts."""
REFUSED: Final = ("authentication failed", "does not exist", "pg_hba.conf", "permission denied")
"""English texts of answers to an attempt to connect that will not change by themselves. The driver
gives no SQLSTATE before a connection exists, so a server that answers in another language is asked
until the time is up."""
TEMPORARY: Final = ("08", "53", "55", "57")
"""Classes of SQLSTATE: connection exceptions, insufficient resources, locked too long, operator
intervention. Others, such as 28 (login) and 3D (no such database), are final."""

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def is_transient(error: BaseException) -> bool:
    """Whether a database server did not answer, but may do so later. Never true of SQLite, which
    waits for its locks by itself."""
    cause = error.__cause__ if isinstance(error, StorageInternalError) else error
    if isinstance(cause, exc.TimeoutError | exc.PendingRollbackError):
        return True  # no connection was free; or the last one broke in a transaction
    if not isinstance(cause, exc.DBAPIError):
        return False
    if cause.connection_invalidated:
        return True
    if not isinstance(cause, exc.OperationalError) or not hasattr(cause.orig, "sqlstate"):
        return False
    state = getattr(cause.orig, "sqlstate", None)
    if state is None:
        return not any(words in str(cause.orig) for words in REFUSED)
    return str(state)[:2] in TEMPORARY


def message_of(error: BaseException) -> str:
    """The message of the server or its driver, without SQLAlchemy's additions."""
    cause = error.__cause__ or error
    message = str(getattr(cause, "orig", None) or cause)
    return redacted(" ".join(message.split()))[:300]


def explain(error: Exception) -> str:
    """One line for a command that ends because a server does not answer or refuses, or a file
    cannot be read or written; empty for any other error."""
    if is_transient(error):
        return f"try again when the database answers: {message_of(error)}"
    if "mlflow" in sys.modules:  # it takes seconds to import; without it, the error is not its own
        from mlflow.exceptions import MlflowException

        from sweeps.store.mlflow_errors import is_retryable

        if isinstance(error, MlflowException):
            remedy = "try again when MLflow answers" if is_retryable(error) else "MLflow refuses"
            return f"{remedy}: {one_line(error)}"
    cause = error.__cause__ if isinstance(error, StorageInternalError) else error
    if isinstance(cause, exc.OperationalError | sqlite3.OperationalError):
        return f"try again when the database can be read and written: {message_of(error)}"
    return one_line(error) if isinstance(error, OSError) else ""


def retrying(
    call: Callable[Arguments, Result], *, seconds: float = RETRY_SECONDS
) -> Callable[Arguments, Result]:
    """Retry an idempotent call while the database is unreachable, for so many seconds.

    A server that answers that it is busy or starting does exist: it gets all `RETRY_SECONDS`.
    """

    @functools.wraps(call)
    def attempt(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        started, pause = time.monotonic(), 0.1
        while True:
            try:
                return call(*args, **kwargs)
            except (StorageInternalError, exc.SQLAlchemyError) as error:
                limit = RETRY_SECONDS if "FATAL:" in str(error) else seconds
                if not is_transient(error) or time.monotonic() - started > limit:
                    raise
                if pause == LONGEST_PAUSE:
                    say(f"sweeps: waiting for the database: {message_of(error)}", error=True)
            give_back_connections()
            time.sleep(pause * random.uniform(0.5, 1.5))  # not all of sixty workers at once
            pause = min(2 * pause, LONGEST_PAUSE)

    return attempt


def retrying_method(
    method: Callable[Concatenate[Any, Arguments], Result],
) -> Callable[Concatenate[Any, Arguments], Result]:
    """`retrying` for a method of a base class, so that the assignment in a subclass type-checks."""
    return retrying(method)
