"""The record of a trial on its way to MLflow: written to a local folder first, delivered in order.

This is a transactional outbox. The folder, STORE/spool/STUDY-NUMBER, holds `records.jsonl`, an
entry a line, and the files that entries name. An entry that may have arrived is delivered again,
which changes nothing: the run is known by its key, a point of a curve by name, step, time and
value, a description that the run has stays, and everything else replaces itself.

An entry that can never be delivered does not block the others: after them it is set aside in
STUDY-NUMBER.refused, with the files it names.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import ClassVar

from mlflow import MlflowClient
from optuna.trial import TrialState

from lander.files import inside, write_aside
from sweeps.endings import SUPERSEDING, ending_of, run_status
from sweeps.errors import one_line
from sweeps.record.entries import Batch, End, Entry, KnownRun, Point, RunBegun, as_line, read_entry
from sweeps.record.files import require_regular, set_aside, sync
from sweeps.record.mlflow_run import MlflowRun, key_of
from sweeps.schema import REASON, SUPERSEDED, TRIAL_STATE
from sweeps.store.mlflow_errors import Undeliverable, affects_every_record, is_retryable
from sweeps.store.store import Store

OUTBOXES = "spool"
"""Folder of a store with the outboxes of its trials."""
RECORDS = "records.jsonl"
REASONS = "reasons.txt"
"""Why each entry of an outbox that is set aside could not be delivered."""
POINTS_LIMIT = 1000
"""Points that MLflow takes in one call."""
PATIENCE = 100
"""After a call without an answer the next one waits this many times as long as it took, so that
an outage costs training at most a hundredth .."""
LONGEST = 300.0
""".. but no more seconds than these."""
INTERVAL = 5.0
"""Seconds between deliveries of a trial that runs: curves can be watched, and a trial that takes no
longer than that is delivered in one call at its end."""


@dataclass(frozen=True, eq=False)
class Line:
    """A line of an outbox."""

    text: bytes
    start: int
    """Its offset in the file."""

    @cached_property
    def entry(self) -> Entry | None:
        """None if it is damaged, which `read_entry` explains."""
        try:
            return read_entry(self.text)
        except Undeliverable:
            return None


class Outbox:
    """The record of one trial, of which MLflow may not have everything yet."""

    _not_before: ClassVar[dict[str, float]] = {}
    """By MLflow's address: when this process may call it again."""

    def __init__(
        self,
        folder: Path,
        client: MlflowClient,
        *,
        link: Callable[[str], None],
        run_id: str = "",
    ) -> None:
        """`link` is called with the id of the run once MLflow has one, unless `run_id` is given.

        Raises:
            OSError, Undeliverable: the folder exists, and cannot be read.
        """
        self.folder = folder
        self._client = client
        self._link = link
        self._linked = bool(run_id)
        self._records = folder / RECORDS
        begun = os.path.lexists(self._records)
        self._run = MlflowRun(folder, client, run_id=run_id, redelivery=begun)
        self._offset = 0
        """Up to where the lines were read."""
        self._waiting: list[Line] = []
        """Lines that were read and have not arrived."""
        self._delivered_at = time.monotonic()
        self._refused: list[tuple[Line, str]] = []
        """Lines that can never be delivered, and why."""
        self.obstacle = ""
        """Why the last delivery stopped before the end."""
        self.outage = False
        """Every other outbox would meet the same obstacle."""
        folder.mkdir(parents=True, exist_ok=True)
        if begun:  # a writer that was killed leaves half a line
            require_regular(self._records)
            lines, end, half = self._records.read_bytes().rpartition(b"\n")
            if half:
                os.truncate(self._records, len(lines + end))

    @property
    def is_empty(self) -> bool:
        """Whether no entry was written yet."""
        return not self._records.exists()

    def key(self, start: int) -> str:
        """The value of the tag `RECORD_KEY` for the run that begins at this time."""
        return key_of(self.folder, start)

    def write(self, entry: Entry) -> None:
        """Append an entry.

        Raises:
            OSError: the disk is full; nothing is appended.
        """
        line = as_line(entry)
        with self._records.open("ab") as file:
            size = file.tell()
            try:
                file.write(line)
                file.flush()
            except OSError:
                os.truncate(self._records, size)
                raise

    def points(self, points: Sequence[Point]) -> None:
        """Append points of curves, in batches: a call for each would cost 4 ms."""
        for start in range(0, len(points), POINTS_LIMIT):
            self.write(Batch(points=tuple(points[start : start + POINTS_LIMIT])))

    def end(self, state: TrialState, reason: str, tags: Mapping[str, str] | None = None) -> None:
        """Append the last entries of a record: how its trial ended, and why if it failed."""
        how = ending_of(state, reason)
        last = {TRIAL_STATE: state.name}
        if reason:
            last[REASON] = reason
        if how in SUPERSEDING:
            last[SUPERSEDED] = str(how)
        self.write(Batch(tags={**last, **(tags or {})}))
        self.write(End(run_status(how), int(time.time() * 1000)))

    @property
    def is_whole(self) -> bool:
        """Whether it still begins with its run; another process may have removed that part."""
        try:
            with self._records.open("rb") as records:
                return isinstance(read_entry(records.readline()), RunBegun | KnownRun)
        except (OSError, Undeliverable):
            return False

    def sync(self) -> None:
        """Force all of it onto the disk, so that no power cut loses it.

        Raises:
            OSError: the disk is full.
        """
        sync(self.folder, parents=2)

    @property
    def is_due(self) -> bool:
        """Whether the last delivery was long enough ago for another one before the end."""
        return time.monotonic() - self._delivered_at >= INTERVAL

    def deliver(self, *, now: bool = False) -> bool:
        """Deliver what has not arrived; True once each entry has arrived or can never be delivered.

        In few calls: the run first, then all points, parameters and tags together, then the rest.
        An MLflow that failed to answer lately is called only if the caller waits for it `now`.
        """
        started, address = time.monotonic(), str(self._client.tracking_uri)
        self.obstacle, self.outage = "", False
        if not now and started < Outbox._not_before.get(address, 0.0):
            self.obstacle, self.outage = "it did not answer a moment ago", True
            return False
        self._read_lines()
        while self._waiting:
            lines = next_call(self._waiting)
            error = self._attempt(lines)
            if error is not None and is_retryable(error):
                self._postpone(error, address, started)
                return False
            for line in lines:
                # together they were refused for one of them
                why = self._attempt([line]) if error is not None and len(lines) > 1 else error
                if why is not None and is_retryable(why):
                    self._postpone(why, address, started)
                    return False
                if why is not None:
                    self._refused.append((line, one_line(why)))
                self._waiting.remove(line)
        self._delivered_at = time.monotonic()
        return True

    def _read_lines(self) -> None:
        """Read what was written since the last time."""
        with self._records.open("rb") as records:
            records.seek(self._offset)
            for text in records:
                self._waiting.append(Line(text, self._offset))
                self._offset += len(text)

    def _attempt(self, lines: Sequence[Line]) -> Exception | None:
        """Deliver some lines in one call; the error if that fails."""
        try:
            self._run.deliver(merged([line.entry or read_entry(line.text) for line in lines]))
            if self._run.run_id and not self._linked:
                self._link(self._run.run_id)
                self._linked = True
        except Exception as error:
            return error
        return None

    def _postpone(self, error: Exception, address: str, started: float) -> None:
        """Note that MLflow gave no answer; do not call it for a while."""
        self._run.redelivery = True
        self.obstacle, self.outage = one_line(error), affects_every_record(error)
        ended = time.monotonic()
        pause = min(LONGEST, max(1.0, PATIENCE * (ended - started)))
        Outbox._not_before[address] = ended + pause

    def clean_up(self) -> None:
        """Remove what was delivered, after all of it was; set aside what never can be."""
        for folder in self._run.written:
            sync(folder)
        if not self._refused:
            self.remove()
            return
        for path in self._run.delivered:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        self._refused.sort(key=lambda refused: refused[0].start)
        lines = [line.text for line, _ in self._refused]
        if self._run.run_id:  # so that it can be delivered once it is renamed back
            known = as_line(KnownRun(self._run.run_id))
            lines = [known, *(line for line in lines if line != known)]
        reasons = "".join(f"{reason}\n" for _, reason in self._refused)
        (self.folder / REASONS).write_text(reasons, encoding="utf-8", errors="backslashreplace")
        with write_aside(self._records) as rest:
            rest.write_bytes(b"".join(lines))
        set_aside(
            self.folder,
            f"{len(self._refused)} of the records of {self.folder.name}",
            self._refused[0][1],
        )

    def remove(self) -> None:
        """Remove the folder, whatever it holds."""
        self._records.unlink(missing_ok=True)  # first: without it the rest is no record
        shutil.rmtree(self.folder, ignore_errors=True)


