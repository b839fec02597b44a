"""Tables of the harness: a whole sweep, start-up, reading tables, and growth."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from statistics import median
from typing import Final

from lander.terminal import counted
from sweeps.publish.markdown import table
from tests.bench.cells import (
    COMPARED,
    MEGABYTE,
    MILLI,
    Measure,
    Part,
    Row,
    Sample,
    beside,
    grouped,
    middle,
    rounds,
)

BASE_TRIAL: Final = 5
"""Memory is compared with that after this trial: by then everything has been loaded."""
WORKING: Final = ("training", "evaluation")
"""What a sweep is for: all else is the harness."""


def throughput(sweep: Sample) -> float:
    """Environment steps per second while there were trials."""
    return float(sweep["env_steps"] / sweep["busy"])


def throughput_of_a_worker(sweep: Sample) -> float:
    """The same per worker, each of which has a core."""
    return throughput(sweep) / int(sweep["workers"])


def overhead(sweep: Sample) -> float:
    """The share of the workers' time that is neither training nor evaluation."""
    return 1 - sum(share(sweep, what) for what in WORKING)


def share(sweep: Sample, what: str) -> float:
    """The share of a purpose in the time of all workers."""
    seconds = sweep["worker_seconds"]
    return float(seconds.get(what, 0.0) / sum(seconds.values()))


def largest(sweep: Sample) -> float:
    """The most memory that a worker needed, in MB."""
    return float(max(sweep["peak_rss"]) / MEGABYTE)


def of_sweeps(part: Part, of: Measure, side: str) -> float:
    """The median over whole sweeps of a version.

    Raises:
        KeyError: not measured.
    """
    workers = max(sweep["workers"] for sweep in part["sweeps"])
    return middle(grouped(part["sweeps"], "workers", "side")[workers, side], of)


NUMBERS: Final[dict[str, tuple[Measure, str]]] = {
    "wall time, s": (lambda sweep: sweep["seconds"], ",.0f"),
    "trials": (lambda sweep: sweep["trials"], ",.0f"),
    "finished": (lambda sweep: sweep["finished"], ",.0f"),
    "pruned": (lambda sweep: sweep["pruned"], ",.0f"),
    "failed": (lambda sweep: sweep["failed"], ",.0f"),
    "best return": (lambda sweep: sweep["best"], ".1f"),
    "trials per hour": (lambda sweep: sweep["trials"] / sweep["seconds"] * 3600, ",.0f"),
    "environment steps": (lambda sweep: sweep["env_steps"], ",.0f"),
    "steps/s": (throughput, ",.0f"),
    "largest worker, MB": (largest, ",.0f"),
}


def sweep(part: Part) -> list[str]:
    """A sweep's wall time, by purpose, and its memory."""
    memory = part["memory"]["rss"]
    single = next(sweep for sweep in part["sweeps"] if sweep["workers"] == 1)
    workers = max(sweep["workers"] for sweep in part["sweeps"])
    head = (*COMPARED, counted(single["workers"], "worker"))
    shares: dict[str, Measure] = {
        what: partial(share, what=what) for what in single["worker_seconds"]
    }
    shares["neither training nor evaluation"] = overhead

    def row(name: str, of: Measure, form: str) -> Row:
        return (name, *beside(partial(of_sweeps, part, of), form), f"{of(single):{form}}")

    grown = memory[-1] / memory[min(BASE_TRIAL, len(memory)) - 1] - 1
    trials = [1, *range(10, len(memory) + 1, 10)]
    return [
        "## The default sweep",
        table([("", *head), *(row(name, *how) for name, how in NUMBERS.items())]),
        f"*`python -m sweeps run --study lander --workers {workers}` in a new store, from its "
        f"launch to its end; median of {rounds(part['sweeps'])}. One worker makes fewer trials. "
        "Steps/s: of all trials, from the first one's start to the last one's end; "
        f"{of_sweeps(part, throughput, 'now') / throughput(single):.2f} times those of one worker. "
        "Memory: resident set, looked at every second.*",
        table([("of the workers' time", *head), *(row(n, of, ".1%") for n, of in shares.items())]),
        "*Training: what is left of a trial, Optuna's reports and pruning decisions included. "
        "Between trials: Optuna's sampler and database, opening and closing a run. Start-up: from "
        "the launch to a worker's first trial; both databases are created in it. End: from a "
        "worker's last trial to the end of the command; it waits for "
        "the other worker, flies the best policies, draws figures and registers the best.*",
        table(
            [
                ("after trial", *map(str, trials)),
                ("MB", *(f"{memory[trial - 1] / MEGABYTE:,.1f}" for trial in trials)),
            ]
        ),
        f"*Resident set of one worker that runs {len(memory)} trials of 8,192 steps in a row: "
        f"{grown:+.1%} between trial {BASE_TRIAL} and trial {len(memory)}.*",
    ]


