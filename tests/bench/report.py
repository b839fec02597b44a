"""Raw samples -> Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from math import inf, isfinite
from statistics import median
from typing import Any, Final

from analysis.markdown import table

Part = Mapping[str, Any]
Row = Sequence[str]

NAMES: Final = {
    "sb3": "Stable-Baselines3",
    "gymnasium": "lander, Gymnasium",
    "envpool": "lander, EnvPool",
    "env-gymnasium": "*environments alone, Gymnasium*",
    "env-envpool": "*environments alone, EnvPool*",
}
EARLY: Final = 500_000
"""A good setting lands within so many steps."""
MEGABYTE: Final = 2**20
BASE_TRIAL: Final = 5
"""Memory is compared with that after this trial: by then everything has been loaded."""


def render(results: Mapping[str, Part]) -> str:
    """Everything that has been measured."""
    sections = {
        "speed": speed,
        "solve": solve,
        "sweep": sweep,
        "startup": startup,
        "load": load,
        "growth": growth,
    }
    parts = ["# Benchmark"]
    for name, section in sections.items():
        if name in results:
            parts += section(results[name])
    return "\n\n".join([*parts, *origins(results)]) + "\n"


def speed(part: Part) -> list[str]:
    """Steps per second of training and of stepping."""
    rates: dict[tuple[str, str], list[float]] = {}
    for sample in part["samples"]:
        key = sample["setting"], sample["contender"]
        rates.setdefault(key, []).append(sample["steps"] / sample["seconds"])
    rounds = max(len(values) for values in rates.values())
    settings = [f"- {name}: {words}" for name, words in part["settings"].items()]
    return [
        "## Training speed",
        table([("setting", "", "steps/s", "range", "to SB3", "of environments"), *speeds(rates)]),
        "*Environment steps per second of whole updates (collect and learn, no evaluation) after "
        "a warm-up, each measured in a process of its own on one core; median of "
        f"{counted(rounds, 'round')} in which all take turns, in brackets the slowest and the "
        "fastest. To SB3: in units of Stable-Baselines3 at that setting. Of environments: share of "
        "the rate at which as many environments (Stable-Baselines3's are Gymnasium's) step on one "
        "core with random actions and nothing else. Settings:*",
        "\n".join(settings),
    ]


def speeds(rates: Mapping[tuple[str, str], Sequence[float]]) -> Iterator[Row]:
    """One line per setting and contender."""
    for (setting, contender), values in rates.items():
        rate = median(values)
        backend = "envpool" if contender.endswith("envpool") else "gymnasium"
        alone = contender.startswith("env-")
        yield (
            setting,
            NAMES[contender],
            f"{rate:,.0f}",
            f"[{min(values):,.0f}, {max(values):,.0f}]",
            "" if alone else f"{rate / median(rates[setting, 'sb3']):.2f}",
            "" if alone else f"{rate / median(rates[setting, f'env-{backend}']):.0%}",
        )


def solve(part: Part) -> list[str]:
    """Time and steps to the first landing."""
    by_contender: dict[str, list[Mapping[str, Any]]] = {}
    for sample in part["samples"]:
        by_contender.setdefault(sample["contender"], []).append(sample)
    seeds = max(len(samples) for samples in by_contender.values())
    head = (
        *("", "seconds", "each seed", "to SB3", "steps", "each seed", "to SB3"),
        *("within 500k", "seconds with evaluation"),
    )
    return [
        "## Time to solve",
        table([head, *solves(by_contender)]),
        f"*LunarLander-v3, training seeds 1 to {seeds}, one core: until 20 deterministic episodes "
        "(reset seeds from 5,000,000) return 200 on average. Evaluated after each update, at least "
        "4,096 steps apart, with one and the same function on both sides; its time is counted on "
        "neither side, except in the last column, and neither is that of starting Python. Medians; "
        "a seed that does not get there (inf) counts as slower than all others: "
        "Stable-Baselines3 gives up at 1M steps, lander at the end of its own budget. To SB3: "
        "Stable-Baselines3's median over that of the line. "
        f"lander: its defaults ({part['settings']['ours']}). Stable-Baselines3: rl-zoo's "
        f"hyperparameters ({part['settings']['sb3']}).*",
    ]


def solves(by_contender: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[Row]:
    """One line per contender."""
    reference = {key: middle(by_contender["sb3"], key) for key in ("seconds", "env_steps")}
    for contender, samples in by_contender.items():
        early = [sample["solved"] and sample["env_steps"] <= EARLY for sample in samples]
        cells = []
        for key, form in (("seconds", ",.1f"), ("env_steps", ",.0f")):
            values = until_solved(samples, key)
            cells += [f"{median(values):{form}}"]
            cells += ["; ".join(f"{value:{form}}" for value in values)]
            cells += [ratio(reference[key], median(values))]
        whole = middle(samples, "seconds_with_evaluation")
        yield (
            NAMES[contender],
            *cells,
            f"{sum(early)} of {len(samples)}",
            f"{whole:,.1f}",
        )


def until_solved(samples: Sequence[Mapping[str, Any]], key: str) -> list[float]:
    """Values in the order of seeds; infinite where the training ended before it landed."""
    return [sample[key] if sample["solved"] else inf for sample in samples]


def middle(samples: Sequence[Mapping[str, Any]], key: str) -> float:
    """The median, which may be infinite."""
    return median(until_solved(samples, key))


def ratio(theirs: float, own: float) -> str:
    """By which factor ours is less than theirs; empty where ours has no value."""
    if not isfinite(own):
        return ""
    return f"{theirs / own:.2f}" if isfinite(theirs) else "inf"


def sweep(part: Part) -> list[str]:
    """A sweep's wall time, by purpose, and its memory."""
    sweeps, memory = part["sweeps"], part["memory"]["rss"]
    head = ("", *(counted(sweep["workers"], "worker") for sweep in sweeps))
    rows = [
        ("wall time, s", [f"{sweep['seconds']:,.0f}" for sweep in sweeps]),
        ("trials", [str(sweep["trials"]) for sweep in sweeps]),
        ("finished", [str(sweep["finished"]) for sweep in sweeps]),
        ("pruned", [str(sweep["pruned"]) for sweep in sweeps]),
        ("failed", [str(sweep["failed"]) for sweep in sweeps]),
        ("best return", [best(sweep) for sweep in sweeps]),
        (
            "trials per hour",
            [f"{sweep['trials'] / sweep['seconds'] * 3600:,.0f}" for sweep in sweeps],
        ),
        ("environment steps", [f"{sweep['env_steps']:,}" for sweep in sweeps]),
        ("steps/s", [f"{throughput(sweep):,.0f}" for sweep in sweeps]),
        ("speed-up", [speed_up(sweep, sweeps) for sweep in sweeps]),
        ("largest worker, MB", [f"{max(sweep['peak_rss']) / MEGABYTE:,.0f}" for sweep in sweeps]),
    ]
    shares = [
        (what, [share(sweep, what) for sweep in sweeps]) for what in sweeps[0]["worker_seconds"]
    ]
    grown = memory[-1] / memory[min(BASE_TRIAL, len(memory)) - 1] - 1
    trials = [1, *range(10, len(memory) + 1, 10)]
    return [
        "## The default sweep",
        table([head, *((name, *cells) for name, cells in rows)]),
        "*`python -m sweeps run --study lander` in a new store, from its launch to its end; "
        "one worker makes fewer trials. Steps/s: of all trials, from the first one's start to the "
        "last one's end. Speed-up: steps/s over those of one worker. Memory: resident set, looked "
        "at every second.*",
        table([("of the workers' time", *head[1:]), *((name, *cells) for name, cells in shares)]),
        "*Training: what is left of a trial, Optuna's reports and pruning decisions included. "
        "Between trials: Optuna's sampler and database, opening and closing a run. Start-up: from "
        "the launch to a worker's first trial; both databases are created in it. End: from a "
        "worker's last trial to the end of the command; it waits for "
        "the other worker, draws figures and registers the best model.*",
        table(
            [
                ("after trial", *map(str, trials)),
                ("MB", *(f"{memory[trial - 1] / MEGABYTE:,.1f}" for trial in trials)),
            ]
        ),
        f"*Resident set of one worker that runs {len(memory)} trials of 8,192 steps in a row: "
        f"{grown:+.1%} between trial {BASE_TRIAL} and trial {len(memory)}.*",
    ]


