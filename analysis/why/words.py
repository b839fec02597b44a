"""Why the winner wins, in words and tables: for the terminal, the page and the notebook."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import pandas as pd
from optuna.trial import FrozenTrial

from analysis.stats import Estimate
from analysis.why.box import CHANCE, box_of
from analysis.why.model import FEWEST, Model
from analysis.why.path import Path
from lander.options import human
from lander.terminal import counted
from sweeps.charts.importance import BEST_SHARE, importances, score_of
from sweeps.scores import CONFIDENCE, with_last_return
from sweeps.study.space import Space, brief
from sweeps.study.timing import Timing

SHOWN = 3
"""How many fields or pairs a sentence names."""
WEAK = 0.1
"""A model that explains less of left-out trials is not to be believed."""


def path_table(path: Path) -> list[list[str]]:
    """The steps of a path, one per row."""
    head = ["step", "base", "winner", "return", "gains", "costs the winner, if taken back"]
    start = ["the base", "", "", shown(path.base), "", ""]
    rows = [
        [
            " and ".join(f"{human(field)} `{field}`" for field in step.fields),
            ", ".join(brief(step.before[field]) for field in step.fields),
            ", ".join(brief(step.after[field]) for field in step.fields),
            shown(step.mean),
            shown(step.gained),
            shown(step.lost),
        ]
        for step in path.steps
    ]
    return [head, start, *rows]


def shown(estimate: Estimate | None) -> str:
    """A number with its interval, or nothing."""
    return "" if estimate is None else f"{estimate:.1f}"


def path_legend(path: Path) -> str:
    """What the table of a path says."""
    return (
        f"From the base to trial {path.winner}: each row has the fields of those above it as well. "
        f"{path.seeds} trainings of each configuration, under the same seeds, which chose nothing: "
        "a model of the sweep's trials, or of few the study file, ordered the steps. Gains are "
        "means over seeds, with Student's interval. "
        "Taken back: the same steps from the winner to the base, the first one first; a field that "
        "matters in one column only acts together with others. The intervals are of each step by "
        "itself."
    )


def path_sentence(path: Path) -> str:
    """What the whole path gains, and the steps, in either direction, whose intervals leave out 0;
    with how many of all intervals would do so by chance."""
    if path.total is None:
        return f"Left of the path: {counted(path.left, 'training')}."
    ways = (("on the way there", "gained"), ("on the way back", "lost"))
    changes = [
        (getattr(step, change), step.fields, way)
        for way, change in (ways if len(path.steps) > 1 else ways[:1])  # one step: the same twice
        for step in path.steps
    ]
    known = [one for one in changes if one[0] is not None and math.isfinite(one[0].low)]
    sure = [
        f"{' and '.join(f'`{field}`' for field in fields)} {way} ({change.value:+.1f})"
        for change, fields, way in known
        if change.low > 0 or change.high < 0
    ]
    by_chance = f"{(1 - CONFIDENCE) * len(known):.1f} of {counted(len(known), 'interval')}"
    return (
        f"From the base to trial {path.winner} the return changes by {path.total:+.1f} (95 %). "
        "Steps where the winner's values are better (+) or worse (-) beyond their intervals, as "
        f"about {by_chance} would be by chance: {', '.join(sure) or 'none'}."
    )


def near_winner(trials: Sequence[FrozenTrial], space: Space) -> tuple[pd.DataFrame, int]:
    """The importances among the best quarter of the trials, or the best `FEWEST` if that is more,
    and how many these are."""
    known = [trial for trial in with_last_return(trials) if math.isfinite(score_of(trial))]
    known.sort(key=score_of, reverse=True)
    best = known[: max(FEWEST, math.ceil(BEST_SHARE * len(known)))]
    return importances(best, space), len(best)


def importance_table(
    trials: Sequence[FrozenTrial], space: Space, times: Timing | None
) -> list[list[str]]:
    """Each field's importance for the return, near the winner, and for the seconds."""
    over_all = importances(trials, space)
    near, count = near_winner(trials, space)
    factors: Mapping[str, float] = {} if times is None else times.importances()
    head = ["field", "importance", f"among the best {count}", "seconds across its range"]
    return [
        head,
        *(
            [
                f"{human(name)} `{name}`",
                share_of(over_all, name),
                share_of(near, name),
                f"times {factors[name]:.2f}" if name in factors else "",
            ]
            for name in (over_all.index if len(over_all) else space)
        ),
    ]


def share_of(table: pd.DataFrame, name: str) -> str:
    """The importance of a field with its interval."""
    if name not in table.index:
        return ""
    row = table.loc[name]
    return f"{Estimate(row['share'], row['low'], row['high']):.2f}"


def importance_legend(times: Timing | None) -> str:
    """What the table of importances says."""
    text = (
        "Importance: how far the values in the best quarter lie from all values (PED-ANOVA), with "
        "95 % of resamples; near the winner the same among the best trials only, which says what "
        "still matters there."
    )
    if times is None:
        return text
    return (
        f"{text} Seconds: by what factor they change across the range, by a line through their "
        f"logarithms that explains {max(0.0, times.explained):.0%} of left-out trials."
    )


def model_sentences(
    model: Model | None, *, winner: FrozenTrial, base: Mapping[str, object]
) -> Iterator[str]:
    """Which pairs act together, and the box around the winner, by the statement of the model."""
    if model is None:
        yield f"A model of the space needs {FEWEST} trials that ended with a return."
        return
    yield (
        f"A quadratic of all fields predicts {max(0.0, model.explained):.0%} of the variance of "
        "trials that were left out; all that follows is its statement, and no measurement."
    )
    if model.explained < WEAK:
        yield "That is too little to say more."
        return
    named = [
        f"`{one}` with `{other}` ({share:.0%})"
        for (one, other), share in list(model.pairs().items())[:SHOWN]
    ]
    if named:
        yield f"Of the variance over the space, pairs make only together: {', '.join(named)}."
    box = box_of(model, winner.params, base)
    if not box.sides:
        yield (
            f"Trial {winner.number} itself is not worse than the base with probability "
            f"{box.winner:.2f}, which is below {CHANCE:g}: there is no box around it."
        )
        return
    sides = [
        f"`{name}` {'anywhere' if side.is_whole else side}" for name, side in box.sides.items()
    ]
    yield (
        f"Not worse than the base with probability {CHANCE:g} or more, anywhere in this box: "
        f"{', '.join(sides)}."
    )
