"""[sampler] and [pruner]: documented arguments of Optuna's classes, and no others."""

from __future__ import annotations

import inspect
from typing import Any

import optuna
import pytest
from optuna import pruners, samplers

from lander.errors import ConfigError
from sweeps.lifecycle.start import start_sweep
from sweeps.store.store import Store
from sweeps.study.samplers import ARGUMENTS, make_pruner
from sweeps.study.study import Study, read_study
from sweeps.sweep import open_sweep, proposer, pruner_of
from tests.studies import MINI, changed

CLASSES: dict[str, Any] = {
    "tpe": samplers.TPESampler,
    "gp": samplers.GPSampler,
    "qmc": samplers.QMCSampler,
    "median": pruners.MedianPruner,
    "hyperband": pruners.HyperbandPruner,
    "halving": pruners.SuccessiveHalvingPruner,
    "wilcoxon": pruners.WilcoxonPruner,
}


def study_of(*lines: str, sampler: str = "tpe", pruner: str = "median") -> Study:
    settings = f'seed = 3\nsampler = "{sampler}"\npruner = "{pruner}"'
    if pruner == "wilcoxon":
        settings += "\nseeds_per_trial = 2"
    tables = "\n".join(lines)
    return read_study(changed(MINI, {"seed = 3": settings}) + tables, source="mini.toml")


@pytest.mark.parametrize("name", CLASSES)
def test_every_argument_that_a_study_may_set_is_one_that_optuna_documents(name: str) -> None:
    taken = inspect.signature(CLASSES[name]).parameters
    assert ARGUMENTS[name].keys() <= taken.keys()
    for argument in ARGUMENTS[name]:
        assert f"{argument}:" in str(inspect.getdoc(CLASSES[name]))


VALUES: dict[str, dict[str, Any]] = {
    "tpe": {"n_startup_trials": 5, "n_ei_candidates": 12, "multivariate": True}
    | {"group": True, "constant_liar": False},
    "gp": {"n_startup_trials": 4, "deterministic_objective": True},
    "qmc": {"qmc_type": "halton", "scramble": False},
    "median": {"n_startup_trials": 0, "n_warmup_steps": 1, "interval_steps": 2, "n_min_trials": 3},
    "hyperband": {"min_resource": 1, "max_resource": 2, "reduction_factor": 2}
    | {"bootstrap_count": 1},
    "halving": {"min_resource": 2, "reduction_factor": 4, "min_early_stopping_rate": 1}
    | {"bootstrap_count": 2},
    "wilcoxon": {"p_threshold": 0.2, "n_startup_steps": 0},
}


@pytest.mark.filterwarnings("ignore:.*group.*experimental")
@pytest.mark.parametrize("name", ["tpe", "gp", "qmc"])
def test_an_argument_of_a_sampler_reaches_it(name: str) -> None:
    lines = [f"{argument} = {toml(value)}" for argument, value in VALUES[name].items()]
    study = study_of("[sampler]", *lines, sampler=name)
    assert study.sampler == VALUES[name]
    sampler = proposer(study, seed=1).sampler
    assert isinstance(sampler, CLASSES[name])
    made = vars(sampler)
    given = {f"_{argument}": value for argument, value in VALUES[name].items()}
    renamed = {"_deterministic_objective": "_deterministic"}
    for attribute, value in given.items():
        assert made[renamed.get(attribute, attribute)] == value


@pytest.mark.parametrize("name", ["median", "hyperband", "halving", "wilcoxon"])
def test_an_argument_of_a_pruner_reaches_it(name: str) -> None:
    lines = [f"{argument} = {toml(value)}" for argument, value in VALUES[name].items()]
    study = study_of("[pruner]", *lines, pruner=name)
    made = vars(pruner_of(study))
    assert {argument: made[f"_{argument}"] for argument in VALUES[name]} == VALUES[name]


def toml(value: object) -> str:
    """A value as TOML writes it."""
    return str(value).lower() if isinstance(value, bool) else repr(value).replace("'", '"')


