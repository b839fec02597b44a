"""What a sweep leaves for its readers: figures, the registered best model, a page in the UI."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from optuna.trial import FrozenTrial, TrialState

from lander.terminal import say
from sweeps.charts.search import write_figures
from sweeps.endings import SETTLED, SUPERSEDING, ending
from sweeps.errors import redacted
from sweeps.hints import UI_PORT, hint
from sweeps.publish.registry import move_alias
from sweeps.record.delivery import drain
from sweeps.record.recorder import tolerated
from sweeps.schema import (
    BEST_ALIAS,
    BEST_GIF,
    BEST_SCORE,
    BEST_TRIAL,
    EXPERIMENT_KIND,
    LANDING_GIF,
    NOTE,
    ROLE,
    RUN_ID,
    SCORE,
    SHOWN_SCORE,
    SUPERSEDED,
    TRIALS,
    VIEW_STATE,
    WARNING,
    WINNER,
    Role,
)
from sweeps.scores import best_of, parameters, ranked
from sweeps.store.retry import RETRY_SECONDS
from sweeps.store.store import Store
from sweeps.store.trials import Trials
from sweeps.sweep import Sweep, open_sweep

VIEW = "sweep"
"""Key of the table that the printed link opens."""
HOST = "127.0.0.1"


def publish(sweep: Sweep, *, patience: float = RETRY_SECONDS) -> bool:
    """Figures and best.gif on the parent run, the best model registered, the parent run closed.

    What cannot be made is missing there, with a warning: the scores do not depend on it. Without
    an MLflow that answers within `patience` seconds all of it is. Whether no record of a trial
    waits for MLflow any more.
    """
    delivered = drain(sweep.store, seconds=patience, later="run the same command again")
    if not delivered and not answers(sweep):
        return False
    with sweep.store.publication_lock:  # two at once would each register the best model
        for warning in show(sweep):
            warn(warning)
    return delivered


def answers(sweep: Sweep) -> bool:
    """Whether MLflow does."""
    try:
        return bool(sweep.store.runs().get_run(sweep.run_id).info.run_id)
    except (MlflowException, OSError):
        return False


def show(sweep: Sweep) -> list[str]:
    """What `publish` does where MLflow answers; what is missing."""
    warnings = list[str]()
    sweep = open_sweep(sweep.store, sweep.study.name)  # by now every trial knows its run
    client, trials = sweep.store.runs(), sweep.read_trials()
    best = best_recorded(trials)
    if trials.best is not None and trials.best != best:
        warnings.append(
            f"trial {trials.best.number}, the best, has no run in MLflow: another one is published"
        )
    with tolerated(warnings, "a score"):
        correct_scores(client, sweep.store, trials)
    with tolerated(warnings, "a figure"), TemporaryDirectory() as folder:
        for path in write_figures(sweep.study, trials.counted, Path(folder)):
            client.log_artifact(sweep.run_id, str(path))
    if best is not None:
        best_run = str(best.user_attrs[RUN_ID])
        with tolerated(warnings, BEST_GIF), TemporaryDirectory() as folder:
            gif = client.download_artifacts(best_run, LANDING_GIF, folder)
            client.log_artifact(sweep.run_id, str(Path(gif).rename(Path(folder) / BEST_GIF)))
        if WINNER not in sweep.optuna.user_attrs:  # a higher score is not a better policy
            with tolerated(warnings, "the best policy in the registry"):
                move_alias(client, sweep, run_id=best_run)
    with tolerated(warnings, "the summary"):
        summarise(client, sweep, trials, warnings)
    return warnings


def best_recorded(trials: Trials) -> FrozenTrial | None:
    """The best trial that has a run in MLflow: one that another tool added has none to show."""
    return best_of([trial for trial in trials.all if RUN_ID in trial.user_attrs])


def warn(text: str) -> None:
    """One line beside what is printed."""
    say(f"sweeps: warning: {text}", error=True)


def summarise(client: MlflowClient, sweep: Sweep, trials: Trials, warnings: Sequence[str]) -> None:
    """The best score, how many trials ended how, and how to go on; the parent run closed."""
    best = best_recorded(trials)
    if best is not None:
        client.log_metric(sweep.run_id, BEST_SCORE, best.values[0], step=len(trials.all))
        client.set_tag(sweep.run_id, BEST_TRIAL, str(best.number))
    count = Counter(map(ending, trials.all))
    for how in (*SETTLED, *SUPERSEDING):
        client.set_tag(sweep.run_id, TRIALS + how, str(count[how]))
    describe(client, sweep, trials)
    if warnings or WARNING in client.get_run(sweep.run_id).data.tags:
        client.set_tag(sweep.run_id, WARNING, "; ".join(warnings))
    if not trials.running:  # nor is it resumed just now: that takes the lock that `publish` holds
        client.set_terminated(sweep.run_id, "KILLED" if trials.left else "FINISHED")


def correct_scores(client: MlflowClient, store: Store, trials: Trials) -> None:
    """The runs of equal parameters show what their last trial scored, which rests on all of them.

    So MLflow's table, sorted by the score, has the best trial first. Also of trials that a version
    without this metric has recorded.
    """
    finished = [trial for trial in trials.all if trial.state == TrialState.COMPLETE]
    final = {parameters(trial): trial.values[0] for trial in ranked(finished)}
    for trial in finished:
        score = final[parameters(trial)]
        if trial.user_attrs.get(SHOWN_SCORE) != score and RUN_ID in trial.user_attrs:
            client.log_metric(str(trial.user_attrs[RUN_ID]), SCORE, score, step=0)
            store.trials().set_late_attr(trial, SHOWN_SCORE, score)


def describe(client: MlflowClient, sweep: Sweep, trials: Trials) -> None:
    """The note that the UI shows on the experiment and on the parent run, and its table."""
    name, best, store = sweep.study.name, best_recorded(trials) or trials.best, sweep.store.folder
    lines = [
        f"**{name}**: PPO on `{sweep.study.base.env.id}`, {trials.total} trials of "
        f"{max(config.total_steps for config in sweep.study.configs):,} environment steps, "
        + ("of points that differ in " if sweep.study.has_points else "searching ")
        + ", ".join(f"`{field}`" for field in sweep.study.space)
        + "."
    ]
    if best is not None:
        lines += [
            "",
            f"Best: trial {best.number}, score {best.value:.1f} over "
            f"{sweep.study.base.final_episodes} episodes of fixed seeds. It is the best of "
            "many, so its score on fresh seeds will be lower; to measure it: "
            f"`{hint('confirm', store, study=name)}`",
            "",
            f"Reproduce it bit for bit: `{hint('reproduce', store, study=name, trial='best')}`",
            "",
            f"Its config: `{hint('export', store, study=name, trial='best')}`",
            "",
            f'Its policy: `mlflow.pytorch.load_model("models:/{name}@{BEST_ALIAS}")`',
        ]
    note = "\n".join(lines)
    for key, value in (
        (NOTE, note),
        (EXPERIMENT_KIND, "custom_model_development"),
        (VIEW_STATE + VIEW, json.dumps(run_table(sweep))),
    ):
        client.set_experiment_tag(sweep.experiment_id, key, value)
    client.set_tag(sweep.run_id, NOTE, note)


def run_table(sweep: Sweep) -> dict[str, object]:
    """State of MLflow's run table: the trials that count, best first, the searched parameters
    beside."""
    order = f"metrics.`{SCORE}`"
    return {
        "searchFilter": f"tags.`{ROLE}` = '{Role.TRIAL}' and tags.`{SUPERSEDED}` IS NULL",
        "orderByKey": order,
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": [order, *(f"params.`{field}`" for field in sweep.study.space)],
        "runsExpanded": {},
    }


def link(sweep: Sweep, *, port: int = UI_PORT) -> str:
    """The page of a sweep in the MLflow UI that `make ui` serves, or the tracking server."""
    return page(sweep.store, sweep.experiment_id, port=port)


def page(store: Store, experiment_id: str, *, port: int) -> str:
    """The same of an experiment, whatever the sweep in it is."""
    server = redacted(store.tracking_uri) if store.tracked_remotely else f"http://{HOST}:{port}"
    query = f"workflowType=machine_learning&viewStateShareKey={quote(VIEW)}"
    return f"{server.rstrip('/')}/#/experiments/{quote(experiment_id)}/runs?{query}"
