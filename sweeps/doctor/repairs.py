"""Restores what somebody deleted of a sweep in MLflow; removes what interrupted commands left."""

from __future__ import annotations

from collections.abc import Iterator

from sweeps.doctor.finding import Finding
from sweeps.hints import hint
from sweeps.lifecycle.creation import role
from sweeps.publish.best_policy import publish_best_policy
from sweeps.publish.keeping import freed, remove, surplus
from sweeps.publish.notes import Leaderboard
from sweeps.publish.registry import (
    NOBODY,
    describe_by_origin,
    is_described,
    models_of,
    registered_model,
    versions,
)
from sweeps.schema import (
    BEST_ALIAS,
    BEST_TRIAL,
    CONFIRM_SUFFIX,
    CONFIRMED_ALIAS,
    PARENT_RUN,
    RACE,
    ROLE,
    RUN_ID,
    SWEEP_ID,
    WINNER,
)
from sweeps.store import presence
from sweeps.store.best_policy import recorded_policy
from sweeps.store.mlflow_client import search_all_runs
from sweeps.store.presence import Presence
from sweeps.store.store import Store
from sweeps.sweep import Sweep


def restore_deleted(sweep: Sweep, *, dry_run: bool) -> Iterator[Finding]:
    """Take the experiment and the run of a sweep out of MLflow's trash."""
    client, name, before = sweep.store.runs(), sweep.study.name, None
    while True:
        entity = presence.missing_entity(sweep.store, sweep.optuna)
        if entity is None or entity == before:
            return
        if entity.presence == Presence.GONE:
            text = presence.explain_missing(sweep.store, sweep.optuna, entity)
            yield Finding(text, repaired=False)
            return
        yield Finding(
            f"the {entity.kind} of {name} is in MLflow's trash: restored, as by "
            f"{entity.command(sweep.store)}"
        )
        if not dry_run:
            entity.restore(client)
        before = entity


def remove_unknown_parents(sweep: Sweep, *, dry_run: bool) -> Iterator[Finding]:
    """Delete parent runs that no study knows and an interrupted start left.

    One that has trials stays: those trials are in another database of Optuna's.
    """
    client, store, name = sweep.store.runs(), sweep.store, sweep.study.name
    identity = sweep.optuna.user_attrs.get(SWEEP_ID)
    query = f"tags.`{ROLE}` = '{role(sweep.study)}'"
    for run in search_all_runs(client, sweep.experiment_id, query):
        run_id = run.info.run_id
        if run_id == sweep.run_id or run_id in known_parents(store):
            continue
        if store.tracked_remotely and run.data.tags.get(SWEEP_ID) != identity:
            continue  # it belongs to another store
        of_trials = f"tags.`{PARENT_RUN}` = '{run_id}'"
        if client.search_runs([sweep.experiment_id], of_trials, max_results=1):
            text = f"run {run_id} in the experiment of {name} has trials that no study here knows"
            yield Finding(text, repaired=False)
            continue
        yield Finding(
            f"run {run_id} was left by an interrupted start of {name}: moved to MLflow's trash"
        )
        if not dry_run:
            client.delete_run(run_id)


def known_parents(store: Store) -> set[str]:
    """Ids of the parent runs of all studies of a store."""
    studies = [store.load_study(name, anywhere=True) for name in store.study_names()]
    return {str(study.user_attrs.get(RUN_ID)) for study in studies}


def repair_registry(sweep: Sweep, *, dry_run: bool) -> Iterator[Finding]:
    """Complete the registered policies of a sweep that was published."""
    client, name = sweep.store.runs(), sweep.study.name
    tags = client.get_run(sweep.run_id).data.tags
    if sweep.study.confirms:
        yield from missing_confirmed(sweep, winner=tags.get(WINNER, NOBODY))
        return
    number = tags.get(BEST_TRIAL)
    if number is None:
        return
    model = registered_model(client, name)
    if model is None or BEST_ALIAS not in model.aliases:
        yield from restore_alias(sweep, int(number), dry_run=dry_run)
    for version in [] if model is None else versions(client, sweep):
        run_id = str(version.run_id)
        if is_described(version) or presence.find_run(client, run_id).presence == Presence.GONE:
            continue
        yield Finding(f"version {version.version} of models:/{name} has no description: added")
        if not dry_run:
            describe_by_origin(client, sweep, version)


def remove_surplus(sweep: Sweep, *, dry_run: bool) -> Iterator[Finding]:
    """Remove the weights that the study does not keep, and its last publication did not remove."""
    client, board = sweep.store.runs(), Leaderboard(sweep.read_trials())
    weights = surplus(client, sweep, board)
    if not weights:
        return
    text = freed(weights, keep=sweep.study.settings.keep)
    yield Finding(f"{sweep.study.name} still has {text}, removed")
    if not dry_run:
        with sweep.store.publication_lock:
            for one in surplus(client, sweep, board):
                remove(client, sweep, one)


def restore_alias(sweep: Sweep, number: int, *, dry_run: bool) -> Iterator[Finding]:
    """Register the best policy again after somebody deleted the registered model or its alias."""
    client, best = sweep.store.runs(), recorded_policy(sweep.optuna)
    run_id = best.run_id if best else str(sweep.read_trials().all[number].user_attrs[RUN_ID])
    if not models_of(client, sweep, run_id=run_id):
        return  # nothing to register: a tag of the run says why
    yield Finding(f"models:/{sweep.study.name}@{BEST_ALIAS} is gone: registered again")
    if not dry_run:
        warnings = list[str]()
        with sweep.store.publication_lock:  # two processes would each register it
            publish_best_policy(client, sweep, sweep.read_trials(), warnings)
        yield from (Finding(warning, repaired=False) for warning in warnings)


def missing_confirmed(confirmation: Sweep, *, winner: str) -> Iterator[Finding]:
    """Say which command registers a confirmed policy again whose alias or model was deleted."""
    name = confirmation.study.name.removesuffix(CONFIRM_SUFFIX)
    model = registered_model(confirmation.store.runs(), name)
    if winner == NOBODY or RACE not in confirmation.optuna.user_attrs:
        return  # without a race it was confirmed by an earlier version, which had no such alias
    if model is not None and CONFIRMED_ALIAS in model.aliases:
        return
    command = hint("confirm", confirmation.store.folder, study=name)
    text = f"models:/{name}@{CONFIRMED_ALIAS} is gone: {command} registers it again"
    yield Finding(text, repaired=False)
