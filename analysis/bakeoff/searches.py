"""Every rule of the bake-off: what other tools do, one factor at a time, the best of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from typing import Any, Final

import numpy as np

from analysis.bakeoff.estimate import (
    RECOMMEND,
    Recommend,
    observed,
    repeated,
    resampled,
    shrunken,
)
from analysis.bakeoff.irace import IteratedRace
from analysis.bakeoff.racing import RaceAfter, report, winner
from analysis.bakeoff.rules import Challenge, EveryNth, Halving, ProcessSampler, Thompson
from analysis.bakeoff.simulate import STATISTICS, Candidate, Problem, Replicate, Score, Search
from analysis.race import Plan

LAST, FINAL = STATISTICS["last 3"], STATISTICS["final"]
SLOW: Final = 5
"""Optuna's Gaussian process takes minutes for what the others do in a second: of so many simulated
sweeps it makes one."""


@dataclass(frozen=True)
class Rule:
    """A search and the ways in which it may recommend."""

    group: str
    """The table that shows it."""
    search: Callable[[Problem, np.random.Generator], Sequence[Candidate]]
    score: Score = LAST
    recommend: Mapping[str, Recommend] = field(default_factory=lambda: RECOMMEND)
    every: int = 1
    """Makes one of so many simulated sweeps."""


REFERENCE: Final = "Optuna, rl-zoo"
"""The rule that all others are compared with, by its own recommendation: what this product did."""


def rules() -> dict[str, Rule]:
    """Every rule by its name, the reference first."""
    return (
        peers()
        | samplers()
        | starts()
        | pruners()
        | scores()
        | replicates()
        | combinations()
        | races()
    )


def peers() -> dict[str, Rule]:
    """What other tools do, and how they recommend."""
    plain = Search(ProcessSampler("final"), statistic="final", startup=8)
    own: dict[str, tuple[Any, Recommend]] = {
        REFERENCE: (Search("tpe", pruner="median", statistic="final"), observed),
        "SMAC3": (replace(plain, replicate=Challenge(FINAL)), repeated),
        "CARBS": (replace(plain, replicate=EveryNth(FINAL)), resampled),
        "irace": (IteratedRace(), repeated),
    }
    return {
        name: Rule("peers", search, FINAL, {"its own": recommend, **RECOMMEND})
        for name, (search, recommend) in own.items()
    }


PLAIN: Final = Search("tpe")
"""TPE as Optuna ships it, nothing pruned, the mean of the last three checkpoints."""


def samplers() -> dict[str, Rule]:
    """One factor: who proposes."""
    searches = {
        "tpe": PLAIN,
        "tpe, not multivariate": replace(PLAIN, sampler_arguments={"multivariate": False}),
        "tpe, group": replace(PLAIN, sampler_arguments={"group": True}),
        "tpe, 5 at random first": replace(PLAIN, sampler_arguments={"n_startup_trials": 5}),
        "tpe, 16 at random first": replace(PLAIN, sampler_arguments={"n_startup_trials": 16}),
        "tpe, 100 looked at": replace(PLAIN, sampler_arguments={"n_ei_candidates": 100}),
        "random": replace(PLAIN, sampler="random"),
        "quasi-random": replace(PLAIN, sampler="random", startup=64),
        "process": replace(PLAIN, sampler=ProcessSampler("last 3"), startup=8),
        "process, 16 that cover": replace(PLAIN, sampler=ProcessSampler("last 3"), startup=16),
    }
    if find_spec("cmaes") is not None:
        searches["cma-es"] = Search("cmaes")
    rules = {f"sampler: {name}": Rule("sampler", search) for name, search in searches.items()}
    return rules | {"sampler: gp of Optuna": Rule("sampler", Search("gp"), every=SLOW)}


def starts() -> dict[str, Rule]:
    """One factor: points that cover the space before the sampler begins."""
    rules = {}
    for count in (4, 8, 12, 16):
        search = replace(
            PLAIN, startup=count, sampler_arguments={"n_startup_trials": min(10, count)}
        )
        rules[f"start-up: {count} that cover"] = Rule("start-up", search)
    return rules


def pruners() -> dict[str, Rule]:
    """One factor: which trainings are ended early."""

    def median(warmup: int) -> dict[str, Any]:
        return {"pruner": "median", "pruner_arguments": {"n_warmup_steps": warmup}}

    quarter = {"percentile": 25.0, "n_warmup_steps": 3}
    changes: dict[str, dict[str, Any]] = {
        "median from 2": median(2),
        "median from 3": median(3),
        "median from 4": median(4),
        "percentile 25 from 3": {"pruner": "percentile", "pruner_arguments": quarter},
        "halving": {"pruner": "halving"},
        "hyperband": {"pruner": "hyperband"},
        "median from 2, patient": {**median(2), "patience": 1},
    }
    return {
        f"pruner: {name}": Rule("pruner", replace(PLAIN, **change))
        for name, change in changes.items()
    }


def scores() -> dict[str, Rule]:
    """One factor: what the score of a training is."""
    return {
        f"score: {name}": Rule("score", replace(PLAIN, statistic=name), score)
        for name, score in STATISTICS.items()
    }


def replicates() -> dict[str, Rule]:
    """One factor: what is trained again, and when."""
    again: dict[str, Replicate] = {
        "leaders, from 0.4": Thompson(LAST, 0.4),
        "leaders, from 0.6": Thompson(LAST, 0.6),
        "leaders, from 0.8": Thompson(LAST, 0.8),
        "halving, from 0.6": Halving(LAST, 0.6),
        "every 5th": EveryNth(LAST),
        "challenges": Challenge(LAST),
    }
    return {
        f"again: {name}": Rule("again", replace(PLAIN, replicate=replicate))
        for name, replicate in again.items()
    }


COMBINED: Final = Search(
    "tpe",
    pruner="median",
    statistic="final",
    replicate=Thompson(FINAL, 0.4),
    startup=8,
)
"""The best of each factor."""


def combinations() -> dict[str, Rule]:
    """The best of each factor together, and with another choice for one of them."""

    def scored(name: str) -> Search:
        return replace(COMBINED, statistic=name, replicate=Thompson(STATISTICS[name], 0.4))

    def repeated_from(share: float) -> Search:
        return replace(COMBINED, replicate=Thompson(FINAL, share))

    process = ProcessSampler("final")
    changed = {
        "all": COMBINED,
        "process": replace(COMBINED, sampler=process),
        "process, nothing pruned": replace(COMBINED, sampler=process, pruner="none"),
        "gp of Optuna": replace(COMBINED, sampler="gp"),
        "random": replace(COMBINED, sampler="random"),
        "at random first": replace(COMBINED, startup=0),
        "nothing pruned": replace(COMBINED, pruner="none"),
        "successive halving": replace(COMBINED, pruner="halving"),
        "pruned from 3": replace(COMBINED, pruner_arguments={"n_warmup_steps": 3}),
        "score of the last 3": scored("last 3"),
        "score of all": scored("all"),
        "nothing again": replace(COMBINED, replicate=None),
        "leaders again from 0.2": repeated_from(0.2),
        "leaders again from 0.6": repeated_from(0.6),
    }
    return {
        f"combined: {name}": Rule(
            "combined",
            search,
            STATISTICS[search.statistic],
            every=SLOW if search.sampler == "gp" else 1,
        )
        for name, search in changed.items()
    }


def races() -> dict[str, Rule]:
    """The best of each factor and then a race: how many candidates, and when the first may be
    out."""
    return {
        f"race: the best {top}, first look after {first}": Rule(
            "race",
            RaceAfter(COMBINED, STATISTICS[COMBINED.statistic], shrunken, top, first),
            report,
            {"its winner": winner},
        )
        for top in (2, 3, 4, 6)
        for first in (2, 3, 4)
        if 2 * first * top <= Plan().trainings
    }
