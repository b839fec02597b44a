"""Compares what Optuna and MLflow say of one sweep, and makes them agree."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from mlflow import MlflowClient
from mlflow.entities import Run, RunStatus
from optuna.trial import FrozenTrial, TrialState

from sweeps.doctor.finding import Finding
from sweeps.doctor.leftovers import registry, restored, unknown_parents
from sweeps.endings import ending, run_status
from sweeps.lifecycle.losses import find_lost, recover
from sweeps.record.delivery import deliver_all
from sweeps.record.outbox import OUTBOXES, RECORDS
from sweeps.schema import (
    CHECKED,
    CONFIG_FILE,
    PARENT_RUN,
    POLICY_FILE,
    REASON,
    ROLE,
    RUN_ID,
    TRIAL_NUMBER,
    TRIAL_STATE,
    WORKER,
    Role,
    seed_folder,
)
from sweeps.store import presence
from sweeps.store.presence import Presence
from sweeps.sweep import Sweep

PAGE: Final = 1_000


def reconcile(sweep: Sweep, *, dry_run: bool, first: int = 0) -> Iterator[Finding]:
    """Everything about one sweep in which the two halves differ; of its trials from the first."""
    yield from restored(sweep, dry_run=dry_run)
    if presence.absent(sweep.store, sweep.optuna) is not None:
        return  # nothing can be written there
    for finding in undelivered(sweep, dry_run=dry_run):
        yield finding
        if not finding.mended:
            return  # MLflow does not answer
    yield from lost(sweep, dry_run=dry_run)
    trials = sweep.read_trials()  # before their runs: a trial ends after its run
    yield from unknown_runs(sweep, trials.all, dry_run=dry_run)
    yield from compared(sweep, trials.all[first:], dry_run=dry_run)
    client = sweep.store.runs()
    if not trials.running and is_open(client.get_run(sweep.run_id)):
        yield Finding(f"the run of {sweep.study.name} is still open, but nobody works at it")
        if not dry_run:
            client.set_terminated(
                sweep.run_id, "KILLED" if sweep.read_trials().left else "FINISHED"
            )
    yield from unknown_parents(sweep, dry_run=dry_run)
    yield from registry(sweep, dry_run=dry_run)


def first_to_check(sweep: Sweep) -> int:
    """The first trial that has not ended, or was not as it should be, at the last check."""
    return int(sweep.optuna.user_attrs.get(CHECKED, 0))


def note_check(sweep: Sweep, findings: Sequence[Finding]) -> None:
    """Note up to which trial everything is in order, so that the next start is as fast as ever."""
    left = [finding for finding in findings if not finding.mended]
    if any(finding.trial is None for finding in left):
        return  # it is not known whose fault that is
    trials = sweep.read_trials().all
    open_trials = [trial.number for trial in trials if not trial.state.is_finished()]
    numbers = [finding.trial for finding in left if finding.trial is not None]
    first = min([*open_trials, *numbers, len(trials)])
    if first != first_to_check(sweep):
        sweep.optuna.set_user_attr(CHECKED, first)


def undelivered(sweep: Sweep, *, dry_run: bool) -> Iterator[Finding]:
    """Records of ended trials that wait for MLflow."""
    name, outboxes = sweep.study.name, sweep.store.folder / OUTBOXES
    trials = sweep.read_trials().all
    ended = {f"{name}-{trial.number:04d}" for trial in trials if trial.state.is_finished()}
    count = sum(path.parent.name in ended for path in outboxes.glob(f"*/{RECORDS}"))
    if count:
        silence = "" if dry_run else deliver_all(sweep.store)
        why = f", and MLflow does not answer: {silence}" if silence else ""
        told = f"the records of {count} trials of {name} have not arrived in MLflow{why}"
        yield Finding(told, mended=not silence)


def lost(sweep: Sweep, *, dry_run: bool) -> Iterator[Finding]:
    """Trials that nobody closed when their worker ended."""
    if dry_run:
        gone = find_lost(sweep, sweep.read_trials())  # without the lock, which is a file
    else:
        with sweep.store.lock:
            gone = find_lost(sweep, sweep.read_trials())
            if gone:
                recover(sweep)
        deliver_all(sweep.store)
    for trial in gone:
        text = f"trial {trial.number} of {sweep.study.name} lost its worker: closed, tried again"
        yield Finding(text)


def unknown_runs(
    sweep: Sweep, trials: Sequence[FrozenTrial], *, dry_run: bool
) -> Iterator[Finding]:
    """Open runs whose trial has ended with another run, or none."""
    client = sweep.store.runs()
    known = {trial.user_attrs.get(RUN_ID) for trial in trials}
    ended = {str(trial.number) for trial in trials if trial.state.is_finished()}
    for run in search(client, sweep, "attributes.status = 'RUNNING'"):
        if run.info.run_id not in known and run.data.tags.get(TRIAL_NUMBER) in ended:
            yield Finding(f"{run.info.run_name} of {sweep.study.name} runs, but no trial knows it")
            if not dry_run:
                client.set_tag(run.info.run_id, REASON, "no trial knows this run")
                client.set_terminated(run.info.run_id, "FAILED")


def compared(sweep: Sweep, trials: Sequence[FrozenTrial], *, dry_run: bool) -> Iterator[Finding]:
    """Trials that have ended, each with its run."""
    ended = [trial for trial in trials if trial.state.is_finished() and trial.datetime_start]
    runs = runs_of(sweep, {str(trial.user_attrs.get(RUN_ID)) for trial in ended})
    for trial in ended:
        run = runs.get(str(trial.user_attrs.get(RUN_ID)))
        if run is not None:
            yield from mirrored(sweep, trial, run, dry_run=dry_run)
        elif trial.state == TrialState.COMPLETE:
            yield Finding(unrecorded(sweep, trial), mended=False, trial=trial.number)


def runs_of(sweep: Sweep, wanted: set[str]) -> dict[str, Run]:
    """Runs of its trials by their ids, those wanted among them; the youngest first, so that a few
    young ones are not looked for among all."""
    found: dict[str, Run] = {}
    if not wanted:
        return found
    for run in search(sweep.store.runs(), sweep, "", size=min(PAGE, 2 * len(wanted) + 8)):
        found[run.info.run_id] = run
        if wanted <= found.keys():
            break
    return found


def search(
    client: MlflowClient, sweep: Sweep, condition: str, *, size: int = PAGE
) -> Iterator[Run]:
    """The runs of its trials, the youngest first."""
    query = f"tags.`{PARENT_RUN}` = '{sweep.run_id}'" + (f" and {condition}" if condition else "")
    token = None
    while True:
        page = client.search_runs(
            [sweep.experiment_id],
            query,
            max_results=size,
            order_by=["attributes.start_time DESC"],
            page_token=token,
        )
        yield from (run for run in page if run.data.tags.get(ROLE) != Role.REPLAY)
        token = page.token
        if not token:
            return


def is_open(run: Run) -> bool:
    """MLflow takes it for running."""
    return not RunStatus.is_terminated(RunStatus.from_string(run.info.status))


def unrecorded(sweep: Sweep, trial: FrozenTrial) -> str:
    """Why a finished trial has no run, and what is left of it."""
    name = f"trial {trial.number} of {sweep.study.name}"
    if RUN_ID in trial.user_attrs:
        entity = presence.run(sweep.store.runs(), str(trial.user_attrs[RUN_ID]))
        if entity.presence == Presence.DELETED:
            return f"the run of {name} is in MLflow's trash: {entity.command(sweep.store)}"
        if entity.presence == Presence.GONE:
            return f"the run of {name} is gone from MLflow: nothing but its score is left"
        return f"the run of {name} is not among those of its sweep: its {PARENT_RUN} was changed"
    if WORKER not in trial.user_attrs:
        return f"{name} was added by another tool: it has a score, and no run in MLflow"
    left = "nothing but its score is left"
    if sweep.store.tracked_remotely:
        host = trial.user_attrs[WORKER].partition(":")[0]
        left += f", unless its record waits on {host}: doctor there hands it over"
    return f"{name} has no run in MLflow: {left}"


def mirrored(sweep: Sweep, trial: FrozenTrial, run: Run, *, dry_run: bool) -> Iterator[Finding]:
    """A trial that has ended, and its run."""
    name, client = f"trial {trial.number} of {sweep.study.name}", sweep.store.runs()
    wanted = run_status(ending(trial))
    told = run.data.tags.get(TRIAL_STATE)
    if run.info.status != wanted or told != trial.state.name:
        yield Finding(
            f"{name} is {trial.state.name}, its run is {run.info.status} and says {told}: "
            f"{wanted} and {trial.state.name}"
        )
        if not dry_run:
            client.set_tag(run.info.run_id, TRIAL_STATE, trial.state.name)
            client.set_terminated(run.info.run_id, wanted)
    if trial.state == TrialState.COMPLETE:
        missing = missing_files(client, run, seeds=sweep.study.settings.seeds_per_trial)
        if missing:
            text = f"{name} lacks {', '.join(missing)}: no receipt without"
            yield Finding(text, mended=False, trial=trial.number)


def missing_files(client: MlflowClient, run: Run, *, seeds: int) -> Sequence[str]:
    """What a finished trial cannot be without: its config, and the weights of every training."""
    wanted = [CONFIG_FILE, *(seed_folder(seed, of=seeds) + POLICY_FILE for seed in range(seeds))]
    there = {
        artifact.path
        for folder in {name.rpartition("/")[0] for name in wanted}
        for artifact in client.list_artifacts(run.info.run_id, folder)
    }
    return [name for name in wanted if name not in there]
