"""Studies with points: what they may say, which trials they have, how they grow and resume."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from optuna.trial import FrozenTrial, TrialState

from analysis.load import load_trials
from lander.config import TrainConfig
from lander.dotted import configure, flatten
from lander.errors import ConfigError
from lander.resolve import resolve
from lander.seeds import REPORT_SEED, final_seeds
from lander.trainer import train
from sweeps.__main__ import main
from sweeps.confirm import candidates
from sweeps.lifecycle.points import points_of
from sweeps.reproduce.reproduce import reproduce
from sweeps.run.objective import confirmation_seed, trial_configs, trial_seeds
from sweeps.run.worker import work
from sweeps.schema import POINT, REASON, RETRY_OF, RETURNS, RUN_ID, SEED_INDEX, Reason
from sweeps.scores import best_of, parameters
from sweeps.store.store import Store
from sweeps.study.study import read_study
from sweeps.sweep import Sweep, open_sweep
from tests.studies import TINY, changed
from tests.sweeps.test_sweep import start, take

POINTS = """
[study]
name = "points"
training_seeds = [4, 5]

[base]
"env.num_envs" = 2
"policy.hidden_sizes" = [4]
"ppo.minibatch_size" = 64
"ppo.update_epochs" = 1
total_steps = 256
checkpoints = 1
eval_episodes = 1
final_episodes = 2
final_seeds = "report"

[points."four actions"]
"env.id" = "LunarLander-v3"

[points."ordinal, 4"]
"env.id" = "LunarLanderContinuous-v3"
"policy.head" = "ordinal"
"env.bins" = 4

