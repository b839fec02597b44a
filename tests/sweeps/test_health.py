"""What a sweep says about itself: made-up sweeps, and how often equals look unequal."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
from optuna.trial import FrozenTrial, TrialState, create_trial

import sweeps.commands
from sweeps.health.agreement import agreement
from sweeps.health.choices import choices
from sweeps.health.effects import effects
from sweeps.health.ends import ends, p_of
from sweeps.health.evidence import Configuration, Evidence
from sweeps.health.examination import CHECKS, examine
from sweeps.health.failures import failures
from sweeps.health.finding import LEVEL, Claim, Finding, Remedy, TooLittle, believed
from sweeps.health.lines import line, widened, without_choice, without_half
from sweeps.health.model import Effect, effect_of
from sweeps.health.noise import components, noise
from sweeps.health.plateau import plateau
from sweeps.health.prediction import PENALTIES, cross_validated, prediction, ridge
from sweeps.health.record import Health
from sweeps.publish.health import health_of
from sweeps.schema import ENDED, NOTE, REASON, RETURNS, RUN_ID, SEED_SCORES
from sweeps.store.store import Store
from sweeps.store.trials import Trials
from sweeps.study.study import Study, find_study, read_study
from sweeps.sweep import open_sweep
from tests.studies import MINI, changed
from tests.sweeps.conftest import Command

SWEEPS = 100
"""Simulated A/A sweeps."""
SEEN = 30
"""Trials of each."""
Check = Callable[[Evidence], Any]


@cache
def lander() -> Study:
    """The default study."""
    return find_study("lander")


def trial(
    number: int,
    shares: Mapping[str, float],
    scores: Sequence[float] = (),
    *,
    state: TrialState = TrialState.COMPLETE,
    reason: str | None = None,
) -> FrozenTrial:
    """A trial of the default study at these shares of its ranges, in the middle of all others; it
    ended `number` minutes after the first."""
    space = lander().space
    params = {r.parameter: r.at(shares.get(name, 0.5)) for name, r in space.items()}
    attributes: dict[str, Any] = {RUN_ID: f"run-{number}"}
    attributes[ENDED] = (datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=number)).isoformat()
    if scores:
        attributes |= {RETURNS: [[s] for s in scores], SEED_SCORES: list(scores)}
    if reason is not None:
        attributes[REASON] = reason
    made = create_trial(
        params=params,
        distributions={r.parameter: r.distribution for r in space.values()},
        value=float(np.mean(scores)) if scores else None,
        state=state,
        user_attrs=attributes,
    )
    made.number = number
    return made


def evidence(trials: Sequence[FrozenTrial], **kwargs: Any) -> Evidence:
    """A sweep of these trials."""
    study = kwargs.pop("study", lander())
    return Evidence(study, Trials(trials, len(trials)), Path("mlruns"), **kwargs)


def along(field: str, count: int, score: Callable[[float], float]) -> list[FrozenTrial]:
    """Trials over one field, each with the score that its share of the range has."""
    shares = [(number + 0.5) / count for number in range(count)]
    return [trial(n, {field: share}, [score(share)]) for n, share in enumerate(shares)]


def open_reason(check: Check, some: Evidence) -> str:
    """What a check says that has too little."""
    with pytest.raises(TooLittle) as caught:
        list(check(some))
    return str(caught.value)


# --- which tests are believed ---


def test_holm_believes_the_least_p_first_and_stops_at_the_first_failure() -> None:
    remedy = Remedy("", "")

    def named(name: str, p: float) -> Claim:
        return Claim(p, lambda: Finding(name, "", remedy))

    tests = [named("c", 1.01 * LEVEL), named("a", 0.3 * LEVEL), named("b", 0.5 * LEVEL)]
    assert [finding.sentence for finding in believed(tests)] == ["a", "b"]
    stopped = [named("a", 0.34 * LEVEL), named("b", 0.4 * LEVEL), named("c", 0.5 * LEVEL)]
    assert list(believed(stopped)) == []
    assert list(believed([Claim(0.0, lambda: None)])) == []


# --- lines to paste ---


@pytest.mark.parametrize(
    ("field", "upward", "paste"),
    [
        (
            "ppo.learning_rate",
            True,
            '"ppo.learning_rate" = { low = 0.0003, high = 0.032, log = true }',
        ),
        (
            "ppo.learning_rate",
            False,
            '"ppo.learning_rate" = { low = 9.3e-05, high = 0.01, log = true }',
        ),
        ("ppo.update_epochs", True, '"ppo.update_epochs" = { low = 2, high = 44, log = true }'),
        ("ppo.update_epochs", False, '"ppo.update_epochs" = { low = 1, high = 20, log = true }'),
        ("ppo.clip_range", False, '"ppo.clip_range" = { low = 0.021, high = 0.4 }'),
        (
            "ppo.gae_lambda",
            True,
            '"ppo.gae_lambda" = { low = 0.9, high = 0.99978, one_minus_log = true }',
        ),
    ],
)
def test_a_range_is_widened_by_a_third_or_as_far_as_it_trains(
    field: str, upward: bool, paste: str
) -> None:
    wide = widened(lander().space[field], lander(), upward=upward)
    assert wide is not None
    assert line(wide) == paste


def test_a_range_at_the_limit_of_its_field_is_not_widened() -> None:
    text = changed(MINI, {"low = 2, high = 12": "low = 1, high = 12"})
    study = read_study(text, source="mini")
    assert widened(study.space["ppo.update_epochs"], study, upward=False) is None


def test_half_of_a_range_is_left_out_unless_the_base_lies_in_it() -> None:
    space, study = lander().space, lander()
    upper = without_half(space["env.reward_scale"], study, upper=True)
    assert upper is not None
    assert str(upper) == "{ low = 0.001, high = 0.032, log = true }"
    assert without_half(space["env.reward_scale"], study, upper=False) is None  # the base: 0.01
    assert str(without_choice(space["env.bins"], 15, study)) == "{ choices = [3, 5, 7, 10] }"
    assert without_choice(space["env.bins"], 10, study) is None


def test_a_share_of_a_range_is_that_of_its_value() -> None:
    for range_ in lander().space.values():
        if range_.field != "env.bins":
            assert range_.share(range_.at(0.0)) == pytest.approx(0, abs=0.2)
            assert range_.at(range_.share(range_.at(0.3))) == range_.at(0.3)
    space = lander().space
    assert space["ppo.clip_range"].share(0.225) == pytest.approx(0.5)
    assert space["env.reward_scale"].share(0.1) == pytest.approx(2 / 3)
    assert space["ppo.update_epochs"].share(20) == pytest.approx(
        np.log(20 / 1.5) / np.log(20.5 / 1.5)
    )


# --- ends ---


def test_best_values_at_an_end_are_named_with_a_wider_range() -> None:
    (finding,) = ends(evidence(along("ppo.learning_rate", 12, lambda share: 100 * share)))
    assert finding.sentence == (
        "The best values of ppo.learning_rate lie at the upper end of its range, 0.01."
    )
    assert finding.evidence.startswith(
        "2 of the best 3 configurations lie in the last 20% of the range, as do 2 of all 12; "
    )
    assert finding.remedy.do == "set under [space]"
    assert finding.remedy.paste.startswith('"ppo.learning_rate" = { low = 0.0003, high = 0.032')


def test_the_end_is_that_of_the_fields_own_values() -> None:
    """Optuna's parameter is the distance to 1, whose low end is the field's upper one."""
    (finding,) = ends(evidence(along("ppo.gae_lambda", 12, lambda share: -100 * share)))
    assert "upper end of its range, 0.999." in finding.sentence


def test_best_values_in_the_middle_or_by_chance_are_no_finding() -> None:
    assert not list(ends(evidence(along("ppo.clip_range", 12, lambda share: -abs(share - 0.5)))))
    swapped = along("ppo.clip_range", 12, lambda share: (37 * share) % 1)
    assert not list(ends(evidence(swapped)))


def test_p_of_a_rank_correlation_is_that_of_scipy() -> None:
    x, y = np.random.default_rng(0).normal(size=(2, 15))
    known = scipy.stats.spearmanr(x, y)
    assert p_of(known.statistic, 15) == pytest.approx(known.pvalue)
    assert p_of(1.0, 15) == 0.0


# --- effects and prediction ---


def test_an_effect_of_choices_is_an_analysis_of_variance_of_ranks() -> None:
    scores = np.random.default_rng(1).normal(size=25)
    some = evidence(
        [
            trial(n, {"env.bins": n % 5 / 5 + 0.1, "ppo.clip_range": n / 25}, [s])
            for n, s in enumerate(scores)
        ]
    )
    effect = effect_of(lander().space["env.bins"], some.configurations)
    assert effect is not None
    ranks = scipy.stats.rankdata([one.worth for one in some.configurations])
    known = scipy.stats.f_oneway(*(ranks[k::5] for k in range(5)))
    assert effect.p == pytest.approx(known.pvalue)
    assert (effect.columns, effect.count) == (4, 25)


def test_the_highest_share_is_one_under_which_so_low_a_share_is_rare() -> None:
    effect = Effect(share=0.1, p=0.3, columns=2, count=30)
    highest = effect.highest(0.05)
    f = 0.1 / 2 / 0.9 * 27
    assert scipy.stats.ncf.cdf(f, 2, 27, 30 * highest / (1 - highest)) == pytest.approx(0.05)


def test_a_field_without_effect_is_named_only_beside_one_that_has_one() -> None:
    rng = np.random.default_rng(2)
    where = rng.random((100, 2))
    fields = ("ppo.learning_rate", "ppo.clip_range")
    shares = [dict(zip(fields, map(float, row), strict=True)) for row in where]
    one = evidence([trial(n, s, [100 * s[fields[0]]]) for n, s in enumerate(shares)])
    (finding,) = effects(one)
    assert finding.sentence == "ppo.clip_range has no effect that could be measured."
    assert finding.remedy == Remedy(
        "leave out of [space]", '"ppo.clip_range" = { low = 0.05, high = 0.4 }'
    )
    other = np.random.default_rng(9)
    none = evidence([trial(n, s, [float(other.normal())]) for n, s in enumerate(shares)])
    assert open_reason(effects, none) == "no field has an effect that could be measured"


def test_a_best_value_in_the_middle_is_an_effect() -> None:
    some = evidence(along("ppo.clip_range", 30, lambda share: -abs(share - 0.5)))
    effect = effect_of(lander().space["ppo.clip_range"], some.configurations)
    assert effect is not None
    assert effect.share > 0.9


def test_what_can_be_predicted_is_and_noise_is_not() -> None:
    x = np.random.default_rng(3).normal(size=(60, 5))
    exact = cross_validated(x, x @ np.arange(5.0))
    assert exact.low > 0.99
    noise_only = cross_validated(x, np.random.default_rng(4).normal(size=60))
    assert noise_only.value < 0.1


def test_a_ridge_takes_the_penalty_that_predicts_what_it_leaves_out() -> None:
    """One row at a time, by the normal equations."""
    rng = np.random.default_rng(3)
    x, new = rng.normal(size=(12, 3)), rng.normal(size=(2, 3))
    y = x @ np.array([1.0, -2.0, 0.0]) + rng.normal(size=12)

    def solved(penalty: float, rows: list[int], at: Any) -> Any:
        middle, mean = x[rows].mean(axis=0), y[rows].mean()
        inner = (x[rows] - middle).T @ (x[rows] - middle) + penalty * np.eye(3)
        slopes = np.linalg.solve(inner, (x[rows] - middle).T @ (y[rows] - mean))
        return mean + (at - middle) @ slopes

    every = list(range(12))
    predicted = [solved(penalty, every, new) for penalty in PENALTIES]
    (taken,) = [n for n, each in enumerate(predicted) if np.allclose(each, ridge(x, y, new))]
    errors = [
        sum((y[i] - solved(p, [j for j in every if j != i], x[i])) ** 2 for i in every)
        for p in PENALTIES
    ]
    assert taken == int(np.argmin(errors))


def test_an_unpredictable_score_asks_for_more_trials() -> None:
    scores = np.random.default_rng(5).normal(size=40)
    (finding,) = prediction(
        evidence([trial(n, {"ppo.clip_range": n / 40}, [s]) for n, s in enumerate(scores)])
    )
    assert finding.sentence.startswith("What a configuration is worth cannot be predicted")
    assert finding.remedy.paste == "trials = 80"
    assert not list(prediction(evidence(along("ppo.clip_range", 40, lambda share: share))))


# --- choices ---


def test_a_choice_that_was_never_tried_is_counted() -> None:
    trials = [
        trial(n, {"env.bins": n % 4 / 5 + 0.1, "ppo.clip_range": n / 30}, [1.0 * n])
        for n in range(30)
    ]
    (finding,) = choices(evidence(trials))
    assert finding.sentence == "Of env.bins, 1 of 5 choices were hardly tried: 15 never."
    assert finding.evidence == "evenly each had 6.0 of 30 configurations; p 0.0062"
    assert finding.remedy == Remedy("set under [study]", "startup_trials = 20")
    assert not list(choices(evidence(trials[:12])))  # evenly each had 2.4: it may be chance


# --- noise ---


def configuration(*scores: float) -> Configuration:
    return Configuration(0, {}, float(np.mean(scores)), scores)


def test_variance_components_are_those_of_the_formula() -> None:
    """Of four good configurations by hand: deviations of 2 within, the median of all at 10."""
    bad = [configuration(-100.0, -300.0) for _ in range(3)]
    good = [configuration(m - 2, m + 2) for m in (10.0, 12.0, 14.0, 18.0)]
    parts = components([*bad, *good])
    assert (parts.trainings, parts.configurations) == (8, 4)
    assert parts.seed == 8.0  # 4 x 8 over 4 degrees of freedom
    assert parts.configuration == pytest.approx((0 + 4 + 16 + 64) / 4 - 8 / 2)
    assert parts.share.value == pytest.approx(8 / 25)
    ratio = 2 * 21 / 8
    low = scipy.stats.f.ppf(0.025, 4, 4)
    assert parts.share.low == pytest.approx(1 / (1 + (ratio / low - 1) / 2))
    assert parts.share.high == 1.0  # Fisher's upper quantile is above the ratio


def test_the_interval_of_the_noise_holds_its_share_in_most_sweeps() -> None:
    rng, held = np.random.default_rng(6), 0
    for _ in range(200):
        means = rng.normal(0, 1, size=24)
        some = [configuration(*map(float, rng.normal(mean, 1, size=3))) for mean in means]
        share = components(some).share
        held += share.low <= 0.5 <= share.high
    assert held >= 180


def test_noise_that_hides_the_best_asks_for_more_trainings() -> None:
    rng = np.random.default_rng(7)
    trials = [
        trial(n, {"ppo.clip_range": n % 10 / 10}, [float(rng.normal(200, 30))]) for n in range(60)
    ]
    (finding,) = noise(evidence(trials))
    assert "of the differences between good scores is noise" in finding.sentence
    assert finding.remedy.paste.startswith("seeds_per_trial = ")  # repeat_from is set
    settings = replace(lander().settings, repeat_from=None)
    once = evidence(trials, study=replace(lander(), settings=settings))
    assert next(noise(once)).remedy.paste == "repeat_from = 0.5"


def test_differences_between_steady_configurations_are_no_noise() -> None:
    trials = [
        trial(n, {"ppo.clip_range": n % 10 / 10}, [100.0 * (n % 10) + n / 100]) for n in range(30)
    ]
    assert list(noise(evidence(trials))) == []


# --- failures, plateau, agreement ---


def failing(upper: int, lower: int) -> list[FrozenTrial]:
    """Twenty trials over a field, of which so many fail in its upper and its lower half."""
    trials = along("env.reward_scale", 20, lambda share: share)
    numbers = [*range(lower), *range(20 - upper, 20)]
    for n in numbers:
        trials[n] = trial(
            n,
            {"env.reward_scale": (n + 0.5) / 20},
            state=TrialState.FAIL,
            reason="diverged: the loss is nan",
        )
    return trials


def test_failed_trials_are_traced_to_half_of_a_field() -> None:
    (finding,) = failures(evidence(failing(8, 0)))
    assert finding.sentence == (
        "8 of 20 trials failed or diverged, 8 of them with env.reward_scale in the upper half of "
        "its range."
    )
    assert "10 of 20 trials lie there; p 0.00036, " in finding.evidence  # C(10, 8) / C(20, 8)
    assert finding.evidence.endswith("the first, trial 12: diverged: the loss is nan")
    assert finding.remedy.paste == (
        '"env.reward_scale" = { low = 0.001, high = 0.032, log = true }'
    )


def test_failed_trials_anywhere_lead_to_the_first_of_them() -> None:
    (finding,) = failures(evidence(failing(2, 2)))
    assert finding.sentence == (
        "4 of 20 trials failed or diverged, in no particular part of the space."
    )
    assert finding.remedy.do == "run"
    assert "reproduce" in finding.remedy.paste
    broken = trial(0, {}, state=TrialState.FAIL, reason="OSError: no such file")
    (finding,) = failures(evidence([broken, *failing(0, 0)[1:]]))
    assert re.search(
        r"export .*--trial 0 .*> trial-0.toml && .*lander --config trial-0.toml$",
        finding.remedy.paste,
    )
    assert list(failures(evidence(failing(0, 0)))) == []


def test_a_search_that_no_longer_rises_has_reached_a_plateau() -> None:
    def searched(rise: float) -> list[FrozenTrial]:
        levels = [min(n, 10) + rise * (n >= 20) for n in range(30)]
        return [
            trial(n, {"ppo.clip_range": n / 30}, [100 + level, 110 + level])
            for n, level in enumerate(levels)
        ]

    flat = searched(0)
    (finding,) = plateau(evidence(flat))
    assert finding.sentence == "The last 10 trials have not raised the best expected return."
    assert "confirm" in finding.remedy.paste
    assert list(plateau(evidence(searched(60)))) == []
    again = [trial(n, {"ppo.clip_range": n % 20 / 30}, [100.0, 110.0]) for n in range(30)]
    assert open_reason(plateau, evidence(again)).endswith("in the last third, not 0")


def test_sampled_actions_that_rank_trials_otherwise_are_noticed() -> None:
    trials = along("ppo.clip_range", 20, lambda share: share)
    same = {f"run-{n}": float(n) for n in range(20)}
    other = {f"run-{n}": float(-n) for n in range(20)} | {"run-0": -1.5}
    assert list(agreement(evidence(trials, sampled=same | {"run-0": 0.5}))) == []
    (finding,) = agreement(evidence(trials, sampled=other))
    assert finding.remedy == Remedy("set under [base]", "sampled_episodes = 20")
    assert "20 finished trials; 20 deterministic episodes each, 4 sampled" in finding.evidence
    assert open_reason(agreement, evidence(trials)).startswith("MLflow")


# --- the whole ---


def equals(seed: int) -> Evidence:
    """A sweep whose trials all have one true score: points drawn at random, normal noise."""
    rng = np.random.default_rng(seed)
    shares = [{name: float(rng.random()) for name in lander().space} for _ in range(SEEN)]
    return evidence(
        [trial(n, s, [float(rng.normal(200, 40))]) for n, s in enumerate(shares)], sampled={}
    )


def test_sweeps_of_equals_hardly_ever_find_an_end_or_a_choice() -> None:
    """And most of them say what is true of them: that nothing can be predicted."""
    kinds: Counter[str] = Counter()
    for seed in range(SWEEPS):
        some = equals(seed)
        asked = CHECKS.keys() - examine(some).open.keys()
        kinds.update(name for name in asked if list(CHECKS[name](some)))
    assert kinds["ends"] + kinds["choices"] <= 0.06 * SWEEPS
    assert kinds["effects"] <= 0.1 * SWEEPS
    assert kinds["prediction"] >= 0.8 * SWEEPS
    assert kinds["failures"] == kinds["agreement"] == 0


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_sweep_with_few_trials_is_examined_as_far_as_it_goes(count: int) -> None:
    health = examine(evidence(along("ppo.clip_range", count, lambda share: share)))
    assert health.findings == []
    assert health.open.keys() >= CHECKS.keys() - {"failures"}
    assert health.state.startswith(f"nothing is wrong, as far as {count} trial")


def test_pruned_trials_and_points_and_grids_are_examined() -> None:
    pruned = [trial(n, {"ppo.clip_range": n / 9}, state=TrialState.PRUNED) for n in range(9)]
    for n, one in enumerate(pruned):
        one.values = [float(n)]
    some = evidence([*along("ppo.clip_range", 9, lambda share: share), *pruned])
    assert len(some.configurations) == 18
    assert all(one.scores == [] for one in some.configurations[9:])
    heads = evidence([], study=find_study("heads"))
    assert "named" in open_reason(ends, heads)
    assert examine(heads).findings == []
    grid = replace(lander(), settings=replace(lander().settings, sampler="grid"))
    assert "learn" in open_reason(plateau, evidence([], study=grid))


def test_a_thousand_trials_are_examined_without_a_warning() -> None:
    rng = np.random.default_rng(8)
    shares = [{name: float(rng.random()) for name in lander().space} for _ in range(1000)]
    trials = [trial(n, s, [float(rng.normal())]) for n, s in enumerate(shares)]
    assert examine(evidence(trials, sampled={})).trials == 1000


# --- where people meet it ---


def test_a_swept_store_says_its_health_in_one_line(mini: Store, command: Command) -> None:
    done = command("health", "--study", "mini", "--store", mini.folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("mini: nothing is wrong, as far as 6 trials can tell")
    assert done.stdout.count("\n") == 1
    as_json = command("health", "--study", "mini", "--store", mini.folder, "--json")
    record = json.loads(as_json.stdout)
    assert (record["study"], record["trials"], record["findings"]) == ("mini", 6, [])
    assert record["open"]["ends"] == "it takes 8 configurations, 6 have returned something"
    sweep = open_sweep(mini, "mini")
    note = mini.runs().get_run(sweep.run_id).data.tags[NOTE]
    assert "\n\nHealth: nothing is wrong, as far as 6 trials can tell" in note


def test_sampled_returns_are_read_from_mlflow(mini: Store) -> None:
    sweep = open_sweep(mini, "mini")
    health = health_of(sweep, sweep.read_trials())
    assert health.open["agreement"].startswith("it takes 8 finished trials")


def test_findings_are_printed_with_their_remedies(
    mini: Store,
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    finding = Finding("It is ill.", "2 of 3", Remedy("set under [study]", "trials = 60"))
    ill = Health("mini", 6, [finding, finding], {"ends": "it takes more"})
    monkeypatch.setattr("sweeps.publish.health.health_of", lambda *_, **__: ill)
    assert command("health", "--study", "mini", "--store", mini.folder).stdout == (
        "mini: 2 findings in 6 trials\n"
        "\n1. It is ill.\n   2 of 3\n   set under [study]: trials = 60\n"
        "\n2. It is ill.\n   2 of 3\n   set under [study]: trials = 60\n"
        "\nnot examined: ends: it takes more\n"
    )
    monkeypatch.setattr(sweeps.commands, "health_of", lambda *_, **__: ill)
    sweep = open_sweep(mini, "mini")
    sweeps.commands.conclude(sweep, sweep.read_trials())
    *_, first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("health    ")
    assert "health" in first.removeprefix("health")
    assert second == " " * 10 + "2 findings in 6 trials, the first: It is ill."


def test_a_confirmation_leads_to_its_sweep(finished: Store, command: Command) -> None:
    done = command("health", "--study", "no-such", "--store", finished.folder)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
