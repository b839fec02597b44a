"""Which Optuna sampler and pruner a study file's words stand for."""

from __future__ import annotations

from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    NopPruner,
    SuccessiveHalvingPruner,
    WilcoxonPruner,
)
from optuna.samplers import (
    BaseSampler,
    GPSampler,
    QMCSampler,
    RandomSampler,
    TPESampler,
)

from lander.fields import ConfigError
from sweeps.study import NO_CMAES, Settings


def make_sampler(settings: Settings, *, seed: int) -> BaseSampler:
    """Proposes the next parameters."""
    match settings.sampler:
        case "tpe":
            return TPESampler(seed=seed)
        case "gp":
            # a return is noisy: the next seed would give another one
            return GPSampler(seed=seed, deterministic_objective=False)
        case "cmaes":
            raise ConfigError(NO_CMAES)
        case "qmc":
            # one sequence for all workers: its points are dealt out through the storage
            return QMCSampler(seed=settings.seed, scramble=True, warn_independent_sampling=False)
        case "random" | "grid":  # grid: every trial is enqueued with its point, nothing to propose
            return RandomSampler(seed=seed)


def make_pruner(settings: Settings, *, checkpoints: int) -> BasePruner:
    """Ends trials that are behind at a checkpoint; compares equal checkpoints only.

    wilcoxon: ends trials that are behind the best one after some of their training seeds, by the
    signed ranks of the differences over equal final episodes.
    """
    match settings.pruner:
        case "median":
            # the first quarter of a budget says little about the end of it
            return MedianPruner(n_startup_trials=5, n_warmup_steps=1 + checkpoints // 4)
        case "hyperband":
            last = checkpoints * settings.seeds_per_trial
            return HyperbandPruner(min_resource=1, max_resource=last, reduction_factor=3)
        case "halving":
            return SuccessiveHalvingPruner(min_resource=1, reduction_factor=3)
        case "wilcoxon":
            return WilcoxonPruner(p_threshold=0.1)
        case "none":
            return NopPruner()
