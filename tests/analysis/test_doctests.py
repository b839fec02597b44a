"""The examples in the docstrings of `analysis.load` are true, on a store of three trials."""

from __future__ import annotations

import doctest
from collections.abc import Sequence
from typing import Final

import pytest
from mlflow.entities import Metric
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial

import analysis.load
from sweeps.lifecycle.creation import create
from sweeps.schema import RETURNS, RUN_ID
from sweeps.store.store import Store
from sweeps.study.study import read_study
from sweeps.sweep import Sweep, open_sweep

STUDY: Final = """
[study]
name = "lander"
trials = 3
[base]
"env.id" = "CartPole-v1"
checkpoints = 2
[space]
"ppo.learning_rate" = { low = 1e-4, high = 1e-2, log = true }
"""
TRIALS: Final[Sequence[tuple[float, TrialState, list[float], list[list[float]]]]] = (
    (0.003, TrialState.COMPLETE, [50.0, 120.0], [[100.0, 140.0]]),
    (0.001, TrialState.COMPLETE, [90.0, 235.0], [[230.0, 250.0]]),
    (0.01, TrialState.PRUNED, [-80.0], []),
)
"""Learning rate, state, returns of the checkpoints, returns of the final episodes."""


@pytest.fixture
def sweep(store: Store, monkeypatch: pytest.MonkeyPatch) -> Sweep:
    """The sweep of the examples, in the folder `mlruns` of the working directory."""
    monkeypatch.chdir(store.folder.parent)
    store = Store(store.folder.rename("mlruns").relative_to("."))
    create(read_study(STUDY, source="lander.toml"), store, command=["run"])
    sweep, client = open_sweep(store, "lander"), store.runs()
    for rate, state, reports, returns in TRIALS:
        run_id = client.create_run(sweep.experiment_id).info.run_id
        points = [Metric("eval/return_mean", v, 0, 1000 * k) for k, v in enumerate(reports, 1)]
        client.log_batch(run_id, metrics=points)
        trial = create_trial(
            state=state,
            value=sum(returns[0]) / 2 if returns else reports[-1],
            params={"ppo.learning_rate": rate},
            distributions={"ppo.learning_rate": FloatDistribution(1e-4, 1e-2, log=True)},
            intermediate_values=dict(enumerate(reports, 1)),
            user_attrs={RUN_ID: run_id} | ({RETURNS: returns} if returns else {}),
        )
        sweep.optuna.add_trial(trial)
    return sweep


def test_the_examples_of_load_are_true(sweep: Sweep) -> None:
    flags = doctest.NORMALIZE_WHITESPACE
    results = doctest.testmod(analysis.load, extraglobs={"sweep": sweep}, optionflags=flags)
    assert results.failed == 0
    assert results.attempted == 9
