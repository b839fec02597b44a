"""Figures and sentences of notebooks 00 to 02, on sweeps put together by hand, and what they rest
on."""

from __future__ import annotations

import builtins
import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import IPython.display
import numpy as np
import optuna
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from optuna.trial import FrozenTrial, TrialState, create_trial

import analysis.notebooks.cells
from analysis.notebooks import start
from analysis.notebooks.cells import as_table, prepare, run
from analysis.notebooks.run import notebook_paths
from analysis.stats import Estimate
from lander.errors import ConfigError
from sweeps.estimates import Expected
from sweeps.schema import EXPERIMENT_ID, RETURNS
from sweeps.scores import Ranked
from sweeps.store.store import Store
from sweeps.study.space import defaults
from sweeps.study.study import Study, read_study
from sweeps.sweep import Sweep
from tests.studies import HEADS, PLAIN

torch.set_num_threads(1)

BEGAN = datetime(2026, 1, 1)
FIGURES = {"01_sweep": 9, "02_trials": 3}
"""Figures of each notebook, without those of trainings."""


def sweep_of(study: Study, folder: Path, *trials: FrozenTrial) -> Sweep:
    """A sweep whose trials nobody has run."""
    made = optuna.create_study(study_name=study.name, direction="maximize")
    made.set_user_attr(EXPERIMENT_ID, "0")
    made.set_user_attr("mlflow.run_id", "none")
    made.add_trials(trials)
    return Sweep(study, made, Store(folder))


def trial(
    study: Study, params: dict[str, Any], *reports: float, state: TrialState, value: float | None
) -> FrozenTrial:
    """One that took ten seconds."""
    made = create_trial(
        state=state,
        params=params,
        distributions={
            range_.parameter: range_.distribution
            for range_ in study.space.values()
            if range_.parameter in params
        },
        value=value,
        intermediate_values=dict(enumerate(reports, start=1)),
        user_attrs={} if state != TrialState.COMPLETE else {RETURNS: [[value, value]]},
    )
    made.datetime_start = BEGAN
    made.datetime_complete = BEGAN + timedelta(seconds=10) if state.is_finished() else None
    return made


def plain(count: int, *, pruned: int = 0) -> list[FrozenTrial]:
    """Finished trials, and behind them pruned ones; the learning rate alone says how good."""
    study, rng = read_study(PLAIN, source="plain"), np.random.default_rng(7)
    drawn_trials = []
    for i in range(count + pruned):
        rate = float(np.exp(rng.uniform(np.log(1e-4), np.log(1e-2))))
        score = 100 * float(np.log10(rate))
        params = {
            "ppo.learning_rate": rate,
            "ppo.update_epochs": int(rng.integers(1, 21)),
            "1 - ppo.gae_lambda": float(rng.uniform(0.001, 0.1)),
            "policy.trunk": str(rng.choice(["separate", "shared"])),
        }
        reports = [score - 10, score - 20, score - 5, score]
        ended = TrialState.COMPLETE if i < count else TrialState.PRUNED
        some = reports if i < count else reports[:2]
        drawn_trials.append(trial(study, params, *some, state=ended, value=some[-1]))
    return drawn_trials


@pytest.fixture
def study() -> Study:
    return read_study(PLAIN, source="plain")


