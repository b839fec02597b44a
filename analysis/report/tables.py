"""The tables of a report: space, budget, seeds, trials, failures and origin."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import accumulate

from optuna.trial import FrozenTrial

from analysis.confirm.words import legend, tables, verdict
from analysis.report.document import Block
from analysis.report.figures import confirmation_picture
from analysis.report.records import Records
from analysis.report.result import brief, next_step, searched, state, values_in
from lander.options import human, inactive
from lander.seeds import CHOICE_SEED, TEST_SEED, checkpoint_seeds, final_seeds, seed_range
from sweeps.endings import SUPERSEDING, covered, ended, ending, seconds, started
from sweeps.publish.markdown import cell, code, line, plain_table
from sweeps.publish.markdown import table as markdown_table
from sweeps.record.recorder import first_to_last
from sweeps.run.cores import usable_cores
from sweeps.run.objective import trial_seeds
from sweeps.run.progress import clock
from sweeps.schema import (
    COMMAND,
    COMMIT,
    REASON,
    SECONDS,
    VERSION,
    WORKER,
    Ending,
    TimePart,
)
from sweeps.scores import last_return
from sweeps.study.audit import audit_of
from sweeps.study.cost import steps_in_words
from sweeps.study.space import flat_base
from sweeps.study.study import DEFAULTS, TEST_EPISODES

TOP = 10
"""Rows of the table of the best trials."""
LISTED = 200
"""Rows of a table that would have one per trial."""


def space_part(records: Records) -> list[Block]:
    """The searched fields with their ranges, defaults and best values."""
    study, best = records.sweep.study, records.best
    flat = flat_base(study.space, study.base)
    idle = inactive(flat)
    columns = [
        ["field", *(f"{human(name)} `{name}`" for name in study.space)],
        ["searched", *(searched(range_)[0] for range_ in study.space.values())],
        ["scale", *(searched(range_)[1] for range_ in study.space.values())],
        ["default", *(brief(None if name in idle else flat[name]) for name in study.space)],
    ]
    if best is not None:
        columns.append([f"best: trial {best.number}", *values_in(best.params, study.space)])
    if records.judgement is not None:
        confirmed = records.judgement.confirmed
        known = (DEFAULTS, best.number if best else None)
        if confirmed is not None and confirmed.number not in known:
            params = confirmed.standing.candidate.params
            columns.append([f"confirmed: {confirmed.name}", *values_in(params, study.space)])
    note = (
        f"Sampler `{study.settings.sampler}`, pruner `{study.settings.pruner}`. Trial 0 is the "
        "defaults. Fields that are not listed keep their value from the study file."
    )
    return [plain_table(list(zip(*columns, strict=True))), line(note)]


def budget_part(records: Records) -> list[Block]:
    """Trials, steps and time."""
    return [plain_table([("of the sweep", ""), *spent(records)]), *seconds_blocks(records)]


def spent(records: Records) -> Iterator[tuple[str, str]]:
    """The trials, steps and time that the sweep took, as rows."""
    study, seeds = records.sweep.study, records.sweep.study.settings.seeds_per_trial
    yield "trials", state(records).partition(": ")[2].rstrip(".")
    count = Counter(map(ending, records.trials.all))
    again = {how: count[how] for how in SUPERSEDING if count[how]}
    if again:
        superseded = ", ".join(f"{number} {how}" for how, number in again.items())
        yield "beside these", f"{superseded}: retried with the same seeds, and not counted"
    trainings = f"{seeds} trainings of " if seeds > 1 else ""
    yield "budget of a trial", f"{trainings}{steps_in_words(study)}"
    trained = int(records.curves.groupby(["trial", "seed"])["env_steps"].max().sum())
    yield "trained", f"{trained:,} environment steps, counted to each training's last checkpoint"
    spans = spans_of(records.trials.all)
    if spans:
        whole = (max(end for _, end in spans) - min(start for start, _ in spans)).total_seconds()
        each = sum((end - start).total_seconds() for start, end in spans)
        yield "wall time", f"{clock(whole)} from the first trial's start to the last one's end"
        yield "with a trial running", clock(covered(spans))
        yield "time of all trials", f"{clock(each)}, added up"
    audit = audit_of(records.trials.all, reports=study.reports)
    if audit.pruned or audit.audited:
        yield "pruner", str(audit)


def spans_of(trials: Sequence[FrozenTrial]) -> list[tuple[datetime, datetime]]:
    """Start and end of each trial that has both."""
    both = [(started(trial), ended(trial)) for trial in trials]
    return [(start, end) for start, end in both if start is not None and end is not None]


def at_once(spans: Sequence[tuple[datetime, datetime]]) -> int:
    """The largest number of spans that overlap."""
    ends = [(end, -1) for _, end in spans]  # at the same moment an end sorts before a start
    steps = accumulate(step for _, step in sorted([*((start, 1) for start, _ in spans), *ends]))
    return max(steps, default=0)


def seconds_blocks(records: Records) -> list[Block]:
    """How the time of trials divides, from the tags of their runs."""
    timed = [
        run.data.tags
        for run in records.runs
        if all(f"{SECONDS}.{part}" in run.data.tags for part in TimePart)
    ]
    whole = sum(float(tags[SECONDS]) for tags in timed)
    if not whole:
        return ["How the time divides is not recorded."]
    parts = {part: sum(float(tags[f"{SECONDS}.{part}"]) for tags in timed) for part in TimePart}
    every = {"training": whole - sum(parts.values())} | parts
    table = [["part of trials", "seconds", "share"]]
    table += [[part, f"{took:.1f}", f"{took / whole:.1%}"] for part, took in every.items()]
    newest = [f"Of the newest {len(records.runs):,} trials."] if records.some_runs else []
    return [plain_table(table), *newest]


def seeds_part(records: Records) -> list[Block]:
    """The seeds and their purposes."""
    study, best = records.sweep.study, records.best
    table = [
        ["for", "seeds"],
        [
            "training of trial n",
            f"derived from the study's seed {study.settings.seed} and n, below 2^31 "
            "(NumPy's `SeedSequence`)",
        ],
    ]
    if best is not None:
        seeds = ", ".join(map(str, trial_seeds(best, study)))
        table.append([f"training of the best, trial {best.number}", seeds])
    table += [
        ["checkpoints, which prune: resets", first_to_last(checkpoint_seeds(study.base))],
        ["the score of a trial: resets", first_to_last(final_seeds(study.base))],
        ["trainings of a confirmation", "from 2^31 up: no trial of a sweep trains under them"],
        [
            "its episodes under choice seeds: resets",
            first_to_last(seed_range(CHOICE_SEED, TEST_EPISODES)),
        ],
        [
            "its episodes under report seeds: resets",
            first_to_last(seed_range(TEST_SEED, TEST_EPISODES)),
        ],
    ]
    return [plain_table(table), "Nothing is ever chosen by report seeds and their episodes."]


def confirmation_part(records: Records) -> list[Block]:
    """The table as `make confirm` prints it."""
    if records.judgement is None:
        why = f"{records.unconfirmed}. To see what the best trials are worth on fresh seeds:"
        return [line(why), code(next_step(records, "confirm"))]
    judgement = records.judgement
    blocks: list[Block] = [
        line(verdict(judgement)),
        *map(plain_table, tables(judgement)),
        line(legend()),
        confirmation_picture(records, judgement),
    ]
    if judgement.waiting:
        blocks.append(line(f"{judgement.waiting} trainings are missing; to resume:"))
        blocks.append(code(next_step(records, "confirm")))
    return blocks


def best_part(records: Records) -> list[Block]:
    """The best trials with their scores, what to expect of them, and their parameters."""
    space = records.sweep.study.space
    if not records.ranked:
        return ["No trial has finished."]
    head = ["trial", "score", "expected", *map(heading, space), "time"]
    table = [list(map(cell, head))]
    for trial, likely in records.ranked[:TOP]:
        value = f"{trial.values[0]:.1f}"
        if records.sweep.study.settings.seeds_per_trial > 1:
            value = str(records.estimate(trial))
        rest = [value, str(likely), *values_in(trial.params, space), took(trial)]
        table.append([linked(records, trial), *map(cell, rest)])
    caption = "Expected: the likely mean under fresh training seeds, and its standard error."
    return [markdown_table(table), line(caption)]


def linked(records: Records, trial: FrozenTrial) -> str:
    """A trial's number as Markdown, leading to its run."""
    link = records.run_link(trial)
    return str(trial.number) if link is None else f"[{trial.number}]({link})"


