"""The entries of an outbox, one line of JSON each: what the record of a trial consists of."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Final, Literal

from pydantic import ConfigDict, Field, FiniteFloat, TypeAdapter, ValidationError

from sweeps.store.mlflow_errors import Undeliverable

STRICT: Final = ConfigDict(strict=True, extra="forbid")

Whole = Annotated[int, Field(ge=-(2**63), lt=2**63)]
"""A whole number that a database can hold."""
Name = Annotated[str, Field(min_length=1)]
Point = tuple[str, float, int, int]
"""Name, value, time in ms, environment steps."""
CheckedPoint = tuple[Name, FiniteFloat, Whole, Whole]
Status = Literal["FINISHED", "FAILED", "KILLED"]
"""MLflow's words for how a run ended."""


@dataclass(frozen=True)
class RunBegun:
    """The run of a trial, which MLflow is to create."""

    __pydantic_config__: ClassVar = STRICT
    experiment_id: Name
    name: str
    start: Whole
    tags: dict[str, str]
    kind: Literal["run"] = "run"


@dataclass(frozen=True)
class KnownRun:
    """The run that the following entries belong to; MLflow has it already."""

    __pydantic_config__: ClassVar = STRICT
    run_id: Name
    kind: Literal["known_run"] = "known_run"


@dataclass(frozen=True)
class Batch:
    """Points, parameters and tags of the run."""

    __pydantic_config__: ClassVar = STRICT
    points: tuple[CheckedPoint, ...] = ()
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    kind: Literal["batch"] = "batch"


@dataclass(frozen=True)
class File:
    """An artifact of the run: a file in the outbox."""

    __pydantic_config__: ClassVar = STRICT
    path: Name
    """Relative to the outbox, and to the artifacts of the run."""
    kind: Literal["file"] = "file"


@dataclass(frozen=True)
class SavedModel:
    """A LoggedModel of the run: a folder in the outbox that `mlflow.pytorch.save_model` wrote."""

    __pydantic_config__: ClassVar = STRICT
    path: Name
    params: dict[str, str]
    points: tuple[CheckedPoint, ...]
    step: Whole
    kind: Literal["model"] = "model"


@dataclass(frozen=True)
class End:
    """How the run ended, and when."""

    __pydantic_config__: ClassVar = STRICT
    status: Status
    time: Whole
    kind: Literal["end"] = "end"


Entry = RunBegun | KnownRun | Batch | File | SavedModel | End
ENTRY: Final[TypeAdapter[Entry]] = TypeAdapter(Annotated[Entry, Field(discriminator="kind")])


def as_line(entry: Entry) -> bytes:
    """An entry as a line of the outbox.

    Raises:
        ValueError: a number in it is NaN or infinite.
    """
    values = vars(entry)
    if isinstance(entry, Batch):
        values = {name: value for name, value in values.items() if value}
    return (json.dumps({"kind": entry.kind, **values}, allow_nan=False) + "\n").encode()


def read_entry(line: bytes) -> Entry:
    """The entry on a line of the outbox.

    Raises:
        Undeliverable: it is damaged, or of a kind that this version does not know.
    """
    try:
        return ENTRY.validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        message = f"{where}: {first['msg']}" if where else first["msg"]
        raise Undeliverable(f"no entry of a record: {message}") from None
