"""python -m sweeps doctor: what Optuna and MLflow say of each sweep, compared and made to agree."""

from __future__ import annotations

import argparse
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Final

from mlflow import MlflowClient
from mlflow.entities import Run, RunStatus
from optuna.trial import FrozenTrial, TrialState

from lander.fields import ConfigError
from lander.inside import inside, replacing
from lander.terminal import say
from sweeps.address import of_file
from sweeps.budget import WORKER
from sweeps.damage import readable
from sweeps.delivery import deliver_all, strays
from sweeps.endings import INTERRUPTED, REASON
from sweeps.hints import hint, no_sweep
from sweeps.recording import CONFIG, NUMBER, PARENT, POLICY, ROLE, RUN_ID, STATE, seed_folder
from sweeps.spool import RECORDS, SPOOL
from sweeps.storage import MLFLOW_FILE, PLACE, Store
from sweeps.sweep import Sweep, find_lost, is_created, open_sweep, recover

COLUMNS: Final = {
    "experiments": ("artifact_location",),
    "runs": ("artifact_uri",),
    "logged_models": ("artifact_location",),
    "model_versions": ("source", "storage_location"),
}
"""Where MLflow keeps absolute places."""
PAGE: Final = 1_000


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be, for people."""

    text: str
    mended: bool = True
    """It is by now, or would be without --dry-run; otherwise only a person can mend it."""


def doctor(args: argparse.Namespace) -> int:
    """Say what is wrong and mend it; 1 if something is left for people."""
    store = Store(args.store)
    if not store.exists:
        for name in store.study_names():
            store.load_study(name)  # or it says who keeps the rest
        raise ConfigError(no_sweep(store.folder))
    findings = told(store, dry_run=args.dry_run)
    if not findings:
        say(f"nothing is wrong in {store.folder}: {', '.join(store.study_names()) or 'no sweep'}")
    return 0 if all(finding.mended for finding in findings) else 1


def check_up(store: Store, name: str) -> None:
    """What precedes every resumption of a sweep: it begins with a store that is in order.

    Raises:
        ConfigError: a database is damaged, or of another version.
    """
    if store.exists and is_created(store, name):
        told(store)


def told(store: Store, *, dry_run: bool = False) -> list[Finding]:
    """Examine a store and print every finding, each when it is mended."""
    findings = []
    for finding in examine(store, dry_run=dry_run):
        done = "would mend" if dry_run else "mended"
        say(f"{done if finding.mended else 'left'}: {finding.text}")
        findings.append(finding)
    return findings


def examine(store: Store, *, dry_run: bool) -> Iterator[Finding]:
    """Every finding in a store, mended unless it is a dry run.

    Others may be at work in it.

    Raises:
        ConfigError: a database is damaged, or of another version.
    """
    require_sound(store)
    moved = list(locations(store, dry_run=dry_run))
    yield from moved
    if moved and dry_run:
        return  # until it is at home here nothing of it is found
    for name in store.study_names():
        try:
            sweep = open_sweep(store, name)
        except ConfigError as error:
            yield Finding(str(error), mended=False)
            continue
        except KeyError:
            remedy = hint("sweep", store.folder, study=name)
            yield Finding(f"{name} was only partly created: complete it: {remedy}", mended=False)
            continue
        try:
            yield from reconcile(sweep, dry_run=dry_run)
        except ConfigError as error:
            yield Finding(f"{name}: {error}", mended=False)
    for path, what in strays(store):
        yield Finding(f"{path} {what}", mended=False)


def require_sound(store: Store) -> None:
    """Raise ConfigError if pages of a database file are damaged."""
    for path in store.files:
        with readable(of_file(path), upgrade=""), closing(sqlite3.connect(path)) as connection:
            first = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if first != "ok":
                raise sqlite3.DatabaseError(first)


def locations(store: Store, *, dry_run: bool) -> Iterator[Finding]:
    """A store that was moved or copied: MLflow still looks for artifacts where it was before."""
    here = store.place
    for name in store.study_names():
        found = store.load_study(name, anywhere=True)
        before = str(found.user_attrs.get(PLACE, here))
        if before == here or not (before.startswith("file:") and here.startswith("file:")):
            continue
        yield Finding(f"{name} was written to {before}: its places now begin with {here}")
        if not dry_run:
            rewrite(store, before, here)
            found.set_user_attr(PLACE, here)


def rewrite(store: Store, before: str, here: str) -> None:
    """Every place of MLflow's that begins with `before`, at once or not at all; then the files of
    models that name theirs."""
    with closing(sqlite3.connect(store.folder / MLFLOW_FILE, timeout=60)) as connection, connection:
        for table, columns in COLUMNS.items():
            for column in columns:
                connection.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                    f"WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                    (here, len(before) + 1, before, len(before) + 1, before + "/"),
                )
    for path in inside(store.folder, store.artifacts).rglob("MLmodel"):
        if path.is_symlink() or not path.is_file():
            continue  # what it leads to is not the store's
        content = path.read_bytes()
        if before.encode() in content:
            with replacing(path) as aside:
                aside.write_bytes(content.replace(before.encode(), here.encode()))


def reconcile(sweep: Sweep, *, dry_run: bool) -> Iterator[Finding]:
    """Everything about one sweep in which the two halves differ."""
    for finding in undelivered(sweep, dry_run=dry_run):
        yield finding
        if not finding.mended:
            return  # MLflow does not answer
    yield from lost(sweep, dry_run=dry_run)
    client, trials = sweep.store.runs(), sweep.trials  # in this order: a trial ends after its run
    runs = {run.info.run_id: run for run in runs_of(client, sweep)}
    known = {trial.user_attrs.get(RUN_ID) for trial in trials}
    ended = {str(trial.number) for trial in trials if trial.state.is_finished()}
    for run_id, run in runs.items():
        if run_id not in known and run.data.tags.get(NUMBER) in ended and is_open(run):
            yield Finding(f"{run.info.run_name} of {sweep.study.name} runs, but no trial knows it")
            if not dry_run:
                client.set_tag(run_id, REASON, "no trial knows this run")
                client.set_terminated(run_id, "FAILED")
    for trial in trials:
        if trial.state.is_finished() and trial.datetime_start is not None:
            yield from mirrored(sweep, trial, runs, dry_run=dry_run)
    working = any(trial.state == TrialState.RUNNING for trial in trials)
    if not working and is_open(client.get_run(sweep.run_id)):
        yield Finding(f"the run of {sweep.study.name} is still open, but nobody works at it")
        if not dry_run:
            client.set_terminated(sweep.run_id, "KILLED" if sweep.left else "FINISHED")


def runs_of(client: MlflowClient, sweep: Sweep) -> Iterator[Run]:
    """The runs of its trials."""
    condition, token = f"tags.`{PARENT}` = '{sweep.run_id}'", None
    while True:
        page = client.search_runs(
            [sweep.experiment_id], condition, max_results=PAGE, page_token=token
        )
        yield from (run for run in page if run.data.tags.get(ROLE) != "replay")
        token = page.token
        if not token:
            return


def is_open(run: Run) -> bool:
    """MLflow takes it for running."""
    return not RunStatus.is_terminated(RunStatus.from_string(run.info.status))


def undelivered(sweep: Sweep, *, dry_run: bool) -> Iterator[Finding]:
    """Records of ended trials that wait for MLflow."""
    name, spool = sweep.study.name, sweep.store.folder / SPOOL
    ended = {f"{name}-{trial.number:04d}" for trial in sweep.trials if trial.state.is_finished()}
    count = sum(path.parent.name in ended for path in spool.glob(f"*/{RECORDS}"))
    if count:
        silence = "" if dry_run else deliver_all(sweep.store)
        why = f", and MLflow does not answer: {silence}" if silence else ""
        told = f"the records of {count} trials of {name} have not arrived in MLflow{why}"
        yield Finding(told, mended=not silence)


def lost(sweep: Sweep, *, dry_run: bool) -> Iterator[Finding]:
    """Trials that nobody closed when their worker ended."""
    with sweep.store.lock:
        gone = [trial.number for trial in find_lost(sweep)]
        if gone and not dry_run:
            recover(sweep)
    for number in gone:
        yield Finding(f"trial {number} of {sweep.study.name} lost its worker: closed, tried again")


def mirrored(
    sweep: Sweep, trial: FrozenTrial, runs: dict[str, Run], *, dry_run: bool
) -> Iterator[Finding]:
    """A trial that has ended, and its run."""
    name, client = f"trial {trial.number} of {sweep.study.name}", sweep.store.runs()
    run = runs.get(str(trial.user_attrs.get(RUN_ID)))
    if run is None:
        if trial.state == TrialState.COMPLETE:
            left = "nothing but its score is left"
            if sweep.store.tracked_remotely:
                host = trial.user_attrs.get(WORKER, "").partition(":")[0]
                left += f", unless its record waits on {host}: doctor there hands it over"
            yield Finding(f"{name} has no run in MLflow: {left}", mended=False)
        return
    wanted = status_of(trial)
    told = run.data.tags.get(STATE)
    if run.info.status != wanted or told != trial.state.name:
        yield Finding(
            f"{name} is {trial.state.name}, its run is {run.info.status} and says {told}: "
            f"{wanted} and {trial.state.name}"
        )
        if not dry_run:
            client.set_tag(run.info.run_id, STATE, trial.state.name)
            client.set_terminated(run.info.run_id, wanted)
    if trial.state == TrialState.COMPLETE:
        missing = missing_files(client, run, seeds=sweep.study.settings.seeds_per_trial)
        if missing:
            yield Finding(f"{name} lacks {', '.join(missing)}: no receipt without", mended=False)


def status_of(trial: FrozenTrial) -> str:
    """MLflow's word for how a trial ended."""
    if trial.state == TrialState.FAIL:
        return "KILLED" if trial.user_attrs.get(REASON) == INTERRUPTED else "FAILED"
    return "FINISHED" if trial.state == TrialState.COMPLETE else "KILLED"


def missing_files(client: MlflowClient, run: Run, *, seeds: int) -> Sequence[str]:
    """What a finished trial cannot be without: its config, and the weights of every training."""
    wanted = [CONFIG, *(seed_folder(seed, of=seeds) + POLICY for seed in range(seeds))]
    there = {
        artifact.path
        for folder in {name.rpartition("/")[0] for name in wanted}
        for artifact in client.list_artifacts(run.info.run_id, folder)
    }
    return [name for name in wanted if name not in there]
