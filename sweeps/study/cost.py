"""What trials cost: seconds, environment steps, and what their workers measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from sweeps.endings import seconds
from sweeps.schema import COST, COST_CPU, COST_JOULES, COST_MEMORY, COST_STEPS, RETURNS
from sweeps.study.study import Study


@dataclass(frozen=True, slots=True)
class Cost:
    """Of a trial, or of several together; None is unknown."""

    seconds: float | None = None
    """From start to end, and what other workers saved: as long as it takes without help."""
    env_steps: int = 0
    """Environment steps of all of its trainings."""
    cpu_seconds: float | None = None
    peak_memory: float | None = None
    """Megabytes: the most that its worker had ever used when it ended."""
    joules: float | None = None
    """Of all processors of the machine, whatever else ran on it."""


def cost_of(trial: FrozenTrial, study: Study) -> Cost:
    """The cost of a trial; of one that an earlier version trained what its reports say."""
    measured: Mapping[str, Any] = trial.user_attrs.get(COST, {})
    return Cost(
        seconds=seconds(trial),
        env_steps=int(measured.get(COST_STEPS, reported_steps(trial, study))),
        cpu_seconds=measured.get(COST_CPU),
        peak_memory=measured.get(COST_MEMORY),
        joules=measured.get(COST_JOULES),
    )


def reported_steps(trial: FrozenTrial, study: Study) -> int:
    """Environment steps of a trial up to its last report."""
    whole = planned_steps(trial, study)
    if trial.state == TrialState.COMPLETE:
        return whole
    return round(whole * max(trial.intermediate_values, default=0) / study.reports)


def planned_steps(trial: FrozenTrial, study: Study) -> int:
    """Environment steps of a trial if it runs to its end."""
    steps: int = study.base.total_steps
    searched = study.space.get("total_steps")
    if searched is not None and searched.parameter in trial.params:
        steps = searched.to_field(trial.params[searched.parameter])
    return steps * study.settings.seeds_per_trial


def steps_in_words(study: Study) -> str:
    """The environment steps of a training: a span where they are searched, or points differ in
    them."""
    searched = study.space.get("total_steps")
    ends = [study.base.total_steps] if searched is None else searched.ends()
    span = dict.fromkeys(f"{steps:,}" for steps in (min(ends), max(ends)))
    return f"{' to '.join(span)} environment steps"


def total_cost(trials: Iterable[FrozenTrial], study: Study) -> Cost:
    """What trials cost together: sums, and the largest of their memories. A sum of which no part is
    known is None."""
    costs = [cost_of(trial, study) for trial in trials if trial.state.is_finished()]
    known = {
        name: [value for cost in costs if (value := getattr(cost, name)) is not None]
        for name in ("seconds", "cpu_seconds", "peak_memory")
    }
    return Cost(
        seconds=sum(known["seconds"]) if known["seconds"] else None,
        env_steps=sum(cost.env_steps for cost in costs),
        cpu_seconds=sum(known["cpu_seconds"]) if known["cpu_seconds"] else None,
        peak_memory=max(known["peak_memory"], default=None),
    )


def trainings(trials: Iterable[FrozenTrial]) -> int:
    """How many trainings have ended in trials, one that was cut short among them."""
    return sum(
        len(trial.user_attrs.get(RETURNS, [])) + (trial.state != TrialState.COMPLETE)
        for trial in trials
        if trial.state.is_finished()
    )
