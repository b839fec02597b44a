"""Everything that a report says about a sweep, read from the store once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

import pandas as pd
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from optuna.trial import FrozenTrial, TrialState

from analysis.confirm.judgement import Judgement, judgement_of
from analysis.load import load_curves
from analysis.stats import Estimate, bootstrap_estimate, mean_estimate
from lander.errors import ConfigError
from lander.metrics import EVAL_RETURN
from sweeps.endings import ending
from sweeps.hints import DEFAULT_STORE, UI_PORT, store_option
from sweeps.publish.page import HOST, run_path, server_of
from sweeps.schema import BEST_ALIAS, CONFIRM_SUFFIX, CONFIRMED_ALIAS, RETURNS, RUN_ID, Ending
from sweeps.scores import Ranked, expected, final_means, mean, median_index, seed_scores
from sweeps.store.best_policy import BestPolicy, recorded_policy
from sweeps.store.store import Store
from sweeps.store.trials import Trials
from sweeps.study.space import defaults
from sweeps.sweep import Sweep, open_sweep, trial_runs

NEWEST = 1_000
"""The most runs that are read whole: a run has about a hundred parameters, metrics and tags."""


@dataclass(frozen=True)
class Records:
    """A sweep, its runs and its confirmation."""

    sweep: Sweep
    trials: Trials
    ranked: Sequence[Ranked]
    """Finished trials, the best first; of trials with equal parameters only one."""
    parent: Run
    runs: Sequence[Run]
    """The `NEWEST` runs of trials, lost ones included."""
    judgement: Judgement | None
    unconfirmed: str
    """The reason why there is no judgement."""
    confirmation: Run | None
    """The parent run of the confirmation."""
    published: Run | None
    """The run whose policy is models:/NAME@best."""
    policy: BestPolicy | None
    """The best policy, once one is published."""
    confirmed: ModelVersion | None
    """The version models:/NAME@confirmed."""

    @property
    def name(self) -> str:
        return self.sweep.study.name

    @cached_property
    def counted(self) -> Sequence[FrozenTrial]:
        """Trials of the budget."""
        return self.trials.counted

    @cached_property
    def curves(self) -> pd.DataFrame:
        """The learning curves of all trials, as `load_curves` gives them."""
        return load_curves(self.sweep, EVAL_RETURN)

    @property
    def best(self) -> FrozenTrial | None:
        """The finished trial with the highest expected return."""
        return self.ranked[0].trial if self.ranked else None

    @cached_property
    def base(self) -> FrozenTrial | None:
        """The finished trial of the study's defaults: trial 0, or a later one like it."""
        wanted = defaults(self.sweep.study.space, self.sweep.study.base)
        same = (one.trial for one in self.ranked if one.trial.params == wanted)
        return None if self.sweep.study.has_points else next(same, None)

    def count(self, how: Ending) -> int:
        """Trials of the budget with this ending."""
        return self.trials.left if how == Ending.WAITING else self._endings[how]

    @cached_property
    def _endings(self) -> Counter[Ending]:
        return Counter(map(ending, self.counted))

    @property
    def some_runs(self) -> bool:
        """Whether `runs` may be only some of the trials' runs."""
        return len(self.runs) == NEWEST

    def values_of(self, tag: str) -> list[str]:
        """The values of a tag over the sweep's run and those of its trials, usually one.

        Runs that are not among `runs` are searched for another value instead of read.
        """
        known = [self.parent, *self.runs]
        values = {run.data.tags[tag] for run in known if tag in run.data.tags}
        while self.some_runs:
            others = [f"tags.`{tag}` != '{value}'" for value in {"", *values} if "'" not in value]
            run = next(trial_runs(self.sweep, " and ".join(others), page_size=1), None)
            if run is None or run.data.tags[tag] in values:
                break
            values.add(run.data.tags[tag])
        return sorted(values)

    def same(self, trial: FrozenTrial) -> list[FrozenTrial]:
        """The finished trials with the parameters of a trial."""
        finished = [other for other in self.counted if other.state == TrialState.COMPLETE]
        return [other for other in finished if other.params == trial.params]

    def median_of_same(self, trial: FrozenTrial) -> FrozenTrial:
        """The trial of the median training under the parameters of a trial."""
        same = self.same(trial)
        return same[median_index([mean(final_means(other) or other.values) for other in same])]

    def scores(self, trial: FrozenTrial) -> list[float]:
        """The scores of all finished trainings under the parameters of a trial."""
        return [score for other in self.same(trial) for score in seed_scores(other)]

    def estimate(self, trial: FrozenTrial) -> Estimate:
        """A finished trial's score, with an interval over its trainings if it has several."""
        scores = self.scores(trial)
        if len(scores) < 2 or self.sweep.study.settings.score == "worst_seed":
            return Estimate(trial.values[0], float("nan"), float("nan"))
        iqm = self.sweep.study.settings.score == "iqm"
        return bootstrap_estimate(scores) if iqm else mean_estimate(scores)

    def summary(self, trial: FrozenTrial) -> Estimate:
        """The mean final return under the parameters of a trial, with an interval over their
        trainings, or over the final episodes of the only one."""
        means = [value for other in self.same(trial) for value in final_means(other)]
        if len(means) > 1:
            return mean_estimate(means)
        return self.episodes(trial) or self.estimate(trial)

    def run_link(self, trial: FrozenTrial) -> str | None:
        """The page of a trial's run in MLflow; None if it has no run."""
        run_id = trial.user_attrs.get(RUN_ID)
        if run_id is None:
            return None
        server = server_of(self.sweep.store) or f"http://{HOST}:{UI_PORT}"
        return server + run_path(self.sweep.experiment_id, str(run_id))

    @property
    def shown_store(self) -> Path:
        """The store by its name alone: a report is shared, and a path says too much about a
        machine."""
        folder = self.sweep.store.folder
        return DEFAULT_STORE if store_option(folder) is None else Path(folder.name)

    def episodes(self, trial: FrozenTrial) -> Estimate | None:
        """Mean over the final episodes of a trial with one training; None if the trial has several
        trainings or no recorded episodes."""
        returns = trial.user_attrs.get(RETURNS, [])
        return mean_estimate(returns[0]) if len(returns) == 1 else None


