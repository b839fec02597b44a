"""Counts the SQL statements that a test's code executes."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from sqlalchemy import Engine, event


@contextmanager
def statements(beginning: str = "", *, engine: Engine | None = None) -> Generator[list[str]]:
    """The statements executed inside the block that begin like this: of one engine, or of all."""
    seen: list[str] = []
    target = Engine if engine is None else engine

    def note(_connection: object, _cursor: object, text: str, *_: object) -> None:
        if text.startswith(beginning):
            seen.append(text)

    event.listen(target, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(target, "before_cursor_execute", note)
