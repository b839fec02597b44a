"""Every name under which something is recorded, grouped by what carries it.

The strings never change, because stores that earlier versions wrote are opened by them. A name that
several carriers share stands with the first of them. `lander.metrics` has the names of the numbers
that a training itself makes. The docstrings are the reference in docs/: tests hold that every name
has one, and that no other file of `sweeps` and `analysis` spells a name.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

# --- words: the values of some tags and attributes ---


class Role(StrEnum):
    """What a run stands for: the value of `sweeps.role`."""

    STUDY = "study"
    """A whole sweep."""
    CONFIRMATION = "confirmation"
    """A whole confirmation."""
    TRIAL = "trial"
    """A trial of a sweep."""
    CONFIRMATION_TRIAL = "confirm"
    """A trial of a confirmation."""
    REPLAY = "replay"
    """A trial that was trained again to compare."""


class Ending(StrEnum):
    """How a trial ended, or that it has not yet: the word in every table.

    `sweeps.endings` derives it from a trial's state and its reason.
    """

    FINISHED = "finished"
    """Trained to its end."""
    PRUNED = "pruned"
    """Ended early, because it was behind others."""
    EXPIRED = "expired"
    """Ended early, because it took longer than the study allows."""
    FAILED = "failed"
    """An error, or a training that diverged."""
    INTERRUPTED = "interrupted"
    """Another trial retries it."""
    LOST = "lost"
    """Its worker is gone; another trial retries it, once."""
    RETRIED = "retried"
    """An error; another trial retries it, as often as the study allows."""
    WITHDRAWN = "withdrawn"
    """Removed from the queue, because the budget has shrunk; in a fork: left out, because it does
    not fit."""
    RUNNING = "running"
    """A worker trains it."""
    WAITING = "waiting"
    """In the queue."""


class Reason(StrEnum):
    """Reasons among the values of `sweeps.reason`; all others are the text of an error."""

    INTERRUPTED = "interrupted"
    """By Ctrl-C or another signal."""
    LOST = "worker lost"
    """Its worker was killed, or sends no heartbeat."""
    LOST_AGAIN = "worker lost twice"
    """The retry was lost as well: it may be this trial that kills its workers."""
    WITHDRAWN = "withdrawn"
    """Removed from the queue, because the budget has shrunk."""
    DIVERGED = "diverged"
    """Followed by a colon and what is no longer finite."""
    EXPIRED = "expired"
    """Followed by a colon and the limit of the study."""
    RETRIED = "retried"
    """Followed by a colon and the text of an error."""


class Verdict(StrEnum):
    """The result of a replay: the value of `sweeps.verdict`."""

    PASS = "PASS"
    """Equal to the last bit."""
    CONSISTENT = "CONSISTENT"
    """Some number differs, on another processor or version of torch; the final return is one that
    another training seed may give as well."""
    FAIL = "FAIL"
    """Some number differs, and nothing explains it."""


class TimePart(StrEnum):
    """What a trial spends time on besides training; see `sweeps.seconds`."""

    EVALUATION = "evaluation"
    """The deterministic and the sampled episodes."""
    MLFLOW = "mlflow"
    """Writing the record."""
    GIF = "gif"
    """Drawing the landing."""
    MODEL = "model"
    """Saving the policy as a LoggedModel."""


# --- user attributes of an Optuna study ---

SWEEP_ID: Final = "sweeps.id"
"""A random id, the same for a sweep and its confirmation. Also a tag of the experiment, of the runs
of both, of the registered model and of its versions."""
DEFINITION: Final = "study.toml"
"""The text of the study file; also an artifact of the sweep's run."""
BASE: Final = "sweeps.base"
"""Every field of the base, resolved, as at the start: a study file may leave out fields, and later
code may change their defaults."""
ARTIFACTS_URI: Final = "sweeps.artifacts"
"""Where the store kept its artifacts at the start; a store that was moved is recognised by it."""
EXPERIMENT_ID: Final = "mlflow.experiment_id"
"""Its MLflow experiment."""
RUN_ID: Final = "mlflow.run_id"
"""Its MLflow run; also an attribute of a trial."""
BUDGET: Final = "sweeps.budget"
"""How many trials count when the sweep is over."""
STOPPED: Final = "sweeps.stopped"
"""Why the sweep stopped before all of its trials were done, by its [stop] table; empty if it goes
on."""
WINNER: Final = "sweeps.winner"
"""Number of the trial whose configuration is confirmed, None if none is; also a tag of the
confirmation's run."""
CONFIRMATION: Final = "sweeps.confirmation"
"""What the last confirmation says of the sweep, in one or two sentences."""
BEST_POLICY: Final = "sweeps.best_policy"
"""The policy that flew best on fresh episodes, and what it returned; also a tag of the sweep's run,
in words."""
CHECKED: Final = "sweeps.checked"
"""The first trial that the next check compares with its run; those before it are in order."""
FORK: Final = "sweeps.fork"
"""In a fork: the sweep that it began with, how many of its trials were copied, and how many numbers
they occupy."""
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
"""Why it failed or expired: a `Reason` or the text of an error; also a tag of its run."""
RETRY_OF: Final = "sweeps.retry_of"
"""Number of the first trial of the same parameters and seed, which was lost or interrupted, or
failed while retries were left; also a tag of its run."""
POINT: Final = "sweeps.candidate"
"""In a study with points: the name of its point. In a confirmation: number of the sweep's trial
that is trained again, or -1 for the tuned defaults. Also a tag of its run."""
SEED_INDEX: Final = "sweeps.test_seed"
"""In a study with points: which of the training seeds, 0, 1, .. In a confirmation choice seeds
count from 1000, report seeds from 2000. Also a tag of its run."""
GIVEN: Final = "sweeps.given"
"""`by hand`, if `sweeps try` queued it; also a tag of its run."""
COPIED_FROM: Final = "sweeps.copied_from"
"""In a fork: `STUDY trial N`, the trial of another sweep that it is a copy of. It was trained there
alone, and its run is that one's."""
RETURNS: Final = "sweeps.returns"
"""Return of each final episode: a list per training seed."""
SEED_SCORES: Final = "sweeps.seed_scores"
"""The score under each training seed; the key `training_score` of a study file says what it is."""
OWN_SCORE: Final = "sweeps.own_score"
"""That the score stands for nothing but itself, as an area or a time: no final return is expected
from it."""
SHOWN_SCORE: Final = "sweeps.score"
"""The metric `score` on its run."""
SHOWN_EXPECTED: Final = "sweeps.expected"
"""The metrics `expected_return`, `expected_return_error` and `rank` on its run."""
SHOWN_NOTE: Final = "sweeps.note"
"""A checksum of the description that its run shows."""
COST: Final = "sweeps.cost"
"""What it spent, by the names of its metrics, `cost/env_steps` and those that its worker measured.
Its seconds are those between `sweeps.started` and `sweeps.ended`, and `cost/helped_seconds`."""
CHOICE_RETURNS: Final = "sweeps.choice_returns"
"""Return of each choice episode that its policies flew to find the best one: a list per training
seed, empty if that one did not fly."""
TEST_RETURNS: Final = "sweeps.test_returns"
"""Return of each test episode, which only a best policy flies: a list per training seed."""

