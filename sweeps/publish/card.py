"""The tuning card: what "tuned" means of a configuration, in trainings, seconds, seeds, a verdict.

One Markdown text, which travels with an exported config and describes registered models.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from math import isfinite
from typing import Final

from mlflow.exceptions import MlflowException
from optuna.trial import FrozenTrial, TrialState

from sweeps.endings import SETTLED, USUAL, ending
from sweeps.errors import one_line
from sweeps.publish.markdown import line
from sweeps.schema import (
    CONFIRM_MEAN,
    CONFIRM_MEAN_HIGH,
    CONFIRM_MEAN_LOW,
    CONFIRM_OPTIMISM_GAP,
    CONFIRM_SUFFIX,
    CONFIRMATION,
    POINT,
    SEED_INDEX,
)
from sweeps.scores import expected, promise
from sweeps.study.cost import total_cost, trainings
from sweeps.study.study import FIRST_REPORT, TEST_EPISODES, candidate_name
from sweeps.sweep import Sweep, open_sweep

HEADING: Final = "### Tuning card"


def tuning_card(sweep: Sweep, trial: FrozenTrial | None = None) -> str:
    """The card of a sweep, and of one of its trials or of a trial of its confirmation, as Markdown:
    a heading and a list."""
    name = sweep.study.settings.name
    if sweep.study.confirms:
        sweep = open_sweep(sweep.store, name)
    rows = list(card_rows(sweep, trial))
    return "\n".join([f"{HEADING}: {name}", "", *(f"- **{key}**: {text}" for key, text in rows)])


def card_rows(sweep: Sweep, trial: FrozenTrial | None) -> Iterator[tuple[str, str]]:
    """Its lines: what it is about, and what they say."""
    trials, study = sweep.read_trials().all, sweep.study
    if trial is not None:
        yield "configuration", configuration(trial, trials)
    how = "named points" if study.points else f"{len(study.space)} fields searched"
    yield "environment", f"`{study.base.env.id}`, {how}"
    yield "search", f"{counted(trials)}; {spent(sweep, trials)}"
    confirmation = confirmation_of(sweep)
    tried = [] if confirmation is None else confirmation.read_trials().all
    if confirmation is None or not tried:
        yield "confirmation", "none yet"
        yield "seeds the search never saw", "0: every number is of the search, and optimistic"
        yield "optimism gap", "not known without a confirmation"
        yield "verdict", "not confirmed"
        return
    yield "confirmation", spent(confirmation, tried)
    yield "seeds the search never saw", unseen(tried)
    yield from measured(confirmation)
    yield "verdict", line(str(sweep.optuna.user_attrs.get(CONFIRMATION, "none yet")))


def configuration(trial: FrozenTrial, trials: Sequence[FrozenTrial]) -> str:
    """What the sweep says of the parameters of a trial."""
    likely = next((one for one in expected(trials) if one.trial.params == trial.params), None)
    if likely is not None:
        return promise(likely.trial.number, likely.likely)
    point = trial.user_attrs.get(POINT)
    named = candidate_name(point) if isinstance(point, int) else f"trial {trial.number}"
    return f"{named}, {ending(trial)}: it has no score in the search"


def counted(trials: Sequence[FrozenTrial]) -> str:
    """How many trials ended, and how."""
    count = Counter(map(ending, trials))
    ends = ", ".join(f"{count[how]} {how}" for how in SETTLED if count[how] or how in USUAL)
    return f"{sum(count[how] for how in SETTLED)} trials ({ends})"


def spent(sweep: Sweep, trials: Sequence[FrozenTrial]) -> str:
    """Trainings, steps and seconds of trials, those that were lost or interrupted among them."""
    cost = total_cost(trials, sweep.study)
    parts = [f"{trainings(trials)} trainings", f"{cost.env_steps:,} environment steps"]
    if cost.seconds is not None:
        parts.append(f"{cost.seconds:,.0f} seconds of trials, added up")
    if cost.cpu_seconds is not None:
        parts.append(f"{cost.cpu_seconds:,.0f} of a processor")
    return ", ".join(parts)


def confirmation_of(sweep: Sweep) -> Sweep | None:
    """The confirmation of a sweep, if it has one."""
    name = sweep.study.name + CONFIRM_SUFFIX
    return open_sweep(sweep.store, name) if name in sweep.store.study_names() else None


def unseen(trials: Sequence[FrozenTrial]) -> str:
    """Under how many seeds, by which nothing was chosen, a confirmation has trained, and under how
    many by which it chose."""
    indices = {
        int(trial.user_attrs[SEED_INDEX])
        for trial in trials
        if trial.state == TrialState.COMPLETE and SEED_INDEX in trial.user_attrs
    }
    report = sum(index >= FIRST_REPORT for index in indices)
    return (
        f"{report} report seeds, by which nothing was chosen, each training flown on "
        f"{TEST_EPISODES} unseen episodes; {len(indices) - report} choice seeds"
    )


def measured(confirmation: Sweep) -> Iterator[tuple[str, str]]:
    """What the confirmation measured of its finalist, as its run has it."""
    try:
        numbers = confirmation.store.runs().get_run(confirmation.run_id).data.metrics
    except (MlflowException, OSError) as error:
        yield "optimism gap", f"not to be read: {one_line(error)}"
        return
    names = (CONFIRM_MEAN, CONFIRM_MEAN_LOW, CONFIRM_MEAN_HIGH)
    if all(isfinite(numbers.get(name, float("nan"))) for name in names):
        mean, low, high = (numbers[name] for name in names)
        yield "return under report seeds", f"{mean:.1f} [{low:.1f}, {high:.1f}]"
    gap = numbers.get(CONFIRM_OPTIMISM_GAP)
    if gap is None:
        yield "optimism gap", "not known: the sweep has promised nothing of the finalist"
    else:
        yield "optimism gap", f"{gap:+.1f}: what the sweep promised minus that return"
