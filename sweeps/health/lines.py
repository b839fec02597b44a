"""Lines of a study file's [space] to paste: a range with a wider end, or without a half."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil, floor
from typing import Any, Final

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from lander.errors import ConfigError
from sweeps.study.fitting import require_fitting
from sweeps.study.ranges import Range, listed, read_range
from sweeps.study.space import defaults
from sweeps.study.study import Study

SHARES: Final = (1 / 3, 1 / 6, 1 / 12, 1 / 24)
"""By how much of its width a range may be widened, the most that can be trained."""


def line(range_: Range) -> str:
    """A field and its range, as a study file has it."""
    return f'"{range_.field}" = {range_}'


def widened(range_: Range, study: Study, *, upward: bool) -> Range | None:
    """The range with a further end, in the order of the field's values; None if no further value
    can be trained."""
    distribution = range_.distribution
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    raises_high = upward != range_.one_minus
    for end in further(distribution, raises_high=raises_high):
        low, high = distribution.low, distribution.high
        wide = between(range_, low, end) if raises_high else between(range_, end, high)
        if wide is not None and fits(wide, study):
            return wide
    return None


def further(
    distribution: FloatDistribution | IntDistribution, *, raises_high: bool
) -> Iterator[float]:
    """Values beyond an end, the furthest first."""
    low, high = float(distribution.low), float(distribution.high)
    end, other = (high, low) if raises_high else (low, high)
    for share in SHARES:
        value = end * (end / other) ** share if distribution.log else end + share * (end - other)
        if isinstance(distribution, IntDistribution):
            steps = (value - end) / distribution.step
            value = end + distribution.step * (ceil(steps) if raises_high else floor(steps))
        else:
            value = float(f"{value:.2g}")
        if (value > end) == raises_high and value != end:
            yield value


def between(range_: Range, low: float, high: float) -> Range | None:
    """The same field searched between two of Optuna's values; None if that is no range."""
    distribution = range_.distribution
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    ends = sorted(map(range_.to_field, (low, high)))
    spec: dict[str, Any] = dict(zip(("low", "high"), ends, strict=True))
    if isinstance(distribution, IntDistribution):
        spec = {name: int(value) for name, value in spec.items()}
        if distribution.step > 1:
            spec["step"] = distribution.step
    if distribution.log:
        spec["one_minus_log" if range_.one_minus else "log"] = True
    try:
        return read_range(range_.field, spec)
    except ConfigError:
        return None


def without_half(range_: Range, study: Study, *, upper: bool) -> Range | None:
    """The range without its upper or lower half, in the order of the field's values; None if trial
    0, the base, lies in that half."""
    distribution = range_.distribution
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    middle = range_.at(0.5)
    if isinstance(distribution, FloatDistribution):
        middle = float(f"{middle:.2g}")
    keeps_low = upper != range_.one_minus
    ends = (distribution.low, middle) if keeps_low else (middle, distribution.high)
    half = between(range_, *ends)
    return half if half is not None and has_base(half, study) else None


def without_choice(range_: Range, choice: Any, study: Study) -> Range | None:
    """The choices but one; None if that is the base's, or the last."""
    distribution = range_.distribution
    assert isinstance(distribution, CategoricalDistribution)
    kept = [other for other in distribution.choices if other != choice]
    if not kept:
        return None
    fewer = Range(range_.field, CategoricalDistribution(kept))
    return fewer if has_base(fewer, study) else None


def has_base(range_: Range, study: Study) -> bool:
    """Whether the base lies in another range of one of its fields, so that trial 0 can train it."""
    value = defaults(study.space, study.base).get(range_.parameter)
    return value is None or range_.holds(value)


def fits(range_: Range, study: Study) -> bool:
    """Whether a study that has this range instead of its own can be trained."""
    try:
        require_fitting({**study.space, range_.field: range_}, study.base)
    except ConfigError:
        return False
    return True


def shown(range_: Range, value: Any) -> str:
    """One of Optuna's values as a study file has it."""
    return listed([range_.config_value(value)])[1:-1]