PRUNED_AT: Final = "sweeps.pruned_at"
"""Of a pruned trial: its last report. Its run has weights and a film of that moment."""
AUDITED: Final = "sweeps.audited"
"""Of a trial that the pruner would have ended and that was trained on for the audit: the report at
which it would have ended."""
REMOVED: Final = "sweeps.removed"
"""Addresses of the weights that are being removed, because the study keeps those of other trials;
empty once all of them are."""

FIXED_PARAMS: Final = "fixed_params"
"""A system attribute, Optuna's own: parameters that were given instead of drawn."""

# --- tags of an MLflow run ---

ROLE: Final = "sweeps.role"
"""What the run stands for: a `Role`."""
PARENT_RUN: Final = "mlflow.parentRunId"
"""On a trial's run: the run of its sweep."""
TRIAL_NUMBER: Final = "optuna.trial_number"
"""On a trial's run: number of its trial; also a tag of a version of the registered model."""
TRIAL_STATE: Final = "optuna.state"
"""On a trial's run: Optuna's state at the end, COMPLETE, PRUNED or FAIL."""
RECORD_KEY: Final = "sweeps.record"
"""On a trial's run: a key by which it is recognised if MLflow's answer to its creation was lost."""
SUPERSEDED: Final = "sweeps.superseded"
"""On a trial's run: `interrupted`, `lost` or `retried`, if it no longer counts because another one
retries it."""
WARNING: Final = "sweeps.warning"
"""Which optional part of the record is missing, and why."""
SECONDS: Final = "sweeps.seconds"
"""On a trial's run: how long it took; followed by a dot and a `TimePart`: how long that took."""
TRAINING_SEEDS: Final = "seeds.training"
"""On a trial's run: its training seeds."""
CHECKPOINT_SEEDS: Final = "seeds.checkpoint"
"""On a trial's run: the reset seeds of its checkpoints, first..last."""
FINAL_SEEDS: Final = "seeds.final"
"""On a trial's run: the reset seeds of its final episodes, first..last."""
PHYSICS: Final = "sweeps.physics"
"""On a trial's run: who computed the steps of its training, `lean` (`lander/lunar.py`), `stock`
(Gymnasium) or `envpool`."""
COMMAND: Final = "sweeps.command"
"""The command that made the run."""
COMMIT: Final = "mlflow.source.git.commit"
"""Commit of the code, with -dirty behind it if files were changed."""
UNCOMMITTED: Final = "sweeps.uncommitted"
"""On the run of a trial whose code had uncommitted changes: the patch with them, an artifact of its
sweep's run."""
VERSION: Final = "version."
"""Followed by the name of a package, or python: its version. Those behind the numbers have one."""
CPU_MODEL: Final = "cpu.model"
"""The processor."""
CPU_CAPABILITY: Final = "cpu.capability"
"""The vector instructions that torch uses."""
TORCH_THREADS: Final = "torch.threads"
"""The threads that torch uses."""

