"""Values that no training takes are refused, and combinations that none takes are never tried."""

from __future__ import annotations

import warnings

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import FrozenTrial, TrialState, create_trial

from lander.config import TrainConfig
from lander.dotted import configure, flatten
from lander.errors import ConfigError
from lander.options import inactive
from sweeps.lifecycle.start import start_sweep
from sweeps.run.objective import trial_configs
from sweeps.store.store import Store
from sweeps.study.fitting import RULES, untrainable
from sweeps.study.grid import Grid
from sweeps.study.space import defaults
from sweeps.study.study import Study, read_study
from sweeps.sweep import open_sweep, proposer
from tests.studies import changed, study_text

LISTS = """
"ppo.learning_rate"  = { low = 1e-4, high = 1e-2, log = true }
"ppo.minibatch_size" = { choices = [32, 64, 128, 256, 512] }
"ppo.rollout_steps"  = { choices = [32, 64, 128, 256, 512, 1024, 2048] }
"""
SMALL = '"env.num_envs" = 1\n"ppo.minibatch_size" = 32\n"ppo.rollout_steps" = 512'


def sizes(space: str, *, base: str = "", sampler: str = "random", name: str = "sizes") -> str:
    return study_text(
        name,
        settings=f'sampler = "{sampler}"\npruner = "none"\ntrials = 12',
        base=f'"env.id" = "LunarLander-v3"\ntotal_steps = 100_000\n{base}',
        space=space,
    )


def study_of(space: str, *, base: str = "", sampler: str = "random") -> Study:
    return read_study(sizes(space, base=base, sampler=sampler), source="sizes.toml")


def refusal(space: str, *, base: str = "") -> str:
    with pytest.raises(ConfigError) as caught:
        study_of(space, base=base)
    line = str(caught.value)
    assert line.startswith("sizes.toml: [space] ")
    assert "\n" not in line
    return line


POWERS = "choices = [32, 64, 128, 256, 512]"


@pytest.mark.parametrize(
    ("field", "spec", "fits"),
    [
        (
            "ppo.minibatch_size",
            "low = 32, high = 512, log = true",
            POWERS,
        ),
        (
            "ppo.minibatch_size",
            "low = 32, high = 512, step = 32",
            POWERS,
        ),
        ("ppo.minibatch_size", "low = 512, high = 514", "choices = [512]"),
        ("ppo.minibatch_size", "choices = [512, 100, 64]", "choices = [512, 64]"),
        ("env.num_envs", "low = 4, high = 16", "low = 4, high = 16, step = 4"),
        ("ppo.rollout_steps", "low = 16, high = 256", "low = 32, high = 256, step = 32"),
        ("ppo.rollout_steps", "low = 64, high = 130", "low = 64, high = 128, step = 32"),
        ("ppo.rollout_steps", "low = 16, high = 1000000", "low = 32, high = 1248, step = 32"),
    ],
)
def test_a_value_that_never_fits_is_refused_with_those_that_fit(
    field: str, spec: str, fits: str
) -> None:
    line = refusal(f'"{field}" = {{ {spec} }}')
    _, _, instead = line.partition("; what fits: ")
    assert instead == f'"{field}" = {{ {fits} }}'
    assert field in study_of(instead).space  # as it stands in the message


def test_following_the_message_leads_to_a_study_even_for_two_ranges() -> None:
    lines = {
        "ppo.minibatch_size": "{ low = 32, high = 512 }",
        "ppo.rollout_steps": "{ low = 16, high = 256 }",
    }
    for _ in range(4):
        text = "\n".join(f'"{name}" = {spec}' for name, spec in lines.items())
        try:
            assert study_of(text).space
        except ConfigError as error:
            name, _, spec = str(error).partition('; what fits: "')[2].partition('" = ')
            lines[name] = spec
    assert study_of(text).space.keys() == lines.keys()


