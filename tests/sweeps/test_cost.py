"""What trials cost: measured by their worker, predicted from their parameters, and set against
their returns."""

from __future__ import annotations

import io
from collections.abc import Mapping
from datetime import datetime, timedelta
from itertools import pairwise
from math import exp, log
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial
from scipy import stats

from analysis.cost.cheapest import cheapest, lower_bound, trainings_needed
from analysis.cost.figure import cost_front
from analysis.cost.front import Offer, front, offers
from analysis.load import load_trials
from analysis.stats import Estimate
from lander.config import EnvConfig
from sweeps.publish.card import tuning_card
from sweeps.publish.notes import searched_space
from sweeps.record.meter import Meter
from sweeps.schema import COST, ENDED, RETURNS, RUN_ID, STARTED
from sweeps.store.store import Store
from sweeps.store.trials import Trials
from sweeps.study.cost import cost_of, planned_steps, steps_in_words, total_cost, trainings
from sweeps.study.dead_ends import unequal_budgets
from sweeps.study.study import read_study
from sweeps.study.timing import seconds_left, timing_of
from sweeps.sweep import open_sweep
from tests.studies import QUICK, changed
from tests.sweeps.conftest import Command

STUDY = read_study(QUICK, source="quick.toml")
BEGAN = datetime.fromisoformat("2030-01-01T00:00:00+00:00")


def trial(
    number: int,
    params: Mapping[str, Any],
    *,
    seconds: float | None,
    value: float | None = 1.0,
    state: TrialState = TrialState.COMPLETE,
    reports: int = 2,
    attributes: Mapping[str, Any] | None = None,
) -> FrozenTrial:
    """A trial of the quick study."""
    own: dict[str, Any] = {STARTED: BEGAN.isoformat(), **(attributes or {})}
    if seconds is not None:
        own[ENDED] = (BEGAN + timedelta(seconds=seconds)).isoformat()
    if state == TrialState.COMPLETE:
        own[RETURNS] = [[value]]
    made = create_trial(
        state=state,
        value=value,
        params=dict(params),
        distributions={
            range_.parameter: range_.distribution
            for range_ in STUDY.space.values()
            if range_.parameter in params
        },
        user_attrs=own,
        intermediate_values=dict.fromkeys(range(1, reports + 1), 0.0),
    )
    made.number = number
    return made


# --- measured ---


def zone(folder: Path, name: str, energy: int, most: int = 1_000) -> None:
    """A processor, or a part of one, as Linux shows it."""
    (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / name / "energy_uj").write_text(f"{energy}\n")
    (folder / name / "max_energy_range_uj").write_text(f"{most}\n")