REPLAY_OF: Final = "sweeps.replay_of"
"""On a replay: the run that it repeats."""
VERDICT: Final = "sweeps.verdict"
"""On a replay: a `Verdict`."""

FORKED_FROM: Final = "sweeps.forked_from"
"""On a fork's run: the name of the sweep that it began with."""
BEST_TRIAL: Final = "sweeps.best_trial"
"""On a sweep's run: number of the best trial."""
TRIALS: Final = "sweeps.trials_"
"""On a sweep's run, followed by `finished`, `pruned`, `failed`, `expired`, `interrupted`, `lost` or
`retried`: how many trials ended so."""
NOTE: Final = "mlflow.note.content"
"""The description that the UI shows, Markdown; also a tag of the experiment."""

# --- tags of a version of the registered model ---

COMPARED: Final = "sweeps.compared"
"""How many policies flew the choice episodes with it; 0: it was compared with none."""
TRAINING: Final = "sweeps.training"
"""Which of its trial's trainings it is from, if there are several; also of a LoggedModel that is
not that of the median one."""

# --- tags of an MLflow experiment ---

EXPERIMENT_KIND: Final = "mlflow.experimentKind"
"""How the UI shows it."""
VIEW_STATE: Final = "mlflow.sharedViewState."
"""Followed by the key of a link of `make ui`: what it opens. `sweep`: the table and curves.
`fields`: the score over each field."""

