"""What a trial costs in a store of thousands: same answers, few statements and calls."""

from __future__ import annotations

import math

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.pruners import MedianPruner
from optuna.samplers import TPESampler
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from sweeps.optuna_private import id_of, study_id_of
from sweeps.schema import BUDGET, REASON
from sweeps.store.store import Store
from sweeps.store.trial_cache import TrialCache
from sweeps.study import history
from sweeps.study.history import LOOKED_AT, NewTrials, SamplerView
from sweeps.study.pruning import MedianRule
from tests.sql import statements

pytestmark = [
    pytest.mark.filterwarnings("ignore:Heartbeat of storage"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),  # NumPy's, of what is not finite
]
SPACE = {
    "lr": FloatDistribution(1e-4, 1e-1, log=True),
    "k": IntDistribution(1, 9),
    "head": CategoricalDistribution(["a", None, 3]),
}


def past(rng: np.random.Generator, state: TrialState = TrialState.COMPLETE) -> FrozenTrial:
    """A trial of random numbers, some of which are not finite."""
    odd = (math.nan, math.inf, -math.inf)
    reports = {
        step: rng.choice([rng.normal(), rng.choice(odd)], p=[0.9, 0.1])
        for step in range(1, 1 + int(rng.integers(1, 7)))
    }
    return create_trial(
        state=state,
        value=float(rng.normal()) if state == TrialState.COMPLETE else None,
        params={
            "lr": float(np.exp(rng.uniform(np.log(1e-4), np.log(1e-1)))),
            "k": int(rng.integers(1, 10)),
            "head": rng.choice(np.array(["a", None, 3], dtype=object)),
        },
        distributions=SPACE,
        user_attrs={"note": [1.5, "x"]},
        system_attrs={"fixed_params": {"k": 2}},
        intermediate_values={step: float(value) for step, value in reports.items()},
    )


def in_memory(trials: int, seed: int = 0) -> optuna.Study:
    study = optuna.create_study(direction="maximize")
    rng = np.random.default_rng(seed)
    study.add_trials([past(rng) for _ in range(trials)])
    return study


@pytest.fixture
def study(store: Store) -> optuna.Study:
    """A study of six trials, as this process reads it, of which none waits or is to be retried."""
    cache = TrialCache(store.trials())
    study = optuna.create_study(study_name="x", storage=cache, direction="maximize")
    study.set_user_attr(BUDGET, 100)
    rng = np.random.default_rng(0)
    states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
    study.add_trials([past(rng, state) for _ in range(2) for state in states])
    return study


def test_trials_are_read_as_optuna_reads_them(study: optuna.Study, store: Store) -> None:
    rng = np.random.default_rng(1)
    study.add_trials([past(rng, state) for state in (TrialState.FAIL, TrialState.WAITING)])
    plain = RDBStorage(store.trials_url.render_as_string())
    expected = plain.get_all_trials(study_id_of(study))
    assert repr(study.get_trials()) == repr(expected)  # NaN is no equal of itself
    assert repr(store.trials().get_trial(3)) == repr(plain.get_trial(3))
    for states in ((TrialState.COMPLETE,), (TrialState.RUNNING, TrialState.FAIL), ()):
        read = [trial.number for trial in study.get_trials(states=states)]
        assert read == [trial.number for trial in expected if trial.state in states]
    plain.engine.dispose()


def test_what_a_trial_writes_is_as_optuna_writes_it(study: optuna.Study, store: Store) -> None:
    plain = RDBStorage(store.trials_url.render_as_string())
    other = optuna.load_study(study_name="x", storage=plain)
    ours, theirs = (which.ask() for which in (study, other))
    for trial in (ours, theirs):
        trial.suggest_float("lr", 1e-4, 1e-1, log=True)
        trial.set_user_attr("a", 1)
        trial.set_user_attr("a", [2, "x"])
        for step, value in enumerate((1.5, math.nan, math.inf, -math.inf)):
            trial.report(value, step)
    one, two = (plain.get_trial(id_of(trial)) for trial in (ours, theirs))
    assert repr(one.intermediate_values) == repr(two.intermediate_values)
    assert one.user_attrs["a"] == two.user_attrs["a"] == [2, "x"]
    assert one.distributions == two.distributions
    plain.engine.dispose()


def test_an_ended_trial_takes_no_more_rows(study: optuna.Study, store: Store) -> None:
    trial = study.ask()
    trial.suggest_int("k", 1, 9)
    study.tell(trial, 1.0)
    before = store.trials().get_trial(id_of(trial))
    for write in (
        lambda: trial.report(2.0, 1),
        lambda: trial.set_user_attr("a", 1),
        lambda: trial.suggest_float("lr", 1e-4, 1e-1, log=True),
    ):
        with pytest.raises(optuna.exceptions.UpdateFinishedTrialError):
            write()
    assert store.trials().get_trial(id_of(trial)) == before