def test_without_the_tables_the_projects_own_defaults_stand() -> None:
    median = vars(pruner_of(study_of()))
    assert (median["_n_startup_trials"], median["_n_warmup_steps"]) == (5, 1)
    hyperband = vars(pruner_of(study_of(pruner="hyperband")))
    assert (hyperband["_min_resource"], hyperband["_max_resource"]) == (1, 2)


@pytest.mark.parametrize(
    ("sampler", "pruner", "lines", "message"),
    [
        ("tpe", "median", "[sampler]\nn_startup_trails = 5", "did you mean n_startup_trials?"),
        ("tpe", "median", "[sampler]\nn_startup_trials = -1", "n_startup_trials: input should be"),
        ("tpe", "median", "[sampler]\nn_startup_trials = true", "n_startup_trials: input should"),
        ("tpe", "median", '[sampler]\nn_startup_trials = "5"', "n_startup_trials: input should"),
        ("tpe", "median", "[sampler]\nmultivariate = 1", "multivariate: input should be a valid"),
        (
            "tpe",
            "median",
            "[sampler]\nprior_weight = 1.0",
            'argument of tpe "prior_weight"',
        ),
        ("tpe", "median", "[sampler]\nseed = 1", 'unknown argument of tpe "seed"'),
        ("tpe", "median", "[sampler]\ngroup = true\nmultivariate = false", "needs multivariate"),
        ("random", "median", "[sampler]\nn_startup_trials = 5", "random takes no arguments"),
        ("qmc", "median", '[sampler]\nqmc_type = "sobel"', "qmc_type: input should be 'sobol'"),
        ("tpe", "none", "[pruner]\nn_startup_trials = 5", "none takes no arguments"),
        ("tpe", "median", "[pruner]\nn_warmup_step = 5", "did you mean n_warmup_steps?"),
        ("tpe", "median", "[pruner]\ninterval_steps = 0", "interval_steps: input should be"),
        ("tpe", "hyperband", "[pruner]\nmin_resource = 3", "must not exceed max_resource = 2"),
        ("tpe", "hyperband", "[pruner]\nreduction_factor = 1", "reduction_factor: input should"),
        ("tpe", "wilcoxon", "[pruner]\np_threshold = 1.5", "p_threshold: input should be less"),
        ("tpe", "median", "[samplers]\na = 1", 'unknown table "samplers": did you mean sampler?'),
    ],
)
def test_a_wrong_argument_is_refused_in_one_line(
    sampler: str, pruner: str, lines: str, message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        study_of(lines, sampler=sampler, pruner=pruner)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_tables_that_are_none_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"\[sampler\] must be a table of arguments, got 'tpe'"):
        read_study('sampler = "tpe"\n' + MINI, source="mini.toml")


def test_arguments_may_change_when_a_sweep_is_resumed(store: Store) -> None:
    start_sweep(study_of(), store, trials=None, command=["run"])
    later = study_of("[sampler]\nn_startup_trials = 2\n[pruner]\nn_warmup_steps = 0")
    start_sweep(later, store, trials=None, command=["run"])
    sweep = open_sweep(store, "mini", sampler_seed=1)
    assert vars(vars(sweep.optuna.sampler)["sampler"])["_n_startup_trials"] == 2
    assert vars(sweep.optuna.pruner)["_n_warmup_steps"] == 0


def test_a_warmup_counts_checkpoints() -> None:
    """A step of a pruner is a checkpoint: a trial may end at the second, but not at the first."""
    pruner = make_pruner(
        "median", {"n_startup_trials": 1, "n_warmup_steps": 2}, checkpoints=5, seeds=1
    )
    study = optuna.create_study(direction="maximize", pruner=pruner)
    good = study.ask()
    for step in (1, 2, 3):
        good.report(10.0, step)
    study.tell(good, 10.0)
    bad = study.ask()
    bad.report(0.0, 1)
    assert not bad.should_prune()
    bad.report(0.0, 2)
    assert bad.should_prune()
