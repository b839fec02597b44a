"""The kinds of records that a spool holds, one per line, and what they must look like."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import ConfigDict, Field, FiniteFloat, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from sweeps.store.mlflow_errors import Undeliverable

STRICT: Final = ConfigDict(strict=True, extra="forbid")

Whole = Annotated[int, Field(ge=-(2**63), lt=2**63)]
"""As databases hold it."""
Name = Annotated[str, Field(min_length=1)]
Point = tuple[str, float, int, int]
"""Name, value, time in ms, environment steps."""
CheckedPoint = tuple[Name, FiniteFloat, Whole, Whole]


@dataclass(frozen=True, config=STRICT)
class RunBegun:
    """MLflow is to create a run."""

    kind: Literal["run"]
    experiment_id: Name
    name: str
    start: Whole
    tags: dict[str, str]


@dataclass(frozen=True, config=STRICT)
class KnownRun:
    """What follows belongs to a run that MLflow has."""

    kind: Literal["known_run"]
    run_id: Name


@dataclass(frozen=True, config=STRICT)
class Batch:
    """Points, parameters and tags of the run."""

    kind: Literal["batch"]
    points: tuple[CheckedPoint, ...] = ()
    params: dict[str, str] = Field(default_factory=dict)
    tags: dict[str, str] = Field(default_factory=dict)


@dataclass(frozen=True, config=STRICT)
class File:
    """An artifact of the run."""

    kind: Literal["file"]
    path: Name
    """In the record's folder."""


@dataclass(frozen=True, config=STRICT)
class SavedModel:
    """A folder that `mlflow.pytorch.save_model` wrote: a LoggedModel of the run."""

    kind: Literal["model"]
    path: Name
    params: dict[str, str]
    points: tuple[CheckedPoint, ...]
    step: Whole


@dataclass(frozen=True, config=STRICT)
class End:
    """How the run ended, and when."""

    kind: Literal["end"]
    status: Literal["FINISHED", "FAILED", "KILLED"]
    time: Whole


Record = RunBegun | KnownRun | Batch | File | SavedModel | End
RECORD: Final[TypeAdapter[Record]] = TypeAdapter(Annotated[Record, Field(discriminator="kind")])


def read_record(line: bytes) -> Record:
    """The record that a line holds.

    Raises:
        Undeliverable: it holds none, or one of a kind that this version does not know.
    """
    try:
        return RECORD.validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise Undeliverable(f"no record: {where + ': ' if where else ''}{first['msg']}") from None
