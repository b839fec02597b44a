"""One simulated sweep: points proposed as a real sweep does it, trainings drawn from a world."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
import optuna
from optuna.trial import Trial, TrialState

from analysis.bakeoff.process import Floats
from analysis.bakeoff.surrogate import Drawn, World, unit_cube
from sweeps.study.covering import covering_points
from sweeps.study.samplers import Pruner, Sampler, make_pruner, make_sampler
from sweeps.study.space import defaults
from sweeps.study.study import Study

Params = Mapping[str, Any]
"""Optuna's parameters."""
Score = Callable[[Drawn], float]


@dataclass(eq=False)
class Candidate:
    """A configuration of a simulated sweep, and its trainings that were not pruned."""

    params: Params
    point: Floats
    """(d,), in the unit cube."""
    trainings: list[Drawn] = field(default_factory=list)

    def scores(self, score: Score) -> list[float]:
        """The score of every training."""
        return [score(training) for training in self.trainings]

    def mean(self, score: Score) -> float:
        """The mean score of its trainings."""
        return float(np.mean(self.scores(score)))


def last(count: int) -> Score:
    """The mean of the last `count` checkpoints. The final evaluation replaces the last of them: it
    is the same policy, flown on more episodes."""

    def score(training: Drawn) -> float:
        return float(np.mean([*training.checkpoints[-count:-1], training.final]))

    return score


STATISTICS: Final[Mapping[str, Score]] = {
    "final": last(1),
    "last 2": last(2),
    "last 3": last(3),
    "all": last(5),
}
"""What may be the score of a training, by the name that the tables use."""

Replicate = Callable[[Sequence[Candidate], float, np.random.Generator], Candidate | None]
"""(candidates that finished, share of the budget that is spent, random numbers) -> the candidate to
train again, or None for a new one."""
Propose = Callable[["Problem", Sequence[Candidate], np.random.Generator], Params]
"""A sampler that Optuna does not have."""


@dataclass(frozen=True)
class Problem:
    """What a sweep is given: a world, the study that is swept, and how many whole trainings it may
    cost."""

    world: World
    study: Study
    budget: float

    def point(self, params: Params) -> Floats:
        """Where a configuration lies in the unit cube, (d,)."""
        space = self.study.space
        values = {
            name: range_.config_value(params[range_.parameter]) for name, range_ in space.items()
        }
        return unit_cube(values, space)

    def params(self, point: Floats) -> Params:
        """The configuration at a point (d,) of the unit cube."""
        pairs = zip(self.study.space.values(), point, strict=True)
        return {range_.parameter: range_.at(float(share)) for range_, share in pairs}


@dataclass(frozen=True)
class Search:
    """How a sweep proposes, prunes, scores and trains again."""

    sampler: Sampler | Propose = "tpe"
    sampler_arguments: Mapping[str, Any] = field(default_factory=dict)
    pruner: Pruner | Literal["percentile"] = "none"
    pruner_arguments: Mapping[str, Any] = field(default_factory=dict)
    patience: int = 0
    """Checkpoints without progress before a pruner is asked (Optuna's PatientPruner)."""
    statistic: str = "last 3"
    replicate: Replicate | None = None
    startup: int = 0
    """How many points that cover the space come first, after the base."""

    def __call__(self, problem: Problem, rng: np.random.Generator) -> list[Candidate]:
        """The candidates of a sweep that is over with the training that exhausts its budget."""
        study = problem.study
        searched = optuna.create_study(
            direction="maximize", sampler=self._sampler(rng), pruner=self._pruner(study)
        )
        first = covering_points(study.space, self.startup, seed=int(rng.integers(2**31)))
        given_first = iter([defaults(study.space, study.base), *first])
        candidates: list[Candidate] = []
        spent = 0.0
        while spent < problem.budget:
            again = self.replicate and self.replicate(candidates, spent / problem.budget, rng)
            given = again.params if again else next(given_first, None)
            if given is None and not isinstance(self.sampler, str):
                given = self.sampler(problem, candidates, rng)
            trial = asked(searched, study, given)
            candidate = again or Candidate(trial.params, problem.point(trial.params))
            training = problem.world.train(candidate.point, rng)
            # a repetition runs to its end: to drop the unlucky ones would flatter the others
            flown = reported(trial, training, prune=again is None)
            spent += flown / len(training.checkpoints)
            if flown < len(training.checkpoints):
                searched.tell(trial, state=TrialState.PRUNED)
                continue
            candidate.trainings.append(training)
            searched.tell(trial, candidate.mean(STATISTICS[self.statistic]))
            if not again:
                candidates.append(candidate)
        return candidates

    def _sampler(self, rng: np.random.Generator) -> optuna.samplers.BaseSampler:
        seed = int(rng.integers(2**31))
        if self.sampler == "cmaes":  # which no study file may say
            return optuna.samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False)
        if not isinstance(self.sampler, str):
            return optuna.samplers.RandomSampler(seed=seed)
        # every point of the default study can be trained: nothing needs to be proposed twice
        return make_sampler(self.sampler, self.sampler_arguments, seed=seed, study_seed=seed)

    def _pruner(self, study: Study) -> optuna.pruners.BasePruner:
        checkpoints = study.base.checkpoints
        if self.pruner == "percentile":
            pruner: optuna.pruners.BasePruner = optuna.pruners.PercentilePruner(
                **self.pruner_arguments
            )
        else:
            pruner = make_pruner(
                self.pruner, self.pruner_arguments, checkpoints=checkpoints, seeds=1
            )
        return optuna.pruners.PatientPruner(pruner, self.patience) if self.patience else pruner


def asked(searched: optuna.Study, study: Study, given: Params | None) -> Trial:
    """The next trial, with all its parameters: those given, or those of the sampler."""
    if given is not None:
        searched.enqueue_trial(dict(given))
    trial = searched.ask()
    for range_ in study.space.values():
        range_.suggest(trial)
    return trial


def reported(trial: Trial, training: Drawn, *, prune: bool) -> int:
    """Report checkpoint after checkpoint; how many there were until the trial was pruned."""
    for step, value in enumerate(training.checkpoints, 1):
        trial.report(float(value), step=step)
        if prune and step < len(training.checkpoints) and trial.should_prune():
            return step
    return len(training.checkpoints)