def next_call(waiting: Sequence[Line]) -> list[Line]:
    """The lines to deliver next: what begins the run; or as many points, parameters and tags as one
    call takes; or the first of the others."""
    begins = [line for line in waiting if isinstance(line.entry, RunBegun | KnownRun)]
    if begins:
        return begins[:1]
    batches, points, params = list[Line](), 0, set[str]()
    for line in waiting:
        if not isinstance(line.entry, Batch):
            continue
        points += len(line.entry.points)
        if batches and (points > POINTS_LIMIT or params & line.entry.params.keys()):
            break
        params.update(line.entry.params)
        batches.append(line)
    return batches or [waiting[0]]


def merged(entries: Sequence[Entry]) -> Entry:
    """One entry; several batches as one with the points of all in their order."""
    batches = [entry for entry in entries if isinstance(entry, Batch)]
    if len(batches) < 2:
        return entries[0]
    return Batch(
        points=tuple(chain.from_iterable(batch.points for batch in batches)),
        params=dict(chain.from_iterable(batch.params.items() for batch in batches)),
        tags=dict(chain.from_iterable(batch.tags.items() for batch in batches)),
    )


def outbox_path(store: Store, study: str, number: int) -> Path:
    """The folder of a trial's outbox, which need not exist."""
    return outboxes_path(store) / f"{study}-{number:04d}"


def outboxes_path(store: Store) -> Path:
    """The folder of all outboxes of a store, which need not exist.

    Raises:
        ConfigError: it is a link that leads out of the store.
    """
    return inside(store.folder, store.folder / OUTBOXES)