# --- metrics of a trial's run: beside those of its training ---

SCORE: Final = "score"
"""What a sweep maximises, by the keys `score` and `training_score` of its study: unless they say
otherwise the mean of `final/return_mean` over all trainings of these parameters. Healthy: above 200
is solved."""
EXPECTED_RETURN: Final = "expected_return"
"""What these parameters are likely to return under a fresh training seed, on average, by all trials
of the sweep. Healthy: close to `score`, then little of it is luck."""
EXPECTED_ERROR: Final = "expected_return_error"
"""The standard error of `expected_return`. Healthy: small against the lead over the defaults."""
PROMISED_RETURN: Final = "promised_return"
"""The mean final return of the trainings of these parameters. Healthy: close to
`expected_return`."""
RANK: Final = "rank"
"""1 for the highest expected return. It and the three before it are rounded for the run table.
Healthy: 1."""
COST_SECONDS: Final = "cost/seconds"
"""How long the trial took, the writing of its record included. Healthy: falls with fewer steps,
fewer epochs and larger minibatches."""
COST_HELPED: Final = "cost/helped_seconds"
"""If other workers have trained under some of its seeds: how many seconds longer it would have
taken without them. Healthy: missing for most trials, as workers help when no trial is left."""
COST_STEPS: Final = "cost/env_steps"
"""Environment steps of its trainings. Healthy: the budget, or less if it was pruned."""
COST_CPU: Final = "cost/cpu_seconds"
"""Processor time of its worker meanwhile, in all threads, and that in which other workers trained
under its seeds. Healthy: close to `cost/seconds` and `cost/helped_seconds` together; less says that
more workers run than there are cores."""
COST_MEMORY: Final = "cost/peak_memory"
"""The most memory that its worker had ever used when the trial ended, in megabytes: a worker runs
many trials, and this number never falls. Healthy: the same for all but the first trials."""
COST_JOULES: Final = "cost/joules"
"""Energy of all processors of the machine meanwhile, whatever else ran on it; only where Linux lets
its counters be read. Healthy: like that of other trials with as many steps."""
CHOICE_RETURN: Final = "choice/return_mean"
"""If its policy was one of the leaders: mean return over the choice episodes, by which the best
policy is chosen. Healthy: close to `final/return_mean`, mostly lower."""
TEST_RETURN: Final = "test/return_mean"
"""If its policy was the best: mean return over the test episodes, by which nothing is chosen.
Healthy: close to `choice/return_mean`."""

# --- metrics of a sweep's run: over the number of trials that have ended ---

BEST_SCORE: Final = "best/score"
"""The score of the trial with the highest `expected_return`. Healthy: rises; it may fall as the
likely best becomes another one."""
BEST_EXPECTED: Final = "best/expected_return"
"""The likely return of that trial under a fresh seed. Healthy: rises."""
BEST_EXPECTED_ERROR: Final = "best/expected_return_error"
"""The standard error of `best/expected_return`. Healthy: falls."""
BEST_POLICY_CHOICE: Final = "best_policy/choice"
"""The best policy's mean return over the choice episodes; also a tag of its version of the
registered model. Healthy: rises."""
BEST_POLICY_TEST: Final = "best_policy/test"
"""The best policy's mean return over the test episodes, what to expect of it; also a tag of its
version. Healthy: rises."""
BEST_POLICY_SUCCESS_RATE: Final = "best_policy/success_rate"
"""Share of the test episodes that reach the solved return; also a tag of its version. Healthy:
towards 1."""

# --- metrics of a confirmation's run: over the number of its trials that have ended ---

