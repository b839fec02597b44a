"""Wraps any sampler so that it proposes only points that can be trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial, TrialState

from lander.config import TrainConfig
from lander.errors import ConfigError
from lander.options import settle
from sweeps.optuna_private import fixed_params
from sweeps.study.fitting import RULES, untrainable
from sweeps.study.history import SamplerView
from sweeps.study.ranges import Range
from sweeps.study.space import Space, defaults, flat_base

PROPOSALS: Final = 3
"""How often the sampler is asked for a point that can be trained."""
DRAWS: Final = 2_000
"""How often the values that rules join are then drawn at random."""
IN_RULES: Final = frozenset().union(*RULES)


Repeat = Callable[[Study, FrozenTrial], Mapping[str, Any] | None]
"""(study, next trial) -> the point of earlier ones that it trains again, or None for a new one."""


class FittingSampler(BaseSampler):
    """Proposes points of another sampler, if they can be trained; after the defaults, in trial 0,
    those of `first`; and instead of a new point one that `repeat` chooses.

    The whole point of a trial is drawn at once, when its first parameter is asked for: a point
    that no training takes is drawn again, and after some attempts only those of its values that
    rules join are, at random. The other sampler sees a part of a large study: see
    `SamplerView`.
    """

    def __init__(
        self,
        sampler: BaseSampler,
        space: Space,
        base: TrainConfig,
        *,
        seed: int,
        first: Sequence[Mapping[str, Any]] = (),
        repeat: Repeat | None = None,
    ) -> None:
        self.sampler = sampler
        self.first = first
        self.repeat = repeat
        self.space = space
        self.base = base
        self._random = RandomSampler(seed=seed)
        self._view = SamplerView()

    def infer_relative_search_space(
        self, _study: Study, _trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return {range_.parameter: range_.distribution for range_ in self.space.values()}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, _space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        kept = fixed_params(trial)
        seen = self._view.of(study)
        point: dict[str, Any]
        again = self.repeat(seen, trial) if self.repeat and not kept else None
        if again is not None:
            return dict(again)

        def ask(range_: Range) -> Any:
            return self.sampler.sample_independent(
                seen, trial, range_.parameter, range_.distribution
            )

        def draw(range_: Range) -> Any:
            return self._random.sample_independent(
                study, trial, range_.parameter, range_.distribution
            )

        if 1 <= trial.number <= len(self.first):
            point = dict(self.first[trial.number - 1]) | kept
            if not completed(point, self.space, self.base, ask):
                return point
        for _ in range(PROPOSALS):
            together = self.sampler.infer_relative_search_space(seen, trial)
            point = self.sampler.sample_relative(seen, trial, together) | kept
            if not completed(point, self.space, self.base, ask):
                return point
        joined = joined_parameters(self.space)
        asked = {name: value for name, value in point.items() if name not in joined} | kept
        for _ in range(DRAWS):
            point = dict(asked)
            if not completed(point, self.space, self.base, draw):
                return point
        return defaults(self.space, self.base) | asked

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        seen = self._view.of(study)
        return self.sampler.sample_independent(seen, trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self.sampler.before_trial(study, trial)

    def after_trial(
        self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        self.sampler.after_trial(study, trial, state, values)

    def reseed_rng(self) -> None:
        self.sampler.reseed_rng()
        self._random.reseed_rng()


def completed(
    point: dict[str, Any], space: Space, base: TrainConfig, ask: Callable[[Range], Any]
) -> str:
    """Fill in the parameters that act in a point; return why it cannot be trained, "" if it can."""

    def choose(name: str) -> Any:
        range_ = space[name]
        if range_.parameter not in point:
            point[range_.parameter] = ask(range_)
        return range_.config_value(point[range_.parameter])

    try:
        config = settle(space, base, choose)
    except ConfigError as error:
        return str(error)
    return untrainable(config)


def trainable_part(point: Mapping[str, Any], space: Space, base: TrainConfig) -> dict[str, Any]:
    """A point of another sweep, without the values that rules join if they break one in this
    space."""
    flat = flat_base(space, base)
    if not completed(dict(point), space, base, lambda r: r.parameter_value(flat[r.field])):
        return dict(point)
    joined = joined_parameters(space)
    return {name: value for name, value in point.items() if name not in joined}


def joined_parameters(space: Space) -> set[str]:
    """Optuna's names of the searched fields that rules join."""
    return {range_.parameter for name, range_ in space.items() if name in IN_RULES}
