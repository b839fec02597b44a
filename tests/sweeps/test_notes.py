"""What MLflow's UI shows: descriptions with pictures and receipts, the run table, its charts."""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from mlflow import MlflowClient
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from lander.metrics import CURVES, FINALS
from sweeps.lifecycle.start import start_sweep
from sweeps.publish.notes import Leaderboard, digits, sweep_note, trial_note
from sweeps.publish.page import experiment_path, run_path, runs_url
from sweeps.publish.publish import publish
from sweeps.publish.view import LONGEST, tag_value, view_states
from sweeps.run.worker import work
from sweeps.schema import (
    CONFIRMATION,
    POINT,
    REASON,
    RETURNS,
    RUN_ID,
    SEED_INDEX,
    SHOWN_NOTE,
    seed_folder,
)
from sweeps.store.store import Store
from sweeps.store.trials import Trials
from sweeps.study.study import read_study
from sweeps.sweep import Sweep, open_sweep
from tests.studies import TINY, TWO_SEEDS

LOW_AND_HIGH = FloatDistribution(1e-4, 1e-1, log=True)


def trial(
    number: int,
    value: float | None = None,
    *,
    rate: float = 1e-3,
    state: TrialState = TrialState.COMPLETE,
    reports: int = 0,
    attributes: Mapping[str, object] | None = None,
) -> FrozenTrial:
    made = create_trial(
        state=state,
        values=None if value is None else [value],
        params={"ppo.learning_rate": rate},
        distributions={"ppo.learning_rate": LOW_AND_HIGH},
        intermediate_values=dict.fromkeys(range(1, reports + 1), 7.25),
        user_attrs={RUN_ID: f"run-{number}", **(attributes or {})},
    )
    made.number = number
    return made


def sweep_of(**attributes: object) -> Sweep:
    """As far as descriptions ask for it."""
    optuna = SimpleNamespace(user_attrs=attributes)
    store = SimpleNamespace(folder=Path("/data/store"))
    study = read_study(TINY, source="tiny.toml")
    fields = SimpleNamespace(study=study, store=store, optuna=optuna, run_id="whole")
    return cast(Sweep, fields)


def board_of(*trials: FrozenTrial) -> Leaderboard:
    return Leaderboard(Trials(trials, budget=len(trials)))


BASE = trial(0, 20.04, rate=0.0025)
BEST = trial(1, 30.06, rate=0.00123456)


def test_a_finished_trial_is_described_beside_the_base() -> None:
    first, gif, *rows, receipt, config = trial_note(sweep_of(), board_of(BASE, BEST), BEST).split(
        "\n\n"
    )
    assert first == "**Trial 1, promised 30.1, expect 30; rank 1 of 2.**"
    assert gif == "![the first final episode](get-artifact?path=landing.gif&run_uuid=run-1)"
    assert rows == [
        "|  | trial 1 | the base: trial 0 |\n"
        "|---|---|---|\n"
        "| rank | 1 | 2 |\n"
        "| expected return | 30 | 20 |\n"
        "| promised return | 30.1 | 20.0 |\n"
        "| score | 30.1 | 20.0 |\n"
        "| `ppo.learning_rate` | 0.001235 | 0.0025 |"
    ]
    assert "reproduce" in receipt
    assert re.search(r"(TRIAL=|--trial )1\b", receipt)
    assert "export" in config
    assert all("/data/store" in line for line in (receipt, config))


def test_the_base_is_not_beside_itself() -> None:
    note = trial_note(sweep_of(), board_of(BASE, BEST), BASE)
    assert note.startswith("**Trial 0, promised 20.0, expect 20; rank 2 of 2.**")
    assert "|  | trial 0 |\n" in note


@pytest.mark.parametrize(
    ("state", "attributes", "first"),
    [
        (TrialState.FAIL, {REASON: "diverged: a*b"}, r"**Trial 5: failed: diverged: a\*b.**"),
        (
            TrialState.FAIL,
            {REASON: "interrupted"},
            "**Trial 5: interrupted; another trial retries it.**",
        ),
    ],
)
def test_a_trial_without_a_score_says_how_it_ended(
    state: TrialState, attributes: dict[str, object], first: str
) -> None:
    ended = trial(5, state=state, attributes=attributes)
    note = trial_note(sweep_of(), board_of(BASE, BEST, ended), ended)
    assert note.split("\n\n")[0] == first
    assert "the base" not in note
    assert "landing.gif" not in note
    assert ("reproduce" in note) == ("failed" in first)


