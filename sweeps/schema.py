"""Every name under which something is recorded, grouped by what carries it.

The strings never change, because stores that earlier versions wrote are opened by them. A name that
several carriers share stands with the first of them. `lander.metrics` has the names of the numbers
that a training itself makes. README explains every name; tests hold that it lists all of them, and
that no other file of `sweeps` and `analysis` spells one.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

# --- words: the values of some tags and attributes ---


class Role(StrEnum):
    """What a run stands for: the value of `ROLE`."""

    STUDY = "study"
    """A whole sweep."""
    CONFIRMATION = "confirmation"
    """A whole confirmation."""
    TRIAL = "trial"
    CONFIRMATION_TRIAL = "confirm"
    REPLAY = "replay"
    """A trial that was trained again to compare."""


class Ending(StrEnum):
    """How a trial ended, or that it has not yet: the word in every table.

    `sweeps.endings` derives it from a trial's state and its reason.
    """

    FINISHED = "finished"
    PRUNED = "pruned"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    """Another trial retries it."""
    LOST = "lost"
    """Its worker is gone; another trial retries it, once."""
    WITHDRAWN = "withdrawn"
    """Removed from the queue, because the budget has shrunk."""
    RUNNING = "running"
    WAITING = "waiting"


class Reason(StrEnum):
    """Reasons of our own among the values of `REASON`; all others are the text of an error."""

    INTERRUPTED = "interrupted"
    LOST = "worker lost"
    LOST_AGAIN = "worker lost twice"
    """The retry was lost as well: it may be this trial that kills its workers."""
    WITHDRAWN = "withdrawn"
    DIVERGED = "diverged"
    """Followed by a colon and what is no longer finite."""


class Verdict(StrEnum):
    """The result of a replay: the value of `VERDICT`."""

    PASS = "PASS"
    FAIL = "FAIL"


class TimePart(StrEnum):
    """What a trial spends time on besides training; see `SECONDS`."""

    EVALUATION = "evaluation"
    MLFLOW = "mlflow"
    GIF = "gif"
    MODEL = "model"


# --- user attributes of an Optuna study ---

SWEEP_ID: Final = "sweeps.id"
"""Also a tag of the experiment, of its parent runs and of the registered model and its versions: a
sweep and its confirmation have the same."""
DEFINITION: Final = "study.toml"
"""The text of the study's file; also an artifact of its run."""
BASE: Final = "sweeps.base"
"""Every field of the base, resolved, as at the start: a study file may leave out fields, and later
code may change their defaults."""
ARTIFACTS_URI: Final = "sweeps.artifacts"
"""`Store.artifacts_uri` at the start; a store that was moved is recognised by it."""
EXPERIMENT_ID: Final = "mlflow.experiment_id"
RUN_ID: Final = "mlflow.run_id"
"""Also of a trial: its MLflow run."""
BUDGET: Final = "sweeps.budget"
"""How many trials count when the sweep is over."""
WINNER: Final = "sweeps.winner"
"""Number of the trial whose configuration is confirmed, None if none is; also a tag of the
confirmation's run."""
CONFIRMATION: Final = "sweeps.confirmation"
"""What the last confirmation says of it, in one or two sentences."""
BEST_POLICY: Final = "sweeps.best_policy"
"""The policy that flew best on fresh episodes, a `sweeps.store.best_policy.BestPolicy`; on the
sweep's run: in words."""
CHECKED: Final = "sweeps.checked"
"""The first trial that the next check compares with its run; those before it are in order."""
RACE: Final = "sweeps.race"
"""In a confirmation: its candidates and its plan, as `sweeps.confirm.Race` has them."""
LOOKS: Final = "sweeps.looks"
"""In a confirmation: the report seeds of each finalist at every look at the verdict."""

# --- user attributes of an Optuna trial ---

