"""Whatever happens to a sweep, as many trials settle as its budget says: held against a model."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST
from optuna.storages._rdb.models import TrialHeartbeatModel
from optuna.trial import TrialState
from sqlalchemy import text, update

from sweeps.endings import SETTLED, ending, root
from sweeps.lifecycle.losses import requeue_lost
from sweeps.lifecycle.start import start_sweep
from sweeps.schema import REASON, RETRY_OF, WORKER, Ending, Reason
from sweeps.store.budget_storage import NoTrialLeft
from sweeps.store.store import Store
from sweeps.store.worker_id import parse_worker, this_worker
from sweeps.study.study import Study, read_study
from sweeps.sweep import Sweep, open_sweep
from tests.studies import study_text

POINTS = 8
"""Two of the Gaussian head, which has no bins, and six of the other."""
SAMPLERS = ("random", "tpe", "grid")


def study(name: str, sampler: str) -> Study:
    text = study_text(
        name,
        settings=f'trials = 1\nsampler = "{sampler}"',
        base="""
"env.id" = "LunarLanderContinuous-v3"
"env.bins" = 5
total_steps = 102_400
""",
        space="""
"policy.head" = { choices = ["gaussian", "categorical"] }
"env.bins" = { choices = [3, 5, 7] }
"ppo.update_epochs" = { low = 9, high = 10, step = 1 }
""",
    )
    return read_study(text, source="x.toml")


class NoRuns:
    """In the place of MLflow, which no budget depends on and which would take most of the time."""

    def get_experiment_by_name(self, name: str) -> None: ...

    def get_registered_model(self, name: str) -> None:
        raise MlflowException(f"no model {name}", RESOURCE_DOES_NOT_EXIST)

    def search_runs(self, *_: object, **__: object) -> list[Any]:
        return []

    def create_experiment(self, *_: object, **__: object) -> str:
        return "1"

    def get_experiment(self, _id: str) -> Any:
        return SimpleNamespace(lifecycle_stage="active", tags={})

    def set_experiment_tag(self, *_: object) -> None: ...

    def get_run(self, _id: str) -> Any:
        return SimpleNamespace(info=SimpleNamespace(lifecycle_stage="active"))

    def create_run(self, *_: object, **__: object) -> Any:
        return SimpleNamespace(info=SimpleNamespace(run_id="run"))

    def log_text(self, *_: object) -> None: ...

    def update_run(self, *_: object, **__: object) -> None: ...


@pytest.fixture
def bare(store: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store without MLflow."""
    monkeypatch.setattr(Store, "runs", lambda self: NoRuns())
    monkeypatch.setattr(Store, "create", lambda self: None)
    return store


def begin(sweep: Sweep) -> optuna.Trial:
    """The next trial, left running."""
    with pytest.warns(UserWarning, match="Heartbeat"):
        trial = sweep.optuna.ask()
    for name in ("policy.head", "ppo.update_epochs"):
        sweep.study.space[name].suggest(trial)
    if trial.params["policy.head"] == "categorical":
        sweep.study.space["env.bins"].suggest(trial)
    return trial


def break_off(sweep: Sweep, trial: optuna.Trial) -> None:
    """As a worker does that is interrupted."""
    trial.set_user_attr(REASON, Reason.INTERRUPTED)
    sweep.optuna.tell(trial, state=TrialState.FAIL)


def lose(sweep: Sweep, trial: optuna.Trial, *, elsewhere: bool) -> None:
    """Its worker has ended here, or is silent on another host; somebody notices."""
    me = parse_worker(this_worker())
    other = replace(me, host="elsewhere") if elsewhere else replace(me, started="1")
    trial.set_user_attr(WORKER, str(other))
    if elsewhere:
        with sweep.store.trials().engine.begin() as connection:
            silent = update(TrialHeartbeatModel).values(
                heartbeat=text("datetime('now', '-10 minutes')")
            )
            here = TrialHeartbeatModel.trial_id == trial._trial_id
            connection.execute(silent.where(here))
    requeue_lost(sweep)