def counted(number: int, word: str) -> str:
    """A number with its noun: 1 worker, 2 workers."""
    return f"{number:,} {word}" if number == 1 else f"{number:,} {word}s"


def best(part: Part) -> str:
    """The best return of a sweep."""
    return "" if part["best"] is None else f"{part['best']:.1f}"


def throughput(part: Part) -> float:
    """Environment steps per second while there were trials."""
    return float(part["env_steps"] / part["busy"])


def speed_up(part: Part, sweeps: Sequence[Part]) -> str:
    """Steps/s in units of those of the sweep with one worker."""
    single = next(other for other in sweeps if other["workers"] == 1)
    return f"{throughput(part) / throughput(single):.2f}"


def share(part: Part, what: str) -> str:
    """The share of a purpose in the time of all workers."""
    seconds = part["worker_seconds"]
    return f"{seconds[what] / sum(seconds.values()):.1%}"


def startup(part: Part) -> list[str]:
    """Seconds from the start of a command to its first byte."""
    seconds: dict[str, list[float]] = {}
    for sample in part["samples"]:
        seconds.setdefault(sample["command"], []).append(sample["seconds"])
    rows = [
        (f"`{name}`", f"{median(values):.2f}", f"[{min(values):.2f}, {max(values):.2f}]")
        for name, values in seconds.items()
    ]
    rounds = max(len(values) for values in seconds.values())
    return [
        "## Start-up",
        table([("", "seconds", "range"), *rows]),
        f"*From the start of the process to the first byte of its output, on one core: median of "
        f"{counted(rounds, 'start')}, in brackets the fastest and the slowest.*",
    ]


