"""Writes the outcomes of experiments into a document, so that nobody types a number."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from analysis.experiments.experiment import (
    HERE,
    UNSEEN,
    Experiment,
    Outcome,
    names,
    read_experiment,
    read_outcomes,
)
from analysis.markdown import table
from analysis.stats import mean_estimate
from lander.dotted import read_text
from lander.errors import ConfigError
from lander.files import replace_text
from sweeps.schema import CONFIRM_TABLE

SOLVED = 200.0
"""The return at which Gymnasium calls LunarLander solved."""


def write_tables(path: Path) -> None:
    """Replace what stands between `<!-- experiment: NAME -->` and `<!-- end -->` by its table, and
    after `<!-- bench -->` by what `make bench` has measured, after `<!-- confirm -->` by the table
    of the confirmation whose pictures `make figures` has copied.

    Raises:
        ConfigError: no such file, or an experiment that is not complete.
    """
    text = read_text(path)
    for name in names():
        text = replaced(text, f"<!-- experiment: {name} -->\n", partial(table_of, name))
    text = replaced(text, "<!-- bench -->\n", bench_tables)
    text = replaced(text, "<!-- confirm -->\n", confirm_table)
    replace_text(path, text)


def replaced(text: str, mark: str, write: Callable[[], str]) -> str:
    """`text` with what stands between `mark` and the next end written anew, if it has the mark."""
    before, found, rest = text.partition(mark)
    if not found:
        return text
    _, end, after = rest.partition("<!-- end -->")
    return before + mark + write() + end + after


def bench_tables() -> str:
    """The benchmark's document, a level down and without its title."""
    _, _, body = read_text(HERE / "results" / "bench.md").partition("\n")
    return body.replace("\n## ", "\n### ") + "\n"


def confirm_table() -> str:
    """Table, legend and verdict of the confirmation."""
    return "\n" + read_text(HERE.parent / "figures" / CONFIRM_TABLE) + "\n"


def table_of(name: str) -> str:
    """An experiment's table and the line that says how it was made, as Markdown.

    Raises:
        ConfigError: trainings are missing.
    """
    experiment = read_experiment(name)
    outcomes = read_outcomes(experiment)
    missing = len(list(experiment.trainings())) - len(outcomes)
    if missing:
        raise ConfigError(
            f"{missing} trainings of {name} are missing: run python -m analysis run {name}"
        )
    by_variant = {
        variant: [outcomes[variant, seed] for seed in experiment.seeds]
        for variant in experiment.variants
    }
    parts = [origin(experiment, list(outcomes.values()))]
    if experiment.grid:
        parts = [table(grid_rows(by_variant)), *parts, order_sentence(by_variant)]
    else:
        parts = [table(variant_rows(experiment, by_variant)), *parts]
    return "\n" + "\n\n".join(parts) + "\n\n"


def variant_rows(
    experiment: Experiment, by_variant: dict[str, list[Outcome]]
) -> Iterable[Sequence[str]]:
    """One line per variant, beside the numbers of others."""
    others = list(dict.fromkeys(name for row in experiment.reference.values() for name in row))
    yield "", "return", "worst seed", "seeds at 200", "episodes at 200", "steps", *others
    for variant, outcomes in by_variant.items():
        scores = means(outcomes)
        flown = [score for outcome in outcomes for score in outcome.returns]
        reference = experiment.reference.get(variant, {})
        steps = max(outcome.env_steps for outcome in outcomes)
        yield (
            variant,
            str(mean_estimate(scores)),
            f"{min(scores):.1f}",
            f"{sum(score >= SOLVED for score in scores)} of {len(scores)}",
            f"{float(np.mean([score >= SOLVED for score in flown])):.1%}",
            f"{steps / 1e6:.1f}M",
            *(str(reference.get(name, "")) for name in others),
        )


def grid_rows(by_variant: dict[str, list[Outcome]]) -> Iterable[Sequence[str]]:
    """Heads across, bins down; a variant without bins is the same in every line."""
    cells = {variant: str(mean_estimate(means(found))) for variant, found in by_variant.items()}
    heads = list(dict.fromkeys(variant.split(", ")[0] for variant in cells))
    bins = list(dict.fromkeys(variant.split(", ")[1] for variant in cells if ", " in variant))
    yield "bins", *heads
    for count in bins:
        yield count, *(cells.get(f"{head}, {count}", cells.get(head, "")) for head in heads)


def order_sentence(by_variant: dict[str, list[Outcome]]) -> str:
    """What keeping the order of bins adds, in pairs of equal bins and seed."""
    differences: dict[str, list[float]] = {}
    for variant, outcomes in by_variant.items():
        head, _, bins = variant.partition(", ")
        if head == "ordinal":
            pairs = zip(means(outcomes), means(by_variant[f"categorical, {bins}"]), strict=True)
            differences[bins] = [ordinal - categorical for ordinal, categorical in pairs]
    every = [difference for found in differences.values() for difference in found]
    by_bins = "; ".join(
        f"{bins} bins {mean_estimate(found)}" for bins, found in differences.items()
    )
    return (
        f"**Does keeping the order help?** Ordinal minus categorical, {len(every)} pairs of equal "
        f"bins and seed: {mean_estimate(every)}. By itself: {by_bins}."
    )


def means(outcomes: Iterable[Outcome]) -> list[float]:
    """The mean return of each training."""
    return [outcome.return_mean for outcome in outcomes]


def origin(experiment: Experiment, outcomes: Sequence[Outcome]) -> str:
    """How the numbers came about."""
    machines = " and ".join(sorted({outcome.machine for outcome in outcomes}))
    minutes = sum(outcome.seconds for outcome in outcomes) / 60 / len(outcomes)
    return (
        f"*Mean return of {len(UNSEEN)} deterministic flights of the last policy, reset seeds "
        f"{UNSEEN[0]} to {UNSEEN[-1]}, averaged over training seeds "
        f"{', '.join(map(str, experiment.seeds))}; in brackets Student's 95 % interval over those "
        f"seeds. {len(outcomes)} trainings of {minutes:.1f} minutes on average, one to a core of "
        f"{machines}. Made by* "
        f"`python -m analysis run {experiment.name}`."
    )