WORKER: Final = "sweeps.worker"
"""The process that runs it."""
STARTED: Final = "sweeps.started"
"""When a worker took it, ISO 8601 in UTC."""
ENDED: Final = "sweeps.ended"
"""When it was closed, ISO 8601 in UTC."""
REASON: Final = "sweeps.reason"
"""Why it failed: a `Reason` or the text of an error; also a tag of its run."""
RETRY_OF: Final = "sweeps.retry_of"
"""Number of the first trial of the same parameters and seed, which was lost or interrupted; also a
tag of its run, as are the next two."""
POINT: Final = "sweeps.candidate"
"""In a study with points: the name of its point. In a confirmation: number of the sweep's trial
that is trained again, or -1 for the tuned defaults."""
SEED_INDEX: Final = "sweeps.test_seed"
"""In a study with points: which of the training seeds, 0, 1, .. In a confirmation choice seeds
count from 1000, report seeds from 2000."""
RETURNS: Final = "sweeps.returns"
"""Return of each final episode: a list per training seed."""
SEED_SCORES: Final = "sweeps.seed_scores"
"""The score under each training seed; see `Settings.score_checkpoints`."""
SHOWN_SCORE: Final = "sweeps.score"
"""The value of the metric `SCORE` on its run."""
SHOWN_EXPECTED: Final = "sweeps.expected"
"""The metrics `EXPECTED_RETURN` and `RANK` on its run."""
SHOWN_NOTE: Final = "sweeps.note"
"""A checksum of the tag `NOTE` on its run."""
CHOICE_RETURNS: Final = "sweeps.choice_returns"
"""Return of each choice episode that its policies flew to find the best one: a list per training
seed, empty if that one did not fly."""
TEST_RETURNS: Final = "sweeps.test_returns"
"""The same for the test episodes, which only the best policy flies."""

FIXED_PARAMS: Final = "fixed_params"
"""A system attribute, Optuna's own: parameters that were given instead of drawn."""

# --- tags of an MLflow run ---

ROLE: Final = "sweeps.role"
"""A `Role`."""
PARENT_RUN: Final = "mlflow.parentRunId"
TRIAL_NUMBER: Final = "optuna.trial_number"
"""Also a tag of a version of the registered model."""
TRIAL_STATE: Final = "optuna.state"
"""Optuna's state at the end: COMPLETE, PRUNED or FAIL."""
RECORD_KEY: Final = "sweeps.record"
"""By which the run is recognised if MLflow's answer to its creation was lost."""
SUPERSEDED: Final = "sweeps.superseded"
"""The `Ending` of a trial that was lost or interrupted, and no longer counts."""
WARNING: Final = "sweeps.warning"
"""Which optional part of the record is missing, and why."""
SECONDS: Final = "sweeps.seconds"
"""How long the trial took; followed by a dot and a `TimePart`: how long that took."""
TRAINING_SEEDS: Final = "seeds.training"
CHECKPOINT_SEEDS: Final = "seeds.checkpoint"
FINAL_SEEDS: Final = "seeds.final"
PHYSICS: Final = "sweeps.physics"
"""Who computed the steps of its training: a `lander.lunar.Physics`."""
COMMAND: Final = "sweeps.command"
COMMIT: Final = "mlflow.source.git.commit"
VERSION: Final = "version."
"""Followed by the name of a package, or python: its version."""
CPU_MODEL: Final = "cpu.model"
CPU_CAPABILITY: Final = "cpu.capability"
"""The vector instructions that torch uses."""
TORCH_THREADS: Final = "torch.threads"

REPLAY_OF: Final = "sweeps.replay_of"
"""On a replay: the run that it repeats."""
VERDICT: Final = "sweeps.verdict"
"""On a replay: a `Verdict`."""

BEST_TRIAL: Final = "sweeps.best_trial"
"""On a sweep's run: number of the best trial."""
TRIALS: Final = "sweeps.trials_"
"""On a sweep's run, followed by an `Ending`: how many trials ended so."""
NOTE: Final = "mlflow.note.content"
"""On a run and on an experiment: the description that the UI shows, Markdown."""

# --- tags of a version of the registered model ---

COMPARED: Final = "sweeps.compared"
"""How many policies flew the choice episodes with it."""
TRAINING: Final = "sweeps.training"
"""Which of its trial's trainings it is from, if there are several; also of a LoggedModel that is
not that of the median one."""

# --- tags of an MLflow experiment ---

EXPERIMENT_KIND: Final = "mlflow.experimentKind"
VIEW_STATE: Final = "mlflow.sharedViewState."
"""Followed by the key of a link: the table that it opens in the UI."""

# --- metrics of an MLflow run ---