def test_an_unpublished_trial_says_only_what_no_other_trial_changes() -> None:
    first, gif, rows, *receipts = trial_note(sweep_of(), None, BEST).split("\n\n")
    assert first == "**Trial 1: score 30.1.**"
    assert gif == "![the first final episode](get-artifact?path=landing.gif&run_uuid=run-1)"
    assert rows == (
        "|  | trial 1 |\n|---|---|\n| score | 30.1 |\n| `ppo.learning_rate` | 0.001235 |"
    )
    assert receipts == trial_note(sweep_of(), board_of(BASE, BEST), BEST).split("\n\n")[-2:]
    unknown = create_trial(value=30.06, params=BEST.params, distributions=BEST.distributions)
    assert "get-artifact" not in trial_note(sweep_of(), None, unknown)


@pytest.mark.parametrize(
    ("point", "index", "name"),
    [
        (0, 1000, "the base under choice seed 1"),
        (-1, 1002, "the tuned defaults under choice seed 3"),
        (7, 2000, "trial 7 under report seed 1"),
        (7, 4, "trial 7 under seed 5"),
    ],
)
def test_a_training_of_a_confirmation_names_its_candidate_and_its_seed(
    point: int, index: int, name: str
) -> None:
    one = trial(3, 30.06, attributes={POINT: point, SEED_INDEX: index})
    sweep = sweep_of()
    sweep = cast(Sweep, SimpleNamespace(**{**vars(sweep), "study": sweep.study.confirming()}))
    note = trial_note(sweep, None, one)
    assert note.startswith(f"**Trial 3, {name}: score 30.1.**\n\n![")
    assert "| point |" not in note
    assert re.search(r"reproduce .*(STUDY=|--study )'?tiny@confirm", note)


def test_a_trial_is_described_when_it_ends(store: Store) -> None:
    start_sweep(read_study(TINY, source="tiny.toml"), store, trials=1, command=["run"])
    work(store, "tiny", index=0, seconds=None)
    sweep = open_sweep(store, "tiny")
    (ended,) = sweep.read_trials().all
    note = store.runs().get_run(ended.user_attrs[RUN_ID]).data.tags["mlflow.note.content"]
    assert note == trial_note(sweep, None, ended)
    assert note.startswith(f"**Trial 0: score {ended.values[0]:.1f}.**\n\n![the first final")


def test_a_pruned_trial_says_when_and_at_which_return() -> None:
    pruned = trial(5, 7.25, state=TrialState.PRUNED, reports=1)
    sweep = sweep_of()
    first = trial_note(sweep, board_of(BASE, pruned), pruned).split("\n\n")[0]
    reports = sweep.study.reports
    assert first == f"**Trial 5: pruned at report 1 of {reports}, return so far 7.2.**"


def test_the_first_line_of_a_sweep_is_its_result() -> None:
    both = board_of(BASE, BEST)
    promised = "tiny: trial 1, promised 30.1, expect 30; the base: promised 20.0, expect 20"
    assert sweep_note(sweep_of(), both).split("\n\n")[0] == f"**{promised}.**"
    confirmed = sweep_of(**{CONFIRMATION: "Not confirmed: equal."})
    assert sweep_note(confirmed, both).startswith(f"**Not confirmed: equal.** {promised}.\n\n")
    assert sweep_note(sweep_of(), board_of()).startswith("**tiny: no trial has finished yet.**\n\n")


def test_a_sweep_shows_its_flights_and_its_history() -> None:
    note = sweep_note(sweep_of(), board_of(BASE, BEST))
    pictures = re.findall(r"\]\(get-artifact\?path=([^&]+)&run_uuid=([^)]+)\)", note)
    assert pictures == [("best.gif", "whole"), ("landing.gif", "run-0"), ("history.png", "whole")]


def test_a_trial_that_repeats_another_stands_where_that_does() -> None:
    again = trial(2, 40.0, rate=0.0025, attributes={RETURNS: [[40.0]]})
    board = board_of(BASE, BEST, again)
    assert [board.rank(one) for one in (BASE, BEST, again)] == [1, 2, 1]
    assert board.base is not None
    assert board.base.trial is again


def test_numbers_have_four_digits() -> None:
    assert list(map(digits, [0.000123456, 0.998765, 12, 123456, "64,64", True])) == [
        "0.0001235",
        "0.9988",
        "12",
        "123456",
        "64,64",
        "True",
    ]


def test_the_table_shows_the_rank_first_and_the_charts_every_field() -> None:
    study = read_study(TINY, source="tiny.toml")
    states = view_states(study, Trials([BASE], budget=1))
    assert states["sweep"]["selectedColumns"] == [
        "metrics.`rank`",
        "metrics.`expected_return`",
        "metrics.`expected_return_error`",
        "metrics.`promised_return`",
        "metrics.`cost/seconds`",
        "metrics.`cost/env_steps`",
        "params.`ppo.learning_rate`",
    ]
    curves, every = states["sweep"]["compareRunCharts"]
    assert (curves["type"], curves["metricKey"]) == ("LINE", "eval/return_mean")
    assert (every["selectedParams"], every["showAllRuns"]) == (["ppo.learning_rate"], True)
    (field,) = states["fields"]["compareRunCharts"]
    assert field["xaxis"] == {"key": "ppo.learning_rate", "type": "PARAM"}
    assert field["yaxis"] == {"key": "score", "type": "METRIC"}