[points.episodes]
"env.id" = "LunarLanderContinuous-v3"
"policy.critic" = false
"ppo.advantage" = "reward_to_go"
"ppo.rollout_episodes" = 2
"ppo.minibatch_size" = 100_000
"""
STUDY = read_study(POINTS, source="points.toml")
NAMES = ["four actions", "ordinal, 4", "episodes"]
DRAWN = changed(
    TINY, {'trials = 2\nsampler = "random"\npruner = "none"': "points = 4\ntraining_seeds = 2"}
)
FOURTH = '[points."joint, 5"]\n"env.id" = "LunarLanderContinuous-v3"\n"policy.head" = "joint"\n'
MORE = POINTS + FOURTH + '"env.bins" = 5\n"ppo.learning_rate" = 0.1\n'


def started(store: Store, text: str = POINTS) -> Sweep:
    return start(store, study=read_study(text, source="points.toml"))


def given(trials: Sequence[FrozenTrial]) -> list[tuple[int, str]]:
    """Index of the seed and name of the point of each trial."""
    return [(trial.user_attrs[SEED_INDEX], trial.user_attrs[POINT]) for trial in trials]


def scored(sweep: Sweep, *scores: float) -> None:
    """End the next trials with these returns, as the objective does."""
    for score in scores:
        trial = take(sweep)
        trial.set_user_attr(RETURNS, [[score]])
        sweep.optuna.tell(trial, score)


def test_a_point_is_its_fields_over_the_base_in_its_own_environment() -> None:
    assert list(STUDY.points) == NAMES
    ordinal = STUDY.points["ordinal, 4"]
    assert STUDY.base.policy.head == "categorical"
    assert STUDY.points["episodes"].policy.head == "gaussian"
    assert (ordinal.env.bins, ordinal.total_steps) == (4, 256)
    for point in STUDY.points.values():
        assert resolve(point).config == point
    assert final_seeds(ordinal) == range(REPORT_SEED, REPORT_SEED + 2)


def test_trials_are_points_under_listed_seeds_the_first_seed_first(
    store: Store,
) -> None:
    sweep = started(store)
    assert (sweep.read_trials().total, sweep.read_trials().left, sweep.study.settings.trials) == (
        6,
        6,
        6,
    )
    assert given(sweep.read_trials().all) == [(index, name) for index in (0, 1) for name in NAMES]
    for trial, (index, name) in zip(
        sweep.read_trials().all, given(sweep.read_trials().all), strict=True
    ):
        (config,) = trial_configs(trial, sweep.study)
        assert config == replace(STUDY.points[name], seed=[4, 5][index])
    assert [trial.params["env.id"] for trial in sweep.read_trials().all[:2]] == [
        "LunarLander-v3",
        "LunarLanderContinuous-v3",
    ]
    assert "env.bins" not in sweep.read_trials().all[0].params


def test_seeds_derive_from_the_study_above_those_of_searches(
    store: Store,
) -> None:
    sweep = started(store, changed(POINTS, {"training_seeds = [4, 5]": "training_seeds = 2"}))
    seeds = [seed for trial in sweep.read_trials().all for seed in trial_seeds(trial, sweep.study)]
    assert seeds == [confirmation_seed(0, index) for index in (0, 0, 0, 1, 1, 1)]
    assert (
        read_study(changed(POINTS, {"training_seeds = [4, 5]": ""}), source="").settings.trials
        == len(NAMES) * 5
    )


def test_points_are_trained_recorded_and_reproduced_to_the_bit(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    """An ordinal head, its final flights on the seeds of results."""
    text = POINTS.partition("[points.episodes]")[0].replace("[4, 5]", "[4]")
    sweep = started(store, text)
    work(store, "points", index=0, seconds=None)
    assert [trial.state for trial in sweep.read_trials().all] == [TrialState.COMPLETE] * 2
    trial = sweep.read_trials().all[1]
    result = train(replace(STUDY.points["ordinal, 4"], seed=4))
    assert trial.user_attrs[RETURNS] == [list(result.final.returns)]
    assert result.final.seeds == (10_000, 10_001)
    tags = store.runs().get_run(trial.user_attrs[RUN_ID]).data.tags
    assert (tags[POINT], tags[SEED_INDEX]) == ("ordinal, 4", "0")
    assert reproduce(store, "points", "1") == "PASS"
    assert main(["trials", "--study", "points", "--store", str(store.folder)]) == 0
    head, *rows = csv.reader(capsys.readouterr().out.splitlines()[-3:])
    assert [row[head.index("point")] for row in rows] == [NAMES[0], "ordinal, 4"]
    assert load_trials(sweep)["point"].tolist() == [NAMES[0], "ordinal, 4"]
    # a confirmation would train the first point again, and the best of the others
    assert candidates(sweep, top=1) == {
        trial.number: trial.params for trial in sweep.read_trials().all
    }


def test_the_best_point_is_that_of_the_best_mean_over_its_seeds(store: Store) -> None:
    sweep = started(store)
    scored(sweep, 10.0, 30.0, 20.0)
    # as the objective has it: the mean of the point's seeds so far
    scored(sweep, 15.0, 12.0, 18.0)
    best = best_of(sweep.read_trials().all)
    assert best is not None
    assert (best.number, best.user_attrs[POINT]) == (5, "episodes")


def test_seeds_of_a_point_are_averaged_though_it_gained_a_parameter(
    store: Store,
) -> None:
    sweep = started(store)
    scored(sweep, 10.0)
    sweep = started(store, changed(MORE, {"[4, 5]": "[4, 5, 6]"}))
    first, *others = (t for t in sweep.read_trials().all if t.user_attrs[POINT] == "four actions")
    assert "ppo.learning_rate" not in first.params
    assert "ppo.learning_rate" in others[-1].params
    assert len({parameters(trial) for trial in (first, *others)}) == 1
    (config,) = trial_configs(first, sweep.study)
    assert config == replace(STUDY.points["four actions"], seed=4)


def test_points_and_seeds_may_be_added_and_only_what_is_missing_is_queued(store: Store) -> None:
    scored(started(store), 1.0, 2.0)
    sweep = started(store, changed(MORE, {"[4, 5]": "[4, 5, 6]"}))
    assert (
        len(sweep.read_trials().all),
        sweep.read_trials().total,
        sweep.read_trials().left,
    ) == (12, 12, 10)
    assert given(sweep.read_trials().all[6:]) == [
        (0, "joint, 5"),
        (1, "joint, 5"),
        *((2, name) for name in [*NAMES, "joint, 5"]),
    ]
    assert trial_seeds(sweep.read_trials().all[8], sweep.study) == [6]
    assert [
        trial.state
        for trial in started(store, MORE.replace("[4, 5]", "[4, 5, 6]")).read_trials().all
    ] == [trial.state for trial in sweep.read_trials().all]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({'"env.bins" = 4': '"env.bins" = 5'}, """point "ordinal, 4": {'env.id': """),
        ({"points.episodes": "points.whole"}, 'point "episodes": {'),
        ({"[4, 5]": "[5, 4]"}, "training seed 1: 4 then, 5 now; training seed 2: 5 then, 4 now"),
        ({"[4, 5]": "[4]"}, "training seed 2: 5 then, absent now"),
        ({"total_steps = 256": "total_steps = 512"}, "total_steps: 256 then, 512 now"),
        (
            {"[points.episodes]": '[points.pole]\n"env.id" = "CartPole-v1"\n[points.episodes]'},
            "env",
        ),
    ],
)
def test_a_point_or_seed_that_changes_is_another_study(
    store: Store, changes: Mapping[str, str], message: str
) -> None:
    started(store)
    with pytest.raises(ConfigError, match="was started differently") as error:
        started(store, changed(POINTS, changes))
    assert message in str(error.value)
    assert str(error.value).endswith("give it another name")
    assert "\n" not in str(error.value)


def test_an_interrupted_point_is_tried_again_under_its_seed(store: Store) -> None:
    sweep = started(store)
    trial = take(sweep)
    trial.set_user_attr(REASON, Reason.INTERRUPTED)
    sweep.optuna.tell(trial, state=TrialState.FAIL)
    scored(sweep, *[1.0] * 5)
    assert sweep.read_trials().left == 1
    take(sweep)
    again = sweep.read_trials().all[-1]
    assert again.user_attrs[RETRY_OF] == 0
    assert trial_configs(again, sweep.study) == trial_configs(
        sweep.read_trials().all[0], sweep.study
    )


def test_a_failed_training_keeps_the_others_and_is_retried_if_not_diverged(
    store: Store,
) -> None:
    sweep = started(store)
    for reason in ("OSError: no space", "diverged: update 3"):
        trial = take(sweep)
        trial.set_user_attr(REASON, reason)
        sweep.optuna.tell(trial, state=TrialState.FAIL)
    scored(sweep, *[1.0] * 4)
    assert sweep.read_trials().left == 0
    sweep = started(store)
    assert sweep.read_trials().left == 1
    again = sweep.read_trials().all[-1]
    assert given([again]) == [(0, "four actions")]
    assert trial_configs(again, sweep.study) == [replace(STUDY.points["four actions"], seed=4)]


def test_drawn_points_begin_with_the_defaults_and_extend_fewer(store: Store) -> None:
    study = read_study(DRAWN, source="drawn.toml")
    points = points_of(study)
    assert list(points) == ["0", "1", "2", "3"]
    rates = [point["ppo.learning_rate"] for point in points.values()]
    assert rates[0] == TrainConfig().ppo.learning_rate
    assert len(set(rates)) == 4
    assert all(3e-4 <= rate <= 1e-2 for rate in rates)
    more = points_of(read_study(changed(DRAWN, {"points = 4": "points = 6"}), source=""))
    assert list(more.values())[:4] == list(points.values())
    other = points_of(read_study(changed(DRAWN, {"points = 4": "points = 4\nseed = 1"}), source=""))
    assert other["1"] != points["1"]
    sweep = start(store, study=study)
    assert sweep.read_trials().total == 8
    scored(sweep, 1.0)
    assert [
        trial_configs(t, study)[0].ppo.learning_rate for t in sweep.read_trials().all
    ] == rates * 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"[points.episodes]": "[space]\n[points.episodes]"}, "[points] and [space] exclude each"),
        ({"[4, 5]": "[4, 5]\ntrials = 3"}, "[study] trials: not with points, as each point is"),
        ({"[4, 5]": '[4, 5]\nsampler = "tpe"'}, "[study] sampler: not with points, as nothing is"),
        ({"[4, 5]": '[4, 5]\npruner = "none"'}, "[study] pruner: not with points, as every"),
        ({"[4, 5]": "[4, 5]\nseeds_per_trial = 2"}, "seeds_per_trial: not with points, as give"),
        ({"[4, 5]": "[4, 5]\npoints = 2"}, "[study] points: draws from a [space], but [points]"),
        ({"[4, 5]": "[4, 4]"}, "[study] training_seeds: must be a list of different whole"),
        ({"[4, 5]": "[]"}, "training_seeds: must be a list of different whole numbers"),
        ({"[4, 5]": "[-1]"}, "training_seeds: must be a list of different whole numbers"),
        ({"[4, 5]": "0"}, "or how many seeds: 1 to 1000"),
        ({"[points.episodes]": "[sampler]\na = 1\n[points.episodes]"}, "[sampler] is not for a"),
        ({'"env.bins" = 4': '"env.bins" = 1'}, '[points."ordinal, 4"] env.bins: input should be'),
        ({'"env.bins" = 4': "checkpoints = 4"}, '[points."ordinal, 4"] checkpoints decides how a'),
        ({'"env.bins" = 4': "seed = 4"}, '[points."ordinal, 4"] seed: training seeds are listed'),
        ({'"env.bins" = 4': '"ppo.n_step" = 4'}, "ppo.n_step acts only with ppo.advantage = n_st"),
        ({"points.episodes": 'points." x"'}, '[points." x"] a point\'s name must be 1 to 100'),
        (
            {"[points.episodes]": '[points.same]\n"env.id" = "LunarLander-v3"\n[points.episodes]'},
            '[points] "same" is the same configuration as "four actions": drop one',
        ),
        ({'final_seeds = "report"': 'final_seeds = "test"'}, "[base] final_seeds: the test seeds"),
    ],
)
def test_a_wrong_study_with_points_is_one_line_with_the_correction(
    changes: Mapping[str, str], message: str
) -> None:
    with pytest.raises(ConfigError) as error:
        read_study(changed(POINTS, changes), source="points.toml")
    assert str(error.value).startswith("points.toml: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trials = 2": "training_seeds = [1]"}, "training_seeds: only with points, a search has"),
        ({"final_episodes = 1": 'final_episodes = 1\nfinal_seeds = "report"'}, "report is for stu"),
    ],
)
def test_a_search_has_neither_training_seeds_nor_the_seeds_of_results(
    changes: Mapping[str, str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        read_study(changed(TINY, changes), source="tiny.toml")


def test_no_point_at_all_is_refused() -> None:
    text = POINTS.partition("[points")[0] + "[points]\n"
    with pytest.raises(ConfigError, match="no point: name one"):
        read_study(text, source="points.toml")


def test_the_number_of_trials_follows_from_points_and_seeds(store: Store) -> None:
    with pytest.raises(
        ConfigError, match=r"has 6 trials, its points times its training seeds: add"
    ):
        start(store, trials=9, study=STUDY)


def test_any_mixture_of_values_comes_back_from_what_optuna_keeps(store: Store) -> None:
    """Lists, words, none and numbers, flags, arguments of the environment."""
    points: dict[str, dict[str, Any]] = {
        "a": {"policy.hidden_sizes": [8, 4], "env.reward_scale": "running"},
        "b": {"env.reward_scale": 0.1, "env.time_limit": "none", "ppo.kl_stop": 0.02},
        "c": {"env.obs_norm": True, "env.obs_clip": 5.0, "env.kwargs.gravity": -9.0},
        "d": {"ppo.learning_rate": 0.1 + 0.2, "env.kwargs.enable_wind": True},
        "e": {},
    }
    tables = "".join(
        f"[points.{name}]\n"
        + "".join(f'"{field}" = {json.dumps(value)}\n' for field, value in fields.items())
        for name, fields in points.items()
    )
    base = POINTS.partition("[points")[0] + '"env.time_limit" = 500\n' + tables
    sweep = started(store, changed(base, {"[4, 5]": "[4]"}))
    for trial in open_sweep(store, "points").read_trials().all:
        point = resolve(configure(points[trial.user_attrs[POINT]], base=sweep.study.base)).config
        (config,) = trial_configs(trial, sweep.study)
        assert flatten(config) == flatten(replace(point, seed=4))