@pytest.mark.parametrize(
    ("space", "rule"),
    [
        ('"ppo.rollout_episodes" = { low = 5, high = 7 }', "must be a multiple of env.num_envs"),
        ('"policy.critic" = { choices = [true, false] }', "ppo.advantage = gae needs a critic"),
        ('"total_steps" = { low = 2047, high = 100_000 }', "total_steps must hold at least one"),
        ('"env.num_envs" = { low = 0, high = 16 }', "env.num_envs: input should be greater"),
        ('"ppo.gamma" = { choices = [0.99, "0.9", 0.999] }', "ppo.gamma: input should be"),
        ('"ppo.update_epochs" = { choices = [10, true] }', "ppo.update_epochs: input should be"),
        ('"ppo.n_step" = { low = 3, high = 7 }', "ppo.n_step acts only with ppo.advantage"),
        (
            '"policy.std" = { choices = ["learned", "decayed"] }',
            "policy.std acts only with policy.head = gaussian",
        ),
    ],
)
def test_a_value_without_any_that_fits_is_refused_with_the_rule(space: str, rule: str) -> None:
    assert rule in refusal(space)


def test_the_end_of_a_conditional_range_is_tried_where_it_acts() -> None:
    space = '"ppo.surrogate" = { choices = ["clip", "kl_fixed"] }\n"ppo.kl_coef" = '
    assert study_of(space + "{ low = 0.5, high = 2.0 }").space
    assert "ppo.kl_coef: input should be" in refusal(space + "{ low = -1.0, high = 2.0 }")


def test_a_value_that_needs_another_one_is_searched_together_with_it() -> None:
    study = study_of(
        '"policy.critic" = { choices = [true, false] }\n'
        '"ppo.advantage" = { choices = ["gae", "reward_to_go"] }\n'
        '"ppo.rollout_episodes" = { choices = ["none", 16] }'
    )
    kinds = {(c.policy.critic, c.ppo.advantage, c.ppo.rollout_episodes) for c in drawn(study, 40)}
    assert kinds == {
        (True, "gae", None),
        (True, "gae", 16),
        (False, "reward_to_go", 16),
    }


def drawn(study: Study, count: int, *, seed: int = 1) -> list[TrainConfig]:
    """The configs of so many trials, each finished with a score."""
    trials = optuna.create_study(direction="maximize", sampler=proposer(study, seed=seed))
    configs: list[TrainConfig] = []
    for number in range(count):
        trial = trials.ask()
        configs += trial_configs(trial, study)
        trials.tell(trial, float(number % 5))
    return configs


@pytest.mark.parametrize("sampler", ["random", "tpe", "qmc"])
def test_every_proposed_combination_can_be_trained(sampler: str) -> None:
    study = study_of(LISTS, base=SMALL, sampler=sampler)
    configs = drawn(study, 60)
    assert [untrainable(config) for config in configs] == [""] * 60
    sizes = {(config.ppo.rollout_steps, config.ppo.minibatch_size) for config in configs}
    assert len(sizes) > 10


def test_a_sampler_that_insists_on_a_misfit_keeps_its_other_values() -> None:
    study = study_of(LISTS, base=SMALL)
    sampler = proposer(study, seed=0)
    insisting = optuna.samplers.PartialFixedSampler(
        {"ppo.learning_rate": 3e-3, "ppo.minibatch_size": 512, "ppo.rollout_steps": 32},
        optuna.samplers.RandomSampler(seed=0),
    )
    sampler.sampler = insisting
    trial = optuna.create_study(sampler=sampler).ask()
    (config,) = trial_configs(trial, study)
    assert config.ppo.learning_rate == 3e-3
    assert config.ppo.rollout_steps % config.ppo.minibatch_size == 0


def test_what_a_trial_was_given_is_kept_and_the_rest_drawn_to_fit() -> None:
    study = study_of(LISTS, base=SMALL)
    trials = optuna.create_study(sampler=proposer(study, seed=0))
    for _ in range(20):
        trials.enqueue_trial({"ppo.minibatch_size": 512})
        (config,) = trial_configs(trials.ask(), study)
        assert config.ppo.minibatch_size == 512
        assert config.ppo.rollout_steps >= 512


def test_a_combination_that_does_not_fit_costs_no_trial_of_the_budget(store: Store) -> None:
    study = study_of(LISTS, base=SMALL)
    start_sweep(study, store, trials=12, command=["run"])
    sweep = open_sweep(store, "sizes", sampler_seed=3)
    ended: list[FrozenTrial] = []

    def train(trial: optuna.Trial) -> float:
        (config,) = trial_configs(trial, study)
        assert untrainable(config) == ""
        return 1.0

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna's, of heartbeats
        sweep.optuna.optimize(train, n_trials=12, callbacks=[lambda _, t: ended.append(t)])
    assert [trial.state for trial in ended] == [TrialState.COMPLETE] * 12
    assert sweep.read_trials().left == 0