def test_every_question_has_an_answer_on_any_sweep(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heads = read_study(HEADS, source="heads")
    gaussian = {"policy.head": "gaussian", "env.obs_norm": True}
    binned = {"policy.head": "categorical", "env.bins": 5, "env.obs_norm": False}
    lost = trial(study, {}, state=TrialState.FAIL, value=None)
    running = trial(study, defaults(study.space, study.base), state=TrialState.RUNNING, value=None)
    sweeps = {
        "empty": sweep_of(study, tmp_path),
        "one failed": sweep_of(study, tmp_path, lost),
        "under way": sweep_of(study, tmp_path, running, *plain(1)),
        "all pruned": sweep_of(study, tmp_path, *plain(0, pruned=6)),
        "mostly pruned": sweep_of(study, tmp_path, *plain(2, pruned=8)),
        "all equal": sweep_of(study, tmp_path, *[plain(1)[0]] * 6),
        "heads": sweep_of(
            heads,
            tmp_path,
            *(
                trial(heads, params, 1.0, 2.0, 3.0, v, state=TrialState.COMPLETE, value=v)
                for v, params in enumerate([gaussian, binned] * 4)
            ),
        ),
    }
    for name, sweep in sweeps.items():
        for notebook, count in FIGURES.items():
            answers = shown(notebook, sweep, monkeypatch)
            assert len(answers) == count, (name, notebook)
            for figure, sentence in answers:
                assert sentence.endswith("."), name
                assert "nan" not in sentence, (name, sentence)
                figure.savefig(tmp_path / "drawn.png")


def shown(notebook: str, sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Figure, str]]:
    """The figures and sentences of a notebook whose cells are run on a sweep; it trains nothing."""
    pairs: list[tuple[Figure, str]] = []
    monkeypatch.setattr(analysis.notebooks.cells, "read_sweep", lambda *_: sweep)
    monkeypatch.setattr(
        IPython.display, "display", lambda figure, text: pairs.append((figure, text.data))
    )
    (path,) = (path for path in notebook_paths() if path.stem == notebook)
    scope: dict[str, Any] = {"__name__": "notebook"}
    for cell in json.loads(path.read_text())["cells"]:
        source = "".join(cell["source"]).replace("%matplotlib inline", "")
        if cell["cell_type"] == "code" and "measured" not in source:
            exec(source, scope)
    return pairs


def test_the_first_notebook_counts_the_ends_and_names_the_highest_score() -> None:
    trials = pd.DataFrame(
        {
            "state": ["COMPLETE", "PRUNED", "COMPLETE", "FAIL"],
            "value": [120.0, 300.0, 240.0, None],
            "last_return": [120.0, 300.0, 240.0, None],
            "seconds": [9.0, 4.0, 8.0, 1.0],
        }
    )
    assert start.outcome(trials) == (
        "2 finished, 1 pruned, 1 failed; the highest score is 240.0, of trial 2."
    )
    assert start.outcome(trials.iloc[1:2]) == "1 pruned."
    assert start.outcome(trials.iloc[:0]) == "No trial has begun yet."
    assert start.quickest(trials) == 1


def test_the_first_notebook_sets_what_is_expected_beside_what_was_promised(study: Study) -> None:
    ended = trial(study, {}, state=TrialState.COMPLETE, value=1.0)
    ended.number = 7
    ranks = [Ranked(ended, Expected(225.0, 22.0, promised=242.5, trainings=5))]
    assert start.promises(ranks).reset_index().to_dict("list") == {
        "trial": [7],
        "promised": [242.5],
        "expected": [225.0],
        "error": [22.0],
        "trainings": [5],
    }
    assert start.best_promise(ranks) == (
        "The best: trial 7, promised 242.5, expect 225 +- 22 after 5 trainings."
    )
    assert start.promises([]).empty
    assert start.best_promise([]).startswith("No trial has finished")


def test_estimates_as_a_table_have_a_row_each() -> None:
    table = as_table({"a": Estimate(1.0, 0.0, 2.0), ("b", "c"): Estimate(3.0, 2.5, 3.5)})
    assert table.to_dict("index") == {
        "a": {"value": 1.0, "low": 0.0, "high": 2.0},
        "b and c": {"value": 3.0, "low": 2.5, "high": 3.5},
    }


def test_a_notebook_shows_the_lines_of_a_command_and_that_it_failed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigError, match=r"^sweeps reproduce failed: exit code 2$"):
        run("reproduce", "--store", str(tmp_path / "none"))
    assert capsys.readouterr().out.startswith("sweeps: ")


def test_only_a_notebook_gets_tables_of_four_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    with pd.option_context("display.float_format", None, "display.max_colwidth", 50):
        prepare()
        assert pd.get_option("display.float_format") is None
        assert pd.get_option("display.max_colwidth") == 50
        monkeypatch.setattr(builtins, "get_ipython", object, raising=False)
        prepare()
        assert pd.Series([1 / 3]).to_string() == "0   0.3333"
