"""Which Optuna sampler and pruner a study file's words stand for, and their arguments.

The [sampler] and [pruner] tables of a study file pass arguments to Optuna's classes: those that
Optuna documents, that are not on their way out, and that a TOML file can hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    NopPruner,
    SuccessiveHalvingPruner,
    WilcoxonPruner,
)
from optuna.samplers import BaseSampler, GPSampler, QMCSampler, RandomSampler, TPESampler
from pydantic import Field, TypeAdapter, ValidationError

from lander.dotted import first_line
from lander.errors import ConfigError, unknown
from sweeps.study.pruning import MedianRule

Sampler = Literal["tpe", "gp", "random", "cmaes", "qmc", "grid"]
Pruner = Literal["median", "hyperband", "halving", "wilcoxon", "none"]
Arguments = Mapping[str, Any]
ARGUMENT_TABLES: Final = ("sampler", "pruner")
"""Tables of a study file that it may leave out."""

NO_CMAES: Final = (
    "sampler cmaes keeps a pickle in the database, which whoever may write to it could exchange: "
    "take tpe, or gp for few trials"
)
"""It was removed; sweeps that used it can still be read, and resumed with another sampler."""
Count = Annotated[int, Field(strict=True, ge=1, le=1_000_000)]
FromZero = Annotated[int, Field(strict=True, ge=0, le=1_000_000)]
Factor = Annotated[int, Field(strict=True, ge=2, le=1_000_000)]
Share = Annotated[float, Field(ge=0, le=1, strict=True)]
Flag = Annotated[bool, Field(strict=True)]

ARGUMENTS: Final[dict[str, dict[str, Any]]] = {
    "tpe": {
        "n_startup_trials": FromZero,
        "n_ei_candidates": Count,
        "multivariate": Flag,
        "group": Flag,
        "constant_liar": Flag,
    },
    "gp": {"n_startup_trials": FromZero, "deterministic_objective": Flag},
    "cmaes": {},
    "qmc": {"qmc_type": Literal["sobol", "halton"], "scramble": Flag},
    "random": {},
    "grid": {},
    "median": {
        "n_startup_trials": FromZero,
        "n_warmup_steps": FromZero,
        "interval_steps": Count,
        "n_min_trials": Count,
    },
    "hyperband": {
        "min_resource": Count,
        "max_resource": Count,
        "reduction_factor": Factor,
        "bootstrap_count": FromZero,
    },
    "halving": {
        "min_resource": Count,
        "reduction_factor": Factor,
        "min_early_stopping_rate": FromZero,
        "bootstrap_count": FromZero,
    },
    "wilcoxon": {"p_threshold": Share, "n_startup_steps": FromZero},
    "none": {},
}
"""Arguments of a sampler or pruner that a study file may set, and what they take. A pruner's steps
are checkpoints 1, 2, .., those of wilcoxon final episodes; further training seeds continue them."""


def read_arguments(name: str, table: Mapping[str, Any], *, reports: int) -> Arguments:
    """The [sampler] or [pruner] table for the one called `name`, in trials of so many `reports`.

    Raises:
        ConfigError: an argument that it does not have, or a value that the argument does not take.
    """
    known = ARGUMENTS[name]
    for argument, value in table.items():
        if argument not in known:
            if not known:
                raise ConfigError(f"{argument}: {name} takes no arguments, leave the table out")
            raise ConfigError(unknown(f"argument of {name}", argument, list(known)))
        try:
            TypeAdapter(known[argument]).validate_python(value)
        except ValidationError as error:
            rule = first_line(error)
            line = f"{argument}: {rule[0].lower()}{rule[1:]}, got {value!r}"
            raise ConfigError(line) from None
    if table.get("group") and table.get("multivariate") is False:
        raise ConfigError("group: needs multivariate, which is false here: leave one of them out")
    least, most = table.get("min_resource", 1), table.get("max_resource", reports)
    if name == "hyperband" and most < least:
        raise ConfigError(f"min_resource: must not exceed max_resource = {most}, got {least}")
    return dict(table)


def make_sampler(name: Sampler, arguments: Arguments, *, seed: int, study_seed: int) -> BaseSampler:
    """The sampler of that name. `seed` is the worker's, `study_seed` the study's."""
    match name:
        case "tpe":
            return TPESampler(seed=seed, **arguments)
        case "gp":
            # returns are noisy: the same parameters give another one under the next seed
            return GPSampler(seed=seed, **({"deterministic_objective": False} | dict(arguments)))
        case "cmaes":
            raise ConfigError(NO_CMAES)
        case "qmc":
            # all workers share one sequence, whose points they take by way of the storage
            return QMCSampler(
                seed=study_seed % 2**32,
                warn_independent_sampling=False,
                **({"scramble": True} | dict(arguments)),
            )
        case "random" | "grid":  # a grid gives every trial its point: nothing to propose
            return RandomSampler(seed=seed)


def first_step(checkpoints: int) -> int:
    """The checkpoint from which the median rule ends trials, unless its argument says otherwise:
    the first quarter of a budget says little about the end of it."""
    return 1 + checkpoints // 4


def make_pruner(name: Pruner, arguments: Arguments, *, checkpoints: int, seeds: int) -> BasePruner:
    """The pruner of that name, which ends trials that are behind at an equal checkpoint.

    wilcoxon: ends trials that are behind the best one after some of their training seeds, by the
    signed ranks of the differences over equal final episodes.
    """
    match name:
        case "median":
            ours: dict[str, Any] = {
                "n_startup_trials": 5,
                "n_warmup_steps": first_step(checkpoints),
            }
            return MedianRule(**(ours | dict(arguments)))
        case "hyperband":
            ours = {"min_resource": 1, "max_resource": checkpoints * seeds, "reduction_factor": 3}
            return HyperbandPruner(**(ours | dict(arguments)))
        case "halving":
            ours = {"min_resource": 1, "reduction_factor": 3}
            return SuccessiveHalvingPruner(**(ours | dict(arguments)))
        case "wilcoxon":
            return WilcoxonPruner(**({"p_threshold": 0.1} | dict(arguments)))
        case "none":
            return NopPruner()
