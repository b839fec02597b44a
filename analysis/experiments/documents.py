"""Writes what was measured into README and the pages of docs, so that nobody types a number."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from analysis.experiments.equals import (
    TRIED,
    flattery_sentence,
    read_equals,
    scores_sentence,
)
from analysis.experiments.results import HERE, Outcome, Results, read_results
from analysis.stats import Estimate, mean_estimate, probability_better
from lander.dotted import read_text, read_toml
from lander.errors import ConfigError
from lander.files import replace_text
from lander.seeds import REPORT_SEED, final_seeds, seed_range
from sweeps.publish.markdown import table
from sweeps.schema import CONFIRM_TABLE
from sweeps.study.study import Study, find_study

Row = Sequence[str]
"""A line of a table."""

ELSEWHERE = "elsewhere.json"
"""The file with the results of `python -m tests.bench.elsewhere`."""
BAKEOFF = "bakeoff.json"
"""The file with the results of `python -m analysis bakeoff`."""
BENCH = "bench.md"
"""The document that `make bench` writes."""
TO_SB3 = "training at rl-zoo's settings, to Stable-Baselines3"
"""A line of its main figures."""
FIGURES = HERE.parent / "figures"
"""Pictures of a sweep and of its confirmation, and the latter's table, in a checkout."""
ITS_OWN = "its own"
SHOWN = (ITS_OWN, "shrunken", "its winner")
"""How a rule recommends in the tables: a tool as it does, a sweep as this one does, a race."""
SHIPPED = "combined"
"""The group whose first rule has the settings of the shipped studies."""
EVERY_WAY = ("Optuna, rl-zoo", "combined: all")
"""Rules whose sweeps the ways to recommend are compared on."""
BASE = "the base"
"""The point that others of its study are compared with."""
RECOMMENDED, OBSERVED = "recommended, ", "best observed, "
"""Points of `winners`: what a default sweep recommends, and what one did that only took the highest
score; a study seed follows."""
SOLVED = 200.0
"""The return at which Gymnasium calls LunarLander solved."""


DOCUMENTS = ("README.md", "docs/*.md")
"""The pages with numbers, in a checkout; a block may stand on any of them."""
KINDS = ("experiment", "bakeoff", "elsewhere", "bench", "speed", "confirm", "verdict", "luck")
MARKED = re.compile(
    rf"(<!-- ({'|'.join(KINDS)})(?:: ([a-z-]+))? -->\n).*?(?=<!-- end -->)", re.DOTALL
)


def documents() -> list[Path]:
    """The pages of the checkout that this runs in.

    Raises:
        ConfigError: this is no checkout.
    """
    paths = [path for pattern in DOCUMENTS for path in sorted(Path().glob(pattern))]
    if not paths:
        raise ConfigError("no README.md and no docs here: run it in a checkout, or name a file")
    return paths


def write_tables(path: Path) -> None:
    """Replace every block of a page, from its mark to `<!-- end -->`, by what was measured.

    Marks: `<!-- experiment: NAME -->`, `<!-- bakeoff: GROUP -->`, `<!-- bench -->` for what `make
    bench` has measured and `<!-- speed -->` for the gist of it, `<!-- confirm -->` for the
    confirmation whose pictures `make figures` has copied and `<!-- verdict -->` for its end, `<!--
    luck -->` for the A/A study; `<!-- elsewhere -->` for trainings in another framework.

    Raises:
        ConfigError: no such file, or results that are not complete.
    """
    text = read_text(path)
    replace_text(path, MARKED.sub(lambda block: block[1] + content(block[2], block[3]), text))


def content(kind: str, name: str) -> str:
    """What stands between a mark and its end."""
    if kind == "experiment":
        return table_of(name)
    if kind == "bakeoff":
        return bakeoff_table(name)
    writers = {
        "elsewhere": elsewhere_table,
        "bench": bench_tables,
        "speed": speed_sentence,
        "confirm": confirm_table,
        "verdict": verdict_table,
        "luck": luck_sentences,
    }
    return writers[kind]()


def bench_tables() -> str:
    """The benchmark's document without its title."""
    _, _, body = read_text(HERE / "results" / BENCH).partition("\n")
    return body + "\n"


def speed_sentence() -> str:
    """The main figures of the benchmark."""
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \|", bench_tables(), re.MULTILINE)
    now = dict(reversed(rows))  # the first table of a name counts: that of the main figures
    return (
        f"\nA default sweep of {now['trials']} trials takes {now['a default sweep, s']} s with two "
        f"workers, for {now['its environment steps']} environment steps. At the hyperparameters of "
        f"rl-zoo, training is {now[TO_SB3]} times as fast as Stable-Baselines3.\n\n"
    )


def confirm_table() -> str:
    """Tables, legend and verdict of the confirmation."""
    return "\n" + read_text(FIGURES / CONFIRM_TABLE) + "\n"


def luck_sentences() -> str:
    """What the A/A study came to, and how much its best trial flatters."""
    equals = read_equals()
    return f"\n{scores_sentence(equals)}\n\n{flattery_sentence(equals, TRIED)}\n\n"


