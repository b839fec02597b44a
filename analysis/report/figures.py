"""The pictures of a report, each with its caption."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from analysis.charts.curves import curves
from analysis.charts.intervals import seeds_and_mean
from analysis.confirm.figure import confirmation_figure
from analysis.confirm.judgement import Judgement
from analysis.report.contact_sheet import (
    Flight,
    Pilot,
    contact_sheet,
    fly_again,
    fly_at_random,
)
from analysis.report.document import Block, Picture, drawing
from analysis.report.records import Records
from analysis.stats import Estimate
from lander.film import as_line
from lander.metrics import EVAL_RETURN
from sweeps.charts.importance import importances
from sweeps.charts.search import (
    finished,
    history,
    importance_dots,
    parallel_coordinates,
    slices,
    thinned,
)
from sweeps.charts.style import new_axes, solved_line
from sweeps.confirm import open_confirmation
from sweeps.publish.markdown import line
from sweeps.schema import RETURNS, Chart
from sweeps.scores import are_returns, with_last_return

BEST = 5
"""Number of trials whose learning curves are compared with those of the other finished ones."""


def history_part(records: Records) -> list[Block]:
    """Score by trial number."""
    begun = [trial for trial in records.counted if trial.params]
    if not begun:
        return ["No trial has begun."]
    cross = ", its cross is the return at its last checkpoint" if are_returns(begun) else ""
    caption = (
        f"Each trial's score; a pruned trial has none{cross}. A trial that trains earlier "
        "parameters again has the mean of all their trainings. The line is the highest score at "
        "that time: it falls when the leader is trained again and scores less. The best is named "
        "by its expected return."
    )
    return [
        drawing(
            history(begun, env=records.sweep.study.base.env),
            Chart.HISTORY,
            alt="Score by trial number",
            caption=caption,
        )
    ]


def comparison_part(records: Records) -> list[Block]:
    """The best trial's final episodes beside those of the defaults."""
    best, base = records.best, records.base
    if best is None:
        return []
    if base is None:
        return ["The defaults have not finished a trial, so there is nothing to compare with."]
    if base.number == best.number:
        return ["The best trial has the parameters of the defaults."]
    figure, axes = new_axes(9, 2.3)
    rows = {f"best\ntrial {best.number}": best, "defaults": base}
    for y, trial in enumerate(reversed(rows.values())):
        trainings = [
            each for one in records.same(trial) for each in one.user_attrs.get(RETURNS, [])
        ]
        episodes = [value for returns in trainings for value in returns]
        label = "one episode" if y == 0 else None
        seeds_and_mean(axes, episodes, records.summary(trial), y, seed_label=label)
    axes.set_yticks(range(len(rows)), list(reversed(rows)))
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.grid(visible=False)
    axes.set_xlabel("return of a final episode")
    solved_line(axes, records.sweep.study.base.env, upright=True)
    figure.legend(loc="outside upper left", fontsize=8, ncols=2, frameon=False)
    counts = [len(records.scores(one)) for one in (best, base)]
    each = "one training each, so the difference may be luck"
    if max(counts) > 1:
        each = "trainings: {} and {}".format(*counts)
    caption = (
        f"The final episodes of the parameters of trial {best.number} and of the defaults: {each}. "
        "Dot: their mean; bar: its 95 % interval over trainings, or over episodes where there is "
        "only one. What holds under fresh seeds is measured by a confirmation."
    )
    alt = f"Returns of the best trial, {best.number}, and of the defaults"
    return [drawing(figure, "comparison", alt=alt, caption=caption)]


def importance_part(records: Records) -> list[Block]:
    """How much each field matters."""
    table = importances(records.counted, records.sweep.study.space)
    if table.empty:
        return ["Importances: too few trials have ended with a return."]
    first, row = table.index[0], table.iloc[0]
    weight = Estimate(row["share"], row["low"], row["high"])
    so_far = ", pruned ones with their return so far" if are_returns(records.counted) else ""
    caption = (
        f"`{first}` comes first, with a share of {weight:.2f}. The importance says how far a "
        "field's values in the best quarter of trials lie from its values in all (PED-ANOVA); it "
        f"rests on {len(with_last_return(records.counted))} trials{so_far}. Interval: 95 % of "
        "resamples of these trials."
    )
    return [
        drawing(
            importance_dots(table),
            Chart.IMPORTANCES,
            alt="Importance of each field",
            caption=caption,
        )
    ]


def slices_part(records: Records) -> list[Block]:
    """Score over each field."""
    if len(finished(records.counted)) < 2:
        return ["Score over each field: fewer than two trials have finished."]
    study = records.sweep.study
    figure = slices(records.counted, list(study.space.values()), env=study.base.env)
    caption = (
        "Score over each field by itself, across the range that was searched; under a choice the "
        "number of trials that had it."
    )
    if are_returns(records.counted):
        caption += " Grey crosses: pruned trials, at their last checkpoint."
    return [drawing(figure, Chart.SLICES, alt="Score over each searched field", caption=caption)]


def parallel_part(records: Records) -> list[Block]:
    """Parallel coordinates: one line per trial."""
    count = len(finished(records.counted))
    if count < 2:
        return []
    ranges = list(records.sweep.study.space.values())
    figure = parallel_coordinates(records.counted, ranges)
    caption = "One line per finished trial across all fields; dark lines are good trials."
    if thinned(count):
        caption = (
            f"Lines are finished trials across all fields; dark ones are good. {thinned(count)}."
        )
    alt = "Parallel coordinates of the finished trials"
    return [drawing(figure, Chart.PARALLEL_COORDINATES, alt=alt, caption=caption)]