def test_a_report_and_its_decision_take_two_statements(study: optuna.Study, store: Store) -> None:
    study.pruner = MedianRule(n_startup_trials=1)
    trial = study.ask()
    with statements(engine=store.trials().engine) as seen:
        trial.report(0.5, 1)
        trial.should_prune()
    assert [text.split()[0] for text in seen] == ["INSERT", "SELECT"]


def test_trials_that_end_in_another_order_are_all_read(study: optuna.Study, store: Store) -> None:
    first, second = study.ask(), study.ask()
    for trial in (second, first):
        store.trials().set_trial_state_values(id_of(trial), TrialState.COMPLETE, [1.0])
        numbers = [t.number for t in study.get_trials(states=(TrialState.COMPLETE,))]
        assert trial.number in numbers
        assert numbers == sorted(numbers)


def test_unclosed_trials_run_or_failed_without_a_reason(study: optuna.Study, store: Store) -> None:
    storage = store.trials()
    rng = np.random.default_rng(1)
    study.add_trials([past(rng, TrialState.FAIL) for _ in range(2)])
    trials = study.get_trials()
    (with_reason, without) = [t for t in trials if t.state == TrialState.FAIL]
    storage.set_late_attr(with_reason, REASON, "interrupted")
    running = [t.number for t in trials if t.state == TrialState.RUNNING]
    unclosed = [trial.number for trial in storage.read_unclosed(study_id_of(study))]
    assert sorted(unclosed) == sorted([*running, without.number])


@pytest.mark.parametrize("seed", range(5))
def test_the_median_rule_decides_as_optuna_does(seed: int) -> None:
    rng = np.random.default_rng(seed)
    study = in_memory(0)
    arguments = {
        "n_startup_trials": int(rng.integers(0, 4)),
        "n_warmup_steps": int(rng.integers(0, 3)),
        "interval_steps": int(rng.integers(1, 3)),
        "n_min_trials": int(rng.integers(1, 4)),
    }
    ours, optunas = MedianRule(**arguments), MedianPruner(**arguments)
    decisions = []
    for _ in range(40):
        trial = past(rng)
        steps = dict(trial.intermediate_values)
        for count in range(1, len(steps) + 1):
            trial.intermediate_values = dict(list(steps.items())[:count])
            expected = optunas.prune(study, trial)
            assert ours.prune(study, trial) == expected
            decisions.append(expected)
        study.add_trial(past(rng))
    assert {True, False} == set(decisions)


def test_each_finished_trial_is_handed_out_once() -> None:
    trials = in_memory(6).trials
    new = NewTrials()
    assert new.among(trials[:2]) == trials[:2]
    assert new.among([*trials[:2], trials[3], trials[5]]) == [trials[3], trials[5]]
    assert new.among([*trials[:4], trials[5]]) == [trials[2]]
    assert new.among(trials) == [trials[4]]
    assert new.among(trials) == []


def test_a_sampler_sees_a_small_study_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "LOOKED_AT", 60)
    study = in_memory(60)
    assert SamplerView().of(study) is study
    study.add_trial(past(np.random.default_rng(1)))
    assert SamplerView().of(study) is not study


def test_of_a_large_study_a_sampler_sees_the_best_and_even_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(history, "LOOKED_AT", 60)
    monkeypatch.setattr(history, "BEST", 10)
    study = in_memory(500)
    running = study.ask()
    seen = SamplerView().of(study).get_trials(deepcopy=False)
    numbers = {trial.number for trial in seen}
    assert numbers >= set(range(0, 500, 10)) | {running.number}
    best = sorted(study.trials[:500], key=lambda trial: -trial.values[0])[:10]
    assert numbers >= {trial.number for trial in best}
    assert len(numbers) <= 61
    assert [trial.number for trial in seen] == sorted(numbers)


def test_proposals_above_the_limit_depend_on_the_history_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(history, "LOOKED_AT", 60)

    def proposal(view: SamplerView, study: optuna.Study) -> object:
        sampler, seen = TPESampler(seed=3), view.of(study)
        trial = create_trial(state=TrialState.RUNNING)
        trial.number = 10_000
        space = sampler.infer_relative_search_space(seen, trial)
        sampler._constant_liar = False  # it would write to the storage
        return sampler.sample_relative(seen, trial, space)

    grown, study = SamplerView(), in_memory(70)
    grown.of(study)
    study.add_trials([past(np.random.default_rng(9)) for _ in range(80)])
    assert proposal(grown, study) == proposal(SamplerView(), study)
    assert LOOKED_AT == 500
