"""Waits for a database server that is down, restarting or out of connections."""

from __future__ import annotations

import functools
import random
import sys
import time
from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar
from weakref import WeakSet

from optuna.exceptions import StorageInternalError
from sqlalchemy import Engine, exc

from lander.terminal import say
from sweeps.errors import one_line, redacted

RETRY_SECONDS: Final = 300.0
"""Seconds. A server that is restarted, or moved to another machine, is back by then."""
PAUSE: Final = 5.0
"""Seconds, the longest between two attempts."""
REFUSED: Final = ("authentication failed", "does not exist", "pg_hba.conf", "permission denied")
"""Answers to an attempt to connect that will not change by themselves."""
TEMPORARY: Final = ("08", "53", "55", "57")
"""Classes of SQLSTATE: connection exceptions, insufficient resources, locked too long, operator
intervention."""
OPEN_ENGINES: Final[WeakSet[Engine]] = WeakSet()
"""Their idle connections are given back while somebody waits: the server may have no others left,
and each of its clients may be waiting for a second one."""

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def is_transient(error: BaseException) -> bool:
    """A database server did not answer, but may do so later. Never true of SQLite, which waits for
    its locks by itself."""
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
    if state is None:  # there is none before a connection is made
        return not any(words in str(cause.orig) for words in REFUSED)
    return str(state)[:2] in TEMPORARY


def message_of(error: BaseException) -> str:
    """What the server, or its driver, said."""
    cause = error.__cause__ or error
    first = str(getattr(cause, "orig", None) or cause)
    return redacted(" ".join(first.split()))[:300]


def explain(error: Exception) -> str:
    """One line about a server that does not answer or refuses, or a file that cannot be read or
    written; empty if it is something else."""
    if is_transient(error):
        return f"try again when the database answers: {message_of(error)}"
    if "mlflow" in sys.modules:
        from mlflow.exceptions import MlflowException  # here: it takes seconds to load

        from sweeps.store.mlflow_errors import is_retryable

        if isinstance(error, MlflowException):
            remedy = "try again when MLflow answers" if is_retryable(error) else "MLflow refuses"
            return f"{remedy}: {one_line(error)}"
    cause = error.__cause__ if isinstance(error, StorageInternalError) else error
    if isinstance(cause, exc.OperationalError):
        return f"try again when the database can be read and written: {message_of(error)}"
    return one_line(error) if isinstance(error, OSError) else ""


def retrying(
    call: Callable[Arguments, Result], *, seconds: float = RETRY_SECONDS
) -> Callable[Arguments, Result]:
    """Retry an idempotent call while the database is unreachable, for so many seconds.

    A server that answers that it is busy or starting does exist: it gets all `RETRY_SECONDS`.
    """

    @functools.wraps(call)
    def again(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        started, pause = time.monotonic(), 0.1
        while True:
            try:
                return call(*args, **kwargs)
            except (StorageInternalError, exc.SQLAlchemyError) as error:
                limit = RETRY_SECONDS if "FATAL:" in str(error) else seconds
                if not is_transient(error) or time.monotonic() - started > limit:
                    raise
                if pause == PAUSE:
                    say(f"sweeps: waiting for the database: {message_of(error)}", error=True)
            for engine in list(OPEN_ENGINES):
                engine.dispose()
            time.sleep(pause * random.uniform(0.5, 1.5))  # not all of sixty workers at once
            pause = min(2 * pause, PAUSE)

    return again
