"""The audit of the pruner: who is trained on, what that shows, and what pruned trials leave."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest
import scipy.stats
from mlflow import MlflowClient
from optuna.trial import FrozenTrial, TrialState, create_trial

from lander.evaluation import evaluate
from lander.metrics import EVAL_RETURN
from lander.seeds import checkpoint_seeds
from sweeps.health.evidence import Evidence
from sweeps.health.finding import TooLittle
from sweeps.health.pruning import pruning
from sweeps.lifecycle.start import start_sweep
from sweeps.publish.policies import policy_of
from sweeps.reproduce.reproduce import reproduce
from sweeps.run.worker import work
from sweeps.schema import AUDITED, ENDED, PRUNED_AT, REASON, RUN_ID, STARTED
from sweeps.store.store import Store
from sweeps.store.trials import Trials
from sweeps.study.audit import Audit, audit_of, chance_of, in_best_part, is_audited, wilson
from sweeps.study.pruning import MedianRule
from sweeps.study.settings import Settings
from sweeps.study.study import read_study
from sweeps.sweep import Sweep, open_sweep
from tests.studies import QUICK, changed
from tests.sweeps.conftest import Command

ONE = {"trials = 3": "trials = 1"}


# -- who is audited --------------------------------------------------------------------------------


def test_the_draw_of_a_trial_follows_from_study_seed_and_number() -> None:
    tenth = Settings(name="x", seed=3, audit=0.1)
    drawn = [number for number in range(1_000) if is_audited(tenth, number)]
    assert drawn == [number for number in range(1_000) if is_audited(tenth, number)]
    assert 70 <= len(drawn) <= 130  # three standard deviations
    other = Settings(name="x", seed=4, audit=0.1)
    assert drawn != [number for number in range(1_000) if is_audited(other, number)]
    more = Settings(name="x", seed=3, audit=0.2)
    assert all(is_audited(more, number) for number in drawn)


@pytest.mark.parametrize(("share", "count"), [(0.0, 0), (1.0, 100)])
def test_nobody_is_audited_at_0_and_everybody_at_1(share: float, count: int) -> None:
    settings = Settings(name="x", audit=share)
    assert sum(is_audited(settings, number) for number in range(100)) == count


# -- what it shows ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "of"), [(0, 1), (1, 3), (2, 9), (9, 9), (40, 400)])
def test_the_interval_is_wilsons(count: int, of: int) -> None:
    exact = scipy.stats.binomtest(count, of).proportion_ci(0.95, method="wilson")
    assert wilson(count, of) == pytest.approx((exact.low, exact.high), abs=1e-12)


@pytest.mark.parametrize(("count", "of"), [(0, 0), (1, 1), (2, 5), (6, 20)])
def test_the_chance_of_false_prunes_is_binomial(count: int, of: int) -> None:
    exact = scipy.stats.binom.sf(count - 1, of, 0.1)
    assert chance_of(count, of, 0.1) == pytest.approx(exact, abs=1e-12)


def test_audited_trials_are_no_measure_of_each_other() -> None:
    done = TrialState.COMPLETE
    trials = [ended(number, done, seconds=9, value=float(number)) for number in range(8)]
    trials += [ended(8, done, seconds=9, value=value, audited=1) for value in (9.0, 8.5, 6.5)]
    assert audit_of(trials).false == 3  # of the eight others only one is above 6.5


def test_of_nothing_any_rate_is_possible() -> None:
    assert wilson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("score", "best"), [(5.0, True), (7.0, True), (7.5, True), (4.0, True), (3.9, True), (3, False)]
)
def test_the_best_quarter_has_fewer_than_a_quarter_above_it(score: float, best: bool) -> None:
    # of eight others two are a quarter: one may be above
    others = [0.0, 1.0, 2.0, 3.0, 3.5, 3.8, 3.9, 7.5]
    assert in_best_part(score, others) is best


def ended(
    number: int, state: TrialState, *, seconds: int, value: float | None = None, **more: object
) -> FrozenTrial:
    """A trial that took so long, with reports up to `last`."""
    last = more.pop("last", 4)
    assert isinstance(last, int)
    trial = create_trial(
        state=state,
        value=value,
        intermediate_values=dict.fromkeys(range(1, last + 1), 0.0),
        user_attrs={
            STARTED: "2026-01-01T00:00:00+00:00",
            ENDED: f"2026-01-01T00:{seconds // 60:02}:{seconds % 60:02}+00:00",
            **({AUDITED: more["audited"]} if "audited" in more else {}),
            **({REASON: more["reason"]} if "reason" in more else {}),
        },
    )
    trial.number = number
    return trial


def test_cost_and_savings_follow_from_the_shares_of_the_reports() -> None:
    done, early = TrialState.COMPLETE, TrialState.PRUNED
    trials = [
        *(ended(number, done, seconds=99, value=float(number)) for number in range(8)),
        ended(8, done, seconds=40, value=6.5, audited=1),  # one above: false; 3/4 of it is cost
        ended(9, done, seconds=40, value=5.5, audited=2),  # two above, which are a quarter
        ended(10, early, seconds=10, last=1),  # three times as long are saved
        ended(11, early, seconds=30, last=2),
        ended(12, early, seconds=30, last=2, reason="expired: longer than trial_seconds = 30"),
    ]
    assert audit_of(trials, reports=4) == Audit(2, 2, 1, cost=30.0 + 20.0, saved=30.0 + 30.0)
    assert audit_of(trials) == Audit(2, 2, 1)
    assert str(audit_of(trials, reports=4)) == (
        "keep it: too few audited trials to say more; 1 of 2 audited trials ended in the best "
        "quarter, 50% [9%, 91%], which took 50 s more; it ended 2 others, which saved about 60 s"
    )


@pytest.mark.parametrize(
    ("false", "audited", "verdict"),
    [
        (0, 0, ""),
        (0, 3, "keep it: too few audited trials to say more"),
        (0, 20, "keep it: ending trials blindly would lose 25%"),
        (2, 20, "keep it: too few audited trials to say more"),
        (1, 1, "keep it: too few audited trials to say more"),  # one time in ten by chance
        (3, 5, "loosen it: it loses more than 10% of the trials that it ends"),
        (6, 20, "loosen it: it loses more than 10% of the trials that it ends"),
    ],
)
def test_the_verdict_is_loosen_once_luck_does_not_explain_it(
    false: int, audited: int, verdict: str
) -> None:
    assert Audit(pruned=9, audited=audited, false=false).verdict == verdict


def test_without_an_audited_trial_it_says_what_pruning_saved() -> None:
    assert str(Audit(pruned=3, saved=71.0)) == (
        "ended 3 trials, which saved about 71 s; none was audited yet"
    )


@pytest.mark.parametrize(("audited", "prunes"), [(False, False), (True, True)])
def test_audited_trials_do_not_weaken_the_median_rule(audited: bool, prunes: bool) -> None:
    study = optuna.create_study(direction="maximize")
    for value in (10.0, 20.0, 0.0, 0.0):
        attributes = {AUDITED: 1} if audited and not value else {}
        reports = {1: value}
        study.add_trial(
            create_trial(value=value, intermediate_values=reports, user_attrs=attributes)
        )
    running = create_trial(state=TrialState.RUNNING, intermediate_values={1: 8.0})
    assert MedianRule(n_startup_trials=2).prune(study, running) is prunes


@pytest.mark.parametrize(
    ("lines", "table", "remedy"),
    [
        ("checkpoints = 5", "", "n_warmup_steps = 3"),  # it begins at 1 + 5 // 4
        ("checkpoints = 5", "[pruner]\nn_warmup_steps = 4", 'pruner = "none"'),
        ("checkpoints = 2", "", 'pruner = "none"'),
    ],
)
def test_a_pruner_that_loses_good_trials_is_a_finding_of_health(
    lines: str, table: str, remedy: str
) -> None:
    text = changed(QUICK, {"checkpoints = 2": lines, "total_steps = 128": "total_steps = 1_024"})
    study = read_study(f"{text}\n{table}\n", source="x.toml")
    done = TrialState.COMPLETE
    kept = [ended(number, done, seconds=60, value=float(number)) for number in range(8)]
    good = [ended(8 + i, done, seconds=60, value=9.0 + i, audited=1) for i in range(6)]
    (finding,) = pruning(Evidence(study, Trials([*kept, *good], budget=14), Path("store")))
    assert finding.sentence.startswith("The pruner ends trials that would have been among the best")
    assert finding.remedy.paste == remedy
    assert list(pruning(Evidence(study, Trials([*kept, *good[:1]], budget=9), Path()))) == []
    with pytest.raises(TooLittle, match="no trial that the pruner would have ended"):
        list(pruning(Evidence(study, Trials(kept, budget=8), Path())))


# -- trials ----------------------------------------------------------------------------------------


@pytest.fixture
def behind(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A pruner that ends every trial; the last report whenever it was asked."""
    asked: list[int] = []

    def should_prune(trial: optuna.Trial) -> bool:
        asked.append(max(trial.storage.get_trial(trial._trial_id).intermediate_values))
        return True

    monkeypatch.setattr(optuna.Trial, "should_prune", should_prune)
    monkeypatch.setattr("sweeps.charts.search.write_figures", lambda *_: [])
    return asked