CONFIRM_MEAN: Final = "confirm/mean"
"""Mean return over report seeds of the finalist that is confirmed, or else of the one that the
choice seeds prefer; all that follow are about it. Healthy: close to its score in the sweep."""
CONFIRM_MEAN_LOW: Final = "confirm/mean_low"
"""Lower end of the interval of `confirm/mean`, which holds together with that of the other
finalist. Healthy: above the mean of the base."""
CONFIRM_MEAN_HIGH: Final = "confirm/mean_high"
"""Upper end of that interval. Healthy: close to the lower end."""
CONFIRM_IQM: Final = "confirm/iqm"
"""Interquartile mean over report seeds. Healthy: close to the mean."""
CONFIRM_WORST_SEED: Final = "confirm/worst_seed"
"""Mean return under the worst report seed. Healthy: close to the mean."""
CONFIRM_SUCCESS_RATE: Final = "confirm/success_rate"
"""Share of all its test episodes that reach the solved return. Healthy: towards 1."""
CONFIRM_P_BETTER: Final = "confirm/p_better"
"""Probability that one of its trainings beats one of the base; missing if it is the base. Healthy:
towards 1."""
CONFIRM_GAIN: Final = "confirm/gain"
"""Its mean minus that of the base; missing if it is the base. Healthy: above 0, with its
interval."""
CONFIRM_OPTIMISM_GAP: Final = "confirm/optimism_gap"
"""Its score in the sweep minus `confirm/mean`. Healthy: small."""


def seed_folder(seed: int, *, of: int) -> str:
    """Prefix of the names of a training's curves and files; empty if its trial has only one."""
    return f"seed_{seed}/" if of > 1 else ""


def extremes(metric: str) -> tuple[str, str]:
    """Names of the least and the largest value over training seeds, from that of the mean."""
    stem = metric.removesuffix("_mean")
    return f"{stem}_min", f"{stem}_max"


# --- artifacts of a trial's run ---

CONFIG_FILE: Final = "config.toml"
"""Its config, resolved."""
POLICY_FILE: Final = "policy.pt"
"""The last weights."""
LANDING_GIF: Final = "landing.gif"
"""A film of the first final episode: score, this flight's return, clock. Of a pruned trial: of the
first episode of its last checkpoint."""
SEED_CURVES_FILE: Final = "seeds.png"
"""Learning curves of several training seeds."""
TRACEBACK_FILE: Final = "traceback.txt"
"""Of a failed trial: where the error was raised."""
MODEL: Final = "policy"
"""The policy as a LoggedModel, which is named after the run: raw observations in, actions out."""

# --- artifacts of a sweep's run ---

BASE_FILE: Final = "base.toml"
"""Every field of the base."""
UNCOMMITTED_FOLDER: Final = "uncommitted"
"""Folder of patches: what was changed in the code and not committed, one file for each state of it.
Secrets are masked, and changes of more than half a million characters are left out."""
BEST_GIF: Final = "best.gif"
"""The `landing.gif` of the best policy's trial."""
FLIGHTS_GIF: Final = "flights.gif"
"""Random actions, the defaults and the best policy in one episode; with the extra `video` the
report has it as MP4 too."""
REPORT_FOLDER: Final = "report"
"""The folder that the sweep writes at its end, and `make report` again."""


class Chart(StrEnum):
    """Charts of a whole sweep: the names of their files, which end in .png."""

    HISTORY = "history"
    """Return by trial."""
    SLICES = "slices"
    """Return over each searched field."""
    PARALLEL_COORDINATES = "parallel_coordinates"
    """Every finished trial across all fields."""
    IMPORTANCES = "importances"
    """Which field matters."""


# --- artifacts of a confirmation's run ---

CONFIRM_CHART: Final = "confirm.png"
"""Finalists and candidates under every seed."""
CONFIRM_TABLE: Final = "confirm.md"
"""The same as a table, with the verdict."""
CONFIRM_NUMBERS: Final = "confirm.json"
"""The same for programs: every elimination and the verdict, with the trainings and the p behind
them."""
WINNER_GIF: Final = "winner.gif"
"""A landing of the finalist whose numbers are shown."""

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
