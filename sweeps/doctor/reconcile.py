"""Compares what Optuna and MLflow hold of one sweep, and makes them agree."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mlflow import MlflowClient
from mlflow.entities import Run, RunStatus
from optuna.trial import FrozenTrial, TrialState

from sweeps.doctor.finding import Finding
from sweeps.doctor.repairs import (
    remove_surplus,
    remove_unknown_parents,
    repair_registry,
    restore_deleted,
)
from sweeps.endings import ending, run_status
from sweeps.lifecycle.losses import find_lost, recover
from sweeps.record.delivery import deliver_all
from sweeps.record.outbox import OUTBOXES, RECORDS
from sweeps.schema import (
    CHECKED,
    CONFIG_FILE,
    COPIED_FROM,
    PARENT_RUN,
    POLICY_FILE,
    REASON,
    REMOVED,
    RUN_ID,
    TRIAL_NUMBER,
    TRIAL_STATE,
    WORKER,
    seed_folder,
)
from sweeps.store import presence
from sweeps.store.mlflow_client import PAGE_SIZE
from sweeps.store.presence import Presence
from sweeps.sweep import Sweep, trial_runs


def reconcile(sweep: Sweep, *, dry_run: bool, first: int = 0) -> Iterator[Finding]:
    """Every difference between the databases about one sweep; trials before `first` are skipped."""
    yield from restore_deleted(sweep, dry_run=dry_run)
    if presence.missing_entity(sweep.store, sweep.optuna) is not None:
        return  # nothing can be written there
    for finding in deliver_records(sweep, dry_run=dry_run):
        yield finding
        if not finding.repaired:
            return  # MLflow does not answer
    yield from requeue_lost(sweep, dry_run=dry_run)
    trials = sweep.read_trials()  # before their runs: a trial ends after its run
    yield from close_unknown_runs(sweep, trials.all, dry_run=dry_run)
    yield from compare_trials(sweep, trials.all[first:], dry_run=dry_run)
    client = sweep.store.runs()
    if not trials.running and is_open(client.get_run(sweep.run_id)):
        yield Finding(
            f"the run of {sweep.study.name} is open, but none of its trials is running: closed"
        )
        if not dry_run:
            client.set_terminated(sweep.run_id, "FINISHED" if trials.over else "KILLED")
    yield from remove_unknown_parents(sweep, dry_run=dry_run)
    yield from repair_registry(sweep, dry_run=dry_run)
    yield from remove_surplus(sweep, dry_run=dry_run)


def first_to_check(sweep: Sweep) -> int:
    """The first trial that had not ended, or was not in order, at the last check."""
    return int(sweep.optuna.user_attrs.get(CHECKED, 0))


def note_check(sweep: Sweep, findings: Sequence[Finding]) -> None:
    """Note up to which trial everything is in order: the next start skips those trials."""
    left = [finding for finding in findings if not finding.repaired]
    if any(finding.trial is None for finding in left):
        return  # it may concern any trial
    trials = sweep.read_trials().all
    open_trials = [trial.number for trial in trials if not trial.state.is_finished()]
    numbers = [finding.trial for finding in left if finding.trial is not None]
    first = min([*open_trials, *numbers, len(trials)])
    if first != first_to_check(sweep):
        sweep.optuna.set_user_attr(CHECKED, first)


def deliver_records(sweep: Sweep, *, dry_run: bool) -> Iterator[Finding]:
    """Deliver the records of ended trials."""
    name, outboxes = sweep.study.name, sweep.store.folder / OUTBOXES
    trials = sweep.read_trials().all
    ended = {f"{name}-{trial.number:04d}" for trial in trials if trial.state.is_finished()}
    count = sum(path.parent.name in ended for path in outboxes.glob(f"*/{RECORDS}"))
    if count:
        obstacle = "" if dry_run else deliver_all(sweep.store)
        why = f", and MLflow does not answer: {obstacle}" if obstacle else ""
        yield Finding(f"undelivered records of {name}: {count}{why}", repaired=not obstacle)


def requeue_lost(sweep: Sweep, *, dry_run: bool) -> Iterator[Finding]:
    """Close and queue again the trials whose worker ended without closing them."""
    if dry_run:
        trials = find_lost(sweep)  # without the lock, which is a file
    else:
        with sweep.store.lock:
            trials = find_lost(sweep)
            if trials:
                recover(sweep)
        deliver_all(sweep.store)
    for trial in trials:
        text = (
            f"trial {trial.number} of {sweep.study.name} lost its worker: closed and queued again"
        )
        yield Finding(text)


def close_unknown_runs(
    sweep: Sweep, trials: Sequence[FrozenTrial], *, dry_run: bool
) -> Iterator[Finding]:
    """Close the open runs whose trial has ended, with another run or none."""
    client = sweep.store.runs()
    known = {trial.user_attrs.get(RUN_ID) for trial in trials}
    ended = {str(trial.number) for trial in trials if trial.state.is_finished()}
    for run in trial_runs(sweep, "attributes.status = 'RUNNING'"):
        if run.info.run_id not in known and run.data.tags.get(TRIAL_NUMBER) in ended:
            yield Finding(
                f"{run.info.run_name} of {sweep.study.name} is open, but no trial knows it: closed"
            )
            if not dry_run:
                client.set_tag(run.info.run_id, REASON, "no trial knows this run")
                client.set_terminated(run.info.run_id, "FAILED")


def compare_trials(
    sweep: Sweep, trials: Sequence[FrozenTrial], *, dry_run: bool
) -> Iterator[Finding]:
    """Compare every trial that has ended with its run."""
    ended = [
        trial
        for trial in trials
        # the run of a copy is among those of the sweep that trained it
        if trial.state.is_finished()
        and trial.datetime_start
        and COPIED_FROM not in trial.user_attrs
    ]
    runs = runs_of(sweep, {str(trial.user_attrs.get(RUN_ID)) for trial in ended})
    for trial in ended:
        run = runs.get(str(trial.user_attrs.get(RUN_ID)))
        if run is not None:
            yield from compare_trial(sweep, trial, run, dry_run=dry_run)
        elif trial.state == TrialState.COMPLETE:
            yield Finding(unrecorded(sweep, trial), repaired=False, trial=trial.number)


def runs_of(sweep: Sweep, wanted: set[str]) -> dict[str, Run]:
    """Runs of a sweep's trials by id, all `wanted` ones among them that exist.

    The newest come first and reading stops early: after a check only a few new ones are wanted.
    """
    runs: dict[str, Run] = {}
    if not wanted:
        return runs
    for run in trial_runs(sweep, page_size=min(PAGE_SIZE, 2 * len(wanted) + 8)):
        runs[run.info.run_id] = run
        if wanted <= runs.keys():
            break
    return runs


def is_open(run: Run) -> bool:
    """Whether MLflow shows it as running."""
    return not RunStatus.is_terminated(RunStatus.from_string(run.info.status))


def unrecorded(sweep: Sweep, trial: FrozenTrial) -> str:
    """Why a finished trial has no run, and what is kept of it."""
    name = f"trial {trial.number} of {sweep.study.name}"
    if RUN_ID in trial.user_attrs:
        entity = presence.find_run(sweep.store.runs(), str(trial.user_attrs[RUN_ID]))
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
        left += f", unless its record is kept on {host}: run doctor there to deliver it"
    return f"{name} has no run in MLflow: {left}"


def compare_trial(
    sweep: Sweep, trial: FrozenTrial, run: Run, *, dry_run: bool
) -> Iterator[Finding]:
    """Make the run of a trial agree with it; report what is missing in the run."""
    name, client = f"trial {trial.number} of {sweep.study.name}", sweep.store.runs()
    status, state = run_status(ending(trial)), trial.state.name
    recorded = run.data.tags.get(TRIAL_STATE)
    if (run.info.status, recorded) != (status, state):
        yield Finding(
            f"{name} is {state}, its run is {run.info.status} with {TRIAL_STATE} {recorded}: set "
            f"to {status} with {state}"
        )
        if not dry_run:
            client.set_tag(run.info.run_id, TRIAL_STATE, state)
            client.set_terminated(run.info.run_id, status)
    if trial.state == TrialState.COMPLETE:
        missing = missing_files(client, run, seeds=sweep.study.settings.seeds_per_trial)
        if REMOVED in trial.user_attrs:  # its study keeps the weights of other trials
            missing = [name for name in missing if not name.endswith(POLICY_FILE)]
        if missing:
            text = f"{name} lacks {', '.join(missing)}: its record is incomplete"
            yield Finding(text, repaired=False, trial=trial.number)


def missing_files(client: MlflowClient, run: Run, *, seeds: int) -> Sequence[str]:
    """Which of its config and weights the run of a finished trial lacks."""
    wanted = [CONFIG_FILE, *(seed_folder(seed, of=seeds) + POLICY_FILE for seed in range(seeds))]
    existing = {
        artifact.path
        for folder in {name.rpartition("/")[0] for name in wanted}
        for artifact in client.list_artifacts(run.info.run_id, folder)
    }
    return [name for name in wanted if name not in existing]
