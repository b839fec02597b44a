"""Tables of training: its speed, its parts, and the time until it lands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from math import inf
from statistics import median
from typing import Final

from sweeps.publish.markdown import table
from tests.bench.cells import (
    COMPARED,
    MICRO,
    Measure,
    Part,
    Row,
    Sample,
    beside,
    grouped,
    middle,
    ratio,
    rounds,
)

NAMES: Final = {
    "sb3": "Stable-Baselines3",
    "gymnasium": "lander",
    "envpool": "lander, EnvPool",
    "env-stock": "*environments alone, stock Gymnasium*",
    "env-gymnasium": "*environments alone, lander*",
    "env-envpool": "*environments alone, EnvPool*",
}
EARLY: Final = 500_000
"""A good setting lands within so many steps."""


def speed(part: Part) -> list[str]:
    """Steps per second of training and of stepping, and what training takes besides stepping."""
    settings = [f"- {name}: {words}" for name, words in part["settings"].items()]
    head = ("setting", "", "steps/s", *COMPARED[1:], "range", "to SB3", "of environments")
    return [
        "## Training speed",
        table([head, *speeds(part)]),
        "*Environment steps per second of whole updates (collect and learn, no evaluation) after "
        "a warm-up, each measured in a process of its own on one core; median of "
        f"{rounds(part['samples'])} in which all take turns, in brackets the slowest and the "
        "fastest. To SB3: in units of Stable-Baselines3 at that setting. Of environments: in units "
        "of the rate at which as many stock Gymnasium environments step on one core with random "
        "actions and nothing else. Settings:*",
        "\n".join(settings),
        table([("of a training", "setting", *COMPARED), *shares(part)]),
        f"*The first two are of the same updates of lander, the others of a whole training of "
        f"{part['trials'][0]['steps']:,} steps, as a trial of the default study makes it: its "
        "evaluations at checkpoints and at the end.*",
    ]


def steps_per_second(sample: Sample) -> float:
    """Of training, or of environments."""
    return float(sample["steps"] / sample["seconds"])


def rate(part: Part, setting: str, contender: str, side: str) -> float:
    """Steps per second, the median of all rounds.

    Raises:
        KeyError: not measured.
    """
    samples = grouped(part["samples"], "setting", "contender", "side")
    return middle(samples[setting, contender, side], steps_per_second)


def stock(part: Part, setting: str) -> float:
    """Steps per second of stock environments alone."""
    return rate(part, setting, "env-stock", "now")


def speeds(part: Part) -> Iterator[Row]:
    """One line per setting and contender."""
    measured = grouped(part["samples"], "setting", "contender")
    for setting, contender in measured:
        steps = partial(rate, part, setting)
        values = [
            steps_per_second(sample)
            for sample in measured[setting, contender]
            if sample["side"] == "now"
        ]
        trains_beside_sb3 = not contender.startswith("env-") and (setting, "sb3") in measured
        yield (
            setting,
            NAMES[contender],
            *beside(partial(steps, contender), ",.0f"),
            f"[{min(values):,.0f}, {max(values):,.0f}]",
            ratio(median(values), steps("sb3", "now")) if trains_beside_sb3 else "",
            "" if contender == "env-stock" else ratio(median(values), steps("env-stock", "now")),
        )


def stepping(sample: Sample) -> float:
    """Microseconds per step inside the environments."""
    return MICRO * float(sample["env_seconds"] / sample["steps"])


def besides_stepping(sample: Sample) -> float:
    """Microseconds per step of all else."""
    return MICRO * float((sample["seconds"] - sample["env_seconds"]) / sample["steps"])


def update_time(part: Part, of: Measure, setting: str, side: str) -> float:
    """The median of a time of whole updates.

    Raises:
        KeyError: not measured.
    """
    samples = grouped(part["samples"], "setting", "contender", "side")
    return middle(samples[setting, "gymnasium", side], of)


def evaluation_share(part: Part, side: str) -> float:
    """Evaluation's share of a whole training.

    Raises:
        KeyError: not measured.
    """
    samples = grouped(part["trials"], "side")[side,]
    return middle(samples, lambda sample: sample["evaluation_seconds"] / sample["seconds"])


def shares(part: Part) -> Iterator[Row]:
    """Where the time of training goes."""
    times = {
        "update and collecting without environments, µs per step": besides_stepping,
        "environments, µs per step": stepping,
    }
    for what, of in times.items():
        for setting in part["settings"]:
            yield what, setting, *beside(partial(update_time, part, of, setting), ".1f")
    trials = grouped(part["trials"], "side")
    seconds = beside(lambda side: middle(trials[side,], lambda trial: trial["seconds"]), ".1f")
    yield "a whole training, s", "study", *seconds
    share = beside(partial(evaluation_share, part), ".1%")
    yield "evaluation's share of it", "study", *share


def solve(part: Part) -> list[str]:
    """Time and steps to the first landing."""
    seeds = max(sample["seed"] for sample in part["samples"])
    theirs = len(grouped(part["samples"], "contender")["sb3",])
    head = (
        *("", "seconds", "each seed", "to SB3", "steps", "each seed", "to SB3"),
        *("within 500k", "seconds with evaluation"),
    )
    return [
        "## Time to solve",
        table([head, *solves(part)]),
        f"*LunarLander-v3, training seeds 1 to {seeds}, of Stable-Baselines3 1 to {theirs}, one "
        "core: until 20 deterministic episodes (reset seeds from 5,000,000) return 200 on average. "
        "Evaluated after each update, at least 4,096 steps apart, in the same way on all sides; "
        "the time of it is counted on none, except in the last column, and neither is that of "
        "starting Python. Medians; a seed that does not get there (inf) counts as slower than all "
        "others: Stable-Baselines3 gives up at 1M steps, lander at the end of its own budget. To "
        "SB3: Stable-Baselines3's median over that of the line. "
        f"lander: its defaults ({part['settings']['ours']}). Stable-Baselines3: rl-zoo's "
        f"hyperparameters ({part['settings']['sb3']}).*",
    ]


def solves(part: Part) -> Iterator[Row]:
    """One line per contender and version."""
    by_contender = grouped(part["samples"], "contender", "side")
    for (contender, side), samples in by_contender.items():
        early = [sample["solved"] and sample["env_steps"] <= EARLY for sample in samples]
        cells = []
        for key, form in (("seconds", ",.1f"), ("env_steps", ",.0f")):
            values = until_solved(samples, key)
            cells += [f"{median(values):{form}}"]
            cells += ["; ".join(f"{value:{form}}" for value in values)]
            cells += [ratio(middle_landing(by_contender["sb3", "now"], key), median(values))]
        yield (
            NAMES[contender] + (", before" if side == "before" else ""),
            *cells,
            f"{sum(early)} of {len(samples)}",
            f"{middle_landing(samples, 'seconds_with_evaluation'):,.1f}",
        )


def until_solved(samples: Sequence[Sample], key: str) -> list[float]:
    """Values in the order of seeds; infinite where the training ended before it landed."""
    return [sample[key] if sample["solved"] else inf for sample in samples]


def middle_landing(samples: Sequence[Sample], key: str) -> float:
    """The median, which may be infinite."""
    return median(until_solved(samples, key))


def times_faster(part: Part, side: str) -> float:
    """Stable-Baselines3's seconds until it lands over ours.

    Raises:
        KeyError: not measured.
    """
    by_contender = grouped(part["samples"], "contender", "side")
    ours, theirs = by_contender["gymnasium", side], by_contender["sb3", "now"]
    return middle_landing(theirs, "seconds") / middle_landing(ours, "seconds")