class AnySweep(RuleBasedStateMachine):
    """The model is `budget`, `settled`, `running`, and `again`: those to be tried again."""

    store: Store
    names = iter(range(1_000_000))

    @initialize(sampler=st.sampled_from(SAMPLERS), trials=st.integers(1, 6))
    def start(self, sampler: str, trials: int) -> None:
        self.name, self.sampler = f"s{next(self.names)}", sampler
        self.settled, self.running = 0, dict[int, optuna.Trial]()
        self.again, self.lost = set[int](), Counter[int]()
        self.tried = set[frozenset[tuple[str, object]]]()
        self.of_root = dict[int, dict[str, object]]()
        self.waiting = True
        self.resume(trials)

    def resume(self, trials: int | None) -> None:
        wanted = trials or max(1, self.total)
        self.sweep = start_sweep(
            study(self.name, self.sampler), self.store, trials=trials, command=["run"]
        )
        if self.sampler == "grid":
            points = POINTS - len(self.tried) - self.waiting
            wanted = min(wanted, self.used + len(self.again) + points)
        self.budget = wanted

    @property
    def used(self) -> int:
        return self.settled + len(self.running) + self.waiting

    @property
    def total(self) -> int:
        return max(getattr(self, "budget", 0), self.used)

    @rule()
    def begin(self) -> None:
        if self.waiting or self.used < self.budget:
            trial = begin(self.sweep)
            number = int(trial.user_attrs.get(RETRY_OF, trial.number))
            assert number in self.again if self.again and not self.waiting else True
            assert (RETRY_OF in trial.user_attrs) == (number in self.again)
            assert self.of_root.setdefault(number, trial.params) == trial.params
            self.again.discard(number)
            self.waiting = False
            self.running[number] = trial
            point = frozenset(trial.params.items())
            new = number == trial.number
            assert not (self.sampler == "grid" and new and point in self.tried)
            self.tried.add(point)
        else:
            with pytest.raises(NoTrialLeft):
                begin(self.sweep)

    def pick(self, data: st.DataObject) -> tuple[int, optuna.Trial]:
        number = data.draw(st.sampled_from(sorted(self.running)))
        return number, self.running.pop(number)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), how=st.sampled_from([*SETTLED]))
    def end(self, data: st.DataObject, how: Ending) -> None:
        _, trial = self.pick(data)
        self.settled += 1
        if how == Ending.FAILED:
            trial.set_user_attr(REASON, "diverged: update 1")
            self.sweep.optuna.tell(trial, state=TrialState.FAIL)
        elif how == Ending.PRUNED:
            self.sweep.optuna.tell(trial, state=TrialState.PRUNED)
        else:
            self.sweep.optuna.tell(trial, 1.0)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def interrupt(self, data: st.DataObject) -> None:
        number, trial = self.pick(data)
        self.again.add(number)
        break_off(self.sweep, trial)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), elsewhere=st.booleans())
    def lose(self, data: st.DataObject, elsewhere: bool) -> None:
        number, trial = self.pick(data)
        lose(self.sweep, trial, elsewhere=elsewhere)
        self.lost[number] += 1
        if self.lost[number] == 2:
            self.settled += 1
        else:
            self.again.add(number)

    @rule(trials=st.none() | st.integers(1, 12))
    def restart(self, trials: int | None) -> None:
        self.resume(trials)
        if self.used > self.budget:
            self.waiting = False  # the first trial was withdrawn

    @rule(sampler=st.sampled_from(SAMPLERS))
    def change_the_sampler(self, sampler: str) -> None:
        self.sampler = sampler
        self.resume(None)

    @rule()
    def join_from_another_host(self) -> None:
        self.sweep = open_sweep(self.store, self.name, sampler_seed=1)

    @invariant()
    def agrees(self) -> None:
        trials = self.sweep.read_trials()
        assert len(trials.counted) == self.used
        assert sum(ending(trial) in SETTLED for trial in trials.all) == self.settled
        assert trials.running == len(self.running)
        assert trials.total == self.total
        assert trials.left == self.total - self.settled - len(self.running)
        roots = [root(trial) for trial in trials.counted]
        assert len(set(roots)) == len(roots)

    def teardown(self) -> None:
        if hasattr(self, "sweep"):
            while self.sweep.read_trials().left:
                self.begin()
            for trial in self.running.values():
                self.sweep.optuna.tell(trial, 1.0)
            with pytest.raises(NoTrialLeft):
                begin(self.sweep)
            trials = self.sweep.read_trials()
            done = sum(ending(trial) in SETTLED for trial in trials.all)
            assert done == len(trials.counted) == max(self.budget, self.used)


@pytest.mark.parametrize(
    ("examples", "steps"), [(5, 16), pytest.param(150, 50, marks=pytest.mark.slow)]
)
def test_as_many_trials_settle_as_the_budget_says(bare: Store, examples: int, steps: int) -> None:
    class OfThisStore(AnySweep):
        store = bare

    run_state_machine_as_test(
        OfThisStore,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
