"""A fork: a new sweep that begins with the trials of another one, as far as they fit.

They are copied, not trained again: the samplers see them, their runs stay where they are. A copy
has the number of its original, hence its training seeds, which no new trial may have; trials that
are left out hold their numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from optuna.distributions import IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from lander.config import TrainConfig
from lander.dotted import flatten
from lander.errors import ConfigError
from lander.options import inactive
from sweeps.endings import root
from sweeps.schema import COPIED_FROM, FIXED_PARAMS, REASON, Reason
from sweeps.study.points import config_at
from sweeps.study.ranges import Range
from sweeps.study.space import brief, defaults, flat_base, suggest
from sweeps.study.study import Study
from sweeps.sweep import Sweep

TRAINED = (TrialState.COMPLETE, TrialState.PRUNED)


class Misfit(Exception):
    """Why a trial is no trial of another study."""


@dataclass(frozen=True)
class Fork:
    """The first trials of a new sweep, by number: copies, and what holds the numbers of others."""

    study: str
    """The sweep that they are from."""
    trials: tuple[FrozenTrial, ...]
    misfits: Mapping[int, str]
    """Number of a trial that was trained and is left out -> why."""

    @property
    def copied(self) -> int:
        """How many were trained."""
        return sum(trial.state in TRAINED for trial in self.trials)

    @property
    def record(self) -> dict[str, Any]:
        """What the new sweep remembers of it."""
        return {"sweep": self.study, "copied": self.copied, "numbers": len(self.trials)}

    def __str__(self) -> str:
        trained = self.copied + len(self.misfits)
        text = f"{self.copied} of the {trained} trials of {self.study}, which are not trained again"
        if not self.misfits:
            return text
        number, why = next(iter(self.misfits.items()))
        return f"{text}; trial {number} is left out: {why}" + (
            f", and {len(self.misfits) - 1} more" if len(self.misfits) > 1 else ""
        )


def fork_of(study: Study, original: Sweep) -> Fork:
    """The trials with which a study begins as a fork of another sweep.

    Raises:
        ConfigError: none of them fits, or its scores mean something else.
    """
    name = original.study.name
    if study.has_points or original.study.has_points:
        raise ConfigError(f"cannot fork {name}: --fork is for searches, points are added to a file")
    require_comparable(study, original.study)
    trials, misfits = list[FrozenTrial](), dict[int, str]()
    for trial in original.read_trials().all:
        copy = left_out()
        if trial.state in TRAINED:
            try:
                copy = copied(trial, original.study, study)
            except Misfit as error:
                misfits[trial.number] = str(error)
        trials.append(copy)
    base = defaults(study.space, study.base)
    if trials and trials[0].params != base:
        if trials[0].state in TRAINED:
            misfits[0] = "the base is another"
        # of a base that was lost and retried the retry is its only training
        retries = [copy for copy in trials[1:] if root(copy) == 0 and copy.params == base]
        trials[0] = left_out(like=retries[0]) if retries else queued(base)
    fork = Fork(name, tuple(trials), misfits)
    if not fork.copied:
        why = next(iter(misfits.values()), "none has ended yet")
        raise ConfigError(f"cannot fork {name}: none of its trials fits {study.name}: {why}")
    return fork


def require_comparable(study: Study, original: Study) -> None:
    """Refuse a study whose scores, seeds or reports are not those of another one.

    Raises:
        ConfigError: the first setting that differs.
    """
    then, now = (
        {part: value for part, value in one.definition.items() if part not in ("base", "space")}
        for one in (original, study)
    )
    for part in {**then, **now}:
        if then.get(part) != now.get(part):
            raise ConfigError(
                f"cannot fork {original.name}: its trials cannot be compared with those of "
                f"{study.name} ({part}: {then.get(part, 'none')} there, {now.get(part, 'none')} "
                "here)"
            )


def copied(trial: FrozenTrial, original: Study, study: Study) -> FrozenTrial:
    """A trial of one study as a trial of another, with all that it reported and recorded.

    Raises:
        Misfit: no trial of the other study trains its config.
    """
    config = config_of(trial, original)
    params = parameters_in(study, config, recorded=trial.params)
    ours = config_at(params, study.space, study.base)
    if ours != config:
        raise Misfit(first_difference(config, ours))
    ranges = {range_.parameter: range_.distribution for range_ in study.space.values()}
    source = trial.user_attrs.get(COPIED_FROM, f"{original.name} trial {trial.number}")
    copy = create_trial(
        state=trial.state,
        value=trial.value,
        params=params,
        distributions={name: ranges[name] for name in params},
        intermediate_values=trial.intermediate_values,
        user_attrs={**trial.user_attrs, COPIED_FROM: source},
        constraints=trial.constraints,
    )
    copy.datetime_start, copy.datetime_complete = trial.datetime_start, trial.datetime_complete
    return copy


def config_of(trial: FrozenTrial, study: Study) -> TrainConfig:
    """The config of a trial, but for its seed.

    Raises:
        Misfit: another tool added it, without the parameters of the study.
    """
    try:
        return suggest(trial, study.space, study.base)
    except ValueError:  # Optuna's
        raise Misfit("another tool added it") from None


def parameters_in(
    study: Study, config: TrainConfig, *, recorded: Mapping[str, Any]
) -> dict[str, Any]:
    """Optuna's parameters of a config in the space of a study: the `recorded` ones where the same
    field is searched on the same scale, so that they are equal to the last bit.

    Raises:
        Misfit: a value outside its range.
    """
    flat = flat_base(study.space, config)
    idle = inactive(flat)
    params: dict[str, Any] = {}
    for name, range_ in study.space.items():
        if name in idle:
            continue
        value = recorded.get(range_.parameter, range_.parameter_value(flat[name]))
        if not is_in(range_, value):
            raise Misfit(f"{name} = {brief(flat[name])} lies outside {range_}")
        params[range_.parameter] = value
    return params


def is_in(range_: Range, value: Any) -> bool:
    """Whether a range has one of Optuna's values, its step included."""
    distribution = range_.distribution
    if not range_.holds(value):
        return False
    if not isinstance(distribution, IntDistribution):
        return True
    return isinstance(value, int) and (value - distribution.low) % distribution.step == 0


def first_difference(theirs: TrainConfig, ours: TrainConfig) -> str:
    """The first field in which two configs differ."""
    then, now = flatten(theirs), flatten(ours)
    name = next(name for name in {**then, **now} if then.get(name) != now.get(name))
    return f"{name}: {then.get(name, 'none')} there, {now.get(name, 'none')} here"


def queued(params: Mapping[str, Any]) -> FrozenTrial:
    """A trial of these parameters that waits for a worker."""
    return create_trial(state=TrialState.WAITING, system_attrs={FIXED_PARAMS: dict(params)})


def left_out(like: FrozenTrial | None = None) -> FrozenTrial:
    """What holds the number of a trial that does not fit, or was not trained; of one that was
    retried with the parameters of its retry."""
    return create_trial(
        state=TrialState.FAIL,
        params={} if like is None else like.params,
        distributions={} if like is None else like.distributions,
        user_attrs={REASON: Reason.WITHDRAWN},
    )