def took(trial: FrozenTrial) -> str:
    """A trial's time from start to end."""
    spent = seconds(trial)
    return "" if spent is None else clock(spent)


def failures_part(records: Records) -> list[Block]:
    """The failed trials with their errors, and those that took too long."""
    failed = [
        trial for trial in records.counted if ending(trial) in (Ending.FAILED, Ending.EXPIRED)
    ]
    if not failed:
        return ["None."]
    table = [["trial", "reason"]]
    table += [
        [str(t.number), str(t.user_attrs.get(REASON, "not recorded"))] for t in failed[:LISTED]
    ]
    return [plain_table(table), *rest(records, len(failed))]


def trials_part(records: Records) -> list[Block]:
    """The trials that have begun."""
    study = records.sweep.study
    begun = [trial for trial in records.counted if trial.datetime_start is not None]
    if not begun:
        return ["No trial has begun."]
    head = ["trial", "state", "score", "of the budget", *map(heading, study.space), "time"]
    table = [list(map(cell, head))]
    for trial in begun[:LISTED]:
        table.append(
            [
                linked(records, trial),
                ending(trial),
                shown_return(trial),
                f"{max(trial.intermediate_values, default=0) / study.reports:.0%}",
                *map(cell, values_in(trial.params, study.space)),
                took(trial),
            ]
        )
    caption = (
        "In brackets: a trial that ended early has no score, this is the return at its last "
        "checkpoint. A "
        "trial's number leads to its run in MLflow, while that is served."
    )
    return [markdown_table(table), line(caption), *rest(records, len(begun))]


