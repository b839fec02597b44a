"""What is to be recorded of a run: on disk first, then with MLflow, whenever that answers.

A trial's spool is a folder, STORE/spool/STUDY-NUMBER: `records.jsonl`, a record a line, and the
files that records name. They are delivered in order, always from there. A record that may have
arrived is delivered again, which changes nothing: the run is known by its key, a point of a curve
to MLflow by name, step, time and value, and all else replaces itself.

A line that cannot be delivered does not stop the others: when these have arrived it is set aside
with the files it names, in STUDY-NUMBER.refused.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import ClassVar

from mlflow import MlflowClient

from lander.files import inside
from sweeps.errors import one_line
from sweeps.record.durable import sync
from sweeps.record.entries import KnownRun, Point, RunBegun, read_record
from sweeps.record.files import require_record, set_aside
from sweeps.record.sender import Sender, key_of
from sweeps.store.mlflow_errors import Undeliverable, affects_every_record, is_retryable
from sweeps.store.store import Store

SPOOL = "spool"
"""Folder of a store."""
RECORDS = "records.jsonl"
REASONS = "reasons.txt"
"""Why each line of a record that is set aside could not be delivered."""
POINTS_LIMIT = 1000
"""Points that MLflow takes in one call."""
PATIENCE = 100
"""After a call without an answer the next one waits as many times as long as it took, so that an
outage costs training at most a hundredth .."""
LONGEST = 300.0
""".. but no more seconds than these."""


class Outbox:
    """The record of one run, under way to MLflow."""

    _not_before: ClassVar[dict[str, float]] = {}
    """By MLflow's address: when this process may ask it again."""

    def __init__(
        self,
        folder: Path,
        client: MlflowClient,
        *,
        link: Callable[[str], None],
        run_id: str = "",
    ) -> None:
        """`link` is given the id of the run as soon as there is one, unless `run_id` is that.

        Raises:
            OSError, Undeliverable: there is a record that cannot be read.
        """
        self.folder = folder
        self._client = client
        self._link = link
        self._linked = bool(run_id)
        self._records = folder / RECORDS
        begun = os.path.lexists(self._records)
        self._sender = Sender(folder, client, run_id=run_id, again=begun)
        self._offset = 0
        self._refused: list[tuple[bytes, str]] = []
        """Lines that cannot be delivered, and why."""
        self.silence = ""
        """Why the last delivery stopped."""
        self.outage = False
        """It stopped for a reason that concerns all records."""
        folder.mkdir(parents=True, exist_ok=True)
        if begun:  # a killed writer leaves half a line
            require_record(self._records)
            lines, end, half = self._records.read_bytes().rpartition(b"\n")
            if half:
                os.truncate(self._records, len(lines + end))

    @property
    def is_empty(self) -> bool:
        """It holds no record yet."""
        return not self._records.exists()

    def key(self, start: int) -> str:
        """The value of `KEY` among the tags of the run that begins at this time."""
        return key_of(self.folder, start)

    def write(self, kind: str, **fields: object) -> None:
        """Keep a record, of one of the kinds in `sweeps.record.entries`.

        Raises:
            OSError: the disk is full; the record is not kept.
        """
        line = json.dumps({"kind": kind, **fields}, allow_nan=False) + "\n"
        with self._records.open("ab") as file:
            size = file.tell()
            try:
                file.write(line.encode())
                file.flush()
            except OSError:
                os.truncate(self._records, size)
                raise

    @property
    def is_whole(self) -> bool:
        """Whether it still begins with its run: others may have removed the beginning."""
        try:
            with self._records.open("rb") as records:
                return isinstance(read_record(records.readline()), RunBegun | KnownRun)
        except (OSError, Undeliverable):
            return False

    def points(self, points: Sequence[Point]) -> None:
        """Points of curves, in batches: a call for each would cost 4 ms."""
        for start in range(0, len(points), POINTS_LIMIT):
            self.write("batch", points=points[start : start + POINTS_LIMIT])

    def sync(self) -> None:
        """Force the record, and what it names, onto the disk: no power cut loses it from then on.

        Raises:
            OSError: the disk is full.
        """
        sync(self.folder, parents=2)

    def deliver(self, *, now: bool = False) -> bool:
        """Deliver what is left; whether that was done, but for lines that cannot be delivered.

        Where MLflow did not answer lately it is asked only `now` that somebody waits for it.
        """
        started, address = time.monotonic(), str(self._client.tracking_uri)
        self.silence, self.outage = "", False
        if not now and started < Outbox._not_before.get(address, 0.0):
            self.silence, self.outage = "it did not answer a moment ago", True
            return False
        with self._records.open("rb") as records:
            error = self._begin_run(records)
            if error is not None:
                self._wait(error, address, started)
                return False
            if self._sender.run_id and not self._linked:
                self._link(self._sender.run_id)
                self._linked = True
            records.seek(self._offset)
            for line in records:
                error = self._attempt(line)
                if error is not None and is_retryable(error):
                    self._wait(error, address, started)
                    return False
                if error is not None:
                    self._refused.append((line, one_line(error)))
                self._offset += len(line)
        return True

    def _begin_run(self, lines: Iterable[bytes]) -> Exception | None:
        """Before all else, wherever in the record that stands; why it has to wait."""
        for line in () if self._sender.run_id else lines:
            error = self._attempt(line, only_run=True)
            if error is not None and is_retryable(error):
                return error
            if self._sender.run_id:
                return None
        return None

    def _attempt(self, line: bytes, *, only_run: bool = False) -> Exception | None:
        """Deliver one line, of whatever kind; why that failed."""
        try:
            record = read_record(line)
            if not only_run or isinstance(record, RunBegun | KnownRun):
                self._sender.send(record)
        except Exception as error:
            return error
        return None

    def _wait(self, error: Exception, address: str, started: float) -> None:
        """Note that MLflow gave no answer, and leave it alone for a while."""
        self._sender.again = True
        self.silence, self.outage = one_line(error), affects_every_record(error)
        ended = time.monotonic()
        pause = min(LONGEST, max(1.0, PATIENCE * (ended - started)))
        Outbox._not_before[address] = ended + pause

    def settle(self) -> None:
        """After all of it was delivered: remove it, but for what could not be, which is set aside
        and named in one line."""
        for folder in self._sender.written:
            sync(folder)
        if not self._refused:
            self.remove()
            return
        for path in self._sender.delivered:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        lines = [line for line, _ in self._refused]
        if self._sender.run_id:  # so that renamed back it is a record again
            known = json.dumps({"kind": "known_run", "run_id": self._sender.run_id}) + "\n"
            lines = [known.encode(), *(line for line in lines if line != known.encode())]
        rest = self.folder / f".{RECORDS}"
        rest.write_bytes(b"".join(lines))
        reasons = "".join(f"{reason}\n" for _, reason in self._refused)
        (self.folder / REASONS).write_text(reasons, encoding="utf-8", errors="backslashreplace")
        rest.replace(self._records)
        set_aside(
            self.folder,
            f"{len(self._refused)} of the records of {self.folder.name}",
            self._refused[0][1],
        )

    def remove(self) -> None:
        """All of it has arrived, or is of no use."""
        self._records.unlink(missing_ok=True)  # first: without it the rest is no record
        shutil.rmtree(self.folder, ignore_errors=True)


def spool_of(store: Store, study: str, number: int) -> Path:
    """Where the record of a trial waits."""
    return spools(store) / f"{study}-{number:04d}"


def spools(store: Store) -> Path:
    """Where all records wait.

    Raises:
        ConfigError: it is a link that leads out of the store.
    """
    return inside(store.folder, store.folder / SPOOL)