def worked(store: Store, text: str) -> tuple[Sweep, FrozenTrial]:
    """A sweep of one trial, and that."""
    study = read_study(text, source="x.toml")
    start_sweep(study, store, trials=None, command=["run"])
    work(store, study.name, index=0, seconds=None)
    sweep = open_sweep(store, study.name)
    (trial,) = sweep.read_trials().all
    return sweep, trial


def files(client: MlflowClient, trial: FrozenTrial) -> set[str]:
    return {artifact.path for artifact in client.list_artifacts(trial.user_attrs[RUN_ID])}


def test_an_audited_trial_is_trained_to_its_end_as_if_nothing_was_pruned(
    store: Store, behind: list[int], command: Command, tmp_path: Path
) -> None:
    three = changed(QUICK, ONE | {"checkpoints = 2": "checkpoints = 2\nsampled_episodes = 1"})
    whole = changed(three, {'"mini"': '"whole"', "seed = 3": 'seed = 3\npruner = "none"'})
    text = changed(three, {"seed = 3": "seed = 3\naudit = 1"})
    sweep, trial = worked(store, text)
    assert behind == [1]  # it is asked no more once it has answered
    assert (trial.state, trial.user_attrs[AUDITED]) == (TrialState.COMPLETE, 1)
    assert reproduce(store, "mini", "0", say=lambda line: None)
    behind.clear()
    assert trial.value == worked(store, changed(whole, {}))[1].value
    file = tmp_path / "mini.toml"
    file.write_text(text)
    end = command("run", "--study", file, "--store", store.folder).stdout
    assert "keep it: too few audited trials to say more; 0 of 1 audited trials" in end
    note = store.runs().get_run(sweep.run_id).data.tags["mlflow.note.content"]
    assert "Pruner: keep it: too few audited trials" in note
    assert "pruner: keep it: " in command("status", "--store", store.folder).stdout