@pytest.mark.parametrize("text", [TINY, TWO_SEEDS])
def test_every_section_of_charts_but_ours_is_closed(text: str) -> None:
    study = read_study(text, source="tiny.toml")
    folders = [seed_folder(n, of=study.settings.seeds_per_trial) for n in range(2)]
    shown = {
        *(folder + name for folder in folders for name in (*CURVES, *FINALS)),
        *(
            "score",
            "rank",
            "expected_return",
            "promised_return",
            "cost/seconds",
            "choice/return_mean",
        ),
    }
    for state in view_states(study, Trials([BASE], budget=1)).values():
        first, *closed = state["compareRunSections"]
        assert first["display"]
        assert not any(section["display"] for section in closed)
        names = {section["name"] for section in closed}
        assert {name.rpartition("/")[0] or "Model metrics" for name in shown} <= names


def test_a_state_too_long_for_a_tag_is_compressed() -> None:
    short, long = {"a": 1}, {"selectedColumns": [f"params.`field{n}`" for n in range(1000)]}
    assert json.loads(tag_value(short)) == short
    value = tag_value(long)
    assert len(value) <= LONGEST
    head, _, packed = value.partition(";")
    assert head == "deflate"
    assert json.loads(zlib.decompress(base64.b64decode(packed))) == long


def test_links_open_the_table_or_charts() -> None:
    page = "/#/experiments/7/runs?workflowType=machine_learning"
    assert experiment_path("7") == f"{page}&viewStateShareKey=sweep"
    charts = experiment_path("7", view="fields", charts=True)
    assert charts == f"{page}&viewStateShareKey=fields&compareRunsMode=CHART"
    assert run_path("7", "ab") == "/#/experiments/7/runs/ab"
    assert runs_url("lander@confirm", port=5001) == "http://127.0.0.1:5001/runs/lander%40confirm"


WRITES = ("log_", "set_", "create_", "update_", "delete_", "finalize_")


def test_publishing_again_writes_nothing_about_a_trial(
    finished: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweeps.charts.search.write_figures", lambda *_: [])
    sweep, calls = open_sweep(finished, "tiny"), Counter[str]()
    runs = {str(one.user_attrs[RUN_ID]) for one in sweep.read_trials().all}

    def counted(name: str) -> None:
        method = getattr(MlflowClient, name)

        def call(self: MlflowClient, target: str, *args: Any, **kwargs: Any) -> Any:
            calls[target] += 1
            return method(self, target, *args, **kwargs)

        monkeypatch.setattr(MlflowClient, name, call)

    for name in vars(MlflowClient):
        if name.startswith(WRITES):
            counted(name)
    publish(sweep)
    assert not runs & calls.keys()
    trial_0 = open_sweep(finished, "tiny").read_trials().all[0]
    finished.trials().set_late_attr(trial_0, SHOWN_NOTE, "another")
    calls.clear()
    publish(sweep)
    assert {run: calls[run] for run in runs & calls.keys()} == {trial_0.user_attrs[RUN_ID]: 1}


def test_every_trial_of_a_published_sweep_is_described(finished: Store) -> None:
    sweep, client = open_sweep(finished, "tiny"), finished.runs()
    for one in sweep.read_trials().all:
        tags = client.get_run(str(one.user_attrs[RUN_ID])).data.tags
        assert tags["mlflow.note.content"].startswith(f"**Trial {one.number}, promised ")
    experiment = client.get_experiment(sweep.experiment_id)
    assert experiment.tags["mlflow.note.content"].startswith("**tiny: trial ")


def test_the_registered_model_shows_the_best_policy_whichever_it_is(finished: Store) -> None:
    sweep = open_sweep(finished, "tiny")
    note = str(finished.runs().get_registered_model("tiny").description)
    assert f"](get-artifact?path=best.gif&run_uuid={sweep.run_id})" in note
    assert 'load_model("models:/tiny@best")' in note


def test_a_model_is_named_after_its_trial_and_carries_its_score(finished: Store) -> None:
    sweep, client = open_sweep(finished, "tiny"), finished.runs()
    models = {m.source_run_id: m for m in client.search_logged_models([sweep.experiment_id])}
    for one in sweep.read_trials().all:
        model = models[one.user_attrs[RUN_ID]]
        assert model.name == f"trial-{one.number:04d}"
        assert {m.key: m.value for m in model.metrics or []}["score"] == one.values[0]
    points = client.get_metric_history(str(models.popitem()[0]), "score")
    assert len(points) == 1
