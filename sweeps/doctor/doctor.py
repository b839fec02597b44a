"""python -m sweeps doctor: examines a store and repairs what it can."""

from __future__ import annotations

import argparse
import sqlite3
from collections.abc import Iterator
from contextlib import closing, nullcontext
from dataclasses import replace
from typing import Final

from lander.errors import ConfigError
from lander.files import inside, write_aside
from lander.terminal import say
from sweeps.doctor.finding import Finding, report
from sweeps.doctor.reconcile import first_to_check, note_check, reconcile
from sweeps.hints import no_sweep
from sweeps.lifecycle.creation import belongs_to_another, is_created
from sweeps.record.delivery import strays
from sweeps.schema import ARTIFACTS_URI, EXPERIMENT_ID, ROLE, Role
from sweeps.store.database import explaining_errors, sqlite_url
from sweeps.store.database_files import MLFLOW_FILE, connect
from sweeps.store.mlflow_private import move_paths
from sweeps.store.presence import require_recorded
from sweeps.store.store import Store, snapshot
from sweeps.sweep import open_sweep

FOLDERS: Final = ("artifacts", "spool", "logs", "reports")
"""Of a store."""


def doctor(args: argparse.Namespace) -> int:
    """Print what is wrong and repair it; the exit code is 1 if something needs manual work."""
    store = Store(args.store)
    with snapshot(store) if args.dry_run else nullcontext(store) as examined:
        findings = report(examine(examined, dry_run=args.dry_run), dry_run=args.dry_run)
        names = ", ".join(examined.study_names())
    if not findings:
        say(f"nothing is wrong in {store.folder}: {names or 'no sweep'}")
    return 0 if all(finding.repaired for finding in findings) else 1


def check_up(store: Store, *names: str) -> None:
    """Examine and repair these sweeps before one of them is resumed.

    Only trials that have ended since the last check are compared with their runs.

    Raises:
        ConfigError: a database is damaged, or of another version; or the experiment or the run of
            a sweep was deleted, which only `doctor` restores.
    """
    created = [name for name in names if store.exists and is_created(store, name)]
    if not created:
        return
    require_sound(store)
    report(move_locations(store, dry_run=False))
    for name in created:
        sweep = open_sweep(store, name)
        require_recorded(store, sweep.optuna)
        note_check(sweep, report(reconcile(sweep, dry_run=False, first=first_to_check(sweep))))


def examine(store: Store, *, dry_run: bool) -> Iterator[Finding]:
    """Every finding in a store, repaired unless it is a dry run, which writes nothing to it.

    Workers may be running in it meanwhile.

    Raises:
        ConfigError: a database is damaged, missing, or of another version; or there is no sweep.
    """
    if dry_run and store.databases is None:
        with snapshot(store) as copy:
            yield from examine(copy, dry_run=True)
        return
    for finding in examine_all(store, dry_run=dry_run):
        text = finding.text
        if store.databases is not None:  # the findings name the copies
            text = text.replace(str(store.databases), str(store.folder.resolve()))
        yield replace(finding, text=text)


def examine_all(store: Store, *, dry_run: bool) -> Iterator[Finding]:
    """The findings of `examine`; with copied databases they name the paths of the copies."""
    if not store.exists:
        for name in store.study_names():
            store.load_study(name)  # raises, and names the half that is kept
        raise ConfigError(no_sweep(store.folder))
    require_sound(store)
    for path in (store.folder / name for name in FOLDERS):
        if path.exists() and not path.is_dir():
            yield Finding(
                f"{path} is a file, and should be a folder: move it aside", repaired=False
            )
    moved = list(move_locations(store, dry_run=dry_run))
    yield from moved
    if moved and dry_run:
        return  # MLflow looks for every artifact at its old path until that is repaired
    for name in store.study_names():
        try:
            sweep = open_sweep(store, name)
        except ConfigError as error:
            yield Finding(str(error), repaired=False)
            continue
        try:
            yield from reconcile(sweep, dry_run=dry_run)
        except ConfigError as error:
            yield Finding(f"{name}: {error}", repaired=False)
    yield from unknown_experiments(store)
    for path, what in strays(store):
        yield Finding(f"{path} {what}", repaired=False)


def unknown_experiments(store: Store) -> Iterator[Finding]:
    """Sweeps in MLflow's database that Optuna's does not have, or not any more."""
    if store.tracked_remotely:
        return  # they belong to other stores
    studies = [store.load_study(name, anywhere=True) for name in store.study_names()]
    known = {study.user_attrs.get(EXPERIMENT_ID) for study in studies}
    client = store.runs()
    for experiment in client.search_experiments():
        if experiment.experiment_id in known:
            continue
        query = f"tags.`{ROLE}` = '{Role.STUDY}'"
        if client.search_runs([experiment.experiment_id], query, max_results=1):
            yield Finding(belongs_to_another(store, experiment.name), repaired=False)


def require_sound(store: Store) -> None:
    """Raise ConfigError if pages of a database file are damaged."""
    for path in store.database_files:
        with (
            explaining_errors(sqlite_url(path), upgrade=""),
            closing(connect(path, "rw")) as connection,
        ):
            first = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if first != "ok":
                raise sqlite3.DatabaseError(first)


def move_locations(store: Store, *, dry_run: bool) -> Iterator[Finding]:
    """Update the paths of artifacts in a store that was moved or copied."""
    here = store.artifacts_uri
    for name in store.study_names():
        study = store.load_study(name, anywhere=True)
        before = str(study.user_attrs.get(ARTIFACTS_URI, here))
        if before == here or not (before.startswith("file:") and here.startswith("file:")):
            continue
        yield Finding(f"{name} was written to {before}: its artifact paths now begin with {here}")
        if not dry_run:
            update_paths(store, before, here)
            study.set_user_attr(ARTIFACTS_URI, here)


def update_paths(store: Store, before: str, here: str) -> None:
    """Replace `before` in every path that MLflow's database holds, in one transaction; then in the
    files of models."""
    with closing(connect(store.file(MLFLOW_FILE), "rw")) as connection, connection:
        move_paths(connection, before, here)
    for path in inside(store.folder, store.artifacts).rglob("MLmodel"):
        if path.is_symlink() or not path.is_file():
            continue  # a link may lead out of the store
        content = path.read_bytes()
        if before.encode() in content:
            with write_aside(path) as aside:
                aside.write_bytes(content.replace(before.encode(), here.encode()))