def verdict_table() -> str:
    """The table of its finalists, which is the last one, and the verdict below the legend."""
    parts = read_text(FIGURES / CONFIRM_TABLE).strip().split("\n\n")
    last = max(index for index, part in enumerate(parts) if part.startswith("|"))
    return "\n" + "\n\n".join([parts[last], *parts[last + 2 :]]) + "\n\n"


def table_of(name: str) -> str:
    """The table of a study's results, and the line that says how they were made, as Markdown.

    Raises:
        ConfigError: trainings are missing.
    """
    study = find_study(name)
    results = read_results(study)
    parts = [origin(study, results)]
    if study.space.keys() == {"policy.head", "env.bins"}:
        parts = [table(grid_rows(results)), *parts, order_sentence(results)]
    elif BASE in results:
        scores = {point: means(outcomes) for point, outcomes in results.items()}
        parts = [table(versus_rows(scores)), *parts, recommended_sentence(results)]
    else:
        parts = [table(point_rows(results, references(name))), *parts]
    return "\n" + "\n\n".join(parts) + "\n\n"


def bakeoff_table(group: str) -> str:
    """The table of a group of rules in the results of the bake-off, as Markdown, by the way in
    which each recommends; of `recommend` two rules by every way; of `landscape` the line that says
    how well the worlds are known. Rules of `combined` are compared with the first of them as well.

    Raises:
        ConfigError: there are none.
    """
    path = HERE / "results" / BAKEOFF
    results = json.loads(read_text(path))
    if group == "landscape":
        return f"\n{fit_sentence(results['landscape'])}\n\n"
    if group == "recommend":
        rows = [row for row in results["rows"] if row["rule"] in EVERY_WAY]
        rows = [row for row in rows if row["recommend"] != ITS_OWN]
    else:
        rows = [row for row in results["rows"] if row["group"] == group]
        rows = [row for row in rows if row["recommend"] in SHOWN]
    if not rows:
        raise ConfigError(f"{path} has no rules of the group {group}: python -m analysis bakeoff")
    references = {"gain": results["rows"][0]} | ({"to *all*": rows[0]} if group == SHIPPED else {})
    return "\n" + table(bakeoff_rows(rows, references)) + "\n\n"


def fit_sentence(head: Mapping[str, Any]) -> str:
    """What the worlds of the bake-off are drawn from, and how well points that were left out are
    predicted."""
    every, good = head["all"], head["good"]
    errors = "{median:.1f}, {error:.1f} and {noise:.1f}"
    return (
        f"{head['points']} points under {head['seeds']} seeds. Errors by which the mean of a point "
        "is predicted that was left out, median and root mean square, and the standard error of "
        f"the mean itself: {errors.format(**every)}; of the {good['points']} that are predicted "
        f"above {SOLVED:.0f}: {errors.format(**good)}."
    )


def bakeoff_rows(
    rows: Iterable[Mapping[str, Any]], references: Mapping[str, Mapping[str, Any]]
) -> Iterable[Row]:
    """A line for each rule and way to recommend, with a column for each reference: both meet the
    same worlds, so that the gain over it is a mean of differences."""
    numbers = ("worth", "tenth", "regret", "optimism")
    yield "rule", "recommends", *numbers, *references, "sweeps"
    for row in rows:
        gains = (gain_over(reference, row) for reference in references.values())
        yield (
            row["rule"].partition(": ")[2] or row["rule"],
            row["recommend"],
            *(str(Estimate(*row[name])) for name in numbers),
            *(f"{gain:+.1f}" for gain in gains),
            str(row["sweeps"]),
        )


def gain_over(reference: Mapping[str, Any], row: Mapping[str, Any]) -> Estimate:
    """How much more a rule's recommendations are worth, world by world."""
    pairs = zip(row["worths"], reference["worths"], strict=False)  # slow rules have fewer
    return mean_estimate([float(own - other) for own, other in pairs])


def references(name: str) -> Mapping[str, Mapping[str, Any]]:
    """Numbers of others for a study, by point and column."""
    tables: dict[str, Any] = read_toml(read_text(HERE / "reference.toml"))
    return dict(tables.get(name, {}))


def point_rows(results: Results, reference: Mapping[str, Mapping[str, Any]]) -> Iterable[Row]:
    """One line per point, beside the numbers of others."""
    others = list(dict.fromkeys(name for row in reference.values() for name in row))
    yield "", "return", "worst seed", "seeds at 200", "episodes at 200", "steps", *others
    for point, outcomes in results.items():
        scores = means(outcomes)
        returns = [value for outcome in outcomes for value in outcome.returns]
        steps = max(outcome.env_steps for outcome in outcomes)
        yield (
            point,
            str(mean_estimate(scores)),
            f"{min(scores):.1f}",
            f"{sum(score >= SOLVED for score in scores)} of {len(scores)}",
            f"{float(np.mean([value >= SOLVED for value in returns])):.1%}",
            f"{steps / 1e6:.1f}M",
            *(str(reference.get(point, {}).get(name, "")) for name in others),
        )