def test_joules_are_those_of_all_processors_and_a_full_counter_goes_on(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", 5_000_000, most=262_143_000_000)
    zone(tmp_path, "intel-rapl:1", 9_000_000, most=10_000_000)
    zone(tmp_path, "intel-rapl:0:0", 1_000_000)  # a part of the first
    meter = Meter(tmp_path)
    zone(tmp_path, "intel-rapl:0", 8_500_000, most=262_143_000_000)
    zone(tmp_path, "intel-rapl:1", 1_000_000, most=10_000_000)  # began again at 0
    zone(tmp_path, "intel-rapl:0:0", 900_000_000)
    assert meter.read()["cost/joules"] == 3.5 + 2.0


def test_without_counters_there_are_no_joules(tmp_path: Path) -> None:
    assert "cost/joules" not in Meter(tmp_path).read()
    assert "cost/joules" not in Meter(tmp_path / "missing").read()
    zone(tmp_path, "intel-rapl:0", 1)
    meter = Meter(tmp_path)
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("unreadable")
    assert "cost/joules" not in meter.read()


def test_processor_time_counts_from_the_start_and_memory_never_falls() -> None:
    meter, before = Meter(), 0.0
    for _ in range(2):
        spent = meter.read()
        assert spent["cost/cpu_seconds"] >= before
        assert (
            50 < spent["cost/peak_memory"] < 100_000
        )  # megabytes, in whatever unit the system has
        before = spent["cost/cpu_seconds"]
        np.ones(1_000_000).cumsum()


def test_every_trial_of_a_sweep_says_what_it_cost(finished: Store, command: Command) -> None:
    sweep = open_sweep(finished, "tiny")
    table = load_trials(sweep)
    assert list(table["env_steps"]) == [64, 64]
    assert (table[["seconds", "cpu_seconds", "peak_memory"]] > 0).all(axis=None)
    for one in sweep.read_trials().all:
        run = finished.runs().get_run(one.user_attrs[RUN_ID])
        assert run.data.metrics["cost/env_steps"] == 64
        assert run.data.metrics["cost/seconds"] == float(run.data.tags["sweeps.seconds"])
        assert run.data.metrics["cost/cpu_seconds"] == one.user_attrs[COST]["cost/cpu_seconds"]
    lines = command("trials", "--study", "tiny", "--store", finished.folder).stdout
    printed = pd.read_csv(io.StringIO(lines))
    spent = ["seconds", "env_steps", "cpu_seconds", "peak_memory", "joules"]
    assert (printed[spent].astype("float64")).equals(table.reset_index()[spent].astype("float64"))
    card = tuning_card(sweep, sweep.read_trials().best)
    assert "- **search**: 2 trials (2 finished, 0 pruned, 0 failed); 2 trainings, 128 env" in card
    assert "- **seeds the search never saw**: 0: " in card
    exported = command("export", "--study", "tiny", "--store", finished.folder).stdout
    comments = "".join(f"# {line}".rstrip() + "\n" for line in card.splitlines())
    assert exported.startswith(comments)
    script = command("export", "--for", "sb3", "--study", "tiny", "--store", finished.folder).stdout
    assert script.startswith(comments)
    compile(script, "train.py", "exec")


def test_equal_parameters_are_expected_to_return_the_same_in_every_table(
    finished: Store, command: Command
) -> None:
    sweep = open_sweep(finished, "tiny")
    (first, *_) = sweep.read_trials().all
    sweep.optuna.add_trial(
        create_trial(value=9.0, params=first.params, distributions=first.distributions)
    )
    table = load_trials(open_sweep(finished, "tiny"))
    lines = command("trials", "--study", "tiny", "--store", finished.folder).stdout
    printed = pd.read_csv(io.StringIO(lines), index_col="trial")
    assert list(printed["expected_return"]) == list(table["expected_return"])
    assert printed["expected_return"][0] == printed["expected_return"][2]


def test_the_steps_of_a_training_are_a_span_where_they_are_searched() -> None:
    assert steps_in_words(STUDY) == "128 environment steps"
    line = '"ppo.update_epochs" = { low = 1, high = 2 }'
    searched = changed(QUICK, {line: "total_steps = { low = 128, high = 2_560 }"})
    study = read_study(searched, source="x.toml")
    assert steps_in_words(study) == "128 to 2,560 environment steps"
    assert "128 to 2,560 environment steps" in searched_space(study, Trials([], 3))


def test_of_an_earlier_version_the_steps_are_those_of_the_last_report() -> None:
    params = {"ppo.learning_rate": 0.001, "ppo.update_epochs": 1}
    pruned = trial(0, params, seconds=1, state=TrialState.PRUNED, reports=1)
    whole = trial(1, params, seconds=2)
    failed = trial(2, params, seconds=3, value=None, state=TrialState.FAIL, reports=0)
    newer = trial(3, params, seconds=None, attributes={COST: {"cost/env_steps": 99}})
    costs = [cost_of(one, STUDY) for one in (pruned, whole, failed, newer)]
    assert [cost.env_steps for cost in costs] == [64, 128, 0, 99]
    assert costs[0].cpu_seconds is None
    total = total_cost([pruned, whole, failed], STUDY)
    assert (total.seconds, total.env_steps, total.cpu_seconds) == (6.0, 192, None)
    assert trainings([pruned, whole, failed]) == 3


def test_a_searched_budget_counts_and_an_unfair_pruner_is_named() -> None:
    text = changed(
        QUICK, {"[space]": "[space]\ntotal_steps = { low = 128, high = 512, log = true }"}
    )
    study = read_study(text, source="x.toml")
    whole = trial(0, {}, seconds=1)
    assert planned_steps(whole, study) == 128
    whole.params["total_steps"] = 256
    assert planned_steps(whole, study) == 256
    (warning,) = unequal_budgets(study)
    assert warning.startswith("total_steps is searched, and pruner median compares trials at equal")
    fair = changed(text, {"seed = 3": 'seed = 3\npruner = "none"'})
    assert unequal_budgets(read_study(fair, source="x.toml")) == []
    assert unequal_budgets(STUDY) == []


# --- predicted ---


def timed(count: int = 12) -> list[FrozenTrial]:
    """Trials whose seconds double with the second choice of epochs, and are tenfold where the
    learning rate is highest, on the scale of its logarithm."""
    rng = np.random.default_rng(1)
    rows = []
    for number in range(count):
        share, epochs = rng.random(), int(rng.integers(1, 3))
        rate = 3e-4 * (1e-2 / 3e-4) ** share
        params = {"ppo.learning_rate": rate, "ppo.update_epochs": epochs}
        rows.append(trial(number, params, seconds=6 * 10**share * 2 ** (epochs - 1)))
    return rows


def test_seconds_are_predicted_and_the_fields_behind_them_named() -> None:
    known = timing_of(timed(40), STUDY.space)
    assert known is not None
    assert known.explained > 0.99
    assert known.seconds({"ppo.learning_rate": 1e-2, "ppo.update_epochs": 2}) == pytest.approx(
        120, rel=0.05
    )
    factors = known.importances()
    assert list(factors) == ["ppo.learning_rate", "ppo.update_epochs"]
    assert factors["ppo.learning_rate"] == pytest.approx(10, rel=0.1)
    assert factors["ppo.update_epochs"] == pytest.approx(2, rel=0.1)
    assert timing_of(timed(7), STUDY.space) is None


def test_what_left_out_trials_say_is_what_leaving_them_out_says() -> None:
    trials = timed(9)
    known = timing_of(trials, STUDY.space)
    assert known is not None
    off = []
    for one in trials:
        others = timing_of([other for other in trials if other is not one], STUDY.space)
        assert others is not None
        took = (datetime.fromisoformat(one.user_attrs[ENDED]) - BEGAN).total_seconds()
        off.append(log(others.seconds(one.params)) - log(took))
    assert known.error == pytest.approx(np.sqrt(np.mean(np.square(off))), rel=1e-6)


def test_the_time_left_counts_running_and_coming_trials() -> None:
    trials = timed(20)
    known = timing_of(trials, STUDY.space)
    assert known is not None
    params = {"ppo.learning_rate": 1e-3, "ppo.update_epochs": 1}
    running = trial(20, params, seconds=None, value=None, state=TrialState.RUNNING, reports=0)
    whole = [known.seconds(one.params) for one in trials]
    took = [cost_of(one, STUDY).seconds or 0.0 for one in trials]
    kept = sum(took) / sum(whole)
    left = seconds_left(known, [*trials, running], total=23, elapsed={20: 1.5})
    expected = kept * known.seconds(params) - 1.5 + 2 * kept * np.mean(whole)
    assert left == pytest.approx(expected)
    over = seconds_left(known, [*trials, running], total=21, elapsed={20: 1e9})
    assert over == 0


# --- set against returns ---


def offer(number: int, seconds: float, value: float, fresh: tuple[float, ...] = ()) -> Offer:
    one = trial(number, {}, seconds=seconds)
    nan = float("nan")
    return Offer(one, Estimate(seconds, nan, nan), 128.0, Estimate(value, value, value), fresh)


def test_the_front_is_what_no_faster_one_equals() -> None:
    every = [
        offer(0, 9, 200),
        offer(1, 5, 150),
        offer(2, 7, 140),
        offer(3, 5, 120),
        offer(4, 9, 210),
    ]
    assert [one.trial.number for one in front(every)] == [1, 4]
    assert front([]) == []
    for one, other in pairwise(front(every)):
        assert one.seconds.value < other.seconds.value


def test_the_lower_bound_is_the_share_at_which_so_many_are_just_possible() -> None:
    for solved, of in ((29, 29), (13, 14), (1, 3)):
        low = lower_bound(solved, of, level=0.05)
        assert stats.binom.sf(solved - 1, of, low) == pytest.approx(0.05)
    assert lower_bound(0, 5, level=0.05) == 0
    assert [trainings_needed(failures, level=0.05) for failures in (0, 1)] == [29, 46]
    assert trainings_needed(0, level=0.025) == 36
    assert 0.9**28 > 0.05 > 0.9**29


def test_the_cheapest_is_shown_by_its_lower_bound_only() -> None:
    good = (250.0,) * 36
    every = [offer(1, 5, 240, good), offer(2, 3, 230, (250.0,) * 30 + (0.0,) * 6)]
    text = cheapest(every, threshold=200).text
    assert text.startswith("By its lower bound, the cheapest configuration that solves it with pro")
    assert "is trial 1, 5.0 s a training: 36 of 36 fresh trainings solve it (1.00, " in text
    both = cheapest([offer(1, 5, 240, good), offer(2, 3, 230, good)], threshold=200)
    assert "is trial 2, 3.0 s" in both.text


def test_what_is_not_shown_is_an_estimate_or_cannot_be_said_yet() -> None:
    likely = cheapest([offer(1, 5, 240, (250.0,) * 9 + (0.0,))], threshold=200)
    assert likely.text.startswith("By the estimate, not by its lower bound, the cheapest")
    assert likely.trainings == 46
    unsaid = cheapest([offer(1, 5, 240, (250.0, -float("inf")))], threshold=200)
    assert unsaid.text.startswith("It cannot be said yet which is the cheapest configuration")
    assert "46 trainings of it would show it, if none of the further ones fails." in unsaid.text
    none = cheapest([offer(1, 5, 240)], threshold=200)
    assert (none.trainings, "no configuration was trained under fresh" in none.text) == (29, True)
    assert cheapest([], threshold=None).text == "The environment names no return that solves it."


def test_an_offer_has_the_seconds_of_each_of_its_trainings(finished: Store) -> None:
    sweep = open_sweep(finished, "tiny")
    every = offers(sweep)
    table = load_trials(sweep)
    assert {one.trial.number for one in every} == {0, 1}
    for one in every:
        row = table.loc[one.trial.number]
        assert one.seconds.value == row["seconds"]
        assert one.env_steps == 64
        assert one.likely.value == row["expected_return"]
        assert one.fresh == ()


def test_the_chart_has_a_mark_for_each_and_bars_where_they_are_known() -> None:
    every = [offer(0, 9, 200), offer(1, 5, 150, (180.0, 190.0)), offer(2, 50, 140)]
    (axes,) = cost_front(every, env=EnvConfig("CartPole-v1")).axes
    assert axes.get_xscale() == "log"  # from 5 to 50
    labels = [text.get_text() for text in axes.texts]
    assert {"0", "1"} <= set(labels)
    assert "2" not in labels
    assert exp(log(5)) == pytest.approx(every[1].seconds.value)