def test_a_warm_start_leaves_out_values_that_do_not_fit_any_more(store: Store) -> None:
    earlier = study_of(LISTS, base=SMALL)
    sweep = start_sweep(earlier, store, trials=1, command=["run"])
    ranges = {range_.parameter: range_.distribution for range_ in earlier.space.values()}
    largest = {"ppo.minibatch_size": 512, "ppo.rollout_steps": 512}
    params = defaults(earlier.space, earlier.base) | largest | {"ppo.learning_rate": 5e-4}
    sweep.optuna.add_trial(create_trial(params=params, distributions=ranges, value=9.0))
    fewer = "\n".join(line for line in LISTS.splitlines() if "rollout_steps" not in line)
    text = changed(
        sizes(fewer, base=SMALL, name="later"),
        {'rollout_steps" = 512': 'rollout_steps" = 32', "[32, 64, 128, 256, 512]": "[32]"},
    )
    later = read_study(text, source="later.toml")
    warmed = start_sweep(later, store, trials=5, command=["run"], warm_start="sizes")
    given_ = [trial.system_attrs["fixed_params"] for trial in warmed.read_trials().all]
    assert given_[1] == {"ppo.learning_rate": 5e-4}


VALUES: dict[str, list[object]] = {
    "env.num_envs": [1, 3, 16],
    "ppo.rollout_steps": [32, 128, 100_000],
    "ppo.rollout_episodes": [None, 3, 48],
    "ppo.minibatch_size": [48, 512],
    "total_steps": [300_000, 100],
    "policy.critic": [True, False],
    "ppo.advantage": ["gae", "n_step", "reward_to_go", "immediate"],
    "ppo.baseline": ["none", "mean"],
    "ppo.advantage_norm": ["none", "minibatch"],
    "policy.head": ["auto", "gaussian", "joint", "ordinal"],
    "env.bins": [None, 5, 4096],
    "policy.std": ["learned", "fixed"],
    "policy.squash": [False, True],
    "ppo.entropy_coef": [0.001, 0.02],
    "policy.trunk": ["separate", "shared"],
    "ppo.gamma": [0.999, 0.9],
    "ppo.surrogate": ["clip", "none", "kl_fixed"],
    "env.obs_norm": [False, True],
    "ppo.kl_stop": [None, 0.1],
}


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.fixed_dictionaries({name: st.sampled_from(values) for name, values in VALUES.items()}))
def test_fields_that_no_rule_joins_are_free(values: dict[str, object]) -> None:
    """The table of rules is complete: who breaks one, does so by the fields of one rule alone."""
    base = configure({"env.id": "LunarLanderContinuous-v3"}, base=TrainConfig())
    acting = {name: value for name, value in values.items() if acts(name, values, base)}
    trouble = problem(acting, base)
    if trouble and "acts only" not in trouble:
        groups = ({n: v for n, v in acting.items() if n in group} for group in RULES)
        assert any(problem(group, base) for group in groups), trouble


def acts(name: str, values: dict[str, object], base: TrainConfig) -> bool:
    return name not in inactive(flatten(base) | values)


def problem(values: dict[str, object], base: TrainConfig) -> str:
    try:
        return untrainable(configure(values, base=base))
    except ConfigError as error:
        return str(error)


def test_a_grid_holds_the_combinations_that_can_be_trained_and_no_others() -> None:
    lists = [line for line in LISTS.splitlines() if "learning_rate" not in line]
    trunks = '"policy.trunk" = { choices = ["separate", "shared"] }'
    study = study_of("\n".join([*lists, trunks]), base=SMALL)
    points = list(Grid(study.space, study.base, seed=0))
    for point in points:
        assert point["ppo.rollout_steps"] % point["ppo.minibatch_size"] == 0
    # 32 steps hold one size of minibatch, 64 two, 128 three, 256 four, the longer ones all five
    assert len(points) == len({tuple(point.values()) for point in points}) == 2 * 25