SCORE: Final = "score"
"""On a trial's run: what the sweep maximises."""
EXPECTED_RETURN: Final = "expected_return"
"""On a trial's run: the likely return of its parameters under fresh training seeds."""
EXPECTED_ERROR: Final = "expected_return_error"
"""Its standard error."""
PROMISED_RETURN: Final = "promised_return"
"""The mean final return of the trainings of these parameters."""
RANK: Final = "rank"
"""1 for the highest expected return; these four are rounded for the run table."""
BEST_SCORE: Final = "best/score"
"""On a sweep's run, over the number of trials, as are the next two: of its best trial."""
BEST_EXPECTED: Final = "best/expected_return"
BEST_EXPECTED_ERROR: Final = "best/expected_return_error"
CHOICE_RETURN: Final = "choice/return_mean"
"""On a trial's run, if its policy was one of the leaders: over the choice episodes."""
TEST_RETURN: Final = "test/return_mean"
"""On the run of a trial whose policy was the best: over the test episodes."""
BEST_POLICY_CHOICE: Final = "best_policy/choice"
"""On a sweep's run, over the number of trials, as are the next two: the best policy's; also tags of
its version of the registered model."""
BEST_POLICY_TEST: Final = "best_policy/test"
BEST_POLICY_SUCCESS_RATE: Final = "best_policy/success_rate"
CONFIRM_MEAN: Final = "confirm/mean"
"""On a confirmation's run, over the number of its trials, as are the next ones: the winner's."""
CONFIRM_MEAN_LOW: Final = "confirm/mean_low"
CONFIRM_MEAN_HIGH: Final = "confirm/mean_high"
CONFIRM_IQM: Final = "confirm/iqm"
CONFIRM_WORST_SEED: Final = "confirm/worst_seed"
CONFIRM_SUCCESS_RATE: Final = "confirm/success_rate"
CONFIRM_P_BETTER: Final = "confirm/p_better"
CONFIRM_GAIN: Final = "confirm/gain"
CONFIRM_OPTIMISM_GAP: Final = "confirm/optimism_gap"


def seed_folder(seed: int, *, of: int) -> str:
    """Prefix of the names of a training's curves and files; empty if its trial has only one."""
    return f"seed_{seed}/" if of > 1 else ""


def extremes(metric: str) -> tuple[str, str]:
    """Names of the least and the largest value over training seeds, from that of the mean."""
    stem = metric.removesuffix("_mean")
    return f"{stem}_min", f"{stem}_max"


# --- artifacts of an MLflow run ---

CONFIG_FILE: Final = "config.toml"
"""Of a trial, as are the next five."""
POLICY_FILE: Final = "policy.pt"
"""The last weights."""
LANDING_GIF: Final = "landing.gif"
SEED_CURVES_FILE: Final = "seeds.png"
"""With several training seeds."""
TRACEBACK_FILE: Final = "traceback.txt"
"""Of a failed trial."""
MODEL: Final = "policy"
"""The policy as a LoggedModel, which is named after the run."""

BASE_FILE: Final = "base.toml"
"""Of a sweep, as are the next five: `BASE`, as a file."""
BEST_GIF: Final = "best.gif"
FLIGHTS_GIF: Final = "flights.gif"
"""Random actions, the defaults and the best policy in one episode."""
REPORT_FOLDER: Final = "report"


class Chart(StrEnum):
    """Charts of a whole sweep: the names of their files, which end in .png."""

    HISTORY = "history"
    SLICES = "slices"
    PARALLEL_COORDINATES = "parallel_coordinates"
    IMPORTANCES = "importances"


CONFIRM_CHART: Final = "confirm.png"
"""Of a confirmation, as are the next three."""
CONFIRM_TABLE: Final = "confirm.md"
CONFIRM_NUMBERS: Final = "confirm.json"
WINNER_GIF: Final = "winner.gif"

# --- names of studies, experiments, runs and registered models ---

CONFIRM_SUFFIX: Final = "@confirm"
"""Ends the name of a confirmation, after the name of its sweep; no study file may use it."""
BEST_ALIAS: Final = "best"
"""Alias of the registered version of the best policy: it flew best on fresh episodes."""
CONFIRMED_ALIAS: Final = "confirmed"
"""Alias of the registered version of a configuration that was confirmed as the best."""


def run_name(role: Role, number: int) -> str:
    """Name of a trial's or a replay's run."""
    return f"{role}-{number:04d}"
