"""The names of everything recorded: attributes of Optuna, tags, metrics and artifacts of MLflow."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

BASE: Final = "sweeps.base"
"""Optuna user attribute of a study: every field of its base, resolved, as it was started. What a
study file leaves out has the defaults of the code that starts it, which later code may change."""
BASE_FILE: Final = "base.toml"
"""The same, among the artifacts of the study's run."""

REASON: Final = "sweeps.reason"
"""Optuna user attribute of a trial, and tag of its run: why it failed."""
RETRY_OF: Final = "sweeps.retry_of"
"""Optuna user attribute of a trial: the number of the first trial of its parameters and seed, which
was lost or interrupted."""
SUPERSEDED: Final = "sweeps.superseded"
"""Tag of a run: its trial was lost or interrupted, and does not count."""
INTERRUPTED: Final = "interrupted"
LOST: Final = "worker lost"
LOST_AGAIN: Final = "worker lost twice"
"""Of a trial whose retry was lost as well: it may be the trial that ends its workers."""
WITHDRAWN: Final = "withdrawn"
"""Reason of a trial that is not to be run any more."""


class Ending(StrEnum):
    """What has become of a trial, in the word that every table uses."""

    FINISHED = "finished"
    PRUNED = "pruned"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    """Broken off, to be tried again."""
    LOST = "lost"
    """Its worker is gone; to be tried again, once."""
    WITHDRAWN = "withdrawn"
    """Never to be run: the budget has shrunk."""
    RUNNING = "running"
    WAITING = "waiting"


EXPERIMENT_ID: Final = "mlflow.experiment_id"
"""Optuna user attribute of a study."""


WINNER = "sweeps.winner"
"""Optuna user attribute of a study: the number of the trial that was confirmed as its best."""

PLACE = "sweeps.artifacts"
"""Optuna user attribute of a study: `Store.place` when it was started."""

STARTED: Final = "sweeps.started"
"""Optuna user attribute of a trial: when a worker took it, ISO 8601 in UTC."""
ENDED: Final = "sweeps.ended"
"""Optuna user attribute of a trial: when it was closed."""

BEST_TRIAL = "sweeps.best_trial"
"""Tag of a sweep's run: the trial that was published."""

CHECKED: Final = "sweeps.checked"
"""Optuna user attribute of a study: trials before this number had ended when they were last
compared with their runs, and nothing was wrong with them."""
WANTED = "sweeps.wanted"
"""Optuna user attribute of a confirmation: the test seeds and candidates last asked for."""

FIXED: Final = "fixed_params"
"""Optuna's system attribute of a trial whose parameters are given."""
CONFIRM = "@confirm"
"""What the name of a confirmation has behind that of its sweep; no study file can be called so."""

ROLE = "sweeps.role"
WARNING = "sweeps.warning"
"""Tag: what of a record is missing, and why. Nothing that the score depends on."""
STATE = "optuna.state"
SECONDS = "sweeps.seconds"
"""Tag: how long a trial took. With a dot and one of `PARTS` behind it: how long that did."""
PARTS = ("evaluation", "mlflow", "gif", "model")
"""What of a trial's time is not training."""
NUMBER = "optuna.trial_number"
PARENT = "mlflow.parentRunId"
RUN_ID = "mlflow.run_id"
"""Optuna user attribute of a study and of a trial: its MLflow run."""
DIVERGED = "diverged"

CONFIG = "config.toml"
POLICY = "policy.pt"
TRACEBACK = "traceback.txt"
GIF = "landing.gif"
MODEL = "policy"
SEED_CURVES = "seeds.png"
TRAINING_SEEDS = "seeds.training"
"""Tag: every training seed of a trial."""


def seed_folder(seed: int, *, of: int) -> str:
    """What stands before the names of a training's curves and files: nothing if it is the only
    one of its trial."""
    return f"seed_{seed}/" if of > 1 else ""


DEFINITION: Final = "study.toml"
"""Optuna user attribute of a study, and artifact of its run: the text of its file."""
SWEEP: Final = "sweeps.id"
"""Optuna user attribute of a study; tag of its experiment, its run and its registered model. A
sweep and its confirmation have the same."""

ALIAS: Final = "best"
RETURN: Final = "final/return_mean"

WORKER = "sweeps.worker"
"""Optuna user attribute of a trial: who runs it."""
BUDGET = "sweeps.budget"
"""Optuna user attribute of a study: how many trials count when it is over."""
CANDIDATE = "sweeps.candidate"
"""Optuna user attribute of a confirmation's trial: the trial of the sweep that it trains again."""
TEST_SEED_INDEX = "sweeps.test_seed"
"""Optuna user attribute of a confirmation's trial: under which of the test seeds."""
RETURNS = "sweeps.returns"
"""Optuna user attribute of a trial: return of each final episode, a list per training seed."""
SCORE: Final = "score"
"""Metric of a trial's run: what the sweep maximises. Of one training it is `final/return_mean`."""
SHOWN_SCORE: Final = "sweeps.score"
"""Optuna user attribute of a trial: the score that its run shows."""

KEY: Final = "sweeps.record"
"""Tag: by which a run is looked up if MLflow's answer to its creation was lost."""