def read_records(store: Store, name: str) -> Records:
    """Read the records of a sweep.

    Raises:
        ConfigError: the store has no such sweep.
    """
    if name.endswith(CONFIRM_SUFFIX):
        plain = name.removesuffix(CONFIRM_SUFFIX)
        raise ConfigError(f"{name} is a confirmation: it is part of the report of {plain}")
    sweep, client = open_sweep(store, name), store.runs()
    confirmation = None
    if name + CONFIRM_SUFFIX in store.study_names():
        confirmation = client.get_run(open_sweep(store, name + CONFIRM_SUFFIX).run_id)
    trials = sweep.read_trials()
    judgement, unconfirmed = read_judgement(store, name)
    return Records(
        sweep=sweep,
        trials=trials,
        ranked=expected(trials.all),
        parent=client.get_run(sweep.run_id),
        runs=list(islice(trial_runs(sweep, page_size=NEWEST), NEWEST)),
        judgement=judgement,
        unconfirmed=unconfirmed,
        confirmation=confirmation,
        published=published_run(store, name),
        policy=recorded_policy(sweep.optuna),
        confirmed=registered(store, name, CONFIRMED_ALIAS),
    )


def read_judgement(store: Store, name: str) -> tuple[Judgement | None, str]:
    """The judgement of the confirmation, or the reason why there is none."""
    if name + CONFIRM_SUFFIX not in store.study_names():
        return None, "It is not confirmed yet"
    try:
        return judgement_of(store, name), ""
    except Exception as error:  # the report can do without a judgement
        return None, f"It cannot be judged yet, {error}"


def registered(store: Store, name: str, alias: str) -> ModelVersion | None:
    """The version models:/NAME@ALIAS; None before one is registered."""
    try:
        return store.runs().get_model_version_by_alias(name, alias)
    except MlflowException:
        return None


def published_run(store: Store, name: str) -> Run | None:
    """The run whose policy is models:/NAME@best; None before one is registered."""
    version = registered(store, name, BEST_ALIAS)
    try:
        return None if version is None else store.runs().get_run(str(version.run_id))
    except MlflowException:
        return None