def curves_part(records: Records) -> list[Block]:
    """Learning curves of the best trials and of the others."""
    many = min(BEST, (len(records.ranked) + 1) // 2)
    best = [one.trial.number for one in records.ranked[:many]]
    others = [trial.number for trial in finished(records.counted) if trial.number not in best]
    if not best:
        return ["No trial has finished."]
    points = records.curves
    tables = {
        f"{name} ({len(numbers)} trial{'s' if len(numbers) > 1 else ''})": points[
            points["trial"].isin(numbers)
        ]
        for name, numbers in (("the best", best), ("other finished trials", others))
        if numbers
    }
    figure, axes = new_axes(9, 4.2)
    curves(tables, axes, label=f"mean return at the checkpoint\n{EVAL_RETURN}")
    solved_line(axes, records.sweep.study.base.env)
    caption = (
        f"Mean return of the checkpoints' deterministic episodes, `{EVAL_RETURN}`; between two "
        "checkpoints nothing is known. Line: mean over trainings; band: its 95 % interval "
        "(Student's). The best: "
        f"{', '.join(map(str, best))}, selected by their final return, so a gap at the end is "
        "expected. Pruned trials are left out."
    )
    alt = "Learning curves of the best trials and of the others"
    return [drawing(figure, "curves", alt=alt, caption=caption)]


def confirmation_picture(records: Records, judgement: Judgement) -> Picture:
    """Each candidate under each seed of its race, and the finalists under report seeds."""
    figure = confirmation_figure(judgement, env=records.sweep.study.base.env)
    caption = (
        "The finalists' trainings under report seeds, then each candidate's under choice seeds, "
        "beside what the sweep expected of it."
    )
    alt = "Return of each training of the confirmation"
    return drawing(figure, "confirmation", alt=alt, caption=caption)


def flights_part(records: Records) -> list[Block]:
    """The contact sheet, and which policies could not be flown."""
    if not records.ranked:
        return ["No trial has finished: there is no policy to fly yet."]
    flights, troubles, env = list[Flight](), list[str](), records.sweep.study.base.env
    for pilot in pilots(records):
        try:
            flights.append(fly_again(pilot))
        except Exception as error:  # weights can be missing or damaged in many ways
            number = "" if pilot.shown_trial is None else f", trial {pilot.shown_trial}"
            troubles.append(f"{pilot.role}{number}, could not be flown: {error}")
    if not flights:
        return [line(trouble) for trouble in troubles]
    flights = [fly_at_random(env, seed=flights[0].seed), *flights]
    try:
        sheet = contact_sheet(env, flights)
    except Exception as error:  # an environment's rendering may raise anything
        troubles.append(f"The flights cannot be drawn: {as_line(error)}")
        return [line(text) for text in (checked(flights), *troubles) if text]
    speed = "in real time" if sheet.speed == 1 else f"{sheet.speed} times faster than real time"
    caption = (
        f"One episode, reset seed {flights[0].seed}, on one clock, {speed}; a flight that has "
        "ended stays on its last frame. Policies act deterministically. "
    )
    still = Picture("flights", "png", sheet.still, "", "")
    alt = "The same episode flown by " + ", ".join(flight.role for flight in flights)
    picture = Picture(
        "flights", "gif", sheet.gif, alt, caption + checked(flights), still, mp4=sheet.mp4
    )
    return [picture, *(line(trouble) for trouble in troubles)]


def pilots(records: Records) -> Iterator[Pilot]:
    """Whose policies are shown: that of the defaults, from their median training; the best policy,
    or before one is published that of the best trial. One policy is shown once.

    Once a winner is confirmed: the median trainings of the defaults and of the winner under report
    seeds, so that neither is a lucky one.
    """
    sweep, policy, base = records.sweep, records.policy, records.base
    judgement = records.judgement
    if judgement is not None and judgement.final and judgement.confirmed is judgement.final.rival:
        confirmation, final = open_confirmation(sweep.store, records.name), judgement.final
        trials = confirmation.read_trials().all
        yield Pilot("defaults", confirmation, trials[final.base.median.trial])
        role = f"confirmed: {final.rival.name}"
        yield Pilot(role, confirmation, trials[final.rival.median.trial])
        return
    best, role = records.best, "best"
    training: int | None = None
    if policy is not None and policy.study == records.name:
        best, training = records.trials.all[policy.trial], policy.training
        role = "best policy"
    if best is None:
        return
    if base is not None and base.number != best.number:
        yield Pilot("defaults", sweep, records.median_of_same(base))
    yield Pilot(f"{role}, the defaults" if best == base else role, sweep, best, training)


def checked(flights: Sequence[Flight]) -> str:
    """Whether the policies still return what is recorded, in words."""
    same = [flight.role for flight in flights if flight.is_recorded]
    other = [flight.role for flight in flights if flight.is_recorded is False]
    sentences = []
    if same:
        sentences.append(
            f"Flown anew from the recorded weights, all final episodes of {', '.join(same)} "
            "returned what is recorded, to the last bit."
        )
    if other:
        sentences.append(f"Not as recorded, to the last bit: {', '.join(other)}.")
    return " ".join(sentences)
