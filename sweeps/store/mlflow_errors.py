"""Tells an MLflow that is unreachable now from one that will never accept a record.

The outbox asks it whether to keep a record for later or to set it aside.
"""

from __future__ import annotations

import errno
import re
from typing import Final

from mlflow.exceptions import MlflowException
from requests import HTTPError
from yaml import YAMLError


class Undeliverable(Exception):
    """A record, or a file that it names, is not in the form that MLflow takes."""


REFUSED: Final = ("BAD_REQUEST", "INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST")
"""MLflow's codes for a request that it will never accept; with any other it may do so later."""
TOO_LARGE: Final = (411, 413, 414, 431)
"""HTTP's codes for a request that no server or proxy will ever let through. Not 400 to 404, which
also come from a wrong address or login: once those are corrected the same request may pass."""
STATUS: Final = re.compile(r"failed with error code (\d+) !=")
"""Where MLflow's client names the status of an answer that is not in MLflow's own form."""
LASTING: Final = (
    errno.ENOENT,
    errno.EISDIR,
    errno.ENOTDIR,
    errno.EEXIST,
    errno.ENOTEMPTY,
    errno.ENAMETOOLONG,
    errno.ELOOP,
    errno.EINVAL,
)
"""Errors of a path that waiting does not change; a full or read-only disk may be put right."""
DEFECTS: Final = (
    Undeliverable,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
    YAMLError,
)
"""Errors that code raises on data that it cannot use."""


def is_retryable(error: BaseException) -> bool:
    """Whether MLflow may accept the same record later: it, or the storage of its artifacts, does
    not answer now. A local file that is missing will not come back by itself."""
    if http_status(error) in TOO_LARGE:
        return False
    if isinstance(error, HTTPError):
        return error_code_in(error) not in REFUSED
    if isinstance(error, MlflowException):
        if error.error_code == "INTERNAL_ERROR" and isinstance(error.__cause__, DEFECTS):
            return False  # raised in this process, on data that a database cannot hold
        # a code without MLflow's own form may come from a proxy that takes no requests at all
        return error.error_code not in REFUSED or http_status(error) is not None
    if isinstance(error, OSError):
        return error.errno not in LASTING
    return not isinstance(error, DEFECTS)


def affects_every_record(error: BaseException) -> bool:
    """Whether every other record would fail as this one did, so that trying them is no use.

    False for a local path without permission, or if a server answered that it failed inside.
    """
    if isinstance(error, HTTPError):
        return http_status(error) != 500
    if isinstance(error, MlflowException):
        answer = getattr(error, "json", None)  # a server's
        return not (isinstance(answer, dict) and answer.get("error_code") == "INTERNAL_ERROR")
    return not isinstance(error, OSError) or error.errno is None


def http_status(error: BaseException) -> int | None:
    """The HTTP status of an answer that is not in MLflow's own form; None for other errors."""
    if isinstance(error, HTTPError):
        return None if error.response is None else int(error.response.status_code)
    match = STATUS.search(str(error)) if isinstance(error, MlflowException) else None
    return int(match[1]) if match else None


def error_code_in(error: HTTPError) -> str:
    """MLflow's code in the answer to an upload; empty if the answer has none."""
    try:
        answer = None if error.response is None else error.response.json()
    except ValueError:
        return ""
    return str(answer.get("error_code", "")) if isinstance(answer, dict) else ""


def required_id(value: str) -> str:
    """An id from MLflow's answer.

    Raises:
        MlflowException: it is empty, as something else than MLflow answers at its address.
    """
    if not value:
        raise MlflowException("what answers is no MLflow server: its answer is empty")
    return value
