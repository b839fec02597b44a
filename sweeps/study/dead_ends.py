"""What a study would spend trials on in vain, said before it starts.

A value that fits in no training is refused: see `sweeps.study.fitting`. These can be trained.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, Final

import numpy as np
from optuna.distributions import CategoricalDistribution

from lander.config import TrainConfig
from lander.errors import ConfigError
from lander.options import settle
from lander.resolve import UnflyableWarning, dead_zones, resolve, without_effect
from sweeps.study.points import config_at
from sweeps.study.ranges import listed
from sweeps.study.space import Space, flat_base
from sweeps.study.study import Study

SAMPLE: Final = 32
"""Points of a space that are looked at."""
MANY: Final = 0.5
"""Share of them that cannot be trained from which a study is warned of it."""


def dead_ends(study: Study) -> list[str]:
    """A line for each: engines that never fire or stop, choices that are one configuration, fields
    without effect, a pruner that compares what differs, and a space in which few points can be
    trained."""
    if study.points:
        return list(dict.fromkeys(line for point in study.configs for line in dead_zones(point)))
    space, base = study.space, study.base
    configs, trouble = sampled(space, base, seed=study.settings.seed)
    lines = [*dead_zones_in(space, base), *twins(space, base), *idle(space, [base, *configs])]
    lines += unequal_budgets(study)
    if len(configs) < (1 - MANY) * SAMPLE:
        lines.append(
            f"[space]: {SAMPLE - len(configs)} of {SAMPLE} random points cannot be trained, and "
            f"are drawn again: {trouble}"
        )
    return list(dict.fromkeys(lines))


def unequal_budgets(study: Study) -> list[str]:
    """A warning about a pruner that compares trials of different lengths."""
    if "total_steps" not in study.space or study.settings.pruner == "none":
        return []
    return [
        f"total_steps is searched, and pruner {study.settings.pruner} compares trials at equal "
        'shares of their steps, at which the short ones are behind: pruner = "none" is fair'
    ]


def sampled(space: Space, base: TrainConfig, *, seed: int) -> tuple[list[TrainConfig], str]:
    """The random points that can be trained, resolved; and why another one cannot."""
    rng = np.random.default_rng(seed)
    configs, trouble = list[TrainConfig](), ""
    for shares in rng.random((SAMPLE, len(space))):
        point = {
            range_.parameter: range_.at(float(share))
            for range_, share in zip(space.values(), shares, strict=True)
        }
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UnflyableWarning)  # `dead_zones_in` has them
                configs.append(resolve(config_at(point, space, base)).config)
        except ConfigError as error:
            trouble = str(error)
    return configs, trouble


def dead_zones_in(space: Space, base: TrainConfig) -> list[str]:
    """Warnings about engines that trials could never fire or stop, each once."""
    lines: list[str] = []
    for name, range_ in space.items():
        for value in range_.ends():
            flat = flat_base(space, base) | {name: value}
            with suppress(ConfigError):  # it fits only with other values than the base has
                lines += dead_zones(settle(space, base, flat.__getitem__))
    return list(dict.fromkeys(lines))


def twins(space: Space, base: TrainConfig) -> Iterator[str]:
    """Choices of one field between which nothing differs, as a head and `auto`."""
    for name, range_ in space.items():
        if not isinstance(range_.distribution, CategoricalDistribution):
            continue
        first: dict[TrainConfig, object] = {}
        for value in range_.ends():
            flat = flat_base(space, base) | {name: value}
            with suppress(ConfigError), warnings.catch_warnings():
                warnings.simplefilter("ignore", UnflyableWarning)
                config = resolve(settle(space, base, flat.__getitem__), named=(name,)).config
                if config in first:
                    both = listed([first[config], value])
                    yield f"{name}: the choices {both} are one configuration: drop one"
                first.setdefault(config, value)


def idle(space: Space, configs: list[TrainConfig]) -> Iterator[str]:
    """Searched fields that change nothing at any of these points."""
    effects: list[Mapping[str, Any]] = list(map(without_effect, configs))
    for name in space:
        if all(name in fields for fields in effects):
            yield f"{name} has no effect: {effects[0][name]}"