def test_a_pruned_trial_keeps_the_weights_and_a_film_of_its_last_moment(
    store: Store, behind: list[int]
) -> None:
    sweep, trial = worked(store, changed(QUICK, ONE | {"seed = 3": "seed = 3\naudit = 0"}))
    assert (behind, trial.state, trial.user_attrs[PRUNED_AT]) == ([1], TrialState.PRUNED, 1)
    run = store.runs().get_run(trial.user_attrs[RUN_ID])
    assert {"policy.pt", "landing.gif", "config.toml"} <= files(store.runs(), trial)
    trained = policy_of(sweep, trial)
    flown = evaluate(trained.policy, trained.config.env, seeds=checkpoint_seeds(trained.config))
    assert flown.return_mean == run.data.metrics[EVAL_RETURN] == trial.value
    assert "![where it was pruned](" in run.data.tags["mlflow.note.content"]
    assert reproduce(store, "mini", "0", say=lambda line: None)


def test_a_trial_that_is_pruned_between_its_seeds_keeps_them_too(
    store: Store, behind: list[int]
) -> None:
    two = {"seed = 3": 'seed = 3\naudit = 0\npruner = "wilcoxon"\nseeds_per_trial = 2'}
    sweep, trial = worked(store, changed(QUICK, ONE | two))
    assert (len(behind), trial.state) == (1, TrialState.PRUNED)
    assert "landing.gif" in files(store.runs(), trial)
    assert policy_of(sweep, trial).training == 0