def load(part: Part) -> list[str]:
    """Seconds per table, and how they grow with the number of trials."""
    seconds: dict[str, dict[int, list[float]]] = {}
    for sample in part["samples"]:
        for name, taken in sample["seconds"].items():
            seconds.setdefault(name, {}).setdefault(sample["trials"], []).append(taken)
    sizes = sorted({sample["trials"] for sample in part["samples"]})
    head = (
        "",
        *(counted(size, "trial") for size in sizes),
        *(f"per trial, {more:,} to {fewer:,}" for fewer, more in pairwise(sizes)),
    )
    rows = []
    for name, by_size in seconds.items():
        middles = {size: median(by_size[size]) for size in sizes}
        growth = [
            f"{middles[more] / more / (middles[fewer] / fewer):.2f}"
            for fewer, more in pairwise(sizes)
        ]
        rows.append((f"`{name}`", *(f"{middles[size]:.2f}" for size in sizes), *growth))
    rounds = max(len(values) for values in seconds["load_trials"].values())
    return [
        "## Tables",
        table([head, *rows]),
        "*Seconds that a function of `analysis.load` takes for finished trials of the default "
        "study, each from a sweep that was just opened, on one core; `load_curves` of "
        f"`eval/return_mean`. Median of {counted(rounds, 'round')}. Per trial: seconds per trial "
        "over those of the smaller sweep; 1 means that twice the trials take twice the time.*",
    ]


def origins(results: Mapping[str, Part]) -> list[str]:
    """How and with what the parts were measured; one paragraph for all parts that agree."""
    parts: dict[str, list[str]] = {}
    for name, part in results.items():
        versions = ", ".join(
            f"{package} {version}" for package, version in part["versions"].items()
        )
        note = " Tiny, to show that it works: its numbers mean nothing." if part["quick"] else ""
        parts.setdefault(f"{part['machine']}. {versions}.{note}", []).append(name)
    if len(parts) == 1:
        return [f"*Made by* `python -m tests.bench` *on {origin}*" for origin in parts]
    return [
        f"*Made by* `python -m tests.bench {' '.join(names)}` *on {origin}*"
        for origin, names in parts.items()
    ]


def growth(part: Part) -> list[str]:
    """Seconds per trial as the store grows, of commands on it, and trials per second by workers."""
    costs: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
    for sample in part["costs"]:
        costs.setdefault((sample["engine"], sample["trials"]), []).append(sample)
    names = sorted({name for sample in part["costs"] for name in sample["parts"]})
    smallest: dict[str, float] = {}
    rows = []
    for (engine, size), samples in costs.items():
        each = median([sample["seconds"] / sample["count"] for sample in samples])
        share = [
            median([1000 * sample["parts"].get(name, 0.0) / sample["count"] for sample in samples])
            for name in names
        ]
        first = smallest.setdefault(engine, each)
        cells = (f"{1000 * each:.0f}", f"{each / first:.2f}", *(f"{ms:.0f}" for ms in share))
        rows.append((engine, f"{size:,}", *cells))
    engines = list(smallest)
    rates = {
        (sample["engine"], sample["workers"]): sample["per_second"] for sample in part["rates"]
    }
    workers = sorted({count for _, count in rates})
    commands = {
        (sample["command"], sample["engine"]): sample["seconds"] for sample in part["commands"]
    }
    largest = max(size for _, size in costs)
    return [
        "## Growth",
        table([("", "trials in the store", "ms per trial", "to the smallest", *names), *rows]),
        "*What the harness itself costs per trial, one worker on one core, with a stub in the "
        "place of training: a trial asks, reports ten checkpoints, records itself and tells; GIF "
        f"and model are left out. Median of {counted(rounds_of(part), 'round')}; the columns on "
        "the right are parts of it in ms. PostgreSQL: with an MLflow server that keeps its runs "
        "in PostgreSQL as well, all on this machine.*",
        table(
            [
                ("trials per second", *(counted(count, "worker") for count in workers)),
                *(
                    (engine, *(f"{rates[engine, count]:.1f}" for count in workers))
                    for engine in engines
                ),
            ]
        ),
        "*The same stub, workers that begin together, none of their trials lost or done twice. On "
        "so few cores it is their Python that limits it, and on PostgreSQL the servers' as well.*",
        table(
            [
                (f"seconds for {largest:,} trials", *engines),
                *(
                    (f"`{name}`", *(f"{commands[name, engine]:.1f}" for engine in engines))
                    for name in dict.fromkeys(name for name, _ in commands)
                ),
            ]
        ),
    ]


def rounds_of(part: Part) -> int:
    """How often everything was measured."""
    return int(max(sample["round"] for sample in part["costs"]))
