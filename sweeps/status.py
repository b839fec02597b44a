"""Shows the progress of the sweeps in a store: reads Optuna's database only, resolves no study."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from typing import Any

import optuna

from lander.terminal import say
from sweeps.endings import ending
from sweeps.hints import no_sweep
from sweeps.schema import WINNER, Ending
from sweeps.store.store import Store
from sweeps.store.trials import read_trials


def status(args: argparse.Namespace) -> int:
    """Print one line, or one JSON object, per study."""
    store = Store(args.store)
    report = [summary(store.load_study(name, anywhere=True)) for name in store.study_names()]
    if args.json:
        print(json.dumps(report, indent=2))
        return 0
    for row in report:
        best = "no trial finished yet"
        if row["best_trial"] is not None:
            best = f"best {row['best_value']:.1f} (trial {row['best_trial']})"
        if row["winner"] is not None:
            best += f"; confirmed: trial {row['winner']}"
        counts = ", ".join(f"{count} {name}" for name, count in row["trials"].items() if count)
        say(f"{row['study']}: {counts}; {best}")
    if not report:
        print(no_sweep(store.folder))
    return 0


def summary(study: optuna.Study) -> dict[str, Any]:
    """The progress of a study as plain values, for JSON."""
    trials = read_trials(study)
    best, count = trials.best, Counter(map(ending, trials.all))
    count[Ending.WAITING] = trials.left  # most of them are not drawn before a worker asks
    return {
        "study": study.study_name,
        "trials": {how.value: count[how] for how in Ending},
        "best_trial": best.number if best else None,
        "best_value": best.values[0] if best else None,
        "winner": study.user_attrs.get(WINNER),
    }
