"""What a sweep maximises by its study, and the constraints that a trial must keep."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from analysis.confirm.judgement import judgement_of
from analysis.confirm.plan import define, deviation_in_sweep
from lander.config import TrainConfig
from lander.dotted import configure
from lander.errors import ConfigError
from lander.evaluation import Evaluation, evaluate
from lander.seeds import final_seeds
from lander.trainer import TrainResult, train
from sweeps.charts.search import history
from sweeps.confirm import candidates, start_confirmation
from sweeps.health.evidence import Evidence
from sweeps.lifecycle.start import start_sweep
from sweeps.publish.policies import policy_of
from sweeps.publish.publish import publish
from sweeps.reproduce.reproduce import reproduce
from sweeps.reproduce.seeds import from_sweep
from sweeps.run.training_score import training_score
from sweeps.run.worker import work
from sweeps.schema import OWN_SCORE, SEED_SCORES
from sweeps.scores import best_of, expected, ranked, violated, with_last_return
from sweeps.store.store import Store
from sweeps.store.trials import Trials
from sweeps.study.limits import Constraints
from sweeps.study.samplers import Sampler, make_sampler
from sweeps.study.study import Study, read_study
from sweeps.sweep import Sweep, open_sweep
from tests.studies import QUICK, changed
from tests.sweeps.conftest import Command


def study_of(*lines: str, base: str = "", tables: str = "") -> Study:
    """QUICK with more lines under [study] and [base], and further tables."""
    text = changed(QUICK, {"seed = 3": "\n".join(("seed = 3", 'pruner = "none"', *lines))})
    text = changed(text, {"\ncheckpoints = 2": f"\ncheckpoints = 2\n{base}"})
    return read_study(f"{text}\n{tables}", source="x.toml")


def worked(store: Store, study: Study) -> Sweep:
    start_sweep(study, store, trials=None, command=["run"])
    work(store, study.name, index=0, seconds=None)
    return open_sweep(store, study.name)


# -- the score of a training -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained() -> TrainResult:
    values = {"env.id": "CartPole-v1", "env.num_envs": 2, "ppo.rollout_steps": 32}
    values |= {"ppo.minibatch_size": 32, "total_steps": 64, "checkpoints": 1}
    values |= {"eval_episodes": 1, "final_episodes": 1}
    return train(configure(values, base=TrainConfig()))


def returning(result: TrainResult, *returns: float, final: float) -> TrainResult:
    """A training with these returns at its checkpoints and at its end."""

    def of(value: float) -> Evaluation:
        return replace(result.final, returns=(value,))

    return replace(result, checkpoints=tuple(map(of, returns)), final=of(final))


@pytest.mark.parametrize(
    ("lines", "score"),
    [
        ([], 70.0),  # the final return
        (["score_checkpoints = 2"], (30.0 + 70.0) / 2),
        (['training_score = "area"'], (64 * 10.0 + 128 * 30.0 + 64 * 60.0) / 256),
        (['training_score = "time_to_target"', "score_target = 30"], -192.0),
        (['training_score = "time_to_target"', "score_target = 61"], -2.0 * 128),
    ],
)
def test_a_training_scores_by_its_checkpoints_or_its_end(
    lines: list[str], score: float, trained: TrainResult
) -> None:
    result = returning(trained, 10.0, 30.0, 60.0, final=70.0)
    assert training_score(result, [64, 192, 256], study_of(*lines)) == score


def test_sooner_is_better_than_later_and_later_than_never(trained: TrainResult) -> None:
    study = study_of('training_score = "time_to_target"', "score_target = 50")
    sooner, later, never = (
        training_score(returning(trained, *values, final=0.0), [64, 128], study)
        for values in [(50.0, 0.0), (49.0, 50.0), (49.0, 49.0)]
    )
    assert sooner > later > never


def test_an_area_is_what_a_trial_scores_and_all_that_is_expected_of_it(store: Store) -> None:
    sweep = worked(store, study_of('training_score = "area"', 'score = "worst_seed"'))
    for trial in sweep.read_trials().all:
        # two checkpoints at equal distances
        area = np.mean([trial.intermediate_values[step] for step in (1, 2)])
        assert OWN_SCORE in trial.user_attrs
        assert [trial.value] == trial.user_attrs[SEED_SCORES] == [area]
    (best, *_) = expected(sweep.read_trials().all)
    scores = sorted(trial.values[0] for trial in sweep.read_trials().all)
    assert best.likely.promised == best.likely.value == scores[-1]
    assert reproduce(store, "mini", "best", say=lambda line: None)


def timed(number: int, value: float, *, state: TrialState = TrialState.COMPLETE) -> FrozenTrial:
    """A trial of a sweep whose score is a time: one that was pruned has a return."""
    rate = "ppo.learning_rate"
    trial = create_trial(
        state=state,
        value=value,
        params={rate: 0.001 * (number + 1)},
        distributions={rate: optuna.distributions.FloatDistribution(1e-4, 0.1)},
        user_attrs={OWN_SCORE: True},
        intermediate_values={1: value},
    )
    trial.number = number
    return trial


def test_a_return_so_far_is_not_compared_with_scores_that_are_times() -> None:
    study = study_of('training_score = "time_to_target"', "score_target = 50")
    times = [timed(0, -640.0), timed(1, -1_280.0)]
    pruned = timed(2, 20.0, state=TrialState.PRUNED)
    every = [*times, pruned]
    assert with_last_return(every) == times
    assert with_last_return([pruned]) == []
    evidence = Evidence(study, Trials(every, 3), Path())
    assert [one.number for one in evidence.configurations] == [0, 1]
    (axes,) = history(every, env=study.base.env).axes
    assert axes.get_ylabel() == "score"
    assert axes.get_ylim()[1] < 0  # neither the pruned one nor the line of the solved return


def test_a_confirmation_promises_no_return_where_scores_are_areas(store: Store) -> None:
    sweep = worked(store, study_of('training_score = "area"'))
    assert np.isnan(deviation_in_sweep(sweep))
    start_confirmation(store, "mini", define=partial(define, top=1, trainings=4), command=["x"])
    judgement = judgement_of(store, "mini")
    assert [row.promise for row in (*judgement.standings, judgement.base)] == [None] * (
        len(judgement.standings) + 1
    )
    assert from_sweep(sweep, sweep.read_trials().all[0]) is None


@pytest.mark.parametrize(
    ("lines", "base", "message"),
    [
        (["score_target = 3"], "", 'score_target: only with training_score = "time_to_target"'),
        (
            ['training_score = "area"', "score_checkpoints = 2"],
            "",
            'score_checkpoints: only with training_score = "last"',
        ),
        (["score_checkpoints = 2"], 'final_policy = "best"', "not with final_policy"),
        (['training_score = "worst_seed"'], "", "training_score: "),
    ],
)
def test_keys_of_the_score_that_do_not_agree_are_refused(
    lines: list[str], base: str, message: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        study_of(*lines, base=base)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_what_the_score_is_makes_another_study_and_its_defaults_do_not() -> None:
    plain = study_of()
    same = study_of('score = "mean"', 'training_score = "last"', base='final_policy = "last"')
    others = [
        study_of('training_score = "area"'),
        study_of('training_score = "time_to_target"'),
        study_of('training_score = "time_to_target"', "score_target = 9"),
        study_of('score = "worst_seed"'),
        study_of(base='final_policy = "best"'),
        study_of(tables="[constraints]\nworst_seed = 0"),
    ]
    assert same.fingerprint == plain.fingerprint
    assert len({study.fingerprint for study in (plain, *others)}) == 7
    assert "final_policy" not in plain.definition["base"]


def test_a_confirmation_races_by_final_returns_without_constraints() -> None:
    study = study_of(
        'training_score = "time_to_target"',
        "score_target = 9",
        base='final_policy = "best"',
        tables="[constraints]\nseconds = 9",
    )
    confirming = study.confirming()
    assert (confirming.settings.training_score, confirming.settings.score_target) == ("last", None)
    assert confirming.constraints == Constraints()
    assert confirming.base.final_policy == "best"


# -- the best checkpoint ---------------------------------------------------------------------------


def test_the_best_checkpoint_is_kept_and_scores_on_the_final_seeds(store: Store) -> None:
    study = study_of(base='final_policy = "best"')
    more = {"final_episodes = 1": "final_episodes = 3", "trials = 3": "trials = 1"}
    sweep = worked(store, read_study(changed(study.text, more), source="x.toml"))
    (trial,) = sweep.read_trials().all
    kept = policy_of(sweep, trial)
    best = train(kept.config).best_policy.state_dict()
    assert all(kept.policy.state_dict()[name].equal(best[name]) for name in best)
    flown = evaluate(kept.policy, kept.config.env, seeds=final_seeds(kept.config))
    assert [flown.return_mean] == trial.values == trial.user_attrs[SEED_SCORES]
    assert reproduce(store, "mini", "0", say=lambda line: None)


# -- constraints -----------------------------------------------------------------------------------


def test_a_limit_is_broken_by_as_much_as_is_missing_or_too_much() -> None:
    limits = Constraints(success_rate=0.75, worst_seed=100.0, seconds=60.0)
    returns = [[210.0, 190.0], [300.0, 20.0]]
    excess = limits.excess(returns, solved=200.0, seconds=50.0)
    assert excess == {"success_rate": 0.25, "worst_seed": -60.0, "seconds": -10.0}
    assert Constraints().excess(returns, solved=200.0, seconds=50.0) == {}


def trial_of(number: int, value: float, *, excess: float = 0.0) -> FrozenTrial:
    """A finished trial that breaks one constraint by so much."""
    trial = create_trial(
        value=value,
        params={"x": number / 10},
        distributions={"x": optuna.distributions.FloatDistribution(0, 1)},
        system_attrs={"constraints:worst_seed": excess},
    )
    trial.number = number
    return trial


def test_a_trial_that_violates_a_constraint_ranks_behind_all_that_do_not() -> None:
    trials = [trial_of(0, 5.0), trial_of(1, 9.0, excess=0.1), trial_of(2, 7.0, excess=-1.0)]
    assert [trial.number for trial in ranked(trials)] == [2, 0, 1]
    assert violated(trials[1]) == ["worst_seed"]
    best = best_of(trials[1:2])
    assert best is not None
    assert best.number == 1  # better than none


@pytest.mark.parametrize("name", ["tpe", "gp"])
def test_the_sampler_avoids_what_violates_constraints(name: Sampler) -> None:
    arguments = {"n_startup_trials": 1}
    sampler = make_sampler(name, arguments, seed=0, study_seed=0)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for number in range(10):  # the higher the better, and above 0.5 all of them are too slow
        value = number / 10
        study.add_trial(trial_of(number, value, excess=value - 0.5))
    proposed = []
    for _ in range(8):
        trial = study.ask()
        proposed.append(trial.suggest_float("x", 0, 1))
        study.tell(trial, state=TrialState.FAIL)
    assert np.median(proposed) < 0.65


def test_only_trials_that_keep_the_constraints_are_candidates(
    store: Store, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweeps.charts.search.write_figures", lambda *_: [])
    study = study_of(tables="[constraints]\nworst_seed = 10_000")
    sweep = worked(store, study)
    trials = sweep.read_trials().all
    assert [violated(trial) for trial in trials] == [["worst_seed"]] * 3
    assert trials[0].constraints == {"worst_seed": 10_000 - trials[0].values[0]}
    with pytest.raises(ConfigError, match="no trial of study mini keeps its"):
        candidates(sweep, top=3)
    publish(sweep)
    file = tmp_path / "mini.toml"
    file.write_text(study.text)
    end = command("run", "--study", file, "--store", store.folder).stdout
    assert "no trial keeps all constraints; it violates worst_seed" in end
    note = store.runs().get_run(trials[0].user_attrs["mlflow.run_id"]).data.tags
    assert "; violates worst_seed" in note["mlflow.note.content"]


def test_a_success_rate_needs_an_environment_that_can_be_solved() -> None:
    text = changed(QUICK, {"CartPole-v1": "Pendulum-v1"})
    with pytest.raises(ConfigError, match="Pendulum-v1 has no return at which it is solved"):
        read_study(f"{text}\n[constraints]\nsuccess_rate = 0.5\n", source="x.toml")