def elsewhere_table() -> str:
    """What configurations return in Stable-Baselines3, and how that was measured."""
    path = HERE / "results" / ELSEWHERE
    rows = json.loads(read_text(path))
    returns: dict[str, list[float]] = {}
    for row in sorted(rows, key=lambda row: (not row["base"], row["config"], row["seed"])):
        name = BASE if row["base"] else row["config"]
        returns.setdefault(name, []).append(float(np.mean(row["returns"])))
    seeds = sorted({row["seed"] for row in rows})
    machines = " and ".join(sorted({row["machine"] for row in rows}))
    resets = seed_range(REPORT_SEED, len(rows[0]["returns"]))
    made = (
        f"*In Stable-Baselines3 {rows[0]['versions']['stable-baselines3']}: mean return of "
        f"{len(resets)} deterministic flights, reset seeds {resets[0]} to {resets[-1]}, averaged "
        f"over training seeds {', '.join(map(str, seeds))}; in brackets 95 % intervals over those "
        f"seeds. One training to a core of {machines}.*"
    )
    return f"\n{table(versus_rows(returns))}\n\n{made}\n\n"


def versus_rows(scores_of: Mapping[str, Sequence[float]]) -> Iterable[Row]:
    """One line per point with the scores of its trainings, compared with the base."""
    base = scores_of[BASE]
    yield "", "return", "worst seed", "seeds at 200", "better than the base"
    for point, scores in scores_of.items():
        chance = "" if point == BASE else f"{probability_better(scores, base):.2f}"
        yield (
            point,
            str(mean_estimate(scores)),
            f"{min(scores):.1f}",
            f"{sum(score >= SOLVED for score in scores)} of {len(scores)}",
            chance,
        )


def recommended_sentence(results: Results) -> str:
    """What sweeps recommend, beside what the highest score does, and the best of all points."""
    worths = {point: float(np.mean(means(outcomes))) for point, outcomes in results.items()}
    ours, theirs = (
        {point.removeprefix(kind): worth for point, worth in worths.items() if kind in point}
        for kind in (RECOMMENDED, OBSERVED)
    )
    more = sum(ours[seed] > theirs[seed] for seed in ours)
    best = max(worths, key=worths.__getitem__)

    def middle_and_worst(of: Mapping[str, float]) -> str:
        return f"median {np.median([*of.values()]):.1f}, worst {min(of.values()):.1f}"

    return (
        f"**Worth of what {len(ours)} sweeps recommend**: {middle_and_worst(ours)}. Of the best "
        f"observed: {middle_and_worst(theirs)}; the recommended one returns more under {more} of "
        f"{len(ours)} study seeds. The best of this table: {best}, {worths[best]:.1f}."
    )


def grid_rows(results: Results) -> Iterable[Row]:
    """A column per head, a line per number of bins; a point without bins is the same in every
    line."""
    cells = {point: str(mean_estimate(means(outcomes))) for point, outcomes in results.items()}
    heads = list(dict.fromkeys(point.split(", ")[0] for point in cells))
    bins = list(dict.fromkeys(point.split(", ")[1] for point in cells if ", " in point))
    yield "bins", *heads
    for count in bins:
        yield count, *(cells.get(f"{head}, {count}", cells.get(head, "")) for head in heads)


def order_sentence(results: Results) -> str:
    """What keeping the order of bins adds, in pairs of equal bins and seed."""
    differences: dict[str, list[float]] = {}
    for point, outcomes in results.items():
        head, _, bins = point.partition(", ")
        if head == "ordinal":
            pairs = zip(means(outcomes), means(results[f"categorical, {bins}"]), strict=True)
            differences[bins] = [ordinal - categorical for ordinal, categorical in pairs]
    every = [difference for some in differences.values() for difference in some]
    by_bins = "; ".join(f"{bins} bins {mean_estimate(some)}" for bins, some in differences.items())
    return (
        f"**Does keeping the order help?** Ordinal minus categorical, {len(every)} pairs of equal "
        f"bins and seed: {mean_estimate(every)}. By itself: {by_bins}."
    )


def means(outcomes: Iterable[Outcome]) -> list[float]:
    """The mean return of each training."""
    return [outcome.return_mean for outcome in outcomes]


def origin(study: Study, results: Results) -> str:
    """How the numbers were made."""
    outcomes = [outcome for some in results.values() for outcome in some]
    seeds = dict.fromkeys(outcome.seed for outcome in outcomes)
    machines = " and ".join(sorted({outcome.machine for outcome in outcomes}))
    minutes = sum(outcome.seconds for outcome in outcomes) / 60 / len(outcomes)
    resets = final_seeds(study.base)
    return (
        f"*Mean return of {len(resets)} deterministic flights of the last policy, reset seeds "
        f"{resets[0]} to {resets[-1]}, averaged over training seeds {', '.join(map(str, seeds))}; "
        f"in brackets Student's 95 % interval over those seeds. {len(outcomes)} trainings of "
        f"{minutes:.1f} minutes on average, one to a core of {machines}. Made by* "
        f"`make experiment NAME={study.name}`."
    )
