"""From raw samples to Markdown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sweeps.publish.markdown import table
from tests.bench import harness_tables, training_tables
from tests.bench.cells import COMPARED, Part
from tests.bench.glance import Results, glance

SECTIONS: Final[dict[str, Callable[[Part], list[str]]]] = {
    "speed": training_tables.speed,
    "solve": training_tables.solve,
    "sweep": harness_tables.sweep,
    "startup": harness_tables.startup,
    "load": harness_tables.load,
    "growth": harness_tables.growth,
}


def render(results: Results) -> str:
    """Everything that has been measured."""
    parts = ["# Benchmark"]
    rows = list(glance(results))
    if rows:
        parts += [
            "## At a glance",
            table([("", *COMPARED), *rows]),
            "*Medians, from the tables below, which say how they are measured. Before: the same "
            "of an earlier commit, measured in the same run, in turn with this version. Of the "
            "environments, and to stock: in units of the steps per second of stock Gymnasium "
            "environments alone, on one core.*",
        ]
    for name, section in SECTIONS.items():
        if name in results:
            parts += section(results[name])
    return "\n\n".join([*parts, *origins(results)]) + "\n"


def origins(results: Results) -> list[str]:
    """How and with what the parts were measured; one paragraph for all parts that agree."""
    parts: dict[str, list[str]] = {}
    for name, part in results.items():
        versions = [f"{package} {version}" for package, version in part["versions"].items()]
        commits = [f"{side}: {commit}" for side, commit in part["commits"].items() if commit]
        note = " Tiny, to show that it works: its numbers mean nothing." if part["quick"] else ""
        words = f"{part['machine']}. {', '.join(versions + commits)}.{note}"
        parts.setdefault(words, []).append(name)
    if len(parts) == 1:
        return [f"*Made by* `python -m tests.bench` *on {origin}*" for origin in parts]
    return [
        f"*Made by* `python -m tests.bench {' '.join(names)}` *on {origin}*"
        for origin, names in parts.items()
    ]