def startup(part: Part) -> list[str]:
    """Seconds from the start of a command to its first byte."""
    rows = []
    for (name,), samples in grouped(part["samples"], "command").items():
        seconds = [sample["seconds"] for sample in samples]
        extent = f"[{min(seconds):.2f}, {max(seconds):.2f}]"
        rows.append((f"`{name}`", f"{median(seconds):.2f}", extent))
    return [
        "## Start-up",
        table([("", "seconds", "range"), *rows]),
        f"*From the start of the process to the first byte of its output, on one core: median of "
        f"{rounds(part['samples'])}, in brackets the fastest and the slowest.*",
    ]


def load(part: Part) -> list[str]:
    """Seconds per table, and how they grow with the number of trials."""
    by_size = {size: samples for (size,), samples in grouped(part["samples"], "trials").items()}
    head = (
        "",
        *(counted(size, "trial") for size in by_size),
        *(f"per trial, {more:,} to {fewer:,}" for fewer, more in pairwise(by_size)),
    )
    rows = []
    for name in part["samples"][0]["seconds"]:
        middles = {
            size: median([sample["seconds"][name] for sample in samples])
            for size, samples in by_size.items()
        }
        growth = [
            f"{middles[more] / more / (middles[fewer] / fewer):.2f}"
            for fewer, more in pairwise(by_size)
        ]
        rows.append((f"`{name}`", *(f"{seconds:.2f}" for seconds in middles.values()), *growth))
    return [
        "## Tables",
        table([head, *rows]),
        "*Seconds that a function of `analysis.load` takes for finished trials of the default "
        "study, each from a sweep that was just opened, on one core; `load_curves` of "
        f"`eval/return_mean`. Median of {rounds(part['samples'])}. Per trial: seconds per trial "
        "over those of the smaller sweep; 1 means that twice the trials take twice the time.*",
    ]


def each_trial(part: Part, engine: str, trials: int, side: str) -> float:
    """Milliseconds per trial.

    Raises:
        KeyError: not measured.
    """
    samples = grouped(part["costs"], "engine", "trials", "side")[engine, trials, side]
    return middle(samples, lambda sample: MILLI * sample["seconds"] / sample["count"])


def sizes(part: Part) -> tuple[int, int]:
    """How many trials the smallest and the largest store had."""
    trials = [sample["trials"] for sample in part["costs"]]
    return min(trials), max(trials)


def cost_growth(part: Part, engine: str, trials: int, side: str) -> float:
    """Milliseconds per trial over those in the smallest store.

    Raises:
        KeyError: not measured.
    """
    smallest, _ = sizes(part)
    return each_trial(part, engine, trials, side) / each_trial(part, engine, smallest, side)


def command_time(part: Part, engine: str, command: str, side: str) -> float:
    """Seconds of a command on the largest store.

    Raises:
        KeyError: not measured.
    """
    samples = grouped(part["commands"], "engine", "command", "side")[engine, command, side]
    return middle(samples, lambda sample: float(sample["seconds"]))


def growth(part: Part) -> list[str]:
    """Milliseconds per trial as the store grows, seconds of commands on it, trials per second."""
    names = sorted({name for sample in part["costs"] for name in sample["parts"]})
    by_engine = grouped(part["rates"], "engine")
    workers = [sample["workers"] for sample in next(iter(by_engine.values()))]
    head = ("", "trials in the store", "ms per trial", *COMPARED[1:], "to the smallest", "before")
    return [
        "## Growth",
        table([(*head, *names), *costs(part, names)]),
        "*What the harness itself costs per trial, one worker on one core, with a stub instead of "
        "training: a trial asks, reports ten checkpoints, records itself and tells; GIF "
        f"and model are left out. Median of {rounds(part['costs'])}; the columns on "
        "the right are parts of it in ms. PostgreSQL: with an MLflow server that keeps its runs "
        "in PostgreSQL as well, all on this machine.*",
        table(
            [
                ("trials per second", *(counted(count, "worker") for count in workers)),
                *(
                    (engine, *(f"{sample['per_second']:.1f}" for sample in samples))
                    for (engine,), samples in by_engine.items()
                ),
            ]
        ),
        "*The same stub, workers that begin together, none of their trials lost or done twice. On "
        "so few cores it is their Python that limits it, and on PostgreSQL the servers' as well.*",
        table([("", f"seconds for {sizes(part)[1]:,} trials", *COMPARED), *commands(part)]),
    ]


def costs(part: Part, names: list[str]) -> Iterator[Row]:
    """One line per engine and size; the parts are of this version."""
    for engine, trials in grouped(part["costs"], "engine", "trials"):
        samples = grouped(part["costs"], "engine", "trials", "side")[engine, trials, "now"]
        grown = beside(partial(cost_growth, part, engine, trials), ".2f")
        parts = [
            median([MILLI * sample["parts"].get(name, 0.0) / sample["count"] for sample in samples])
            for name in names
        ]
        yield (
            engine,
            f"{trials:,}",
            *beside(partial(each_trial, part, engine, trials), ".0f"),
            *grown[:2],
            *(f"{ms:.0f}" for ms in parts),
        )


def commands(part: Part) -> Iterator[Row]:
    """One line per engine and command."""
    for engine, command in grouped(part["commands"], "engine", "command"):
        yield engine, f"`{command}`", *beside(partial(command_time, part, engine, command), ".1f")
