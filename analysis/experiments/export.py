"""python -m analysis export: writes what the trainings of a study with points came to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Final

from optuna.trial import FrozenTrial, TrialState

from analysis.experiments.landscape import Measured, flown, lines_of, rounded
from analysis.experiments.results import (
    PACKAGES,
    Outcome,
    Training,
    curve_of,
    recorded,
    results_path,
    sampled_returns,
    trainings,
)
from analysis.load import load_curves
from lander.errors import ConfigError
from lander.files import write_aside
from lander.metrics import EVAL_RETURN, TRAIN_RETURN
from lander.terminal import say
from sweeps.cli import one_thread
from sweeps.endings import seconds
from sweeps.hints import hint
from sweeps.lifecycle.points import given, point_names
from sweeps.publish.policies import policy_of
from sweeps.run.cores import usable_cores
from sweeps.run.objective import trial_seeds
from sweeps.schema import CPU_MODEL, POINT, RETURNS, RUN_ID, VERSION
from sweeps.scores import mean
from sweeps.store.presence import require_recorded
from sweeps.store.store import Store, quiet
from sweeps.sweep import Sweep, open_sweep, trial_runs

Trained = Mapping[Training, FrozenTrial]
"""The finished trial of every training of a study."""
EVERY: Final = 50
"""After so many flown policies a line is printed; fewer are not worth another process."""


def export(store: Store, name: str) -> Path:
    """Write the results of a study from its records; the file's path.

    Raises:
        ConfigError: no such study, no points, trainings are missing, or the file cannot be written.
    """
    sweep = opened(store, name)
    require_recorded(store, sweep.optuna)
    trials = finished_trials(sweep)
    path = results_path(name)
    try:
        path.parent.mkdir(exist_ok=True)
        with write_aside(path) as aside, aside.open("w") as file:
            for line in lines(sweep, trials):
                file.write(f"{line}\n")
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from None
    return path


def lines(sweep: Sweep, trials: Trained) -> Iterator[str]:
    """The lines of the file: every episode of named points, means of drawn ones."""
    if sweep.study.points:
        return (outcome.line for outcome in outcomes_of(sweep, trials))
    return lines_of(measured_of(sweep, trials))


def finished_trials(sweep: Sweep) -> dict[Training, FrozenTrial]:
    """The finished trial of every training of a study, in order.

    Raises:
        ConfigError: some are missing, or it has no points.
    """
    study = sweep.study
    if not point_names(study) or study.confirms:
        raise ConfigError(f"study {study.name} has no points, whose results could be exported")
    finished = {
        (str(trial.user_attrs[POINT]), *trial_seeds(trial, study)): trial
        for trial in given(sweep.read_trials().counted)
        if trial.state == TrialState.COMPLETE
    }
    missing = [training for training in trainings(study) if training not in finished]
    if missing:
        first = ", seed ".join(map(str, missing[0]))
        run = hint("sweep", sweep.store.folder, study=study.name)
        raise ConfigError(
            f"{len(missing)} trainings of {study.name} are missing, the first: {first}; run {run}"
        )
    return {training: finished[training] for training in trainings(study)}


def outcomes_of(sweep: Sweep, trials: Mapping[Training, FrozenTrial]) -> Iterator[Outcome]:
    """The outcome of each trial by its record; its policy is flown with sampled actions."""
    client = sweep.store.runs()
    returns, checkpoints = load_curves(sweep, TRAIN_RETURN), load_curves(sweep, EVAL_RETURN)
    for (point, seed), trial in trials.items():
        learning, ends = (own[own["trial"] == trial.number] for own in (returns, checkpoints))
        trained = policy_of(sweep, trial)
        tags = client.get_run(str(trial.user_attrs[RUN_ID])).data.tags
        yield Outcome(
            point=point,
            seed=seed,
            config=recorded(trained.config),
            env_steps=int(ends["env_steps"].max()),
            returns=tuple(trial.user_attrs[RETURNS][0]),
            seconds=round(seconds(trial) or 0.0, 1),
            machine=tags[CPU_MODEL],
            versions={name: tags[VERSION + name] for name in PACKAGES},
            sampled=sampled_returns(trained.policy, trained.config),
            curve=curve_of(
                list(zip(learning["env_steps"].tolist(), learning["value"].tolist(), strict=True)),
                ends["env_steps"].tolist(),
            ),
        )


def measured_of(sweep: Sweep, trials: Trained) -> Iterator[Measured]:
    """What each training came to by its record; its policy is flown on the unseen episodes, which
    takes seconds: on every core if there are many."""
    runs = {run.info.run_id: run for run in trial_runs(sweep)}
    tags = [runs[str(trial.user_attrs[RUN_ID])].data.tags for trial in trials.values()]
    measure = partial(measured, sweep.store, sweep.study.name)
    workers = min(usable_cores(), len(trials) // EVERY)
    with ProcessPoolExecutor(
        max(1, workers), mp_context=get_context("spawn"), initializer=one_thread
    ) as pool:
        mapped = pool.map if workers > 1 else map
        for count, each in enumerate(mapped(measure, trials, trials.values(), tags), 1):
            if count % EVERY == 0:
                say(f"{count} of {len(trials)} policies flown")
            yield each


def measured(
    store: Store, name: str, training: Training, trial: FrozenTrial, tags: Mapping[str, str]
) -> Measured:
    """What one training came to."""
    trained = policy_of(opened(store, name), trial)
    # Optuna's value is the mean over a point's trainings
    (final,) = rounded([mean(trial.user_attrs[RETURNS][0])])
    point, seed = training
    reported = trial.intermediate_values
    report, success = flown(trained.policy, trained.config)
    return Measured(
        point=point,
        seed=seed,
        config=recorded(trained.config),
        checkpoints=rounded([reported[step] for step in sorted(reported)]),
        final=final,
        report=report,
        success=success,
        seconds=round(seconds(trial) or 0.0, 1),
        machine=tags[CPU_MODEL],
        versions={package: tags[VERSION + package] for package in PACKAGES},
    )


@cache
def opened(store: Store, name: str) -> Sweep:
    """A sweep, once per process, whose libraries say nothing."""
    quiet()
    return open_sweep(store, name)