def shown_return(trial: FrozenTrial) -> str:
    """A trial's score; in brackets the last return of a pruned one, which is no score."""
    value = last_return(trial)
    if value is None:
        return ""
    return f"{value:.1f}" if ending(trial) == Ending.FINISHED else f"({value:.1f})"


def heading(field: str) -> str:
    """The head of a field's column."""
    return f"{human(field)} `{field}`"


def rest(records: Records, count: int) -> list[Block]:
    """Where to see the rows that a table leaves out."""
    if count <= LISTED:
        return []
    command = next_step(records, "trials")
    return [line(f"The first {LISTED} of {count}; all of them: `{command}`.")]


def origin_part(records: Records) -> list[Block]:
    """Versions, machine, commit and commands."""
    runs = [records.parent, *records.runs]
    names = sorted({tag for run in runs for tag in run.data.tags if tag.startswith(VERSION)})
    values = {name: ", ".join(records.values_of(name)) for name in (COMMIT, *names)}
    workers = {str(t.user_attrs[WORKER]) for t in records.trials.all if WORKER in t.user_attrs}
    hosts = {worker.partition(":")[0] for worker in workers}
    table = [
        ["", ""],
        ["study", f"`{records.name}`, fingerprint `{records.sweep.study.fingerprint}`"],
        ["commit", values[COMMIT] or "not in a git checkout"],
        *([name.removeprefix(VERSION), values[name]] for name in names),
        [
            "workers",
            f"{at_once(spans_of(records.trials.all))} at the same time, {len(workers)} processes "
            f"in all, on {len(hosts)} machine{'s' * (len(hosts) != 1)}",
        ],
        ["cores", f"{usable_cores()}, where this report was written"],
    ]
    made = [records.parent, *([records.confirmation] if records.confirmation else [])]
    commands = [run.data.tags[COMMAND] for run in made if COMMAND in run.data.tags]
    commands.append(next_step(records, "report"))
    return [
        plain_table(table),
        "Made by these commands, which start the workers:",
        code("\n".join(" ".join(command.split()) for command in commands)),
    ]
