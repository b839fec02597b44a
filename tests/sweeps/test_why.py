"""Why the winner wins: the path from the base to it, and what a model of the trials says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

import analysis.why.run
from analysis.stats import Estimate
from analysis.why import path as paths
from analysis.why.box import box_of
from analysis.why.model import Model, at_shares, model_of, vector
from analysis.why.path import (
    Step,
    between,
    configs_of,
    order_of,
    path_study,
    read_path,
    steps_in,
    winner_of,
)
from analysis.why.words import importance_legend, model_sentences, near_winner, path_sentence
from lander.dotted import flatten
from lander.errors import ConfigError
from sweeps.lifecycle.start import start_sweep
from sweeps.run.worker import work
from sweeps.schema import RETURNS, WINNER
from sweeps.store.store import Store
from sweeps.study.space import defaults
from sweeps.study.study import read_study
from sweeps.study.timing import Timing
from sweeps.sweep import Sweep, open_sweep
from tests.studies import CONDITIONS, PLAIN
from tests.sweeps.conftest import Command

STUDY = read_study(PLAIN, source="plain.toml")
SPACE = STUDY.space
BASE = defaults(SPACE, STUDY.base)


def trial(number: int, params: Mapping[str, Any], value: float) -> FrozenTrial:
    made = create_trial(
        state=TrialState.COMPLETE,
        value=value,
        params=dict(params),
        distributions={range_.parameter: range_.distribution for range_ in SPACE.values()},
        user_attrs={RETURNS: [[value]]},
    )
    made.number = number
    return made


def at(shares: Any) -> dict[str, Any]:
    """Parameters at these shares of the ranges."""
    return {
        range_.parameter: range_.at(float(share))
        for range_, share in zip(SPACE.values(), shares, strict=True)
    }


def trials(count: int = 60, *, noise: float = 0.0) -> list[FrozenTrial]:
    """Trials that return 100 times the product of the first two fields' distances to their middle,
    plus 40 times that of the first."""
    rng = np.random.default_rng(2)
    rows = []
    for number, shares in enumerate(rng.random((count, len(SPACE)))):
        params = at(shares)
        x = vector(params, SPACE)
        rows.append(trial(number, params, 100 * x[0] * x[1] + 40 * x[0] + noise * rng.normal()))
    return rows


@pytest.fixture(scope="module")
def model() -> Model:
    made = model_of(trials(), SPACE)
    assert made is not None
    return made


# --- the model ---


def test_a_model_predicts_what_it_was_made_from_and_names_the_pair(model: Model) -> None:
    assert model.explained > 0.95
    pair, share = next(iter(model.pairs().items()))
    assert pair == ("ppo.learning_rate", "ppo.update_epochs")
    # variances of a product and of a line of evenly spread numbers: 100^2 / 144 and 40^2 / 12
    assert share == pytest.approx(100**2 / 144 / (100**2 / 144 + 40**2 / 12), abs=0.04)
    assert list(model.pairs().values())[1] < 0.02


def test_a_gain_is_the_difference_of_two_predictions(model: Model) -> None:
    middle, better = at([0.5] * 4), at([1.0, 0.5, 0.5, 0.2])
    gain = model.gain(vector(better, SPACE)[None], vector(middle, SPACE))
    assert gain[0] == pytest.approx(20, abs=3)
    chance = model.not_worse(vector(better, SPACE)[None], vector(middle, SPACE))
    assert chance[0] > 0.99
    back = model.not_worse(vector(middle, SPACE)[None], vector(better, SPACE))
    assert back[0] == pytest.approx(1 - chance[0])


def test_left_out_trials_are_predicted_by_the_others() -> None:
    rows = trials(20, noise=5.0)
    made = model_of(rows, SPACE)
    assert made is not None
    noise = model_of([trial(one.number, one.params, float(one.number % 3)) for one in rows], SPACE)
    assert noise is not None
    assert noise.explained < 0.2 < made.explained
    assert model_of(rows[:11], SPACE) is None


def test_points_at_shares_are_the_vectors_of_their_parameters() -> None:
    shares = np.array([[0.0, 0.1, 0.9, 0.2], [1.0, 0.6, 0.3, 0.7]])
    vectors = np.array([vector(at(row), SPACE) for row in shares])
    step = 1 / 19  # epochs are whole numbers from 1 to 20
    assert np.abs(at_shares(shares, SPACE) - vectors).max() <= step + 1e-9


def test_the_box_holds_the_winner_and_nothing_that_is_worse_than_the_base(model: Model) -> None:
    winner, base = at([0.9, 0.8, 0.5, 0.2]), at([0.3, 0.5, 0.5, 0.2])
    box = box_of(model, winner, base)
    assert box.winner > 0.9
    for name, share in zip(SPACE, [0.9, 0.8], strict=False):
        assert box.sides[name].low <= share <= box.sides[name].high
    assert box.sides["ppo.gae_lambda"].is_whole  # which does nothing
    assert box.sides["policy.trunk"].is_whole
    assert str(box.sides["policy.trunk"]) == "separate or shared"
    assert not box.sides["ppo.learning_rate"].is_whole
    shares = np.random.default_rng(3).random((2_000, 4))
    for dimension, name in enumerate(SPACE):
        side = box.sides[name]
        if not side.count:
            shares[:, dimension] = side.low + shares[:, dimension] * (side.high - side.low)
    chances = model.not_worse(at_shares(shares, SPACE), vector(base, SPACE))
    assert chances.min() > 0.85


def test_where_the_winner_is_not_surely_better_there_is_no_box(model: Model) -> None:
    base = at([0.9, 0.9, 0.5, 0.2])
    box = box_of(model, at([0.1, 0.5, 0.5, 0.2]), base)
    assert (box.sides, box.winner < 0.1) == ({}, True)
    worse = trial(7, at([0.1, 0.5, 0.5, 0.2]), 0.0)
    *_, last = model_sentences(model, winner=worse, base=base)
    assert last.startswith("Trial 7 itself is not worse than the base with probability 0.0")


def test_a_line_through_seconds_that_misleads_explains_nothing() -> None:
    known = Timing(SPACE, np.zeros(4), np.zeros(4), level=0.0, error=1.0, explained=-0.4)
    assert "explains 0% of left-out trials" in importance_legend(known)


def test_near_the_winner_is_the_best_quarter_but_at_least_twelve() -> None:
    assert near_winner(trials(60), SPACE)[1] == 15
    assert near_winner(trials(20), SPACE)[1] == 12


# --- the path ---


@pytest.fixture
def sweep(finished: Store) -> Sweep:
    """A sweep of one field whose second trial is the winner."""
    tiny = open_sweep(finished, "tiny")
    tiny.optuna.set_user_attr(WINNER, 1)
    return open_sweep(finished, "tiny")


def test_the_order_is_that_of_the_largest_gain_given_those_before(
    model: Model, sweep: Sweep
) -> None:
    plain = Sweep(STUDY, sweep.optuna, sweep.store)
    winner = at([0.95, 0.9, 0.2, 0.9])
    steps = order_of(plain, winner, model)

    def true(names: set[str]) -> float:
        x = vector(
            {**BASE, **{SPACE[name].parameter: winner[SPACE[name].parameter] for name in names}},
            SPACE,
        )
        return float(100 * x[0] * x[1] + 40 * x[0])

    first = max(("ppo.learning_rate", "ppo.update_epochs"), key=lambda name: true({name}))
    assert true({first}) > true(set()) + 1
    assert steps[0] == (first,)
    assert sorted(name for step in steps for name in step) == sorted(SPACE)
    assert order_of(plain, {**winner, "policy.trunk": "separate"}, None)[-1] == ("ppo.gae_lambda",)


def test_a_path_walks_in_both_directions_and_meets_its_ends(sweep: Sweep) -> None:
    plain = Sweep(STUDY, sweep.optuna, sweep.store)
    winner = at([0.95, 0.9, 0.2, 0.9])
    steps = [(name,) for name in SPACE]
    configs = configs_of(plain, winner, steps)
    assert len(configs) == 2 * len(steps)
    base, won = flatten(configs["base"]), flatten(configs["winner"])
    assert {name for name in base if base[name] != won[name]} == set(SPACE)
    for index in (1, 2, 3):
        up, down = flatten(configs[f"base + {index}"]), flatten(configs[f"winner - {index}"])
        taken = list(SPACE)[:index]
        for name in SPACE:
            assert up[name] == (won if name in taken else base)[name]
            assert down[name] == (base if name in taken else won)[name]


def test_a_field_without_effect_until_another_changes_goes_with_that(sweep: Sweep) -> None:
    study = read_study(CONDITIONS, source="heads.toml")
    conditions = Sweep(study, sweep.optuna, sweep.store)
    winner = {"policy.head": "gaussian", "policy.std": "decayed", "policy.final_std": 0.2}
    steps = order_of(conditions, winner, None)
    together = next(step for step in steps if "policy.head" in step)
    assert together[-1] == "policy.head"
    assert len(together) > 1
    last = between(
        [name for step in steps for name in step], winner, space=study.space, base=study.base
    )
    assert flatten(last)["policy.final_std"] == 0.2


def test_the_base_as_winner_and_a_study_with_points_have_no_path(sweep: Sweep) -> None:
    sweep.optuna.set_user_attr(WINNER, 0)
    with pytest.raises(ConfigError, match="the winner of tiny is its base: there is nothing"):
        winner_of(open_sweep(sweep.store, "tiny"))


def test_a_path_is_trained_resumed_and_read_seed_by_seed(
    sweep: Sweep, command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trained: list[int] = []

    def train(started: Sweep, **_: object) -> bool:
        trained.append(started.read_trials().left)
        work(started.store, started.study.name, index=0, seconds=None)
        return True

    class NoServer:
        def __enter__(self) -> None: ...
        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(analysis.why.run, "run_trials_left", train)
    monkeypatch.setattr("analysis.why.path.TEST_EPISODES", 2)
    monkeypatch.setattr(analysis.why.run, "ForkServer", NoServer)
    words = ("why", "--study", "tiny", "--store", sweep.store.folder, "--no-report", "--workers", 1)
    first = command(*words, "--seeds", 2)
    assert first.returncode == 0, first.stderr
    assert "2 configurations from the base to the winner and back, 4 trainings left, about" in (
        first.stdout
    )
    again = command(*words, "--seeds", 2)
    assert (again.returncode, trained) == (0, [4])
    assert again.stdout.split("the base")[-1] == first.stdout.split("the base")[-1]
    path = read_path(sweep.store, sweep, winner_of(sweep))
    assert path is not None
    scores = {
        (str(one.user_attrs["sweeps.candidate"]), one.user_attrs["sweeps.test_seed"]): float(
            np.mean(one.user_attrs[RETURNS][0])
        )
        for one in open_sweep(sweep.store, "tiny-why-1").read_trials().all
    }
    gains = [scores["winner", seed] - scores["base", seed] for seed in (0, 1)]
    (step,) = path.steps
    assert step.gained is not None
    assert step.lost is not None
    assert step.gained.value == step.lost.value == pytest.approx(np.mean(gains))
    assert (path.seeds, path.left, path.winner) == (2, 0, 1)
    seeds = {
        seed
        for one in open_sweep(sweep.store, "tiny-why-1").read_trials().all
        for seed in [one.user_attrs["sweeps.test_seed"]]
    }
    assert seeds == {0, 1}
    more = command(*words, "--seeds", 3)
    assert (more.returncode, trained) == (0, [4, 2])


def test_a_path_that_was_begun_keeps_its_order(sweep: Sweep) -> None:
    winner = winner_of(sweep)
    study = path_study(sweep, winner, [("ppo.learning_rate",)], seeds=1)
    assert steps_in(study) == [("ppo.learning_rate",)]
    started = start_sweep(study, sweep.store, trials=None, command=["why"])
    assert steps_in(open_sweep(sweep.store, started.study.name).study) == steps_in(study)
    config = study.points["winner"]
    assert (config.final_episodes, config.final_seeds) == (100, "report")
    seeds = study.settings.training_seeds
    assert isinstance(seeds, tuple)
    assert min(seeds) >= 2**31  # no trial of a search has such a seed


def test_the_sentence_names_every_step_beyond_chance_in_either_direction() -> None:
    def step(field: str, gained: Estimate | None, lost: Estimate | None) -> Step:
        return Step((field,), {field: 1}, {field: 2}, None, gained, lost)

    unsure = Estimate(9.0, -1.0, 19.0)
    steps = (
        step("a", Estimate(20.0, 5.0, 35.0), unsure),
        step("b", Estimate(-4.0, -7.0, -1.0), Estimate(30.0, 10.0, 50.0)),
        step("c", unsure, None),
    )
    path = paths.Path("s-why-7", 7, None, Estimate(25.0, -5.0, 55.0), steps, 5, 0)
    assert path_sentence(path) == (
        "From the base to trial 7 the return changes by +25.0 [-5.0, +55.0] (95 %). Steps where "
        "the winner's values are better (+) or worse (-) beyond their intervals, as about 0.3 of 5 "
        "intervals would be by chance: `a` on the way there (+20.0), `b` on the way there (-4.0), "
        "`b` on the way back (+30.0)."
    )
    one = replace(path, steps=steps[1:2])  # whose way back is the same difference
    assert path_sentence(one).endswith(
        "0.1 of 1 interval would be by chance: `b` on the way there (-4.0)."
    )
    none = replace(path, steps=steps[2:])
    assert path_sentence(none).endswith(" of 1 interval would be by chance: none.")
    begun = replace(path, total=None, left=1)
    assert path_sentence(begun) == "Left of the path: 1 training."
